"""Layouts of public WFDB data sets, made small: whose a record is, its label, and who is held out."""

import importlib.util
import subprocess
import sys
from collections import Counter
from pathlib import Path
from types import ModuleType

import pytest

from fedsynth.study import load_study

EXAMPLES = Path(__file__).parents[2] / "examples"
SCRIPT = EXAMPLES / "deal.py"


@pytest.fixture(scope="module")
def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("deal", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["deal"] = module
    spec.loader.exec_module(module)
    return module


def record(folder: Path, name: str, *suffixes: str) -> None:
    for suffix in (".hea", ".dat", *suffixes):
        (folder / f"{name}{suffix}").write_text(name)


@pytest.fixture
def cinc2017(tmp_path: Path) -> Path:
    """Make forty records with four labels, and one that the table does not name."""
    folder = tmp_path / "cinc2017"
    folder.mkdir()
    rows = []
    for number in range(40):
        record(folder, f"A{number:05d}")
        rows.append(f"A{number:05d},{'NAO~'[number % 4]}")
    record(folder, "B00001")
    (folder / "REFERENCE.csv").write_text("\n".join(rows) + "\n")
    return folder


@pytest.fixture
def ptbxl(tmp_path: Path) -> Path:
    """Make twelve people; the first has three ECGs, of which one is normal and one has no diagnosis."""
    folder = tmp_path / "ptbxl"
    (folder / "records100").mkdir(parents=True)
    (folder / "scp_statements.csv").write_text(
        ",description,diagnostic,diagnostic_class\nNORM,normal,1.0,NORM\nIMI,infarct,1.0,MI\nSR,sinus rhythm,,\n"
    )
    rows = ["ecg_id,patient_id,report,scp_codes,filename_lr"]
    codes = ["{'NORM': 80.0, 'SR': 0.0}", "{'IMI': 100.0}", "{'SR': 0.0}"]
    people = [100.0] * 3 + [101.0 + i for i in range(11)]
    for number, person in enumerate(people):
        code = codes[number] if number < 3 else codes[number % 2]
        name = f"records100/{number:05d}_lr"
        record(folder, name)
        rows.append(f'{number},{person},"two\nlines, one cell","{code}",{name}')
    (folder / "ptbxl_database.csv").write_text("\n".join(rows) + "\n")
    return folder


@pytest.fixture
def mitbih(tmp_path: Path) -> Path:
    """Make eight records, two of them of the man whom the real database has twice."""
    folder = tmp_path / "mitbih"
    folder.mkdir()
    names = ["100", "101", "103", "105", "200", "201", "202", "203"]
    for name in names:
        record(folder, name, ".atr")
    (folder / "RECORDS").write_text("\n".join(names) + "\n")
    return folder


def rows(folder: Path) -> list[list[str]]:
    return [line.split("\t") for line in (folder / "recordings.tsv").read_text().splitlines()]


def places(folder: Path) -> list[Path]:
    return [*sorted(folder.iterdir()), folder.with_name(f"{folder.name}.holdout")]


def test_records_of_cinc_2017_are_dealt_label_by_label_with_their_files(
    script: ModuleType, cinc2017: Path, tmp_path: Path
) -> None:
    assert script.main([str(cinc2017), str(tmp_path / "dealt"), "--hospitals", "4", "--hold-out", "0.2"]) == 0

    seen = []
    for place in places(tmp_path / "dealt"):
        head, *lines = rows(place)
        assert head == ["recording", "participant_id", "group"]
        assert Counter(label for _, _, label in lines) == {"N": 2, "A": 2, "O": 2, "~": 2}
        assert all(recording == person for recording, person, _ in lines)
        files = {path.name for path in place.iterdir()} - {"recordings.tsv"}
        assert files == {f"{name}{suffix}" for name, _, _ in lines for suffix in (".hea", ".dat")}
        seen += [name for name, _, _ in lines]
    assert sorted(seen) == [f"A{number:05d}" for number in range(40)]


def test_a_record_of_cinc_2017_with_the_samples_of_another_is_dealt_once(
    script: ModuleType, cinc2017: Path, tmp_path: Path
) -> None:
    (cinc2017 / "A00039.dat").write_bytes((cinc2017 / "A00002.dat").read_bytes())

    assert script.main([str(cinc2017), str(tmp_path / "dealt"), "--hospitals", "2"]) == 0

    seen = [name for place in places(tmp_path / "dealt")[:-1] for name, _, _ in rows(place)[1:]]
    assert sorted(seen) == [f"A{number:05d}" for number in range(39)]


def test_an_ecg_of_ptb_xl_is_normal_abnormal_or_left_out_and_stays_with_its_person(
    script: ModuleType, ptbxl: Path, tmp_path: Path
) -> None:
    command = [str(ptbxl), str(tmp_path / "dealt"), "--hospitals", "2", "--hold-out", "0.4", "--column", "class"]
    assert script.main(command) == 0

    found = {}
    people = []
    for place in places(tmp_path / "dealt"):
        head, *lines = rows(place)
        assert head == ["recording", "participant_id", "class"]
        assert all((place / "records100" / f"{name}.dat").is_file() for name, _, _ in lines)
        found |= {name: (person, label) for name, person, label in lines}
        people += {person for _, person, _ in lines}
    assert found["00000_lr"] == ("100", "normal")
    assert found["00001_lr"] == ("100", "abnormal")
    assert "00002_lr" not in found
    assert len(found) == 13
    assert len(people) == len(set(people)) == 12


def test_records_of_mit_bih_come_with_their_annotations_and_one_man_is_one_person(
    script: ModuleType, mitbih: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert script.main([str(mitbih), str(tmp_path / "dealt"), "--hospitals", "3"]) == 0

    of_person = {}
    for place in (tmp_path / "dealt").iterdir():
        head, *lines = rows(place)
        assert head == ["recording", "participant_id"]
        of_person |= {name: (person, place.name) for name, person in lines}
        assert all((place / f"{name}.atr").is_file() for name, _ in lines)
    assert of_person["202"] == of_person["201"]
    assert of_person["202"][0] == "201"
    assert len(of_person) == 8
    assert "3 people" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("name", "change", "fragment"),
    [
        pytest.param("cinc2017", ("A00003.dat", None), "no header or no signal file", id="no signal file"),
        pytest.param("cinc2017", ("REFERENCE.csv", "A00001,N,x\n"), "two cells a line", id="three cells"),
        pytest.param("cinc2017", ("REFERENCE.csv", ""), "is empty", id="empty table"),
        pytest.param("ptbxl", ("scp_statements.csv", None), "cannot be read as a table", id="no statements"),
        pytest.param("ptbxl", ("scp_statements.csv", ",x\nNORM,y\n"), "a column of ptbxl", id="no classes"),
        pytest.param("mitbih", ("101.atr", None), "has no .atr file", id="no annotations"),
        pytest.param("mitbih", ("RECORDS", ""), "names no records", id="no records"),
    ],
)
def test_a_damaged_layout_is_refused_and_nothing_is_written(
    script: ModuleType,
    request: pytest.FixtureRequest,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    name: str,
    change: tuple[str, str | None],
    fragment: str,
) -> None:
    source: Path = request.getfixturevalue(name)
    file, content = change
    if content is None:
        (source / file).unlink()
    else:
        (source / file).write_text(content)

    assert script.main([str(source), str(tmp_path / "dealt")]) == 2

    assert fragment in capsys.readouterr().err
    assert not (tmp_path / "dealt").exists()


def test_a_layout_is_dealt_with_the_standard_library_alone_from_any_folder(cinc2017: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-I", "-S", str(SCRIPT), str(cinc2017), str(tmp_path / "dealt"), "--hospitals", "2"]

    done = subprocess.run(command, check=True, capture_output=True, text=True, cwd=tmp_path)

    assert "hospital-2: 20 people, 20 recordings (A 5, N 5, O 5, ~ 5)" in done.stdout


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*/study.toml")), ids=lambda path: path.parent.name)
def test_every_example_is_a_study_and_one_that_names_hospitals_names_those_of_the_script(path: Path) -> None:
    study = load_study(path)

    assert study.name == path.parent.name
    if study.privacy.trust == "aggregate":
        assert study.cohort.sites == tuple(f"hospital-{number}" for number in range(1, 5))
