"""An interrupted rehearsal goes on with the same command, pays once, and is known by what it was asked about."""

import json
import os
import pkgutil
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from fedsynth import places
from fedsynth.coordinator.checkpoint import Checkpoint
from fedsynth.coordinator.run_folder import RunFolder
from fedsynth.engines.protocol import Patience
from fedsynth.errors import StudyError
from fedsynth.ledger.ledger import Ledger
from fedsynth.site.policy import load_policy
from fedsynth.site.standing import open_ledger

STEPS = 4  # of the tiny study


def charges(run: Path) -> dict[str, int]:
    """Return how many lines the ledger of each site has, wherever it is."""
    found = {}
    for site in ("east", "west"):
        folder = RunFolder(run).site(site)
        with open_ledger(folder, load_policy(folder)) as ledger:
            found[site] = len(ledger)
    return found


def stopped_by(how: str) -> Callable[..., object]:
    """Return what happens instead of an answer that is kept."""

    def stop(*_: object) -> object:
        if how == "Ctrl-C":
            raise KeyboardInterrupt
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(5)
        raise AssertionError("not stopped")

    return stop


@pytest.mark.parametrize(
    ("how", "code", "at", "where"),
    [
        pytest.param("Ctrl-C", 130, 1, "at step 1 of 4", id="Ctrl-C at the first answer"),
        pytest.param("SIGTERM", 143, 6, "at step 3 of 4", id="SIGTERM in the middle"),
        pytest.param("Ctrl-C", 130, 8, "at step 4 of 4", id="Ctrl-C at the last answer"),
    ],
)
def test_an_interrupted_rehearsal_goes_on_with_the_same_command(  # type: ignore[no-untyped-def]
    fedsynth,
    recordings: Path,
    study_file: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    how: str,
    code: int,
    at: int,
    where: str,
) -> None:
    command = ("rehearse", study_file, "--sites", recordings, "--out", tmp_path / "run")
    keep, calls = Ledger.keep_reply, list[int]()

    def kept(*what: object) -> bytes:
        calls.append(1)
        return stopped_by(how)() if len(calls) == at else keep(*what)  # type: ignore[return-value,arg-type]

    with monkeypatch.context() as patch:
        patch.setattr(Ledger, "keep_reply", kept)
        stopped = fedsynth(*command)
    again = fedsynth(*command)
    third = fedsynth(*command)

    assert stopped.code == code
    assert stopped.out == ""
    assert "Give the same command again and it goes on from there" in stopped.err.splitlines()[-1]
    assert (again.code, third.code) == (0, 0), again.err
    assert f"goes on {where}; what was charged is not charged again" in again.err
    assert again.out == third.out
    assert "goes on" not in third.err
    assert charges(tmp_path / "run") == {"east": STEPS, "west": STEPS}
    assert not list((tmp_path / "run").glob("checkpoint*"))


