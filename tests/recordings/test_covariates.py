"""Covariates at a site: where they stand, who has none, and that nothing of them is repeated."""

import logging
from collections.abc import Callable
from pathlib import Path

import edfio
import numpy as np
import pytest

from fedsynth.errors import RecordingError
from fedsynth.recordings.intake import Keeping, TakenIn, take_in
from fedsynth.recordings.readers.site import read_site
from fedsynth.recordings.windows import windows_of
from fedsynth.site.holdings import load_holdings
from fedsynth.site.ingest import ingest
from fedsynth.study import Study, parse_study

Put = Callable[..., Path]
PEOPLE = {"sub-01": ("rest", "35", "F"), "sub-02": ("task", "71", "M"), "sub-03": ("rest", "n/a", "x")}
CONDITIONS = '[conditions.age]\nbands = [40, 60]\n[conditions.sex]\nvalues = ["F", "M"]\n'


def study_of(text: str, conditions: str = CONDITIONS, *, signal: str = "") -> Study:
    text = text.replace("least_subjects = 4", "least_subjects = 1").replace("[privacy]", f"{conditions}[privacy]")
    return parse_study(text.replace('format = "edf"', signal) if signal else text)


@pytest.fixture
def site(tmp_path: Path) -> Path:
    rng, folder = np.random.default_rng(0), tmp_path / "recordings"
    folder.mkdir()
    for name in PEOPLE:
        rows = rng.normal(0, 20, (2, 800)).clip(-400, 400)
        signals = [
            edfio.EdfSignal(row, sampling_frequency=100, label=f"EEG {channel}", physical_dimension="uV",
                            physical_range=(-500, 500))
            for channel, row in zip(("C3", "C4"), rows, strict=True)
        ]  # fmt: skip
        edfio.Edf(signals).write(folder / f"{name}_task-rest_eeg.edf")
    table(folder, PEOPLE)
    return folder


def table(folder: Path, people: dict[str, tuple[str, str, str]]) -> None:
    rows = [("participant_id", "group", "age", "sex"), *((name, *told) for name, told in people.items())]
    (folder / "participants.tsv").write_text("".join("\t".join(row) + "\n" for row in rows), encoding="utf-8")


def strata(folder: Path, study: Study) -> list[int]:
    return [one.covariates[0] for one in taken(folder, study).recordings]


def taken(folder: Path, study: Study) -> TakenIn:
    return take_in(folder, site="east", study=study, keeping=Keeping(None))


def test_age_and_sex_of_participants_are_those_of_their_recordings(site: Path, tiny_text: str) -> None:
    # Three bands and "not-said", two values and "not-said": 4 x 3 combinations, age counting slowest.
    assert strata(site, study_of(tiny_text)) == [0 * 3 + 0, 2 * 3 + 1, 3 * 3 + 2]


def test_windows_bear_the_stratum_of_their_recording(site: Path, tiny_text: str) -> None:
    study = study_of(tiny_text)

    windows = windows_of(read_site(site, site="east", study=study), study=study)

    assert windows.covariates is not None
    assert windows.covariates[:, 0].tolist() == [0] * 3 + [7] * 3 + [11] * 3


@pytest.mark.parametrize(
    ("missing", "left"),
    [pytest.param("leave out", [0, 2 * 2 + 1], id="leaves out"), pytest.param("not said", None, id="keeps")],
)
def test_a_person_without_a_value_is_left_out_where_the_study_says_so(
    site: Path, tiny_text: str, missing: str, left: list[int] | None, caplog: pytest.LogCaptureFixture
) -> None:
    study = study_of(tiny_text, CONDITIONS + f'missing = "{missing}"\n')
    with caplog.at_level(logging.WARNING):
        found = strata(site, study)

    assert found == (left or [0, 7, 11])
    assert ("no value of a condition" in caplog.text) == (left is not None)


def test_a_missing_value_can_be_refused_and_no_value_is_repeated(site: Path, tiny_text: str) -> None:
    table(site, PEOPLE | {"sub-03": ("rest", "50", "CANARY")})

    with pytest.raises(RecordingError, match="condition 'sex' has no value of the study's") as caught:
        strata(site, study_of(tiny_text, CONDITIONS + 'missing = "refuse"\n'))

    assert "CANARY" not in str(caught.value)
    assert "sub-03" not in str(caught.value)


