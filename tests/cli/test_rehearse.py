"""`fedsynth rehearse`: what it refuses, what it leaves behind, and ledgers that go on."""

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from fedsynth.ledger.ledger import Ledger
from fedsynth.privacy.mechanism import Mechanism
from fedsynth.privacy.statement import PrivacyStatement
from fedsynth.site.holdings import group_of_person
from fedsynth.study import Study


def test_ledgers_that_go_on_refuse_what_would_exceed_epsilon(  # type: ignore[no-untyped-def]
    fedsynth, recordings: Path, study_file: Path, tmp_path: Path
) -> None:
    words = ("rehearse", study_file, "--sites", recordings, "--ledgers", tmp_path / "ledgers")
    first = fedsynth(*words, "--out", tmp_path / "first")
    kept = {path: path.read_bytes() for path in (tmp_path / "ledgers").rglob("ledger.head")}

    second = fedsynth(*words, "--out", tmp_path / "second")

    assert first.code == 0
    assert second.code == 3
    assert "already spent on the same people" in second.err
    assert not (tmp_path / "second").exists()
    assert kept == {path: path.read_bytes() for path in (tmp_path / "ledgers").rglob("ledger.head")}


@pytest.mark.slow
def test_a_ledger_in_which_strangers_stand_counts_them_all_the_way_to_a_verified_release(  # type: ignore[no-untyped-def]
    fedsynth, recordings: Path, study_file: Path, tmp_path: Path
) -> None:
    """Nobody here was asked before; the statement cannot say so, and promises what holds whoever was."""
    strangers = Mechanism("another study", 1.0, 1.0, 1, 1.0)
    with Ledger(tmp_path / "ledgers" / "east") as ledger:
        ledger.charge(strangers, nonce="n", study="s", tokens=["x"], cap=8.0, delta=1e-5, unit="subject")
    words = ("rehearse", study_file, "--sites", recordings, "--ledgers", tmp_path / "ledgers")

    for verb in ((*words, "--dry-run"), (*words, "--out", tmp_path / "run")):
        assert fedsynth(*verb).code == 0
    done = fedsynth("release", tmp_path / "run", "--out", tmp_path / "release")

    assert (done.code, fedsynth("verify", tmp_path / "release").code) == (0, 0), done.err
    statement = PrivacyStatement.load(tmp_path / "release" / "privacy" / "statement.json")
    east, west = statement.sites
    assert east.events[0] == east.held_out[0] == strangers
    assert west.epsilon <= 8.0 < east.epsilon == statement.epsilon
    assert "whoever was asked" in statement.composes
    single_file = Path(__file__).resolve().parents[2] / "deploy" / "verify_release.py"
    subprocess.run([sys.executable, single_file, tmp_path / "release"], check=True, capture_output=True)


def test_ledgers_set_back_as_a_whole_are_noticed_by_heads_kept_elsewhere(  # type: ignore[no-untyped-def]
    fedsynth, recordings: Path, study_file: Path, tmp_path: Path
) -> None:
    ledgers, heads = tmp_path / "ledgers", tmp_path / "other disk"
    words = ("rehearse", study_file, "--sites", recordings, "--ledgers", ledgers, "--heads", heads)
    missing = fedsynth(*words, "--out", tmp_path / "first")
    assert (missing.code, list(tmp_path.iterdir())) == (2, [])
    heads.mkdir()
    dry = (*words, "--dry-run")
    for site in ("east", "west"):
        with Ledger(ledgers / site, head_file=heads / f"{site}.head"):
            pass
    shutil.copytree(ledgers, tmp_path / "backup")
    assert fedsynth(*words, "--out", tmp_path / "first").code == 0
    shutil.rmtree(ledgers)
    shutil.copytree(tmp_path / "backup", ledgers)

    again = [fedsynth(*words, "--out", tmp_path / "second"), fedsynth(*dry)]
    released = fedsynth("release", tmp_path / "first", "--out", tmp_path / "release")

    for done in (*again, released):
        assert (done.code, "an old copy was restored" in done.err) == (3, True), done.err
    shutil.rmtree(ledgers)
    for done in (fedsynth(*words, "--out", tmp_path / "second"), fedsynth(*dry)):
        assert (done.code, "the ledger is gone" in done.err) == (3, True), done.err
    assert not (tmp_path / "second").exists()


