import errno
import fcntl
import json
import os
import shutil
import stat
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from fedsynth.errors import ReaderFileError, VerificationError
from fedsynth.release.attestation import Attestation, write_signed
from fedsynth.release.signature import Envelope, load_private_key, make_key
from fedsynth.release.verify import verify_release


def claim_of(release: Path) -> Attestation:
    envelope = Envelope.from_json((release / "integrity/release.dsse.json").read_bytes())
    return Attestation.from_payload(envelope.payload)


def refused(release: Path, match: str, *, seen: Path) -> None:
    with pytest.raises(VerificationError, match=match):
        verify_release(release, seen=seen)


@pytest.mark.parametrize(
    ("before", "cause"),
    [
        pytest.param({"east": ("a", 3), "north": ("b", 5)}, None, id="the same release again"),
        pytest.param({"east": ("c", 2), "north": ("d", 4)}, None, id="both grew"),
        pytest.param({"west": ("c", 9)}, None, id="other sites"),
        pytest.param({"north": ("c", 6)}, "north shows 5 entries.*showed 6", id="shorter"),
        pytest.param({"east": ("c", 3)}, "east shows another entry at length 3", id="forked"),
    ],
)
def test_a_ledger_older_than_one_already_seen_is_refused(
    pristine: Path, tmp_path: Path, before: dict[str, tuple[str, int]], cause: str | None
) -> None:
    seen = tmp_path / "seen.json"
    sites = {site: {"ledger_head": digit * 64, "ledger_length": length} for site, (digit, length) in before.items()}
    seen.write_text(json.dumps({"publishers": {verify_release(pristine).fingerprint: sites}}))
    text = seen.read_text()

    if cause is None:
        verify_release(pristine, seen=seen)
        known = json.loads(seen.read_text())["publishers"][verify_release(pristine).fingerprint]
        assert set(known) == {"east", "north", *before}
        assert known["north"] == {"ledger_head": "b" * 64, "ledger_length": 5}
    else:
        refused(pristine, cause, seen=seen)
        assert seen.read_text() == text


def test_what_was_seen_is_kept_by_publisher(release: Path, pristine: Path, tmp_path: Path) -> None:
    """Another publisher's "north" may be shorter."""
    seen = tmp_path / "seen.json"
    verify_release(pristine, seen=seen)
    key = make_key(tmp_path / "other")
    claim = claim_of(release)
    shorter = tuple(replace(point, length=1) for point in claim.ledgers)
    other = replace(claim, public_key=key, ledgers=shorter)
    write_signed(release, attestation=other, key=load_private_key(tmp_path / "other"))

    verify_release(release, seen=seen)

    assert len(json.loads(seen.read_text())["publishers"]) == 2


def test_a_release_that_does_not_verify_is_not_remembered(release: Path, tmp_path: Path) -> None:
    (release / "README.md").unlink()

    refused(release, "removed: README.md", seen=tmp_path / "seen.json")

    assert not (tmp_path / "seen.json").exists()


POINT = '{"publishers": {"x": {"north": {"ledger_head": "a", "ledger_length": %s}}}}'


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{}",
        '{"publishers": []}',
        '{"publishers": {"x": []}}',
        '{"publishers": {"x": {"north": {}}}}',
        '{"publishers": {}, "more": 1}',
        '{"publishers": {}, "publishers": {}}',
        POINT % '"5"',
        POINT % "5.0",
        POINT % "true",
        POINT % '5, "more": 1',
        (POINT % "5")[:-1],
    ],
)
def test_a_damaged_file_of_seen_ledgers_is_refused_and_kept(pristine: Path, tmp_path: Path, text: str) -> None:
    (tmp_path / "seen.json").write_text(text)

    refused(pristine, "seen ledgers", seen=tmp_path / "seen.json")

    assert (tmp_path / "seen.json").read_text() == text


@pytest.mark.parametrize(
    ("name", "cause"),
    [
        ("folder", "not a regular file"),
        ("pipe", "not a regular file"),
        ("/dev/zero", "not a regular file"),
        ("/dev/null", "not a regular file"),
        ("loop", "cannot be read"),
        ("huge", "larger than"),
        ("no folder/seen.json", "cannot be locked .No such file"),
    ],
)
def test_what_cannot_hold_what_was_seen_is_bad_input(pristine: Path, tmp_path: Path, name: str, cause: str) -> None:
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    with (tmp_path / "huge").open("wb") as huge:
        huge.truncate(1024**4)

    with pytest.raises(ReaderFileError, match=f"seen ledgers.*{cause}") as caught:
        verify_release(pristine, seen=tmp_path / name)

    assert caught.value.exit_code == 2
    assert str(tmp_path) not in str(caught.value)


def test_a_link_stays_a_link_and_what_it_leads_to_is_written(pristine: Path, tmp_path: Path) -> None:
    (tmp_path / "far").mkdir()
    (tmp_path / "near").mkdir()
    (tmp_path / "near/seen.json").symlink_to("../far/state.json")  # which does not exist yet
    (tmp_path / "second").symlink_to("near/seen.json")

    verify_release(pristine, seen=tmp_path / "second")

    assert (tmp_path / "second").is_symlink()
    assert (tmp_path / "near/seen.json").is_symlink()
    assert not (tmp_path / "far/state.json").is_symlink()
    assert len(json.loads((tmp_path / "far/state.json").read_text())["publishers"]) == 1


def with_longer_ledgers(release: Path, resign: Callable[..., None], more: int) -> None:
    resign(
        release, ledgers=tuple(replace(point, length=point.length + more) for point in claim_of(release).ledgers)
    )


