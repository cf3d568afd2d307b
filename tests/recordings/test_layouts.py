"""Folders as public data sets and hospitals arrange them: who is one person, what is the label, and where."""

import logging
import shutil
from collections.abc import Callable
from pathlib import Path

import edfio
import numpy as np
import pytest

from fedsynth.errors import RecordingError
from fedsynth.recordings.layout import layout_for, presets
from fedsynth.recordings.readers.site import read_site
from fedsynth.recordings.recording import Recording
from fedsynth.recordings.windows import windows_of
from fedsynth.rehearsal.sites import site_names
from fedsynth.study import Study, load_study, parse_study

EXAMPLES = Path(__file__).parents[2] / "examples"
CANARY = "Canarywolf"
Put = Callable[..., Path]


def example(name: str, *, people: int = 1, **signal: object) -> Study:
    study = load_study(EXAMPLES / name / "study.toml")
    cohort = study.cohort.model_copy(update={"least_subjects": people})
    return study.model_copy(update={"cohort": cohort, "signal": study.signal.model_copy(update=signal)})


def edf(path: Path, labels: tuple[str, ...], *, sfreq: float, seconds: int, seed: int, notes: object = ()) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    waves = {label: rng.normal(0, 30, int(sfreq * seconds)) for label in labels}
    signals = [
        edfio.EdfSignal(waves[label], sfreq, label=label, physical_dimension="uV", physical_range=(-500, 500))
        for label in labels
    ]
    edfio.Edf(signals, annotations=notes).write(path)  # type: ignore[arg-type]


def read(folder: Path, study: Study) -> list[Recording]:
    return read_site(folder, site="north", study=study)


def test_every_preset_is_a_page_and_has_an_example_study() -> None:
    used = {load_study(path).recordings.preset for path in EXAMPLES.glob("*/study.toml")} | {
        "bonn", "cinc2017", "guinea-bissau", "mitbih", "ptbxl", "seizeit",  # whose examples tell labels by tables
    }  # fmt: skip

    assert used - {None} == set(presets())
    for name in presets():
        assert layout_for(Path("nowhere"), site="north", preset=name) is not None


SIENA = """{who}

Seizure n 1 (in sleep)
File name: {who}-1.edf
Registration start time: 23.59.30
Registration end time:  00.01.30
Seizure start time: 00.00.10
Seizure end time: 00.00.30

Seizure n 2
File name: {who}-2.edf\x20
Registration start time:  02:18:00
Registration end time:  02.20.00
Seizure start time: 02.18.40
Seizure end time: 03.18.45
"""


def siena_site(folder: Path) -> Path:
    names = example("siena").signal.channels
    for number, who in enumerate(("PN00", "PN01", "PN12")):
        for part in (1, 2):
            labels = tuple(f"EEG {'T3' if name == 'T7' else name}" for name in names)
            edf(folder / who / f"{who}-{part}.edf", labels, sfreq=64, seconds=120, seed=10 * number + part)
        (folder / who / f"Seizures-list-{who}.txt").write_text(SIENA.format(who=who))
    return folder


def test_siena_parts_are_of_one_patient_and_seizures_are_where_the_list_says(tmp_path: Path) -> None:
    study = example("siena", people=3, recorded_sfreq=64.0, sfreq=64.0, bandpass=(0.5, 30.0))
    labels = study.labels.model_copy(
        update={"gap_seconds": 5.0, "before": {"preictal": study.labels.before["preictal"].model_copy(
            update={"seconds": 20.0})}}
    )  # fmt: skip
    study = study.model_copy(update={"labels": labels})

    recordings = read(siena_site(tmp_path / "north"), study)

    assert [one.subject for one in recordings] == ["PN00", "PN00", "PN01", "PN01", "PN12", "PN12"]
    first, second = recordings[:2]
    assert first.stretches is not None
    # 23:59:30 to 00:00:10 is 40 s, and the seizure lasts 20 s; at 64 Hz.
    assert [(s.start / 64, s.stop / 64, s.label) for s in first.stretches] == [
        (0, 15, 0), (20, 40, 1), (40, 60, 2), (65, 120, 0),
    ]  # fmt: skip
    # The end is typed an hour too late: nobody knows where the seizure ends, and nothing from its start has a
    # label.
    assert second.stretches is not None
    assert [(s.start / 64, s.stop / 64, s.label) for s in second.stretches] == [(0, 35, 0)]


