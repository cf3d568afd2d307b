"""Where a run or a release goes: everything that can be wrong with a place is said before work begins."""

import errno
import os
import shutil
import signal
import stat
import subprocess
import sys
import time
from collections import namedtuple
from pathlib import Path

import pytest

from fedsynth import places
from fedsynth.errors import RefusedError, RunError
from fedsynth.places import (
    check_space,
    claimed,
    is_vacant,
    masked,
    place_for,
    remove_leftovers,
    settle,
    staging_for,
)
from fedsynth.rehearsal import places as needs
from fedsynth.rehearsal.places import (
    check_room,
    folders_of_recordings,
    memory_available,
    memory_needed,
    windows_at_most,
)
from fedsynth.rehearsal.rehearse import Rehearsal
from fedsynth.study import Study


def a_file(folder: Path) -> Path:
    (folder / "file").write_text("mine")
    return folder / "file"


def below_a_file(folder: Path) -> Path:
    return a_file(folder) / "run"


def a_dangling_link(folder: Path) -> Path:
    (folder / "link").symlink_to(folder / "nowhere")
    return folder / "link"


def a_circle(folder: Path) -> Path:
    (folder / "one").symlink_to(folder / "two")
    (folder / "two").symlink_to(folder / "one")
    return folder / "one"


def a_long_name(folder: Path) -> Path:
    return folder / ("n" * 300)


def a_name_that_leaves_no_room(folder: Path) -> Path:
    return folder / ("ä" * 120)


def among_the_recordings(folder: Path) -> Path:
    return folder / "sites" / "north" / "run"


def a_zero_byte(folder: Path) -> Path:
    return folder / "a\0b"


@pytest.mark.parametrize(
    ("where", "cause"),
    [
        pytest.param(a_file, "is a file", id="a file"),
        pytest.param(below_a_file, "is a file|Not a directory", id="below a file"),
        pytest.param(a_dangling_link, "leads nowhere", id="a link to nothing"),
        pytest.param(a_circle, "leads nowhere|Too many levels", id="links in a circle"),
        pytest.param(a_long_name, "File name too long|more than 200 bytes", id="a long name"),
        pytest.param(a_name_that_leaves_no_room, "more than 200 bytes", id="a name whose lock would be too long"),
        pytest.param(among_the_recordings, "among the recordings", id="among the recordings"),
        pytest.param(a_zero_byte, "no folder can stand", id="a zero byte"),
    ],
)
def test_a_place_that_cannot_be_is_refused_and_left_as_it_was(tmp_path: Path, where, cause: str) -> None:  # type: ignore[no-untyped-def]
    (tmp_path / "sites").mkdir()
    out = where(tmp_path)
    before = sorted(tmp_path.rglob("*"))

    with pytest.raises(RunError, match=cause) as refused:
        place_for(out, apart_from=[tmp_path / "sites"])

    assert "Nothing was written or charged; name" in str(refused.value)
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize(
    ("named", "kept_apart"),
    [
        pytest.param('["north", "east"]', ["north", "east"], id="sites that the study names"),
        pytest.param("[]", ["."], id="every folder is a site"),
        pytest.param("[7]", ["."], id="a study that is refused later"),
    ],
)
def test_a_run_may_lie_beside_the_sites_that_a_study_names(
    tiny_text: str, tmp_path: Path, named: str, kept_apart: list[str]
) -> None:
    """Who has one folder of recordings works in the folder above it."""
    text = tiny_text.replace("[cohort]", f"[cohort]\nsites = {named}")
    asked = Rehearsal(study_text=text, source="study.toml", sites=tmp_path, out=tmp_path / "run")

    assert folders_of_recordings(asked) == tuple(tmp_path / name for name in kept_apart)


def test_a_folder_one_may_not_write_to_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "access", lambda path, _mode: Path(path) != tmp_path)

    with pytest.raises(RunError, match="may not be written to"):
        place_for(tmp_path / "deep" / "run")


def test_links_are_followed_and_what_is_missing_may_be_deep(tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "there")

    assert place_for(tmp_path / "link") == (tmp_path / "there").resolve()
    assert place_for(tmp_path / "link" / "a" / "b") == (tmp_path / "there" / "a" / "b").resolve()