def test_a_second_study_of_the_same_people_finds_their_ledgers_by_itself(  # type: ignore[no-untyped-def]
    fedsynth, recordings: Path, study_file: Path, tmp_path: Path, own_state: Path
) -> None:
    """The second study's folder once began at epsilon 0; and whoever passed other ledgers was believed."""
    words = ("rehearse", study_file, "--sites", recordings)
    assert fedsynth(*words, "--out", tmp_path / "first").code == 0
    shutil.rmtree(tmp_path / "first")
    renamed = tmp_path / "renamed"
    shutil.copytree(recordings, renamed)
    again = ("rehearse", study_file, "--sites", renamed, "--out", tmp_path / "second")

    done = fedsynth(*again)
    dry = fedsynth(*again, "--dry-run")
    elsewhere = fedsynth(*again, "--ledgers", tmp_path / "mine")

    assert (done.code, dry.code, elsewhere.code) == (3, 3, 3)
    for refused in (done, dry):
        assert "already spent on the same people" in refused.err
    assert "a second ledger would not know of it" in elsewhere.err
    assert len(list(own_state.rglob("ledger.sqlite"))) == 2
    assert sorted(path.name for path in tmp_path.iterdir()) == ["renamed"]


def test_made_up_people_keep_their_ledgers_in_the_run(  # type: ignore[no-untyped-def]
    fedsynth, study_file: Path, tmp_path: Path, own_state: Path
) -> None:
    small = tmp_path / "study.toml"
    small.write_text(study_file.read_text().replace("rounds = 1", "rounds = 0"), encoding="utf-8")

    done = fedsynth("rehearse", small, "--cohort", "toy", "--out", tmp_path / "run")

    assert done.code == 0, done.err
    assert list((tmp_path / "run" / "sites").glob("*/ledger/ledger.sqlite"))
    assert list(own_state.iterdir()) == []


def test_a_label_that_nobody_has_is_refused_before_anybody_is_charged(  # type: ignore[no-untyped-def]
    fedsynth, recordings: Path, study_file: Path, tmp_path: Path, own_state: Path
) -> None:
    study = tmp_path / "study.toml"
    text = study_file.read_text().replace('names = ["rest", "task"]', 'names = ["rest", "task", "dream"]')
    study.write_text(text, encoding="utf-8")
    words = ("rehearse", study, "--sites", recordings)

    for done in (fedsynth(*words, "--out", tmp_path / "run"), fedsynth(*words, "--dry-run")):
        assert done.code == 2
        assert "the label 'dream', and nobody who trains has it" in done.err
        assert "found there: 'rest', 'task'" in done.err
        assert "Nothing was written or charged" in done.err
    assert list(own_state.rglob("ledger.sqlite")) == []
    assert [path.name for path in tmp_path.iterdir()] == ["study.toml"]