CHB = """Data Sampling Rate: 256 Hz
*************************

File Name: chb01_01.edf
File Start Time: 11:42:54
File End Time: 12:42:54
Number of Seizures in File: 0

File Name: chb01_02.edf
File Start Time: 12:42:57
Number of Seizures in File: 2
Seizure 1 Start Time: 10 seconds
Seizure 1 End Time: 20 seconds
Seizure 2 Start Time:  40 seconds
Seizure 2 End Time: 55 seconds
"""


def chb_site(folder: Path) -> Path:
    channels = example("chb-mit").signal.channels
    for name in ("chb01_01", "chb01_02"):
        edf(folder / "chb01" / f"{name}.edf", (*channels, "T8-P8"), sfreq=256, seconds=60, seed=int(name[-1]))
    (folder / "chb01" / "chb01-summary.txt").write_text(CHB)
    edf(folder / "chb21" / "chb21_01.edf", channels, sfreq=256, seconds=60, seed=7)
    (folder / "chb21" / "chb21-summary.txt").write_text(CHB.replace("chb01", "chb21").replace("_02", "_09"))
    return folder


def test_chb_mit_has_a_channel_twice_and_a_patient_under_two_names(tmp_path: Path) -> None:
    study = example("chb-mit")
    labels = study.labels.model_copy(update={"gap_seconds": 0.0, "before": {}})

    recordings = read(chb_site(tmp_path / "north"), study.model_copy(update={"labels": labels}))

    assert [one.subject for one in recordings] == ["chb01"] * 3
    assert recordings[1].stretches is not None
    assert [(s.start, s.stop, s.label) for s in recordings[1].stretches] == [
        (0, 2560, 0), (2560, 5120, 2), (5120, 10240, 0), (10240, 14080, 2), (14080, 15360, 0),
    ]  # fmt: skip
    windows = windows_of(recordings, study=study.model_copy(update={"labels": labels}))
    assert (windows.labels == 2).sum() == 2 + 3  # windows of 5 s


@pytest.mark.parametrize(
    ("spoil", "fragment"),
    [
        (lambda f: (f / "chb01-summary.txt").unlink(), "0 lists of seizures lie beside it"),
        (lambda f: (f / "again-summary.txt").write_text(CHB), "2 lists of seizures lie beside it"),
        (lambda f: (f / "chb01-summary.txt").write_text(CHB.replace("_02", "_03")), "does not name it"),
        (
            lambda f: (f / "chb01-summary.txt").write_text(CHB.replace("File: 2", "File: 3")),
            "other starts or ends than it announces",
        ),
    ],
)
def test_a_list_of_seizures_that_cannot_be_right_is_refused(
    tmp_path: Path, spoil: Callable[[Path], object], fragment: str
) -> None:
    folder = chb_site(tmp_path / "north")
    spoil(folder / "chb01")

    with pytest.raises(RecordingError, match=fragment) as refusal:
        read(folder, example("chb-mit"))

    assert "chb01" not in str(refusal.value)


def uci(path: Path, *, recordings: int = 10, seconds: int = 5) -> np.ndarray:
    """Write such a table with its lines shuffled; return the recordings, shape (recording, time)."""
    rng = np.random.default_rng(1)
    whole = np.round(rng.normal(0, 60, (recordings, seconds * 178)))
    lines = [
        ",".join(
            [f"X{s + 1}.V1.{r + 100}", *(f"{x:.0f}" for x in whole[r, 178 * s : 178 * (s + 1)]), str(1 + r % 5)]
        )
        for r in range(recordings)
        for s in range(seconds)
    ]
    rng.shuffle(lines)
    head = ",".join(["", *(f"X{i}" for i in range(1, 179)), "y"])
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join([head, *lines]) + "\n")
    return whole


def test_the_seconds_of_a_uci_table_are_joined_into_recordings(tmp_path: Path) -> None:
    whole = uci(tmp_path / "north" / "data.csv")

    recordings = read(tmp_path / "north", example("uci-bonn"))
    windows = windows_of(recordings, study=example("uci-bonn"))

    assert len({one.subject for one in recordings}) == 10
    np.testing.assert_array_equal(np.stack([one.signal[0] for one in recordings]), whole)
    assert [one.label for one in recordings] == ["seizure", *["other"] * 4] * 2
    assert len(windows.labels) == 50


