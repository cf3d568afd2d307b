"""Folders as public data sets and hospitals arrange them: who is one person, what is the label, and where."""

import logging
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from layout_folders import CHB, EXAMPLES, MINE, chb_site, edf, example, siena_site

from fedsynth.errors import RecordingError
from fedsynth.recordings.layout import layout_for, presets
from fedsynth.recordings.readers.site import read_site
from fedsynth.recordings.recording import Recording
from fedsynth.recordings.windows import windows_of
from fedsynth.rehearsal.sites import site_names
from fedsynth.study import Study, load_study, parse_study

CANARY = "Canarywolf"
Put = Callable[..., Path]


def read(folder: Path, study: Study) -> list[Recording]:
    return read_site(folder, site="north", study=study)


def test_every_preset_is_a_page_and_has_an_example_study() -> None:
    used = {load_study(path).recordings.preset for path in EXAMPLES.glob("*/study.toml")} | {
        "bonn", "cinc2017", "guinea-bissau", "mitbih", "ptbxl", "seizeit",  # whose examples tell labels by tables
    }  # fmt: skip

    assert used - {None} == set(presets())
    for name in presets():
        assert layout_for(Path("nowhere"), site="north", preset=name) is not None


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
