"""From a made-up folder to a draft: what is recognised, what is asked, and that nothing of a person is in it."""

import re
from collections.abc import Callable
from pathlib import Path

import edfio
import numpy as np
import pytest

from fedsynth.errors import RecordingError, StudyError
from fedsynth.recordings.layout import presets
from fedsynth.recordings.survey.channels import Channels
from fedsynth.recordings.survey.draft import draft
from fedsynth.recordings.survey.known import Known, known_sets, recognise
from fedsynth.recordings.survey.labels import Labels, labelled
from fedsynth.recordings.survey.survey import Survey, survey
from fedsynth.study import Study, load_study, parse_study

EXAMPLES = Path(__file__).parents[3] / "examples"
CANARY = "Canarywolf"
Put = Callable[..., Path]


def edf(path: Path, labels: tuple[str, ...] = ("EEG C3-Ref", "EEG T3-Ref"), *, sfreq: float = 100.0) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(sum(path.name.encode()))
    signals = [
        edfio.EdfSignal(
            rng.normal(0, 30, int(sfreq * 6)),
            sfreq,
            label=name,
            physical_dimension="uV",
            physical_range=(-500, 500),
        )
        for name in labels
    ]
    edfio.Edf(signals, patient=edfio.Patient(name=CANARY, code=CANARY)).write(path)


def hospital(folder: Path, *, people: int = 12, column: str = "group", named: str = "sub") -> Path:
    """Write a hospital: one recording a person, and a table in which one person alone has a label of her own."""
    rows = [f"participant_id\tage\t{column}"]
    for number in range(people):
        edf(folder / f"{named}-{number:02d}_eeg.edf")
        label = CANARY if number == 0 else ("control", "patient")[number % 2]
        rows.append(f"{named}-{number:02d}\t{20 + number}\t{label}")
    (folder / "participants.tsv").write_text("\n".join(rows) + "\n")
    return folder


def test_a_hospitals_table_tells_labels_and_headers_tell_channels_and_rate(tmp_path: Path) -> None:
    study = parse_study(draft(survey(hospital(tmp_path / "north"))))

    assert study.labels.names == ("control", "patient")
    assert (study.labels.source, study.labels.positive, study.labels.others) == (
        "participants.tsv",
        "patient",
        "leave out",
    )
    assert study.signal.channels == ("C3", "T7")
    assert (study.signal.sfreq, study.signal.modality, study.windows.n_times) == (100.0, "eeg", 200)
    assert (study.cohort.sites, study.cohort.least_sites) == (("north",), 1)
    assert study.privacy.unit == "subject"


def test_folders_of_hospitals_are_sites(tmp_path: Path) -> None:
    for name in ("east", "west"):
        hospital(tmp_path / name, named=name)

    found = survey(tmp_path)

    assert (found.sites, found.below) == (("east", "west"), True)
    assert parse_study(draft(found)).cohort.least_sites == 2


def test_nothing_of_a_person_is_in_a_draft(tmp_path: Path) -> None:
    north = hospital(tmp_path / "north", named=CANARY)

    text = draft(survey(north))

    assert CANARY not in text
    assert not re.search(r"\b(11|12)\b", text)  # people with a label, and people


def test_a_label_of_a_header_that_few_people_share_is_not_in_a_draft(tmp_path: Path) -> None:
    for number in range(8):
        edf(tmp_path / "north" / f"p{number}_a.edf", ("left arm", CANARY if number < 4 else "right arm"))

    assert CANARY not in draft(survey(tmp_path / "north"))


@pytest.mark.parametrize("names", [("Meier", "Huber"), ("P01", "P02")], ids=["by name", "by number"])
def test_folders_of_people_are_not_taken_for_hospitals(tmp_path: Path, names: tuple[str, ...]) -> None:
    for who in names:
        for kind in ("EO1", "EC1", "EO2", "EC2"):
            edf(tmp_path / "north" / who / f"{kind}.edf")

    found = survey(tmp_path / "north")

    assert (found.sites, found.below) == (("north",), False)
    assert not any(who in draft(found) for who in names)