@pytest.mark.parametrize(
    ("old", "new", "fragment"),
    [
        ("X3.V1.104", "X9.V1.104", "lacks a second"),
        ("X3.V1.104", "X2.V1.104", "of a second that has a line before it"),
        ("X3.V1.104", CANARY, "does not begin with X<second>"),
        ("\nX3.V1.104,", "\nX3.V1.104,1,", "does not begin with X<second>"),
    ],
)
def test_a_uci_table_that_is_not_whole_is_refused(tmp_path: Path, old: str, new: str, fragment: str) -> None:
    uci(tmp_path / "north" / "data.csv")
    text = (tmp_path / "north" / "data.csv").read_text()
    (tmp_path / "north" / "data.csv").write_text(text.replace(old, new))

    with pytest.raises(RecordingError, match=fragment) as refusal:
        read(tmp_path / "north", example("uci-bonn"))

    assert CANARY not in str(refusal.value)


LEADS = ("I", "II", "III", "aVR", "aVL", "aVF", "V1", "V2", "V3", "V4", "V5", "V6")


def twelve(put: Put, folder: Path, stem: str, *, seed: int, comment: str, sfreq: str = "500") -> None:
    rows = np.random.default_rng(seed).normal(0, 300, (12, 5000)).astype(int).tolist()
    header = put(folder, stem, rows, labels=LEADS, gain="1000(0)/mV", sfreq=sfreq, comment=comment)
    data = header.with_suffix(".dat").read_bytes()
    # A MATLAB file of version 4: 24 bytes, and then the samples in turns.
    header.with_suffix(".mat").write_bytes(bytes(24) + data)
    header.with_suffix(".dat").unlink()
    header.write_text(header.read_text().replace(".dat 16 ", ".mat 16+24 "))


def test_cinc_2020_takes_codes_of_the_header_and_nothing_else(
    tmp_path: Path, put_record: Put, caplog: pytest.LogCaptureFixture
) -> None:
    folder = tmp_path / "north"
    comments = ["#Dx: 426783006", "# Dx: 270492004,164889003", f"#Dx: 59118001\n#Rx: {CANARY}"]
    for number, comment in enumerate(comments):
        twelve(put_record, folder / f"g{number}", f"HR0000{number}", seed=number, comment=f"#Age: 74\n{comment}")

    with caplog.at_level(logging.DEBUG):
        recordings = read(folder, example("cinc2020"))

    assert [one.label for one in recordings] == ["sinus", "fibrillation"]
    assert [one.subject for one in recordings] == ["HR00000", "HR00001"]
    assert CANARY not in caplog.text + repr(recordings)


@pytest.mark.parametrize("comment", ["#Dx: NSR", "# no codes", f"#Dx: 426783006 {CANARY}", "#Dx: 1;2"])
def test_a_header_without_codes_is_refused_without_repeating_it(
    tmp_path: Path, put_record: Put, comment: str
) -> None:
    twelve(put_record, tmp_path / "north", "HR00001", seed=1, comment=comment)

    with pytest.raises(RecordingError, match="no codes in the field") as refusal:
        read(tmp_path / "north", example("chapman-shaoxing"))

    assert CANARY not in str(refusal.value)


def test_rhythms_of_a_record_label_windows(tmp_path: Path, put_record: Put) -> None:
    rows = np.random.default_rng(0).normal(0, 100, (2, 20_000)).astype(int).tolist()
    folder = tmp_path / "north"
    for stem in ("04015", "00735"):
        header = put_record(folder, stem, rows, labels=("ECG1", "ECG2"), sfreq="250")
        header.with_suffix(".atr").write_bytes(rhythm_file([(0, "(N"), (6000, "(AFIB"), (17_000, "(N")]))

    recordings = read(folder, example("afdb"))

    assert len(recordings) == 1  # of the other, the data set has no signals
    assert recordings[0].stretches is not None
    assert [(s.start, s.stop, s.label) for s in recordings[0].stretches] == [
        (0, 6000, 1), (6000, 17_000, 0), (17_000, 20_000, 1),
    ]  # fmt: skip


def rhythm_file(rhythms: list[tuple[int, str]]) -> bytes:
    out, now = bytearray(), 0
    for sample, name in rhythms:
        out += (59 << 10).to_bytes(2, "little")
        out += (sample - now >> 16).to_bytes(2, "little") + (sample - now & 0xFFFF).to_bytes(2, "little")
        out += (28 << 10).to_bytes(2, "little") + (63 << 10 | len(name)).to_bytes(2, "little")
        out += name.encode() + b"\0" * (len(name) % 2)
        now = sample
    return bytes(out) + b"\0\0"


