"""The command line as a user meets it: the main job on tiny recordings, and every refusal with its exit code."""

import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from fedsynth.cli.main import main
from fedsynth.privacy.ledger import Ledger
from fedsynth.signals.toy import write_toy_cohort
from fedsynth.site.holdings import group_of_person
from fedsynth.study import Study, parse_study


@dataclass(frozen=True)
class Done:
    code: int
    out: str
    err: str


@pytest.fixture
def fedsynth(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch):  # type: ignore[no-untyped-def]
    def run(*words: object) -> Done:
        monkeypatch.setattr(sys, "argv", ["fedsynth", *map(str, words)])
        capsys.readouterr()
        code = 0
        try:
            main()
        except SystemExit as stop:
            code = int(stop.code or 0)
        said = capsys.readouterr()
        return Done(code, said.out, said.err)

    return run


@pytest.fixture(scope="module")
def recordings(tmp_path_factory: pytest.TempPathFactory, tiny: Study) -> Path:
    folder = tmp_path_factory.mktemp("recordings")
    study = tiny.model_copy(update={"cohort": tiny.cohort.model_copy(update={"sites": ("east", "west")})})
    write_toy_cohort(folder, study=study, people=0.1)
    return folder


@pytest.fixture(scope="module")
def study_file(tmp_path_factory: pytest.TempPathFactory, tiny_text: str) -> Path:
    path = tmp_path_factory.mktemp("study") / "study.toml"
    path.write_text(tiny_text)
    return path


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, recordings: Path, study_file: Path) -> Path:
    """A finished run, made once through a real process."""
    run = tmp_path_factory.mktemp("runs") / "run"
    command = [sys.executable, "-m", "fedsynth", "rehearse", str(study_file), "--sites", str(recordings)]
    subprocess.run([*command, "--out", str(run)], check=True, capture_output=True)
    return run


@pytest.fixture
def run_copy(finished: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(finished, tmp_path / "run"))


