"""`fedsynth init`: a folder becomes a study that check and rehearse take as it is, and nothing is overwritten."""

import json
from pathlib import Path

import pytest

from fedsynth.recordings.toy.cohort import write_toy_cohort
from fedsynth.study import load_study

TOY = Path(__file__).parents[2] / "examples"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("hospitals")
    write_toy_cohort(place, study=load_study(TOY / "toy" / "study.toml"), people=0.2)
    return place


def test_a_draft_is_checked_and_tried_without_an_edit(fedsynth, folder: Path, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    study = tmp_path / "study.toml"

    made = fedsynth("init", folder, "-o", study)
    checked = fedsynth("check", study)
    tried = fedsynth("rehearse", study, "--sites", folder, "--dry-run")

    assert (made.code, checked.code, tried.code) == (0, 0, 0)
    assert f"fedsynth rehearse {study} --sites {folder} --dry-run" in made.out
    assert "everything is in order" in tried.out


def test_the_draft_of_one_hospital_is_tried_beside_its_folder(fedsynth, folder: Path, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    study = tmp_path / "study.toml"

    made = fedsynth("init", folder / "north", "-o", study)
    tried = fedsynth("rehearse", study, "--sites", folder, "--dry-run")

    assert "one hospital" in made.out
    assert tried.code == 0


@pytest.mark.long
def test_a_draft_of_ecg_is_rehearsed_without_an_edit(fedsynth, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    write_toy_cohort(tmp_path / "all", study=load_study(TOY / "toy-ecg" / "study.toml"), people=0.2)
    study = tmp_path / "study.toml"

    fedsynth("init", tmp_path / "all", "-o", study)
    done = fedsynth("rehearse", study, "--sites", tmp_path / "all", "--out", tmp_path / "run")

    assert done.code == 0


def test_nothing_is_overwritten(fedsynth, folder: Path, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    study = tmp_path / "study.toml"
    study.write_text("mine")

    done = fedsynth("init", folder, "-o", study)

    assert (done.code, study.read_text()) == (1, "mine")
    assert "nothing is overwritten" in done.err


def test_open_choices_are_said_by_init_and_by_check(fedsynth, folder: Path, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    for path in (folder / "north").glob("*.edf"):
        (tmp_path / "north").mkdir(exist_ok=True)
        (tmp_path / "north" / path.name).write_bytes(path.read_bytes())
    study = tmp_path / "study.toml"

    made = fedsynth("init", tmp_path / "north", "-o", study, "--json")
    checked = fedsynth("check", study)

    assert made.code == 0
    assert "labels.source" in json.loads(made.out)["choices"]
    assert checked.code == 2
    assert "3 choices are left open" in checked.err


def test_a_place_that_is_not_there_is_named(fedsynth, folder: Path, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    assert "make it first" in fedsynth("init", folder, "-o", tmp_path / "no" / "study.toml").err
    assert "is not a folder" in fedsynth("init", tmp_path / "nowhere", "-o", tmp_path / "study.toml").err
    assert not (tmp_path / "study.toml").exists()