def test_a_site_writes_a_page_of_its_own(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Folders by ward and person, a label in a table of semicolons, channels of other names, in millivolts."""
    folder = tmp_path / "north"
    for number, who in enumerate(("anna", "bo", "cleo")):
        signals = [
            edfio.EdfSignal(np.random.default_rng(10 * number + i).normal(0, 30, 1280), 128, label=label,
                            physical_dimension="mV", physical_range=(-500, 500))
            for i, label in enumerate(("links", "rechts", "C3"))
        ]  # fmt: skip
        (folder / f"ward-{number % 2}" / who).mkdir(parents=True)
        edfio.Edf(signals).write(folder / f"ward-{number % 2}" / who / "rec.edf")
        edfio.Edf(signals[:1]).write(folder / f"ward-{number % 2}" / who / "calibration.edf")
    (folder / "list.csv").write_text(f"file;kind;{CANARY}\nward-0/anna/rec.edf;A;x\nward-1/bo/rec.edf;B;x\n"
                                     "ward-0/cleo/rec.edf;A;x\n")  # fmt: skip
    (folder / "recordings.toml").write_text(PAGE)
    study = parse_study(MINE)

    with caplog.at_level(logging.WARNING):
        recordings = read(folder, study)

    assert [(one.subject, one.label) for one in recordings] == [("anna", "ill"), ("cleo", "ill"), ("bo", "healthy")]
    expected = np.random.default_rng(0).normal(0, 30, 1280)
    np.testing.assert_allclose(recordings[0].signal[0], expected, atol=0.02)
    assert "3 of 3 recordings have their unit by the site's word (uV)" in caplog.text
    assert "3 files were left out: files that the layout does not name" in caplog.text
    assert CANARY not in caplog.text


PAGE = """
format = "edf"
unit = "uV"
files = ["*/rec.edf"]
aliases = { links = "C3", rechts = "C4", C3 = "unused" }
person = { path = '/([^/]+)/rec$' }
[table]
file = "list.csv"
key = "file"
label = "kind"
"""
MINE = """
name = "mine"
[signal]
modality = "eeg"
format = "edf"
channels = ["C3", "C4"]
sfreq = 128.0
[windows]
n_times = 128
[labels]
names = ["healthy", "ill"]
source = "layout"
rename = { A = "ill", B = "healthy" }
positive = "ill"
[privacy]
unit = "subject"
epsilon = 1.0
delta = 1e-5
[cohort]
least_subjects = 1
[family]
name = "cwgan"
"""


@pytest.mark.parametrize(
    ("page", "fragment"),
    [
        pytest.param("format = 'edf", "cannot be read as TOML", id="no TOML"),
        pytest.param("formt = 'edf'", "'formt' is not as it should be", id="unknown key"),
        pytest.param("unit = 'volt'", "'unit' is not as it should be", id="unknown unit"),
        pytest.param("person = { path = '(' }", "'person' is not as it should be", id="no regular expression"),
        pytest.param("person = { path = 'a' }", "'person' is not as it should be", id="no group"),
        pytest.param(
            f"preset = '{CANARY}'", "there is no preset of that name; there are: afdb", id="no such preset"
        ),
        pytest.param("sfreq = 100", "the sampling rate is 100 Hz", id="another rate"),
        pytest.param(
            "[table]\nfile = 'no.csv'\nkey = 'a'", "a table that the layout names is missing", id="no table"
        ),
        pytest.param(
            f"[table]\nfile = '{'9' * 300}'\nkey = 'a'", "a table that the layout names is missing", id="long name"
        ),
        pytest.param(
            '[table]\nfile = "a\\u0000b"\nkey = "a"', "a table that the layout names is missing", id="no name"
        ),
        pytest.param("[table]\nfile = 't.csv'\nkey = 'a'", "has 0 columns 'a'", id="no column"),
        pytest.param("[table]\nfile = 't.csv'\nkey = 'b'\nlabel = 'c'", "no row in the table", id="no row"),
        pytest.param("format = 'reader:none'", "0 packages bring a reader 'none'", id="no such reader"),
    ],
)
def test_a_page_that_cannot_be_used_is_refused_in_a_sentence(tmp_path: Path, page: str, fragment: str) -> None:
    folder = tmp_path / "north"
    edf(folder / "a.edf", ("C3", "C4"), sfreq=128, seconds=4, seed=0)
    (folder / "t.csv").write_text("b,c\nx,1\n")
    (folder / "recordings.toml").write_text(page)

    with pytest.raises(RecordingError, match=fragment) as refusal:
        read(folder, parse_study(MINE))

    assert CANARY not in str(refusal.value)


def bids(root: Path) -> Path:
    for number in range(3):
        stem = root / f"sub-0{number}" / "eeg" / f"sub-0{number}_task-rest"
        edf(Path(f"{stem}_eeg.edf"), ("C3", "C4"), sfreq=128, seconds=20, seed=number)
        Path(f"{stem}_events.tsv").write_text("onset\tduration\ttrial_type\n2\t5\tA\n10\t8\tB\n")
        Path(f"{stem}_channels.tsv").write_text("name\ttype\tunits\tstatus\nC3\tEEG\tuV\tgood\nC4\tEEG\tuV\tgood\n")
        (root / f"sub-0{number}" / f"sub-0{number}_scans.tsv").write_text(
            f"filename\tacq_time\n{CANARY}\t{CANARY}\n"
        )
    (root / "dataset_description.json").write_text('{"Name": "x", "BIDSVersion": "1.9.0"}')
    (root / "participants.tsv").write_text("participant_id\tgroup\nsub-00\tA\nsub-01\tB\nsub-02\tA\n")
    shutil.copytree(root / "sub-00", root / "derivatives" / "clean" / "sub-00")
    return root


@pytest.mark.parametrize(
    ("source", "labels"), [("participants.tsv", ["ill", "healthy", "ill"]), ("intervals", [""] * 3)]
)
def test_a_bids_folder_goes_in_without_a_page(tmp_path: Path, source: str, labels: list[str]) -> None:
    study = parse_study(MINE.replace('"layout"', f'"{source}"'))

    recordings = read(bids(tmp_path / "north"), study)

    assert [(one.subject, one.label) for one in recordings] == list(
        zip(("sub-00", "sub-01", "sub-02"), labels, strict=True)
    )


def test_a_channel_that_channels_tsv_calls_bad_counts_as_missing(tmp_path: Path) -> None:
    folder = bids(tmp_path / "north")
    table = folder / "sub-01" / "eeg" / "sub-01_task-rest_channels.tsv"
    table.write_text(table.read_text().replace("C4\tEEG\tuV\tgood", "C4\tEEG\tuV\tbad"))
    text = MINE.replace('"layout"', '"participants.tsv"')

    with pytest.raises(RecordingError, match=r"recording 2 of 3 .* channel 'C4' of the study is marked as bad"):
        read(folder, parse_study(text))
    left = read(folder, parse_study(text.replace("sfreq = 128.0", 'sfreq = 128.0\nmissing = "leave out"')))
    assert [one.subject for one in left] == ["sub-00", "sub-02"]


@pytest.mark.parametrize("make", [bids, siena_site, chb_site], ids=["bids", "siena", "chb-mit"])
def test_one_data_set_is_not_taken_for_a_folder_of_hospitals(tmp_path: Path, make: Callable[[Path], Path]) -> None:
    folder = make(tmp_path / "data")

    with pytest.raises(RecordingError, match="is one data set and not a folder of hospitals"):
        site_names(folder, parse_study(MINE))


def test_a_reader_of_ones_own_is_one_file_and_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The file and the line are those of docs/recordings.md."""
    page = (EXAMPLES.parent / "docs" / "recordings.md").read_text(encoding="utf-8")
    section = page.split("## A reader of your own")[1]
    code = section.split("```python\n")[1].split("```")[0]
    line = section.split("```toml\n")[1].split("```")[0]
    (tmp_path / "raw_reader.py").write_text(code, encoding="utf-8")
    group, name, value = '[project.entry-points."fedsynth.readers"]', *line.strip().splitlines()[1].split(" = ")
    assert line.startswith(group)
    info = tmp_path / "raw_reader-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: raw-reader\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[fedsynth.readers]\n{name} = {value.strip(chr(34))}\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    folder = tmp_path / "north"
    folder.mkdir()
    waves = np.round(np.random.default_rng(0).normal(0, 30, (3, 2, 1280)))
    for number, wave in enumerate(waves):
        (folder / f"A{number}.raw").write_bytes(wave.T.astype("<i2").tobytes())
    study = parse_study(MINE.replace('"edf"', f'"reader:{name}"').replace('"layout"', '"file name"'))

    recordings = read(folder, study)

    np.testing.assert_array_equal(np.stack([one.signal for one in recordings]), waves)
    assert all(any(one.fingerprints) for one in recordings)