def test_rehearse_release_and_verify(fedsynth, run_copy: Path, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    release = tmp_path / "release"

    released = fedsynth("release", run_copy, "--out", release)
    verified = fedsynth("verify", release)

    assert (released.code, verified.code) == (0, 0)
    assert "per subject" in released.out
    statement = json.loads((release / "privacy" / "statement.json").read_text())
    assert statement["epsilon"] <= 8.0
    with np.load(release / "data" / "ml" / "windows.npz", allow_pickle=False) as windows:
        assert windows["X"].shape == (24, 2, 128)
        assert sorted(set(windows["y"].tolist())) == [0, 1]


def test_releasing_again_changes_nothing(fedsynth, run_copy: Path, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    release = tmp_path / "release"
    fedsynth("release", run_copy, "--out", release)
    before = {path: path.stat().st_mtime_ns for path in release.rglob("*")}

    again = fedsynth("release", run_copy, "--out", release)

    assert again.code == 0
    assert before == {path: path.stat().st_mtime_ns for path in release.rglob("*")}


def test_rehearsing_a_finished_run_again_is_quick_and_changes_nothing(  # type: ignore[no-untyped-def]
    fedsynth, run_copy: Path, recordings: Path, study_file: Path
) -> None:
    before = (run_copy / "statement.json").read_bytes()

    again = fedsynth("rehearse", study_file, "--sites", recordings, "--out", run_copy)

    assert again.code == 0
    assert (run_copy / "statement.json").read_bytes() == before


def test_exact_scores_on_real_people_stay_inside(fedsynth, run_copy: Path, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    fedsynth("release", run_copy, "--out", tmp_path / "release")

    inside = json.loads((run_copy / "internal" / "scores.json").read_text())
    public = json.loads((tmp_path / "release" / "report" / "metrics.json").read_text())

    assert {score["source"] for score in inside} == {"real"}
    assert "real" not in {score["source"] for score in public}


def test_a_dry_run_of_release_writes_nothing(fedsynth, run_copy: Path, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    done = fedsynth("release", run_copy, "--out", tmp_path / "release", "--dry-run")

    assert done.code == 0
    assert not (tmp_path / "release").exists()


def edit_statement(run: Path) -> None:
    path = run / "statement.json"
    path.write_text(path.read_text().replace('"noise_multiplier": ', '"noise_multiplier": 1'))


def lower_epsilon(run: Path) -> None:
    path = run / "statement.json"
    body = json.loads(path.read_text())
    body["epsilon"] = 1.0
    path.write_text(json.dumps(body))


def drop_site(run: Path) -> None:
    path = run / "statement.json"
    body = json.loads(path.read_text())
    body["sites"] = body["sites"][1:]
    path.write_text(json.dumps(body))


def edit_ledger(run: Path) -> None:
    with sqlite3.connect(run / "sites" / "east" / "ledger" / "ledger.sqlite") as db:
        db.execute("DROP TRIGGER charges_keep")
        db.execute("UPDATE charges SET study = 'x' WHERE number = 1")


def swap_ledgers(run: Path) -> None:
    east, west, aside = (run / "sites" / name / "ledger" for name in ("east", "west", "aside"))
    aside.parent.mkdir()
    east.rename(aside)
    west.rename(east)
    aside.rename(west)


@pytest.mark.parametrize(
    "tamper",
    [
        pytest.param(edit_statement, id="events with more noise"),
        pytest.param(lower_epsilon, id="a lower epsilon"),
        pytest.param(drop_site, id="a site left out"),
        pytest.param(edit_ledger, id="an edited ledger"),
        pytest.param(swap_ledgers, id="ledgers of other sites"),
    ],
)
def test_a_run_whose_ledger_and_statement_disagree_is_not_released(  # type: ignore[no-untyped-def]
    fedsynth, run_copy: Path, tmp_path: Path, tamper
) -> None:
    tamper(run_copy)

    done = fedsynth("release", run_copy, "--out", tmp_path / "release")

    assert done.code == 3
    assert not (tmp_path / "release").exists()


def test_a_tampered_release_does_not_verify(fedsynth, run_copy: Path, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    fedsynth("release", run_copy, "--out", tmp_path / "release")
    (tmp_path / "release" / "README.md").write_text("changed")

    done = fedsynth("verify", tmp_path / "release")

    assert done.code == 4
    assert "README.md" in done.err


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


def test_heads_without_ledgers_are_refused(fedsynth, study_file: Path, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    done = fedsynth(
        "rehearse", study_file, "--cohort", "toy", "--out", tmp_path / "run", "--heads", tmp_path / "heads"
    )

    assert (done.code, list(tmp_path.iterdir())) == (2, [])
    assert "give both" in done.err


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
        return group_of_person(subject, held_out=tiny.plan.held_out)

    shutil.copytree(recordings, tmp_path / "sites")
    east = tmp_path / "sites" / "east"
    of_both = next(f"sub-{n}" for n in range(200, 300) if group(f"sub-{n}") != group("sub-001"))
    shutil.copy(east / "sub-001_eeg.edf", east / f"{of_both}_eeg.edf")
    with (east / "participants.tsv").open("a") as people:
        people.write(f"{of_both}\ttask\n")

    done = fedsynth("rehearse", study_file, "--sites", tmp_path / "sites", "--out", tmp_path / "run", *dry)

    assert done.code == 3
    assert "1 recordings stand under two names of which one trains and one is held out" in done.err
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


def test_check_prints_the_plan_and_opens_nothing(fedsynth, study_file: Path) -> None:  # type: ignore[no-untyped-def]
    done = fedsynth("check", study_file)

    assert done.code == 0
    assert "gradients: critic, round 1" in done.out
    assert "Opacus PRV" in done.out
    assert done.out.endswith("Delta alone would allow to publish 0.0002 of the 20 units declared.\n")


def test_check_says_so_where_delta_gives_people_away(fedsynth, tiny_text: str, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    study = tmp_path / "study.toml"
    many = tiny_text.replace("delta = 1e-5", "delta = 1e-3").replace("expected_units = 10", "expected_units = 1000")
    study.write_text(many.replace("rounds = 1", "rounds = 0"))

    assert "publish 2 of the 2000 units declared. That is much" in fedsynth("check", study).out


def test_a_site_reads_its_own_ledger(fedsynth, finished: Path) -> None:  # type: ignore[no-untyped-def]
    done = fedsynth("site", "ledger", finished / "sites" / "east" / "ledger")

    assert done.code == 0
    assert "4 charges, the chain holds" in done.out


def test_a_release_verifies_where_neither_torch_nor_numpy_can_be_imported(  # type: ignore[no-untyped-def]
    fedsynth, run_copy: Path, tmp_path: Path
) -> None:
    fedsynth("release", run_copy, "--out", tmp_path / "release")
    code = (
        "import sys\n"
        "for name in ('torch', 'numpy', 'scipy', 'mne', 'flwr', 'opacus'): sys.modules[name] = None\n"
        f"sys.argv = ['fedsynth', 'verify', {str(tmp_path / 'release')!r}]\n"
        "from fedsynth.cli.main import main\n"
        "main()\n"
    )

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stderr


def test_the_study_of_the_tests_is_a_study(tiny_text: str) -> None:
    assert parse_study(tiny_text).name == "tiny"


def test_a_finer_unit_is_not_released_as_a_coarser_one(fedsynth, run_copy: Path, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    for name in ("study.toml", "statement.json"):
        path = run_copy / name
        path.write_text(path.read_text().replace("subject", "window"))

    done = fedsynth("release", run_copy, "--out", tmp_path / "release")

    assert done.code in {2, 3}
    assert not (tmp_path / "release").exists()


def test_a_study_that_differs_from_the_approved_plan_is_not_released(  # type: ignore[no-untyped-def]
    fedsynth, run_copy: Path, tmp_path: Path
) -> None:
    path = run_copy / "study.toml"
    path.write_text(path.read_text().replace("windows_per_label = 12", "windows_per_label = 13"))

    done = fedsynth("release", run_copy, "--out", tmp_path / "release")

    assert done.code == 3
    assert "not the one its sites approved" in done.err


def test_a_generator_of_other_code_is_refused_in_one_sentence(fedsynth, run_copy: Path, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    from fedsynth.wire.arrays import pack, unpack

    path = run_copy / "generator.safetensors"
    tensors = unpack(path.read_bytes())
    tensors.pop(next(name for name in tensors if name.startswith("parts.generator.feature")))
    path.write_bytes(pack(tensors))

    done = fedsynth("release", run_copy, "--out", tmp_path / "release")

    assert done.code == 2
    assert "another version of the code" in done.err


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
        there.extend(tmp_path.glob(".fedsynth-*/sites/*/holdings/*.npz"))
        os.kill(os.getpid(), number)

    monkeypatch.setattr("fedsynth.rehearsal.approve", terminated)
    before = signal.getsignal(number)

    done = fedsynth("rehearse", study_file, "--sites", recordings, "--out", tmp_path / "run")

    assert (done.code, len(there)) == (128 + number, 4)
    assert list(tmp_path.iterdir()) == []
    assert signal.getsignal(number) is before


def test_a_head_kept_elsewhere_is_found_at_release(fedsynth, run_copy: Path, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    east, head = run_copy / "sites" / "east", tmp_path / "other disk" / "head"
    head.parent.mkdir()
    shutil.move(east / "ledger" / "ledger.head", head)
    with (east / "site.toml").open("a") as policy:
        policy.write(f"ledger_head = {json.dumps(str(head))}\n")

    assert fedsynth("release", run_copy, "--out", tmp_path / "release").code == 0