def test_heads_without_ledgers_are_refused(fedsynth, study_file: Path, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    done = fedsynth(
        "rehearse", study_file, "--cohort", "toy", "--out", tmp_path / "run", "--heads", tmp_path / "heads"
    )

    assert (done.code, list(tmp_path.iterdir())) == (2, [])
    assert "made-up people need none" in done.err


@pytest.mark.slow
def test_a_family_that_is_not_the_default_is_rehearsed_released_and_verified(  # type: ignore[no-untyped-def]
    fedsynth, recordings: Path, tiny_text: str, tmp_path: Path
) -> None:
    study, run, release = tmp_path / "study.toml", tmp_path / "run", tmp_path / "release"
    study.write_text(tiny_text.replace('name = "cwgan"', 'name = "vae-ldm"'))

    done = [
        fedsynth("rehearse", study, "--sites", recordings, "--out", run),
        fedsynth("release", run, "--out", release),
        fedsynth("verify", release),
    ]

    assert [one.code for one in done] == [0, 0, 0], [one.err for one in done]
    assert 'families = ["vae-ldm"]' in (run / "sites" / "east" / "site.toml").read_text()


def test_without_privacy_a_run_is_rehearsed_but_never_released(  # type: ignore[no-untyped-def]
    fedsynth, recordings: Path, tiny_text: str, tmp_path: Path
) -> None:
    study = tmp_path / "study.toml"
    study.write_text(tiny_text.replace("epsilon = 8.0", "epsilon = inf"))

    rehearsed = fedsynth("rehearse", study, "--sites", recordings, "--out", tmp_path / "run")
    released = fedsynth("release", tmp_path / "run", "--out", tmp_path / "release")

    assert rehearsed.code == 0
    assert "No privacy is promised" in rehearsed.out
    assert released.code == 3
    assert not (tmp_path / "release").exists()


BAD_STUDIES = [
    pytest.param("epsilon = 8.0", "epsilom = 8.0", "'epsilon'", id="an unknown key, the likely one named"),
    pytest.param("epsilon = 8.0", 'epsilon = "8"', "number", id="a wrong type"),
    pytest.param("epsilon = 8.0", "epsilon = -1.0", "greater than 0", id="a negative epsilon"),
    pytest.param('unit = "subject"', 'unit = "patient"', "'subject'", id="an unknown unit"),
    pytest.param('name = "cwgan"', 'name = "cwgam"', "cwgan", id="an unknown family"),
    pytest.param('positive = "task"', 'positive = "seizure"', "seizure", id="a positive label not in the study"),
    pytest.param("least_sites = 2", "least_sites = 3", "needs 3", id="too few sites"),
    pytest.param("sfreq = 100.0", "sfreq = 128.0", "Hz", id="a wrong rate"),
    pytest.param('"C3", "C4"', '"C3", "Oz"', "Oz", id="a channel missing"),
    pytest.param(
        'names = ["rest", "task"]\nsource', 'names = ["idle", "task"]\nsource', "label", id="an unknown label"
    ),
    pytest.param("least_subjects = 4", "least_subjects = 400", "400", id="too few subjects"),
    pytest.param("[labels]", "[labels", "TOML", id="no TOML"),
]


@pytest.mark.parametrize("dry", [[], ["--dry-run"]], ids=["rehearse", "dry run"])
def test_a_recording_in_both_groups_is_refused_dry_or_not(  # type: ignore[no-untyped-def]
    fedsynth, recordings: Path, study_file: Path, tiny: Study, tmp_path: Path, dry: list[str]
) -> None:
    def group(subject: str) -> str:
        return group_of_person(subject, held_out=tiny.training.held_out)

    shutil.copytree(recordings, tmp_path / "sites")
    east = tmp_path / "sites" / "east"
    of_both = next(f"sub-{n}" for n in range(200, 300) if group(f"sub-{n}") != group("sub-001"))
    shutil.copy(east / "sub-001_eeg.edf", east / f"{of_both}_eeg.edf")
    with (east / "participants.tsv").open("a") as people:
        people.write(f"{of_both}\ttask\n")

    done = fedsynth("rehearse", study_file, "--sites", tmp_path / "sites", "--out", tmp_path / "run", *dry)

    assert done.code == 3
    assert "the same samples stand under two names of which one trains and one is held out" in done.err
    assert of_both not in done.err
    assert list(tmp_path.iterdir()) == [tmp_path / "sites"]


@pytest.mark.parametrize(("old", "new", "said"), BAD_STUDIES)
@pytest.mark.parametrize("dry", [[], ["--dry-run"]], ids=["rehearse", "dry run"])
def test_bad_input_is_one_sentence_exit_code_2_and_nothing_written(  # type: ignore[no-untyped-def]
    fedsynth, recordings: Path, tiny_text: str, tmp_path: Path, old: str, new: str, said: str, dry: list[str]
) -> None:
    assert old in tiny_text
    place = tmp_path / "place"
    place.mkdir()
    study = tmp_path / "study.toml"
    study.write_text(tiny_text.replace(old, new))

    words = ["rehearse", study, "--sites", recordings, "--out", place / "run", "--ledgers", place / "ledgers"]
    done = fedsynth(*words, *dry)

    assert done.code == 2
    assert said in done.err
    assert done.err.strip().splitlines()[-1].startswith("fedsynth: ")
    assert not list(place.iterdir())


@pytest.mark.parametrize(
    "damage",
    [
        pytest.param(lambda f: [path.unlink() for path in f.glob("*.edf")], id="a site without recordings"),
        pytest.param(lambda f: min(f.glob("*.edf")).write_bytes(b""), id="an empty file"),
        pytest.param(lambda f: min(f.glob("*.edf")).write_bytes(min(f.glob("*.edf")).read_bytes()[:-7]), id="cut"),
        pytest.param(lambda f: (f / "participants.tsv").unlink(), id="no participants.tsv"),
    ],
)
def test_a_damaged_site_stops_the_rehearsal_before_anything_is_written(  # type: ignore[no-untyped-def]
    fedsynth, recordings: Path, study_file: Path, tmp_path: Path, damage
) -> None:
    sites, place = tmp_path / "sites", tmp_path / "place"
    shutil.copytree(recordings, sites)
    place.mkdir()
    damage(sites / "west")

    done = fedsynth(
        "rehearse", study_file, "--sites", sites, "--out", place / "run", "--ledgers", place / "ledgers"
    )

    assert done.code == 2
    assert "west" in done.err
    assert "sub-0" not in done.err
    assert not list(place.iterdir())


def test_another_folder_is_never_overwritten(fedsynth, recordings: Path, study_file: Path, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "thesis.txt").write_text("precious")

    done = fedsynth("rehearse", study_file, "--sites", recordings, "--out", tmp_path / "run")

    assert done.code == 1
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["thesis.txt"]


def test_a_run_that_holds_ledgers_of_people_is_not_offered_for_removal(
    fedsynth,
    run_copy: Path,
    study_file: Path,
    recordings: Path,  # type: ignore[no-untyped-def]
) -> None:
    def refused() -> str:
        done = fedsynth("rehearse", study_file, "--sites", recordings, "--out", run_copy, "--engine", "simulation")
        assert done.code == 1
        return str(done.err)

    assert "It holds the sites' ledgers: with it goes what was spent" in refused()
    for ledger in run_copy.glob("sites/*/ledger"):
        shutil.rmtree(ledger)

    assert "Name another --out, or remove it" in refused()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_rehearsal_terminated_while_it_prepares_leaves_nothing(
    fedsynth,
    tmp_path: Path,
    study_file: Path,
    recordings: Path,
    monkeypatch: pytest.MonkeyPatch,  # type: ignore[no-untyped-def]
    number: signal.Signals,
) -> None:
    there: list[Path] = []

    def terminated(*_: object, **__: object) -> None:
        there.extend(tmp_path.glob(".fedsynth-*/sites/*/holdings/*.windows"))
        os.kill(os.getpid(), number)

    monkeypatch.setattr("fedsynth.rehearsal.rehearse.approve", terminated)
    before = signal.getsignal(number)

    done = fedsynth("rehearse", study_file, "--sites", recordings, "--out", tmp_path / "run")

    assert (done.code, len(there)) == (128 + number, 4)
    assert list(tmp_path.iterdir()) == []
    assert signal.getsignal(number) is before