def test_how_many_people_there_are_changes_nothing(tmp_path: Path) -> None:
    texts = {
        draft(survey(hospital(tmp_path / str(people) / "north", people=people))) for people in (12, 13, 40, 71)
    }

    assert len(texts) == 1


def test_what_cannot_be_known_is_a_question_that_reading_the_study_names(tmp_path: Path) -> None:
    for number in range(6):
        edf(tmp_path / "north" / f"p{number}_eeg.edf")

    text = draft(survey(tmp_path / "north"))

    with pytest.raises(StudyError, match=r"3 choices are left open. labels.source: .*labels.names: .*labels.pos"):
        parse_study(text)


def test_a_column_of_another_name_is_asked_about(tmp_path: Path) -> None:
    text = draft(survey(hospital(tmp_path / "north", column="arm")))

    with pytest.raises(StudyError, match=r"labels.column: which column holds the labels: arm"):
        parse_study(text)


def test_text_without_a_rate_asks_what_it_is(tmp_path: Path) -> None:
    for number in range(12):
        path = tmp_path / f"{'AB'[number % 2]}{number:03d}.txt"
        path.write_text("\n".join(map(str, range(200))) + "\n")

    text = draft(survey(tmp_path))

    assert 'source = "file name"' in text
    assert 'unit = "recording"' in text
    with pytest.raises(StudyError, match=r"signal.modality: .*signal.sfreq"):
        parse_study(text)


def test_events_of_bids_are_labels_where_no_table_tells_any(tmp_path: Path) -> None:
    for number in range(5):
        stem = tmp_path / f"sub-{number}" / "eeg" / f"sub-{number}_task-x"
        edf(Path(f"{stem}_eeg.edf"))
        Path(f"{stem}_events.tsv").write_text("onset\tduration\ttrial_type\n1\t0\tgo\n2\t0\tstop\n")
    (tmp_path / "dataset_description.json").write_text("{}")

    study = parse_study(draft(survey(tmp_path)))

    assert (study.labels.source, study.labels.names) == ("events", ("go", "stop"))
    Path(f"{stem}_events.tsv").write_text("onset\tduration\ttrial_type\n1\t0\n")
    assert survey(tmp_path).labels.table == {}


def test_a_layout_of_the_site_tells_labels(tmp_path: Path) -> None:
    for number in range(10):
        edf(tmp_path / ("ill", "well")[number % 2] / f"p{number}.edf")
    (tmp_path / "recordings.toml").write_text("label = { path = '^([a-z]+)/' }\n")

    study = parse_study(draft(survey(tmp_path)))

    assert (study.labels.source, study.labels.names) == ("layout", ("ill", "well"))


def test_a_rate_far_above_the_band_is_brought_down(tmp_path: Path) -> None:
    for number in range(5):
        edf(tmp_path / f"p{number}.edf", sfreq=512)

    text = draft(survey(tmp_path))

    assert re.search(r"^recorded_sfreq = 512.0 .*\nsfreq = 128.0 ", text, re.MULTILINE)


def test_recordings_of_another_rate_are_counted(tmp_path: Path) -> None:
    for number in range(5):
        edf(tmp_path / f"p{number}.edf", sfreq=100 if number else 200)

    assert survey(tmp_path).channels.other_rates == 1


@pytest.mark.parametrize("content", [None, b"\0" * 300], ids=["none", "damaged"])
def test_a_folder_without_recordings_is_refused(tmp_path: Path, content: bytes | None) -> None:
    if content:
        (tmp_path / "x.edf").write_bytes(content)
    else:
        (tmp_path / "x.jpg").write_bytes(b"x")

    with pytest.raises(RecordingError, match=r"holds no recordings|none of 1 headers"):
        survey(tmp_path)


def test_labels_need_five_people_each() -> None:
    assert labelled([{f"p{i}": ["ab"[i % 2]] for i in range(9)}]) is None
    assert labelled([{f"p{i}": ["ab"[i % 2]] for i in range(10)}]) is not None