def test_an_empty_folder_or_a_mount_point_is_filled_and_not_replaced(tmp_path: Path) -> None:
    place = tmp_path / "mounted"
    (place / "lost+found").mkdir(parents=True)
    before = place.stat()

    with staging_for(place) as staging:
        assert staging.parent == place  # of one disk with it, so that moving is renaming
        (staging / "run.json").write_text("{}")
        (staging / "sites").mkdir()
        assert is_vacant(place)
        settle(staging, place, last="run.json")

    assert sorted(path.name for path in place.iterdir()) == ["lost+found", "run.json", "sites"]
    assert (place.stat().st_ino, place.stat().st_mode) == (before.st_ino, before.st_mode)


def test_a_new_folder_comes_in_one_step_for_this_user_alone(tmp_path: Path) -> None:
    with masked(0), staging_for(tmp_path / "run") as staging:
        (staging / "windows").write_text("x")
        settle(staging, tmp_path / "run")

    assert [path.name for path in tmp_path.iterdir()] == ["run"]
    assert stat.S_IMODE((tmp_path / "run").stat().st_mode) == 0o700


@pytest.mark.parametrize("there", [False, True], ids=["made meanwhile", "filled meanwhile"])
def test_a_place_that_fills_up_meanwhile_is_left_as_it_is(tmp_path: Path, there: bool) -> None:
    place = tmp_path / "run"
    if there:
        place.mkdir()

    with pytest.raises(OSError), staging_for(place) as staging:  # noqa: PT012
        (staging / "mine").write_text("x")
        place.mkdir(exist_ok=True)
        (place / "theirs").write_text("x")
        settle(staging, place)

    assert [path.name for path in place.iterdir()] == ["theirs"]
    assert list(tmp_path.iterdir()) == [place]


def test_a_disk_that_fails_while_things_are_moved_gets_them_moved_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rename = Path.rename

    def failing(path: Path, target: Path) -> Path:
        if path.name == "run.json":
            raise OSError(errno.ENOSPC, "full")
        return rename(path, target)

    monkeypatch.setattr(Path, "rename", failing)
    with pytest.raises(OSError, match="full"), staging_for(tmp_path) as staging:  # noqa: PT012
        (staging / "run.json").write_text("{}")
        (staging / "sites").mkdir()
        settle(staging, tmp_path, last="run.json")

    assert list(tmp_path.iterdir()) == []


HOLD = """
import sys, time
from pathlib import Path
from fedsynth.places import claimed, staging_for
with claimed(Path(sys.argv[1]), what="a run"), staging_for(Path(sys.argv[1])) as staging:
    (staging / "sites").mkdir()
    (staging / "sites" / "windows.npz").write_text("of people")
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def holder(tmp_path: Path):  # type: ignore[no-untyped-def]
    """Another process that prepares a run at tmp_path / "run"."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path / "run")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.communicate()