def test_with_json_a_resumed_run_says_so_in_its_one_document(  # type: ignore[no-untyped-def]
    fedsynth, recordings: Path, study_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    command = ("rehearse", study_file, "--sites", recordings, "--out", tmp_path / "run", "--json")
    with monkeypatch.context() as patch:
        patch.setattr(Checkpoint, "keep", stopped_by("Ctrl-C"))
        stopped = fedsynth(*command)

    again = fedsynth(*command)

    assert json.loads(stopped.out)["error"]["kind"] == "Stopped"
    assert "Give the same command again" in json.loads(stopped.out)["error"]["said"]
    assert "goes on at step 1 of 4" in json.loads(again.out)["resumed"]
    assert json.loads(fedsynth(*command).out)["resumed"] is None
    assert charges(tmp_path / "run") == {"east": STEPS, "west": STEPS}


@pytest.mark.parametrize("failing", ["windows", "statement", "scores"])
def test_what_failed_at_the_very_end_is_done_again(  # type: ignore[no-untyped-def]
    fedsynth, recordings: Path, study_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failing: str
) -> None:
    """A disk that is full when windows, results or exact scores are written."""
    command = ("rehearse", study_file, "--sites", recordings, "--out", tmp_path / "run")
    place = {
        "windows": "fedsynth.synthesis.archive.write_npz",
        "statement": "fedsynth.coordinator.run_folder.scores_text",
        "scores": "fedsynth.rehearsal.rehearse.dump_scores",
    }[failing]

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(place, full)
        failed = fedsynth(*command)
    again = fedsynth(*command)

    assert failed.code == 2
    assert "No space left on device" in failed.err
    assert "Give the same command again" in failed.err
    assert (again.code, charges(tmp_path / "run")) == (0, {"east": STEPS, "west": STEPS}), again.err


@pytest.mark.slow
@pytest.mark.parametrize("lines", [1, 3])
def test_a_rehearsal_that_was_killed_goes_on(
    recordings: Path, study_file: Path, tmp_path: Path, lines: int
) -> None:
    command = [sys.executable, "-m", "fedsynth", "rehearse", study_file, "--sites", recordings]
    command += ["--out", tmp_path / "run", "--ledgers", tmp_path / "ledgers"]
    head = tmp_path / "ledgers" / "east" / "ledger.head"
    process = subprocess.Popen(command, stderr=subprocess.PIPE)
    while process.poll() is None:
        if head.exists() and json.loads(head.read_text() or '{"number": 0}')["number"] >= lines:
            process.kill()
            break
        time.sleep(0.001)
    assert process.wait() == -signal.SIGKILL
    assert process.stderr is not None
    process.stderr.close()

    again = subprocess.run(command, check=False, capture_output=True, text=True)

    assert again.returncode == 0, again.stderr
    assert "goes on at step" in again.stderr
    assert charges(tmp_path / "run") == {"east": STEPS, "west": STEPS}


MOMENTS = [
    pytest.param("fedsynth.rehearsal.rehearse.make_site", 2, id="sites are made"),
    pytest.param("fedsynth.rehearsal.rehearse.approve", 2, id="one site has approved"),
    pytest.param("fedsynth.ledger.register.Register.add", 2, id="one ledger is registered"),
    pytest.param("fedsynth.rehearsal.rehearse.settle", 1, id="all have approved"),
    pytest.param("fedsynth.engines.in_process.coordinate", 1, id="all is at its place"),
]


@pytest.mark.parametrize(("what", "number"), MOMENTS)
def test_a_rehearsal_killed_before_the_first_charge_begins_again(  # type: ignore[no-untyped-def]
    fedsynth,
    recordings: Path,
    study_file: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    what: str,
    number: int,
) -> None:
    """What was set aside by the dead one has lapsed: epsilon is enough for one run only."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    command = ("rehearse", study_file, "--sites", recordings, "--out", tmp_path / "run")
    child = os.fork()
    if child == 0:
        left, real = [number], pkgutil.resolve_name(what)

        def kill(*words: object, **others: object) -> object:
            left[0] -= 1
            if not left[0]:
                os.kill(os.getpid(), signal.SIGKILL)
            return real(*words, **others)

        monkeypatch.setattr(what, kill)
        try:
            fedsynth(*command)
        finally:
            os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL

    again = fedsynth(*command)

    assert again.code == 0, again.err
    ledgers = sorted((tmp_path / "state").rglob("ledger.sqlite"))
    assert len(ledgers) == 2
    for place in ledgers:
        with Ledger(place.parent) as ledger:
            assert len(ledger) == STEPS
    assert not list(tmp_path.glob(f"{places.PREFIX}*"))


@pytest.fixture
def same_sites(recordings: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(recordings, tmp_path / "moved"))


def test_the_same_recordings_elsewhere_are_the_same_run(  # type: ignore[no-untyped-def]
    fedsynth, finished: Path, study_file: Path, same_sites: Path
) -> None:
    (same_sites / "east" / ".DS_Store").write_bytes(b"left by a file manager")

    done = fedsynth("rehearse", study_file, "--sites", same_sites, "--out", finished)

    assert done.code == 0, done.err
    assert "goes on" not in done.err


def test_a_run_that_is_known_by_a_glance_is_not_read_again(  # type: ignore[no-untyped-def]
    fedsynth, finished: Path, study_file: Path, recordings: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fedsynth.rehearsal.asked._content", lambda *_, **__: pytest.fail("files were read"))

    assert fedsynth("rehearse", study_file, "--sites", recordings, "--out", finished).code == 0


def another_person(sites: Path) -> None:
    east = sites / "east"
    shutil.copy(east / "sub-001_eeg.edf", east / "sub-999_eeg.edf")
    with (east / "participants.tsv").open("a") as people:
        people.write("sub-999\ttask\n")


def one_byte(sites: Path) -> None:
    """Change a byte, and set the file's times back."""
    path = sites / "east" / "sub-001_eeg.edf"
    facts, data = path.stat(), bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    os.utime(path, ns=(facts.st_atime_ns, facts.st_mtime_ns))


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(lambda sites: (sites / "west" / "sub-001_eeg.edf").unlink(), id="a file less"),
        pytest.param(another_person, id="a person more"),
        pytest.param(one_byte, id="a byte"),
        pytest.param(
            lambda sites: (sites / "east" / "sub-001_eeg.edf").rename(sites / "east" / "sub-900_eeg.edf"),
            id="another name",
        ),
        pytest.param(
            lambda sites: [
                (sites / a).rename(sites / b) for a, b in (("east", "x"), ("west", "east"), ("x", "west"))
            ],
            id="the sites change their names",
        ),
    ],
)
def test_a_run_about_other_people_is_another_run(  # type: ignore[no-untyped-def]
    fedsynth, finished: Path, study_file: Path, same_sites: Path, change: Callable[[Path], object]
) -> None:
    change(same_sites)

    done = fedsynth("rehearse", study_file, "--sites", same_sites, "--out", finished)

    assert done.code == 1
    said = done.err.strip().splitlines()[-1]
    assert "holds a finished run about other recordings than those in --sites; nothing was touched" in said
    assert "sub-" not in said


