"""The register finds a ledger by its recordings, whatever they and their folders are called."""

import os
import shutil
from collections.abc import Mapping
from pathlib import Path

import pytest

from fedsynth.errors import LedgerError, RunError
from fedsynth.ledger.ledger import Ledger
from fedsynth.ledger.register import Register, refuse_shared, register_of_user

RECORDINGS = ("a" * 64, "b" * 64)


@pytest.fixture
def register(tmp_path: Path) -> Register:
    return Register(tmp_path / "state" / "fedsynth")


@pytest.fixture
def data(tmp_path: Path) -> Path:
    (tmp_path / "data").mkdir()
    return tmp_path / "data"


def charge(
    register: Register,
    data: Path,
    *,
    site: str = "north",
    given: Path | None = None,
    digests: tuple[str, ...] = RECORDINGS,
) -> Path:
    """Do what a rehearsal does until somebody is charged, and return where."""
    with register.held():
        place = register.place_for(site, root=data, digests=digests, given=given)
        with Ledger(place):
            pass
        register.add(place, site=site, root=data, digests=digests)
    return place


def found(register: Register, data: Path, *, site: str = "north", digests: tuple[str, ...] = RECORDINGS) -> Path:
    return register.place_for(site, root=data, digests=digests, given=None)


def test_a_new_ledger_lies_in_the_state_folder_and_is_found_again(register: Register, data: Path) -> None:
    place = charge(register, data)

    assert place.is_relative_to(register.home)
    assert place.name == "north"
    assert found(register, data) == place


def test_people_are_found_wherever_they_are_moved_and_whatever_they_are_called(
    register: Register, data: Path, tmp_path: Path
) -> None:
    place = charge(register, data)
    moved = data.rename(tmp_path / "other name")

    assert found(register, moved) == place
    assert found(register, moved, site="nord") == place
    assert found(register, moved, site="nord", digests=(*RECORDINGS[:1], "c" * 64)) == place


def test_a_new_export_in_the_same_place_is_the_same_site(register: Register, data: Path) -> None:
    place = charge(register, data)

    assert found(register, data, digests=("d" * 64,)) == place


def test_a_site_of_that_name_elsewhere_with_other_people_is_another(
    register: Register, data: Path, tmp_path: Path
) -> None:
    place = charge(register, data)

    assert found(register, tmp_path / "another study", digests=("d" * 64,)) != place


@pytest.mark.parametrize("first", [None, "mine"], ids=["after the default", "after another one given"])
def test_a_second_ledger_is_refused_by_name(
    register: Register, data: Path, tmp_path: Path, first: str | None
) -> None:
    place = charge(register, data, given=tmp_path / first / "north" if first else None)

    with pytest.raises(LedgerError, match="a second ledger would not know of it") as refused:
        register.place_for("north", root=data, digests=RECORDINGS, given=tmp_path / "other" / "north")

    assert str(place) in str(refused.value)
    assert not (tmp_path / "other").exists()


def test_a_ledger_that_was_given_goes_on_without_being_given_again(
    register: Register, data: Path, tmp_path: Path
) -> None:
    place = charge(register, data, given=tmp_path / "mine" / "north")

    assert found(register, data) == place


def test_a_ledger_that_is_gone_is_not_begun_anew(register: Register, data: Path, tmp_path: Path) -> None:
    place = charge(register, data)
    shutil.rmtree(place)

    for given in (None, tmp_path / "new" / "north"):
        with pytest.raises(LedgerError, match="the ledger is gone"):
            register.place_for("north", root=data, digests=RECORDINGS, given=given)


def test_a_ledger_that_was_moved_is_taken_where_a_person_says_it_is(
    register: Register, data: Path, tmp_path: Path
) -> None:
    place = charge(register, data)
    (tmp_path / "disk").mkdir()
    shutil.move(place, tmp_path / "disk" / "north")

    assert charge(register, data, given=tmp_path / "disk" / "north") == tmp_path / "disk" / "north"
    assert found(register, data) == tmp_path / "disk" / "north"


def test_a_copy_beside_the_ledger_is_a_second_one(register: Register, data: Path, tmp_path: Path) -> None:
    place = charge(register, data)
    shutil.copytree(place, tmp_path / "copy" / "north")

    with pytest.raises(LedgerError, match="a second ledger"):
        register.place_for("north", root=data, digests=RECORDINGS, given=tmp_path / "copy" / "north")


def test_a_person_may_settle_it_by_removing_the_file_that_is_named(register: Register, data: Path) -> None:
    shutil.rmtree(charge(register, data))
    with pytest.raises(LedgerError) as refused:
        found(register, data)

    Path(str(refused.value).rsplit(" remove ", 1)[1]).unlink()

    assert found(register, data).is_relative_to(register.home)


def test_people_of_two_ledgers_are_not_put_into_one(register: Register, data: Path) -> None:
    charge(register, data, digests=RECORDINGS[:1])
    charge(register, data, site="south", digests=RECORDINGS[1:])

    with pytest.raises(LedgerError, match="keep each recording at one site"):
        found(register, data, site="both")


def test_two_sites_do_not_share_a_ledger(tmp_path: Path) -> None:
    with pytest.raises(LedgerError, match="sites east and west"):
        refuse_shared({"east": tmp_path / "one", "west": tmp_path / "two" / ".." / "one"})


def test_looking_writes_nothing(register: Register, data: Path) -> None:
    found(register, data)

    assert not register.home.exists()


def test_the_register_names_no_recording_and_is_for_its_owner_alone(register: Register, data: Path) -> None:
    charge(register, data)
    files = [path for path in (register.home / "known-ledgers").iterdir() if path.is_file()]

    assert len(files) == 3
    assert all(path.stat().st_mode & 0o077 == 0 for path in (*files, files[0].parent))
    assert not any(digest[:16].encode() in path.read_bytes() for path in files for digest in RECORDINGS)


def test_a_damaged_entry_stops_everything(register: Register, data: Path) -> None:
    charge(register, data)
    next((register.home / "known-ledgers").glob("*.json")).write_text("{")

    with pytest.raises(LedgerError, match="cannot be read"):
        found(register, data)


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        pytest.param({"XDG_STATE_HOME": "/var/state"}, "/var/state/fedsynth", id="where the variable says"),
        pytest.param({"XDG_STATE_HOME": "relative"}, "~/.local/state/fedsynth", id="a relative path is ignored"),
        pytest.param({}, "~/.local/state/fedsynth", id="in the home"),
    ],
)
def test_the_register_is_in_the_users_state_folder(environment: Mapping[str, str], expected: str) -> None:
    assert register_of_user(environment).home == Path(expected).expanduser()


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_home_that_cannot_be_written_to_is_said_before_anything_is_opened(tmp_path: Path) -> None:
    (tmp_path / "home").mkdir(mode=0o500)

    with pytest.raises(RunError, match="XDG_STATE_HOME"):
        Register(tmp_path / "home" / "fedsynth").check()


def test_a_file_in_the_place_of_the_home_is_said_before_anything_is_opened(tmp_path: Path) -> None:
    (tmp_path / "home").write_text("")

    with pytest.raises(RunError, match="XDG_STATE_HOME"):
        Register(tmp_path / "home" / "fedsynth").check()