def test_recordings_may_differ_in_what_is_said_of_one_person(site: Path, tiny_text: str) -> None:
    rows = [("recording", "state"), *((f"{name}_task-rest_eeg", state) for name, state in
            zip(PEOPLE, ("open", "shut", "open"), strict=True))]  # fmt: skip
    (site / "recordings.tsv").write_text("".join("\t".join(row) + "\n" for row in rows), encoding="utf-8")
    study = study_of(
        tiny_text, '[conditions.eyes]\nsource = "recordings.tsv"\ncolumn = "state"\nvalues = ["open", "shut"]\n'
    )

    assert strata(site, study) == [0, 1, 0]


@pytest.mark.parametrize(
    ("write", "conditions", "fragment"),
    [
        (
            "participant_id\tgroup\n",
            CONDITIONS,
            "condition 'age': a table that the layout names has 0 columns 'age'",
        ),
        (None, '[conditions.eyes]\nsource = "recordings.tsv"\nvalues = ["a", "b"]\n', "is missing"),
        (None, '[conditions.eyes]\nsource = "layout"\nvalues = ["a", "b"]\n', "does not say where it stands"),
    ],
)
def test_a_table_that_says_nothing_of_a_condition_is_refused(
    site: Path, tiny_text: str, write: str | None, conditions: str, fragment: str
) -> None:
    if write is not None:
        rows = "".join(f"{name}\t{told[0]}\n" for name, told in PEOPLE.items())
        (site / "participants.tsv").write_text(write + rows, encoding="utf-8")

    with pytest.raises(RecordingError, match=fragment):
        strata(site, study_of(tiny_text, conditions))


def test_two_rows_that_disagree_are_refused(site: Path, tiny_text: str) -> None:
    with (site / "participants.tsv").open("a", encoding="utf-8") as file:
        file.write("sub-01\trest\t55\tF\n")

    with pytest.raises(RecordingError, match="row 5 of its table says another value") as caught:
        strata(site, study_of(tiny_text))

    assert "55" not in str(caught.value)


def test_a_path_and_a_column_of_the_layout_say_covariates(site: Path, tiny_text: str) -> None:
    (site / "list.csv").write_text(
        "file,years\n" + "".join(f"{name}_task-rest_eeg.edf,{told[1]}\n" for name, told in PEOPLE.items()),
        encoding="utf-8",
    )
    (site / "recordings.toml").write_text(
        "[table]\nfile = 'list.csv'\nkey = 'file'\n[conditions]\n"
        "age = { column = 'years', rename = { 35 = '45' } }\ntask = { path = 'task-([a-z]+)' }\n",
        encoding="utf-8",
    )
    study = study_of(
        tiny_text,
        '[conditions.age]\nsource = "layout"\nbands = [40, 60]\n'
        '[conditions.task]\nsource = "layout"\nvalues = ["rest", "work"]\n',
    )

    assert strata(site, study) == [1 * 3, 2 * 3, 3 * 3]


def test_a_word_or_a_number_of_a_header_says_covariates_and_nothing_else_is_taken(
    tmp_path: Path, tiny_text: str, put_record: Put
) -> None:
    rng, site = np.random.default_rng(1), tmp_path / "site"
    for stem, comment in [("a1", "#Age: 45\r\n#Sex: Female"), ("b1", "# Age: 70 CANARY\r\n#Sex: Male")]:
        rows = rng.integers(-40, 40, (2, 800)).tolist()
        put_record(site, stem, rows, labels=("C3", "C4"), gain="1000(0)/mV", comment=comment)
    (site / "recordings.toml").write_text(
        "label = { path = '^([a-z])' }\n[conditions]\nage = { wfdb_field = 'Age' }\nsex = { wfdb_field = 'Sex' }\n",
        encoding="utf-8",
    )
    sources = CONDITIONS.replace("\n", '\nsource = "layout"\n', 1)
    sources = sources.replace('["F", "M"]', '["F", "M"]\nsource = "layout"\nrename = { Female = "F", Male = "M" }')
    text = tiny_text.replace('source = "participants.tsv"\n', 'source = "layout"\n')
    text = text.replace("[privacy]", "[labels.rename]\na = 'rest'\nb = 'task'\n[privacy]")

    assert strata(site, study_of(text, sources, signal='format = "wfdb"')) == [1 * 3 + 0, 3 * 3 + 1]