def test_labels_that_no_study_can_hold_get_another_name() -> None:
    found = labelled([{f"p{i}": [("~", "a b", "a-b")[i % 3]] for i in range(15)}])

    assert found is not None
    assert found.table["rename"] == {"a b": "label-1", "~": "label-3"}


MADE = {
    "uci-bonn": (["data.csv"], b"id,a,b,y\nX1.V1,1,2,1\n"),
    "bonn": (["Z/Z001.txt", "S/S001.txt"], b"1\n2\n"),
    "siena": (["PN00/PN00-1.edf", "PN00/Seizures-list-PN00.txt"], b"0       "),
    "chb-mit": (["chb01/chb01_03.edf", "chb01/chb01-summary.txt"], b"0       "),
    "seizeit": (["P_ID64/P_ID64_r1.edf"], b"0       "),
    "eegmmidb": (["S001/S001R03.edf"], b"0       "),
    "cinc2017": (["A00001.hea", "REFERENCE.csv"], b"A00001 1 300 6000\nx.dat 16 1000/mV 16 0 5 1 0 ECG\n"),
    "ptbxl": (["records100/00000/00001_lr.hea", "ptbxl_database.csv"], b"x 1 100 9\nx.dat 16 200/mV 16 0 5 1 0 I"),
    "mitbih": (["100.hea", "100.atr"], b"100 1 360 6000\n100.dat 16 200/mV 16 0 5 1 0 MLII\n"),
    "afdb": (["04015.hea", "04015.atr"], b"04015 1 250 6000\n04015.dat 16 200/mV 16 0 5 1 0 ECG1\n"),
    "chapman-shaoxing": (["01/JS00001.hea"], b"JS00001 1 500 5000\nx.mat 16 200/mV 16 0 5 1 0 I\n#Dx: 426783006\n"),
    "cinc2020": (["g1/A0001.hea"], b"A0001 1 500 5000\nx.mat 16 200/mV 16 0 5 1 0 I\n# Dx: 426783006\n"),
}  # fmt: skip


def test_every_preset_is_recognised_but_those_that_tables_tell() -> None:
    assert {known.name for known in known_sets()} == set(presets()) - {"guinea-bissau"}
    assert set(MADE) == {known.name for known in known_sets()}


@pytest.mark.parametrize("name", MADE)
def test_a_folder_in_the_arrangement_of_a_preset_is_recognised(tmp_path: Path, name: str) -> None:
    files, head = MADE[name]
    for file in files:
        (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / file).write_bytes(head)
    form = by_name(name).format
    recordings = [tmp_path / file for file in files if re.search(r"\.(edf|hea)$|[ZS]001\.txt$|data\.csv$", file)]

    found = recognise(tmp_path, recordings, form=form)

    assert found is not None
    assert found.name == name


def by_name(name: str) -> Known:
    return next(known for known in known_sets() if known.name == name)


def drafted(known: Known, example: Study) -> Study:
    """Draft a study of a data set, as the headers of the example's study would have it."""
    signal = example.signal
    channels = Channels(signal.modality, signal.rate_as_recorded, signal.channels)
    found = Survey(known.format, known, channels, Labels(known.labels), ("north",), False, (40,), (40,))
    return parse_study(draft(found))


@pytest.mark.parametrize(
    "known", [one for one in known_sets() if one.name != "seizeit"], ids=lambda known: known.name
)
def test_a_draft_for_a_known_data_set_asks_what_its_example_asks(known: Known) -> None:
    example = load_study(EXAMPLES / known.name / "study.toml")

    study = drafted(known, example)

    assert study.recordings.preset == known.name
    assert study.signal.channels == example.signal.channels
    assert study.windows.n_times == example.windows.n_times
    assert (study.signal.sfreq, study.signal.range_uv > 0) == (example.signal.sfreq, True)
    assert study.labels.names == example.labels.names
    assert study.labels.positive == example.labels.positive
    if example.recordings.preset:
        assert study.labels == example.labels