def test_two_processes_do_not_make_one_run(
    tmp_path: Path, holder: "subprocess.Popen[str]", monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(time, "sleep", lambda _: pytest.fail("it waited for the other one"))

    with pytest.raises(RefusedError, match="is making a run"), claimed(tmp_path / "run", what="a run"):
        pass

    holder.communicate("")
    with claimed(tmp_path / "run", what="x"):
        pass
    assert list(tmp_path.iterdir()) == []


def test_a_claim_ends_with_a_killed_process_and_its_windows_are_removed(
    tmp_path: Path, holder: "subprocess.Popen[str]"
) -> None:
    assert remove_leftovers(tmp_path) == 0  # it is alive
    assert len(list(tmp_path.glob(".fedsynth-*/sites/windows.npz"))) == 1
    holder.send_signal(signal.SIGKILL)
    holder.wait()

    with claimed(tmp_path / "run", what="x"), staging_for(tmp_path / "run") as staging:
        assert [path for path in tmp_path.iterdir() if path.is_dir()] == [staging]

    assert list(tmp_path.iterdir()) == []


def test_a_folder_of_somebody_alive_is_kept_even_before_it_is_locked(tmp_path: Path) -> None:
    fresh = tmp_path / f".fedsynth-1-{'0' * 16}"
    fresh.mkdir()
    mine = tmp_path / ".fedsynth-results"  # somebody else's word
    mine.mkdir()

    assert remove_leftovers(tmp_path) == 0
    os.utime(fresh, (0, 0))
    assert remove_leftovers(tmp_path) == 1
    assert list(tmp_path.iterdir()) == [mine]


def test_a_claim_makes_no_folders_that_stay(tmp_path: Path) -> None:
    with claimed(tmp_path / "a" / "b" / "run", what="a run"):
        assert (tmp_path / "a" / "b").is_dir()

    assert list(tmp_path.iterdir()) == []


def test_where_nothing_may_be_written_beside_a_folder_the_folder_itself_is_held(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def denied(_lock: Path) -> None:
        raise PermissionError(errno.EACCES, "denied")

    monkeypatch.setattr(places, "_locked", denied)
    with claimed(tmp_path, what="a run"), pytest.raises(RefusedError), claimed(tmp_path, what="a run"):
        pass
    with claimed(tmp_path, what="a run"):
        pass


def test_a_disk_without_room_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(10**9, 0, 999))

    with pytest.raises(RunError, match=r"a run takes about 0.0 MB, and the disk of .* has 0.0 MB left"):
        check_space(tmp_path / "new", needed=1000, what="a run")
    check_space(tmp_path / "new", needed=999, what="a run")


def sized(study: Study, *, channels: int, sfreq: float, n_times: int) -> Study:
    names = tuple(f"E{number}" for number in range(channels))
    signal_plan = study.signal.model_copy(update={"channels": names, "sfreq": sfreq})
    windows = study.windows.model_copy(update={"n_times": n_times})
    return study.model_copy(update={"signal": signal_plan, "windows": windows})


@pytest.mark.parametrize(
    ("channels", "sfreq", "n_times", "measured"),
    [(19, 128.0, 512, 0.83), (64, 128.0, 512, 1.70), (32, 256.0, 2560, 3.45), (64, 512.0, 5120, 12.2)],
)
def test_memory_is_estimated_near_what_was_measured(
    tiny: Study, channels: int, sfreq: float, n_times: int, measured: float
) -> None:
    study = sized(tiny, channels=channels, sfreq=sfreq, n_times=n_times)

    assert 0.7 < memory_needed(study, windows=16) / (measured * 1e9) < 1.6


def test_a_study_too_large_for_this_machine_is_refused(
    tiny: Study, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    large = sized(tiny, channels=64, sfreq=512.0, n_times=5120)
    monkeypatch.setattr(needs, "memory_available", lambda: 8 * 10**9)
    monkeypatch.setattr(needs, "check_space", lambda *_, **__: None)

    with pytest.raises(
        RunError, match=r"64 channels at 512 Hz and 10 s.* this machine has 8.0 GB free. Nothing was"
    ):
        check_room(large, sites=None, people=0.1, place=tmp_path)
    check_room(tiny, sites=None, people=0.1, place=tmp_path)


def test_windows_are_counted_from_files_alone(tiny: Study, tmp_path: Path) -> None:
    (tmp_path / "north").mkdir()
    for name, size in (("a.edf", 10**6), ("b.EDF", 600), ("notes.txt", 10**6)):
        (tmp_path / "north" / name).write_bytes(bytes(size))

    # Three of the first; the 300 samples of two channels in the second hold one window of 128, and one is added.
    assert windows_at_most(tiny, sites=tmp_path, people=1.0) == 3 + 2


def test_the_memory_of_this_machine_is_known() -> None:
    assert (memory_available() or 0) > 10**7


def test_what_is_made_under_a_mask_is_nobody_elses(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        with masked(0o077):
            (tmp_path / "windows").write_text("x")
        (tmp_path / "open").write_text("x")
    finally:
        os.umask(before)

    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir()}
    assert modes == {"windows": 0o600, "open": 0o666}