def test_a_second_name_of_the_file_is_not_left_behind(pristine: Path, tmp_path: Path) -> None:
    """Exchanging the file would leave the other name with what was seen before."""
    (tmp_path / "seen.json").write_text('{"publishers": {}}')
    os.link(tmp_path / "seen.json", tmp_path / "other")

    refused(pristine, "hard link", seen=tmp_path / "seen.json")

    assert (tmp_path / "other").read_text() == (tmp_path / "seen.json").read_text() == '{"publishers": {}}'


@pytest.mark.parametrize("mode", [0o600, 0o640, 0o664])
def test_the_file_keeps_its_mode(pristine: Path, tmp_path: Path, mode: int) -> None:
    seen = tmp_path / "seen.json"
    seen.write_text('{"publishers": {}}')
    seen.chmod(mode)

    verify_release(pristine, seen=seen)

    assert stat.S_IMODE(seen.stat().st_mode) == mode
    assert len(json.loads(seen.read_text())["publishers"]) == 1


@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_a_full_disk_is_one_sentence_and_what_was_seen_stays(
    pristine: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    seen = tmp_path / "seen.json"
    seen.write_text('{"publishers": {}}')

    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "/a/secret/path")

    monkeypatch.setattr(*((os, "fsync") if call == "fsync" else (Path, "replace")), full)
    with pytest.raises(ReaderFileError, match=r"the release verified, and .*No space left") as caught:
        verify_release(pristine, seen=seen)

    assert "secret" not in str(caught.value)
    assert seen.read_text() == '{"publishers": {}}'
    assert sorted(path.name for path in tmp_path.iterdir()) == ["seen.json", "seen.json.lock"]


def test_a_folder_one_may_not_write_to_is_one_sentence(
    pristine: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = os.open

    def read_only(path: str | Path, flags: int, *more: int, **keywords: int) -> int:
        if flags & os.O_CREAT and Path(path).parent == tmp_path:
            raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(path))
        return original(path, flags, *more, **keywords)

    monkeypatch.setattr(os, "open", read_only)
    refused(pristine, "cannot be locked .Read-only file system.", seen=tmp_path / "seen.json")

    assert list(tmp_path.iterdir()) == []


def test_what_is_remembered_already_is_not_written_again(
    pristine: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So a release verifies a second time from a disk that is read only now."""
    verify_release(pristine, seen=tmp_path / "seen.json")
    before = (tmp_path / "seen.json").stat()
    monkeypatch.setattr("fedsynth.release.rollback.save_state", None)

    verify_release(pristine, seen=tmp_path / "seen.json")

    assert (tmp_path / "seen.json").stat() == before


def test_a_file_that_somebody_holds_is_one_sentence_after_a_while(
    pristine: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fedsynth.release.rollback._PATIENCE", 0.1)
    with (tmp_path / "seen.json.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        refused(pristine, "held by another verification", seen=tmp_path / "seen.json")

    assert not (tmp_path / "seen.json").exists()


def test_a_ledger_that_another_process_saw_meanwhile_counts(
    release: Path, resign: Callable[..., None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between reading what was seen and writing it, another verification saw a longer ledger of the same site."""
    seen, newer = tmp_path / "seen.json", tmp_path / "newer"
    shutil.copytree(release, newer)
    with_longer_ledgers(newer, resign, more=1)
    original = fcntl.flock

    def first_the_other(descriptor: int, how: int) -> None:
        monkeypatch.setattr(fcntl, "flock", original)
        verify_release_elsewhere(newer, seen)
        original(descriptor, how)

    monkeypatch.setattr(fcntl, "flock", first_the_other)
    refused(release, "older than one already seen", seen=seen)

    (sites,) = json.loads(seen.read_text())["publishers"].values()
    assert {site: point["ledger_length"] for site, point in sites.items()} == {"east": 4, "north": 6}


def verify_release_elsewhere(release: Path, seen: Path) -> None:
    code = "import sys, pathlib; from fedsynth.release.verify import verify_release\n"
    code += "verify_release(pathlib.Path(sys.argv[1]), seen=pathlib.Path(sys.argv[2]))"
    subprocess.run([sys.executable, "-c", code, release, seen], check=True)


CROWD = """
import sys, time
from dataclasses import replace
from pathlib import Path
from fedsynth.release.attestation import LedgerPoint, Attestation
from fedsynth.release.rollback import remember
from fedsynth.release.signature import Envelope

release, seen, gate, number = Path(sys.argv[1]), Path(sys.argv[2]), Path(sys.argv[3]), sys.argv[4]
claim = Attestation.from_payload(Envelope.from_json((release / "integrity/release.dsse.json").read_bytes()).payload)
print("ready", flush=True)
while not gate.exists():
    time.sleep(0.001)
for turn in range(20):
    remember(replace(claim, ledgers=(LedgerPoint(f"site-{number}-{turn}", "a" * 64, 1),)), seen)
"""


def test_eight_processes_at_once_forget_nothing(pristine: Path, tmp_path: Path) -> None:
    seen, gate = tmp_path / "seen.json", tmp_path / "gate"
    crowd = [
        subprocess.Popen(
            [sys.executable, "-c", CROWD, pristine, seen, gate, str(number)], stdout=subprocess.PIPE, text=True
        )
        for number in range(8)
    ]
    for one in crowd:
        assert one.stdout is not None
        assert one.stdout.readline() == "ready\n"
    gate.touch()

    assert [one.wait(timeout=120) for one in crowd] == [0] * 8
    (sites,) = json.loads(seen.read_text())["publishers"].values()
    assert set(sites) == {f"site-{number}-{turn}" for number in range(8) for turn in range(20)}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["gate", "seen.json", "seen.json.lock"]


def test_the_file_of_seen_ledgers_may_not_stand_in_the_release(release: Path) -> None:
    refused(release, "inside the release", seen=release / "seen.json")
    verify_release(release)