def test_another_cohort_or_other_places_are_another_run(  # type: ignore[no-untyped-def]
    fedsynth, finished: Path, study_file: Path, recordings: Path, tmp_path: Path
) -> None:
    words = ("rehearse", study_file, "--out", finished)

    toy = fedsynth(*words, "--cohort", "toy")
    ledgers = fedsynth(*words, "--sites", recordings, "--ledgers", tmp_path / "ledgers")
    gone = fedsynth(*words, "--sites", tmp_path / "nowhere")

    assert (toy.code, ledgers.code, gone.code) == (1, 1, 2)
    assert "a finished run about other people (made up for one, not for the other)" in toy.err
    assert "a finished run about other ledgers (--ledgers)" in ledgers.err
    assert "nowhere is not a folder" in gone.err


def test_an_unfinished_run_about_other_people_is_not_gone_on_with(  # type: ignore[no-untyped-def]
    fedsynth, run_copy: Path, study_file: Path, same_sites: Path
) -> None:
    (run_copy / "internal" / "scores.json").unlink()
    one_byte(same_sites)

    done = fedsynth("rehearse", study_file, "--sites", same_sites, "--out", run_copy)

    assert done.code == 1
    assert "holds an unfinished run about other recordings" in done.err


def test_what_a_run_remembers_of_recordings_tells_nothing_without_its_key(finished: Path, recordings: Path) -> None:
    raw = json.loads((finished / "run.json").read_text())
    names = [path.name for path in recordings.rglob("*") if path.is_file()]

    assert set(raw["asked"]) == {"key", "cohort", "people", "ledgers", "heads", "options", "glance", "content"}
    assert {len(value) for value in raw["asked"].values()} == {64}
    assert not any(name in json.dumps(raw) for name in names)
    assert (finished / "run.json").stat().st_mode & 0o077 == 0


def test_a_run_whose_folder_was_being_filled_goes_on(  # type: ignore[no-untyped-def]
    fedsynth, recordings: Path, study_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed while a prepared run is moved into a folder that was there: a mount point, say."""
    (tmp_path / "run").mkdir()
    command = ("rehearse", study_file, "--sites", recordings, "--out", tmp_path / "run")

    def killed(staging: Path, place: Path, *, last: str) -> None:
        first = next(path for path in sorted(staging.iterdir()) if path.name != last)
        first.rename(place / first.name)
        shutil.copytree(staging, place / f"{places.PREFIX}1-{'0' * 16}")
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("fedsynth.rehearsal.rehearse.settle", killed)
        assert fedsynth(*command).code == 130

    again = fedsynth(*command)

    assert again.code == 0, again.err
    assert charges(tmp_path / "run") == {"east": STEPS, "west": STEPS}
    assert not list((tmp_path / "run").glob(f"{places.PREFIX}*"))


def test_a_run_that_other_code_began_is_left_to_it(  # type: ignore[no-untyped-def]
    fedsynth, run_copy: Path, study_file: Path, recordings: Path
) -> None:
    run = RunFolder(run_copy)
    (run_copy / "internal" / "scores.json").unlink()
    (run_copy / "statement.json").unlink()
    text = (run_copy / "plan.json").read_text()
    (run_copy / "plan.json").write_text(text.replace(run.plan().code, "0.0.1+another"))

    done = fedsynth("rehearse", study_file, "--sites", recordings, "--out", run_copy)

    assert done.code == 1
    assert "was approved for the code 0.0.1+another" in done.err


@pytest.mark.parametrize(("gather", "answers"), [(0, 1), (1, -1), (1, float("inf")), (float("nan"), 1)])
def test_a_time_that_is_none_is_refused(gather: float, answers: float) -> None:
    with pytest.raises(StudyError, match="give a time above 0"):
        Patience(gather, answers)


def test_patience_is_for_engines_that_wait(fedsynth, study_file: Path, recordings: Path, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    done = fedsynth(
        "rehearse", study_file, "--sites", recordings, "--out", tmp_path / "run", "--round-seconds", "60"
    )

    assert (done.code, list(tmp_path.iterdir())) == (2, [])
    assert "--engine deployment or simulation" in " ".join(done.err.split())
