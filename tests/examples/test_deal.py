"""Dealing a folder to hospitals: everybody once, nobody twice, nothing overwritten."""

import importlib.util
import subprocess
import sys
from collections import Counter
from pathlib import Path
from types import ModuleType

import pytest

SCRIPT = Path(__file__).parents[2] / "examples" / "deal.py"


@pytest.fixture(scope="module")
def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("deal", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["deal"] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def bonn(tmp_path: Path) -> Path:
    """Make three sets of twenty text files, one of them flat, with a mixture of suffixes."""
    for letter, folder in (("Z", "Z"), ("N", "sets/N"), ("S", ".")):
        (tmp_path / "bonn" / folder).mkdir(parents=True, exist_ok=True)
        for number in range(20):
            name = f"{letter}{number:03d}.{'TXT' if number % 2 else 'txt'}"
            (tmp_path / "bonn" / folder / name).write_text(f"{number}\n")
    return tmp_path / "bonn"


@pytest.fixture
def edf(tmp_path: Path) -> Path:
    """Make twelve people in two groups; the first has two files, a row has none."""
    folder = tmp_path / "edf"
    folder.mkdir()
    rows = ["participant_id\tage\tgroup", "sub-99\t50\tControl"]
    for number in range(12):
        rows.append(f"sub-{number:02d}\t{number}\t{'Control' if number < 6 else 'Epilepsy'}")
        (folder / f"sub-{number:02d}_eeg.edf").write_bytes(b"edf")
    (folder / "sub-00_run-2.EDF").write_bytes(b"edf")
    (folder / "participants.tsv").write_text("\n".join(rows) + "\n", encoding="utf-8-sig")
    return folder


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.rglob("*") if path.is_file() and path.name != "participants.tsv")


def test_every_text_file_goes_to_one_hospital_and_every_hospital_gets_the_same_of_every_label(
    script: ModuleType, bonn: Path, tmp_path: Path
) -> None:
    assert script.main([str(bonn), str(tmp_path / "dealt"), "--hospitals", "4"]) == 0

    hospitals = sorted((tmp_path / "dealt").iterdir())
    assert [folder.name for folder in hospitals] == ["hospital-1", "hospital-2", "hospital-3", "hospital-4"]
    assert sorted(name for folder in hospitals for name in names(folder)) == names(bonn)
    for folder in hospitals:
        assert Counter(name[0] for name in names(folder)) == {"Z": 5, "N": 5, "S": 5}


def test_an_edf_hospital_has_the_rows_of_its_own_people_and_no_others(
    script: ModuleType, edf: Path, tmp_path: Path
) -> None:
    assert script.main([str(edf), str(tmp_path / "dealt"), "--hospitals", "3"]) == 0

    seen: list[str] = []
    for folder in (tmp_path / "dealt").iterdir():
        head, *rows = (folder / "participants.tsv").read_text().splitlines()
        people = [row.split("\t")[0] for row in rows]
        assert head == "participant_id\tage\tgroup"
        assert people == sorted({name.split("_")[0] for name in names(folder)})
        assert Counter(row.split("\t")[2] for row in rows) == {"Control": 2, "Epilepsy": 2}
        seen += people
    assert sorted(seen) == [f"sub-{number:02d}" for number in range(12)]


def test_held_out_people_are_a_fraction_of_every_label_and_at_no_hospital(
    script: ModuleType, bonn: Path, edf: Path, tmp_path: Path
) -> None:
    assert script.main([str(bonn), str(tmp_path / "a"), "--hold-out", "0.2"]) == 0
    assert script.main([str(edf), str(tmp_path / "b"), "--hospitals", "2", "--hold-out", "0.5"]) == 0

    assert Counter(name[0] for name in names(tmp_path / "a.holdout")) == {"Z": 4, "N": 4, "S": 4}
    assert sorted(names(tmp_path / "a") + names(tmp_path / "a.holdout")) == names(bonn)
    rows = (tmp_path / "b.holdout" / "participants.tsv").read_text().splitlines()[1:]
    assert Counter(row.split("\t")[2] for row in rows) == {"Control": 3, "Epilepsy": 3}
    assert not {row.split("\t")[0] for row in rows} & {name.split("_")[0] for name in names(tmp_path / "b")}


def test_skew_makes_sizes_and_shares_unequal_and_leaves_nobody_out(
    script: ModuleType, bonn: Path, tmp_path: Path
) -> None:
    assert script.main([str(bonn), str(tmp_path / "dealt"), "--skew", "1"]) == 0

    counts = [Counter(name[0] for name in names(folder)) for folder in (tmp_path / "dealt").iterdir()]
    assert sum(counts, Counter()) == {"Z": 20, "N": 20, "S": 20}
    assert max(count.total() for count in counts) > 1.5 * min(count.total() for count in counts)
    assert len({count["S"] for count in counts}) > 2