def test_another_age_in_the_table_is_noticed_and_reaches_the_windows(
    site: Path, tmp_path: Path, tiny_text: str
) -> None:
    study, place = study_of(tiny_text), tmp_path / "east"
    place.mkdir()
    (place / "site.toml").write_text('name = "east"\nlargest_epsilon = 8.0\n', encoding="utf-8")

    def held() -> list[int]:
        ingest(place, site, study=study, progress=lambda *_: None)
        holdings = load_holdings(place / "holdings")
        windows = [holdings.at_home(group) for group in holdings.tokens]
        return sorted(
            int(n) for some in windows if some.covariates is not None for n in set(some.covariates[:, 0].tolist())
        )

    before = held()
    table(site, PEOPLE | {"sub-01": ("rest", "50", "F")})

    assert before == [0, 7, 11]
    assert held() == [3, 7, 11]


STATEMENTS = '[statements]\nnames = ["AF", "LBBB", "PVC"]\nat_most = 2\n'


def flags(folder: Path, study: Study) -> list[list[int]]:
    return [list(one.covariates[1:]) for one in taken(folder, study).recordings]


def test_statements_of_a_table_are_a_set_and_what_is_not_named_is_passed_over(site: Path, tiny_text: str) -> None:
    cells = ("PVC; AF;LBBB", "CANARY, af", "{'LBBB': 100.0, 'SR': 0.0}")
    rows = [f"{name}_task-rest_eeg\t{cell}\n" for name, cell in zip(PEOPLE, cells, strict=True)]
    (site / "recordings.tsv").write_text("recording\tstatements\n" + "".join(rows), encoding="utf-8")
    study = study_of(tiny_text, CONDITIONS + STATEMENTS + 'rename = { af = "AF" }\n')

    # Of the first recording's three the first two count.
    assert flags(site, study) == [[1, 1, 0], [1, 0, 0], [0, 1, 0]]
    windows = windows_of(read_site(site, site="east", study=study), study=study)
    assert windows.covariates is not None
    assert windows.covariates[::3].tolist() == [[0, 1, 1, 0], [7, 1, 0, 0], [11, 0, 1, 0]]


def test_codes_of_a_header_are_statements(tmp_path: Path, tiny_text: str, put_record: Put) -> None:
    rng, site = np.random.default_rng(1), tmp_path / "site"
    for stem, comment in [("a1", "#Dx: 426177001,164889003"), ("b1", "#Dx: 999")]:
        rows = rng.integers(-40, 40, (2, 800)).tolist()
        put_record(site, stem, rows, labels=("C3", "C4"), gain="1000(0)/mV", comment=comment)
    (site / "recordings.toml").write_text(
        "label = { path = '^([a-z])' }\n[conditions]\nstatements = { wfdb_field = 'Dx' }\n", encoding="utf-8"
    )
    text = tiny_text.replace('source = "participants.tsv"\n', 'source = "layout"\n')
    text = text.replace("[privacy]", "[labels.rename]\na = 'rest'\nb = 'task'\n[privacy]")
    statements = STATEMENTS + 'source = "layout"\nrename = { 426177001 = "PVC", 164889003 = "AF" }\n'

    assert flags(site, study_of(text, statements, signal='format = "wfdb"')) == [[1, 0, 1], [0, 0, 0]]


def test_statements_reach_the_windows_that_a_site_holds(site: Path, tmp_path: Path, tiny_text: str) -> None:
    rows = [f"{name}_task-rest_eeg\t{cell}\n" for name, cell in zip(PEOPLE, ("AF", "", "PVC"), strict=True)]
    (site / "recordings.tsv").write_text("recording\tstatements\n" + "".join(rows), encoding="utf-8")
    place = tmp_path / "east"
    place.mkdir()
    (place / "site.toml").write_text('name = "east"\nlargest_epsilon = 8.0\n', encoding="utf-8")

    ingest(place, site, study=study_of(tiny_text, STATEMENTS), progress=lambda *_: None)

    holdings = load_holdings(place / "holdings")
    held = [holdings.at_home(group).covariates for group in holdings.tokens]
    assert sorted(tuple(row) for some in held if some is not None and len(some) for row in some[::3].tolist()) == [
        (0, 0, 0, 0), (0, 0, 0, 1), (0, 1, 0, 0),
    ]  # fmt: skip
