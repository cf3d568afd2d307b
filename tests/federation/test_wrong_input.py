"""Commands with wrong input, and on disks that are full: one sentence that helps, and nothing half done."""

import errno
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from fedsynth.federation import files
from fedsynth.ledger.ledger import Ledger
from fedsynth.site.folder import make_site

from .conftest import Command, Federation


@pytest.fixture
def north(tmp_path: Path) -> Path:
    make_site(tmp_path / "north", name="north")
    return tmp_path / "north"


@pytest.fixture
def full_after(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Return a function that fills the disk after so many files, of which the last is there in part."""

    real = os.fsync

    def fill(count: int) -> None:
        left = [count]

        def fsync(descriptor: int) -> None:
            left[0] -= 1
            if left[0] < 0:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            real(descriptor)

        monkeypatch.setattr(files.os, "fsync", fsync)

    return fill


@pytest.mark.parametrize(
    "words",
    [
        pytest.param(("requests", "SITE"), id="requests"),
        pytest.param(("approve", "SITE", "0123456789ab"), id="approve"),
        pytest.param(("approve", "SITE", "one", "--withdraw"), id="withdraw"),
        pytest.param(("request", "SITE", "--out", "request.json"), id="request"),
        pytest.param(("preflight", "SITE", "--offline"), id="preflight"),
        pytest.param(("settle", "SITE"), id="settle"),
        pytest.param(("backup", "SITE", "copy"), id="backup"),
        pytest.param(("leave", "SITE"), id="leave"),
        pytest.param(("init", "SITE", "--kit", "kit"), id="kit"),
    ],
)
@pytest.mark.parametrize(("kind", "said"), [("empty", "begin one with fedsynth site init"), ("a file", "ot a dir")])
def test_a_folder_that_is_no_sites_is_named(
    tmp_path: Path, fedsynth: Command, words: tuple[str, ...], kind: str, said: str
) -> None:
    place = tmp_path / "place"
    place.mkdir() if kind == "empty" else place.write_text("a file")

    done = fedsynth("site", *(str(place) if word == "SITE" else word for word in words))

    assert done.code in (1, 2)
    assert said in done.out + done.err


@pytest.mark.parametrize(
    "words", [("init", "SITE", "--name", "south"), ("approver", "alice", "--key", "alice.key")], ids=lambda w: w[0]
)
def test_what_a_full_disk_stopped_can_be_given_again(
    tmp_path: Path,
    fedsynth: Command,
    full_after: Callable[[int], None],
    words: tuple[str, ...],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    words = tuple(str(tmp_path / "south") if word == "SITE" else word for word in words)
    full_after(0)
    done = fedsynth("site", *words)
    assert (done.code, "No space left" in done.err) == (2, True)
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]

    full_after(100)
    assert fedsynth("site", *words).code == 0


def test_a_file_for_which_there_is_no_folder_is_said_to_lack_one(
    tmp_path: Path, fedsynth: Command, north: Path
) -> None:
    done = fedsynth("site", "request", north, "--out", tmp_path / "nowhere" / "north.json")

    assert done.code == 1
    assert "the folder that north.json shall lie in is not there; make it first" in " ".join(done.err.split())


@pytest.mark.parametrize("files_before", [0, 1, 2])
def test_a_backup_that_fails_leaves_nothing_in_the_way_of_the_next(
    tmp_path: Path, fedsynth: Command, north: Path, full_after: Callable[[int], None], files_before: int
) -> None:
    with Ledger(north / "ledger"):
        pass
    full_after(files_before)
    assert fedsynth("site", "backup", north, tmp_path / "copy").code == 2
    assert not (tmp_path / "copy").exists()

    full_after(100)
    assert fedsynth("site", "backup", north, tmp_path / "copy").code == 0

    full_after(files_before)
    assert fedsynth("site", "restore", tmp_path / "copy", tmp_path / "new").code == 2
    assert not (tmp_path / "new").exists()
    full_after(100)
    assert fedsynth("site", "restore", tmp_path / "copy", tmp_path / "new").code == 0


def test_a_copy_within_the_site_is_refused(fedsynth: Command, north: Path) -> None:
    done = fedsynth("site", "backup", north, north / "copies" / "first")

    assert (done.code, "lost with it" in done.err) == (1, True)
    assert not (north / "copies").exists()


def test_a_site_without_a_ledger_has_nothing_to_settle(fedsynth: Command, north: Path) -> None:
    done = fedsynth("site", "settle", north)

    assert (done.code, "there is nothing to settle" in done.err) == (2, True)


def test_a_coordinator_does_not_take_in_a_sites_kit(federation: Federation, fedsynth: Command) -> None:
    federation.certify(["coordinator", "north", "east"])
    before = (federation.folder("coordinator") / "tls.pem").read_bytes()
    kit = federation.root / "out-1" / "kits" / "north"

    done = fedsynth("federation", "join", kit, "--federation", federation.folder("coordinator"))

    assert (done.code, "Ask for your own kit" in " ".join(done.err.split())) == (1, True)
    assert (federation.folder("coordinator") / "tls.pem").read_bytes() == before


def test_a_kit_where_nobody_asked_for_one_says_what_comes_first(
    federation: Federation, fedsynth: Command, tmp_path: Path
) -> None:
    federation.certify(["coordinator", "north", "east"])
    make_site(tmp_path / "new", name="north")
    kit = federation.root / "out-1" / "kits" / "north"

    done = fedsynth("site", "init", tmp_path / "new", "--kit", kit, "--authority", federation.work.authority.words)

    assert (done.code, "fedsynth site request" in " ".join(done.err.split())) == (1, True)
    assert not (tmp_path / "new" / "federation").exists()


def test_a_cause_is_said_once_by_preflight(federation: Federation, fedsynth: Command) -> None:
    federation.certify(["coordinator", "north", "east"])
    site = federation.root / "north"
    (site / "site.toml").write_text('name = "north"\nlargest_epsilon = 1.0\n')
    (site / "federation" / "authority.pem").unlink()

    done = fedsynth("site", "preflight", site, "--offline")

    assert done.code == 1
    assert done.out.count("authority.pem cannot be read") == 1
    assert done.out.count("cannot be seen before authority is") >= 3


@pytest.mark.parametrize("room", ["nan", "inf", "-1"])
def test_room_is_a_number_of_gigabytes(fedsynth: Command, north: Path, room: str) -> None:
    done = fedsynth("site", "preflight", north, "--offline", "--room", room)

    assert (done.code, "is a number of gigabytes" in done.err) == (2, True)


def test_a_user_that_does_not_exist_is_named(fedsynth: Command, north: Path) -> None:
    done = fedsynth("site", "start", north, "--as", "gate", "--users", "nobody-here,root,root")

    assert (done.code, "one of the users 'nobody-here,root,root' does not exist" in done.err) == (2, True)