@pytest.mark.parametrize("skew", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("seed", range(10))
def test_everybody_is_dealt_once_and_no_hospital_is_empty(script: ModuleType, skew: float, seed: int) -> None:
    people = [script.Person(f"p{i}", "ab"[i % 2], ()) for i in range(7)]

    dealt = script.deal(people, hospitals=5, skew=skew, seed=seed)

    assert sorted(person.name for group in dealt for person in group) == [f"p{i}" for i in range(7)]
    assert all(dealt)


def test_the_same_seed_deals_alike_and_another_differently(script: ModuleType, bonn: Path, tmp_path: Path) -> None:
    for name, seed in (("a", "1"), ("b", "1"), ("c", "2")):
        script.main([str(bonn), str(tmp_path / name), "--seed", seed])

    first, again, other = (names(tmp_path / name / "hospital-1") for name in "abc")
    assert first == again != other


def test_files_are_copied_or_linked(script: ModuleType, bonn: Path, tmp_path: Path) -> None:
    script.main([str(bonn), str(tmp_path / "copied"), "--copy"])
    script.main([str(bonn), str(tmp_path / "linked"), "--link"])

    assert not any(path.is_symlink() for path in (tmp_path / "copied").rglob("*"))
    linked = [path for path in (tmp_path / "linked").rglob("*") if path.suffix]
    assert all(path.is_symlink() and path.read_text().strip().isdigit() for path in linked)


def test_a_folder_that_holds_something_is_not_touched(
    script: ModuleType, bonn: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "a.holdout").mkdir()
    (tmp_path / "a.holdout" / "mine").touch()

    assert script.main([str(bonn), str(tmp_path / "a"), "--hold-out", "0.2"]) == 2

    assert "is there and not empty" in capsys.readouterr().err
    assert not (tmp_path / "a").exists()
    assert script.main([str(bonn), str(tmp_path / "a")]) == 0
    assert script.main([str(bonn), str(tmp_path / "a")]) == 2


@pytest.mark.parametrize(
    ("arguments", "fragment"),
    [
        pytest.param(["nothing", "out"], "nothing is not a folder", id="no source"),
        pytest.param(["empty", "out"], "neither text files (*.txt) nor EDF files", id="no recordings"),
        pytest.param(["bonn", "bonn/out"], "lies inside", id="into itself"),
        pytest.param(
            ["bonn", "out", "--hospitals", "61"], "60 people cannot be dealt to 61 hospitals", id="too many"
        ),
        pytest.param(
            ["edf", "out", "--column", "diagnosis"], "no column 'diagnosis'; it has: part", id="no column"
        ),
        pytest.param(
            ["norow", "out"], "1 of 1 files cannot be dealt: the name has no row", id="file without a row"
        ),
        pytest.param(["notable", "out"], "participants.tsv is missing", id="no participants.tsv"),
        pytest.param(["noname", "out"], "1 of 1 files cannot be dealt: the name has no letters", id="no label"),
    ],
)
def test_what_cannot_be_dealt_is_refused_in_a_sentence(
    script: ModuleType,
    bonn: Path,
    edf: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    fragment: str,
) -> None:
    assert bonn.parent == edf.parent == tmp_path
    for folder, file in (("empty", None), ("norow", "x.edf"), ("notable", "x.edf"), ("noname", "001.txt")):
        (tmp_path / folder).mkdir()
        if file:
            (tmp_path / folder / file).touch()
    (tmp_path / "norow" / "participants.tsv").write_text("participant_id\tgroup\n")
    monkeypatch.chdir(tmp_path)

    assert script.main(arguments) == 2

    assert fragment in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("option", [["--skew", "1.5"], ["--hospitals", "0"], ["--hold-out", "1"], ["--seed", "x"]])
def test_a_number_out_of_bounds_is_refused_by_the_command_line(script: ModuleType, option: list[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        script.main(["a", "b", *option])

    assert stop.value.code == 2


def test_the_script_runs_with_the_standard_library_alone(bonn: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-I", "-S", str(SCRIPT), str(bonn), str(tmp_path / "dealt"), "--hospitals", "2"]

    done = subprocess.run(command, check=True, capture_output=True, text=True)

    assert "hospital-2: 30 people, 30 recordings (N 10, S 10, Z 10)" in done.stdout
