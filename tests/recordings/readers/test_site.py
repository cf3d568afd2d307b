"""Folders of a site: what is read from them, and every bad one refused without naming anybody."""

import hashlib
import logging
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import edfio
import numpy as np
import pytest

from fedsynth.errors import RecordingError
from fedsynth.recordings.options import SiteOptions
from fedsynth.recordings.people import is_copy, people_of
from fedsynth.recordings.readers.edf import read_edf
from fedsynth.recordings.readers.samples import Notes, Request, gather
from fedsynth.recordings.readers.site import read_site
from fedsynth.recordings.recording import Recording
from fedsynth.recordings.windows import windows_of
from fedsynth.study import Study, parse_study

CANARY = "Canarywolf"
LSB = 1000 / 65535  # uV, of the files below: -500 to 500 uV in 16 bits
STUDY = """
name = "small"
[signal]
modality = "eeg"
format = "edf"
channels = ["C3", "C4"]
sfreq = 128.0
[windows]
n_times = 128
[labels]
names = ["healthy", "ill"]
source = "participants.tsv"
rename = { H = "healthy" }
positive = "ill"
[privacy]
unit = "subject"
epsilon = 1.0
delta = 1e-5
[cohort]
least_subjects = 3
[family]
name = "cwgan"
"""
EDF = parse_study(STUDY)
TEXT = parse_study(
    STUDY.replace('"edf"', '"text"')
    .replace('["C3", "C4"]', '["EEG"]')
    .replace('source = "participants.tsv"', 'source = "file name"')
    .replace('["healthy", "ill"]', '["Z", "S"]')
    .replace('{ H = "healthy" }', "{ wach = 'Z' }")
    .replace('"ill"', '"S"')
)


def wave(*, seed: int, seconds: int = 4) -> np.ndarray:
    return np.random.default_rng(seed).normal(0, 30, size=128 * seconds).clip(-500, 500)


def write_edf(
    path: Path, *, seed: int = 0, labels: tuple[str, ...] = ("EEG C4-Ref", CANARY[:16], "eeg c3"), **spoil: object
) -> None:
    signals = [
        edfio.EdfSignal(
            spoil.get("data", wave(seed=10 * seed + i)) * np.float64(spoil.get("gain", 1)),
            sampling_frequency=spoil.get("sfreq", 128),
            label=label,
            physical_dimension=spoil.get("unit", "uV"),
            physical_range=(-500 * spoil.get("gain", 1), 500 * spoil.get("gain", 1)),
            transducer_type=CANARY,
            prefiltering=CANARY,
        )
        for i, label in zip(spoil.get("waves", range(len(labels))), labels, strict=True)
    ]
    stamps = [edfio.EdfAnnotation(1.0, None, CANARY)] if spoil.get("stamped") else ()
    edfio.Edf(
        signals,
        patient=edfio.Patient(code=CANARY, name=CANARY),
        recording=edfio.Recording(hospital_administration_code=CANARY, investigator_technician_code=CANARY),
        annotations=stamps,
        data_record_duration=spoil.get("record", 1),
    ).write(path)


def edf_site(folder: Path) -> Path:
    """Make a good site of three people; the second has two files, the last row has none."""
    folder.mkdir()
    (folder / "more").mkdir()
    for number, name in enumerate(("a_eeg.edf", "b_run-1_eeg.EDF", "b_run-2_eeg.edf", "more/c_eeg.edf")):
        place = Path(name)
        write_edf(folder / place.parent / f"sub-{CANARY}{place.name}", seed=number)
    rows = [
        f"sub-{CANARY}{who}\t{group}\t{CANARY}" for who, group in zip("abcd", ["H", "ill", "ill", "H"], strict=True)
    ]
    write_rows(folder, "participant_id\tgroup\tcity", *rows)
    return folder


def write_rows(folder: Path, *rows: str) -> None:
    (folder / "participants.tsv").write_text("\n".join(rows) + "\n", encoding="utf-8-sig")


def text_site(folder: Path) -> Path:
    """Make a good site of four people in two sets, with both kinds of line ends."""
    for number, name in enumerate(
        (f"Z/Z001{CANARY}.txt", f"Z/Z002{CANARY}.TXT", f"S/S001{CANARY}.txt", f"wach3{CANARY}.txt")
    ):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        end = "\r\n" if number % 2 else "\n"
        lines = [f"{value:.0f}" for value in wave(seed=number)]
        (folder / name).write_bytes((end.join(lines) + end).encode())
    return folder


def first(folder: Path) -> Path:
    return sorted([*folder.rglob("*.edf"), *folder.rglob("*.txt")])[0]


def overwrite(path: Path, start: int, value: bytes) -> None:
    data = bytearray(path.read_bytes())
    data[start : start + len(value)] = value
    path.write_bytes(bytes(data))


def test_an_edf_site_is_read_in_name_order_with_the_channels_of_the_study(tmp_path: Path) -> None:
    calls: list[tuple[int, int]] = []

    recordings = read_site(
        edf_site(tmp_path / "north"), site="north", study=EDF, progress=lambda *call: calls.append(call)
    )

    assert [recording.subject[-1] for recording in recordings] == [
        "c",
        "a",
        "b",
        "b",
    ]  # "more/…" sorts before "sub-…"
    assert [recording.label for recording in recordings] == ["ill", "healthy", "ill", "ill"]
    assert calls == [(1, 4), (2, 4), (3, 4), (4, 4)]
    one = recordings[1]
    assert (one.channels, one.sfreq, one.signal.dtype, one.signal.shape) == (
        ("C3", "C4"),
        128,
        np.float32,
        (2, 512),
    )
    np.testing.assert_allclose(one.signal, [wave(seed=2), wave(seed=0)], atol=LSB)


@pytest.mark.parametrize(
    ("unit", "gain"),
    [
        pytest.param("uV", 1, id="uV"),
        pytest.param("UV", 1, id="UV, which MNE takes for volts"),
        pytest.param("mV", 1e-3, id="mV"),
        pytest.param("V", 1e-6, id="V"),
    ],
)
def test_every_known_unit_gives_microvolts(tmp_path: Path, unit: str, gain: float) -> None:
    folder = edf_site(tmp_path / "north")
    write_edf(folder / f"sub-{CANARY}a_eeg.edf", seed=0, unit=unit, gain=gain)

    recordings = read_site(folder, site="north", study=EDF)

    np.testing.assert_allclose(recordings[1].signal[1], wave(seed=0), atol=LSB)


def test_an_edf_file_reads_as_edfio_reads_it(tmp_path: Path) -> None:
    folder = edf_site(tmp_path / "north")
    theirs = edfio.read_edf(folder / f"sub-{CANARY}a_eeg.edf")

    ours = read_site(folder, site="north", study=EDF)[1]

    np.testing.assert_allclose(ours.signal, [theirs.signals[2].data, theirs.signals[0].data], rtol=1e-6, atol=1e-5)


def test_a_bdf_file_is_read_with_three_bytes_a_sample(tmp_path: Path) -> None:
    folder = edf_site(tmp_path / "north")
    bdf = edfio.Bdf(
        [
            edfio.BdfSignal(wave(seed=i), sampling_frequency=128, label=label, physical_dimension="uV")
            for i, label in enumerate(("C3", "C4"))
        ]
    )
    (folder / f"sub-{CANARY}a_eeg.edf").unlink()
    bdf.write(folder / f"sub-{CANARY}a_eeg.bdf")

    recordings = read_site(folder, site="north", study=EDF)

    np.testing.assert_allclose(recordings[1].signal, [wave(seed=0), wave(seed=1)], atol=1e-3)


def test_a_text_site_is_read_by_the_letters_of_its_file_names(tmp_path: Path) -> None:
    recordings = read_site(text_site(tmp_path / "north"), site="north", study=TEXT)

    assert [recording.label for recording in recordings] == ["S", "Z", "Z", "Z"]
    assert [recording.subject[:4] for recording in recordings] == ["S001", "Z001", "Z002", "wach"]
    np.testing.assert_array_equal(recordings[1].signal[0], np.round(wave(seed=0)))


def test_labels_of_text_files_may_stand_in_participants_tsv_and_those_of_edf_files_in_their_names(
    tmp_path: Path,
) -> None:
    def with_source(study: Study, source: str) -> Study:
        return study.model_copy(update={"labels": study.labels.model_copy(update={"source": source})})

    north, east = text_site(tmp_path / "north"), tmp_path / "east"
    write_rows(north, "participant_id\tgroup", *(f"{path.stem}\tS" for path in north.rglob("*.[tT]*[tT]")))
    east.mkdir()
    for seed, name in enumerate(("ill1_x", "ill2", "H03")):
        write_edf(east / f"{name}.edf", seed=seed)

    text = read_site(north, site="north", study=with_source(TEXT, "participants.tsv"))
    edf = read_site(east, site="east", study=with_source(EDF, "file name"))

    assert {recording.label for recording in text} == {"S"}
    assert [(item.subject, item.label) for item in edf] == [("H03", "healthy"), ("ill1", "ill"), ("ill2", "ill")]


def test_a_table_may_leave_out_what_stands_before_every_participant(tmp_path: Path) -> None:
    north = edf_site(tmp_path / "north")
    table = (north / "participants.tsv").read_text(encoding="utf-8-sig")
    before = read_site(north, site="north", study=EDF)

    (north / "participants.tsv").write_text(table.replace("sub-", ""))

    after = read_site(north, site="north", study=EDF)
    assert [one.label for one in after] == [one.label for one in before]
    assert {f"sub-{one.subject}" for one in after} == {one.subject for one in before}


def test_the_digest_of_a_text_file_is_of_its_samples(tmp_path: Path) -> None:
    one = read_site(text_site(tmp_path / "north"), site="north", study=TEXT)[1]

    samples = np.round(wave(seed=0)).astype("<f4")
    assert one.digest == hashlib.sha256(samples.tobytes()).hexdigest()


def test_the_digest_is_the_same_for_another_choice_of_channels(tmp_path: Path) -> None:
    """A study of other channels must find what earlier studies charged to the same recording."""
    (tmp_path / "north").mkdir()
    for seed in range(3):
        write_edf(tmp_path / "north" / f"ill{seed}.edf", seed=seed)
    labels = EDF.labels.model_copy(update={"source": "file name"})

    def digests(*channels: str) -> list[str]:
        signal = EDF.signal.model_copy(update={"channels": channels})
        study = EDF.model_copy(update={"labels": labels, "signal": signal})
        return [item.digest for item in read_site(tmp_path / "north", site="north", study=study)]

    assert digests("C3", "C4") == digests("C4", "C3") == digests("C4")


def test_a_text_study_does_not_import_mne(tmp_path: Path) -> None:
    text_site(tmp_path / "north")
    (tmp_path / "study.toml").write_text(
        STUDY.replace('"edf"', '"text"')
        .replace('["C3", "C4"]', '["EEG"]')
        .replace('"participants.tsv"', '"file name"')
        .replace('["healthy", "ill"]', '["Z", "S"]')
        .replace('H = "healthy"', "wach = 'Z'")
        .replace('"ill"', '"S"')
    )
    code = (
        "import sys, pathlib; from fedsynth.study import load_study; "
        "from fedsynth.recordings.readers.site import read_site; "
        "read_site(pathlib.Path('north'), site='north', study=load_study(pathlib.Path('study.toml'))); "
        "sys.exit('mne' in sys.modules)"
    )

    subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, check=True, env=os.environ | {"PYTHONPATH": str(Path.cwd())}
    )


def test_people_with_another_label_are_left_out_where_the_study_says_so(tmp_path: Path) -> None:
    folder = edf_site(tmp_path / "north")
    write_edf(folder / f"sub-{CANARY}e_eeg.edf", seed=7)
    overwrite(folder / f"sub-{CANARY}e_eeg.edf", 0, b"garbage!")
    with (folder / "participants.tsv").open("a") as file:
        file.write(f"sub-{CANARY}e\t{CANARY}\t-\n")
    labels = EDF.labels.model_copy(update={"others": "leave out"})

    recordings = read_site(folder, site="north", study=EDF.model_copy(update={"labels": labels}))

    assert len(recordings) == 4


def test_hidden_files_are_passed_over(tmp_path: Path) -> None:
    folder = text_site(tmp_path / "north")
    (folder / "._Z009.txt").write_bytes(b"\0\5\26\7")

    assert len(read_site(folder, site="north", study=TEXT)) == 4


def test_what_was_put_right_is_logged_by_number(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    folder = edf_site(tmp_path / "north")
    overwrite(first(folder), 236, b"-1      ")
    (folder / f"sub-{CANARY}a_eeg.edf").write_bytes((folder / f"sub-{CANARY}b_run-2_eeg.edf").read_bytes())

    with caplog.at_level(logging.WARNING):
        recordings = read_site(folder, site="north", study=EDF)

    assert recordings[0].signal.shape == (2, 512)
    assert "site 'north': 1 of 4 recordings have a record count of -1" in caplog.text
    assert "site 'north': 1 of 4 recordings have exactly the samples of another person's" in caplog.text
    assert CANARY not in caplog.text


def test_the_recordings_of_a_person_at_an_edf_site_bear_nothing_of_the_header(tmp_path: Path) -> None:
    folder = edf_site(tmp_path / "north")
    write_edf(folder / "sub-x_eeg.edf", seed=9)
    with (folder / "participants.tsv").open("a") as file:
        file.write("sub-x\tH\t-\n")

    recording = read_site(folder, site="north", study=EDF)[-1]

    assert CANARY not in repr(recording)


def remake(**spoil: object) -> Callable[[Path], None]:
    return lambda folder: write_edf(first(folder), **spoil)  # type: ignore[arg-type]


def field(column: int, value: bytes, *, at: int = 0) -> Callable[[Path], None]:
    """Replace one field of 8 bytes of the signal `at`."""
    before = sum((16, 80, 8, 8, 8, 8, 8, 80, 8)[:column])

    def spoil(folder: Path) -> None:
        n_signals = int(first(folder).read_bytes()[252:256])
        overwrite(first(folder), 256 + n_signals * before + 8 * at, value.ljust(8))

    return spoil


def gap(folder: Path) -> None:
    path = first(folder)
    write_edf(path, stamped=True)
    data = path.read_bytes().replace(b"EDF+C", b"EDF+D").replace(b"+2\x14\x14", b"+9\x14\x14")
    path.write_bytes(data)


def nan_in_file(folder: Path) -> None:
    path = first(folder)
    lines = path.read_bytes().splitlines()
    path.write_bytes(b"\n".join([*lines[:99], b"NaN", *lines[99:]]))


def directory(folder: Path) -> None:
    path = first(folder)
    path.unlink()
    path.mkdir()


def rows(*lines: str) -> Callable[[Path], None]:
    return lambda folder: write_rows(folder, *lines)


def content(data: bytes) -> Callable[[Path], None]:
    return lambda folder: first(folder).write_bytes(data) and None


def replace_all(folder: Path) -> None:
    for path in folder.rglob("*.edf"):
        if not path.name.endswith("a_eeg.edf"):
            path.unlink()


ID = f"sub-{CANARY}"
HEAD = "participant_id\tgroup"
ALL = [f"{ID}a\tH", f"{ID}b\till", f"{ID}c\till"]
FIRST_OF_4 = "recording 1 of 4 (in name order)"

BAD_EDF: dict[str, tuple[Callable[[Path], None], tuple[str, ...]]] = {
    "unreadable": (directory, (FIRST_OF_4, "cannot be opened")),
    "empty": (content(b""), (FIRST_OF_4, "the EDF file is empty")),
    "not EDF": (content(b"\x89PNG" + bytes(600)), (FIRST_OF_4, "not an EDF or BDF file")),
    "truncated": (
        lambda f: first(f).write_bytes(first(f).read_bytes()[:-100]) and None,
        (FIRST_OF_4, "is truncated"),
    ),
    "over-stated": (lambda f: overwrite(first(f), 236, b"400"), (FIRST_OF_4, "is truncated", "400 data records")),
    "missing channel": (remake(labels=("C3", "Cz")), (FIRST_OF_4, "channel 'C4' of the study is missing")),
    "wrong rate": (remake(sfreq=256), (FIRST_OF_4, "256 Hz, and the study asks for 128 Hz")),
    "slightly wrong rate": (
        lambda f: overwrite(first(f), 244, b"1.0002  "),
        (FIRST_OF_4, "sampling rate of channel 'C3'"),
    ),
    "duplicate labels": (
        remake(labels=("C3", "C4", "EEG C4-LE")),
        (FIRST_OF_4, "channel 'C4' of the study is there 2"),
    ),
    "unknown unit": (remake(unit="Wolf"), (FIRST_OF_4, "channel 'C3' has a unit that is not known")),
    "empty unit": (remake(unit=""), (FIRST_OF_4, "channel 'C3' has no unit")),
    "digital min = max": (field(5, b"32767"), (FIRST_OF_4, "digital minimum of channel 'C4'")),
    "physical min = max": (field(3, b"500"), (FIRST_OF_4, "physical minimum and maximum of channel 'C4'")),
    "physical nan": (field(4, b"nan", at=2), (FIRST_OF_4, "physical limit of channel 'C3'")),
    "record duration 0": (lambda f: overwrite(first(f), 244, b"0       "), (FIRST_OF_4, "record is 0 seconds")),
    "time goes back": (gap, (FIRST_OF_4, "data record 4 of 4 begins before the one before it ends")),
    "flat": (remake(data=np.full(512, 33.0)), (FIRST_OF_4, "channel 'C3' is flat")),
    "volts that are microvolts": (remake(unit="V"), (FIRST_OF_4, "amplitude of channel 'C3' is not plausible")),
    "too short": (remake(data=wave(seed=1)[:127], sfreq=127), (FIRST_OF_4, "127 Hz")),
    "shorter than a window": (remake(data=wave(seed=1)[:64], record=0.5), (FIRST_OF_4, "too short: 64 samples")),
    "unknown label": (
        rows(HEAD, *ALL[:2], f"{ID}c\t{CANARY}"),
        (FIRST_OF_4, "not one of the study's names (healthy, ill)"),
    ),
    "empty label": (rows(HEAD, *ALL[:2], f"{ID}c\t"), (FIRST_OF_4, "not one of the study's names")),
    "no row": (rows(HEAD, *ALL[1:]), ("recording 2 of 4 (in name order)", "belongs to no row of participants.tsv")),
    "no participants.tsv": (lambda f: (f / "participants.tsv").unlink(), ("participants.tsv is missing",)),
    "participants.tsv in a folder below": (
        lambda f: (f / "bids").mkdir() or (f / "participants.tsv").rename(f / "bids" / "participants.tsv"),
        ("one stands in a folder below, so name that folder as the site's",),
    ),
    "participants.tsv not UTF-8": (
        lambda f: (f / "participants.tsv").write_bytes(b"\xff\xfe" + CANARY.encode("utf-16")) and None,
        ("participants.tsv cannot be read as UTF-8",),
    ),
    "no column of ids": (rows(f"{CANARY}\tgroup", *ALL), ("has 0 columns 'participant_id'",)),
    "no column of labels": (rows(f"participant_id\t{CANARY}", *ALL), ("has 0 columns 'group'",)),
    "commas": (rows("participant_id,group", *ALL), ("has 0 columns 'participant_id'", "parted by tabs")),
    "ragged row": (rows(HEAD, *ALL, f"{ID}d"), ("row 5 has 1 cells",)),
    "two labels of a person": (rows(HEAD, *ALL, f"{ID}a\till"), ("row 5 gives a participant another label",)),
    "too few subjects": (replace_all, ("too few subjects: 2, and the study asks for at least 3",)),
    "no recordings": (
        lambda f: [path.rename(path.with_suffix(".old")) for path in f.rglob("*.[eE]*")] and None,
        ("holds no recordings",),
    ),
}
BAD_TEXT: dict[str, tuple[Callable[[Path], None], tuple[str, ...]]] = {
    "unreadable": (directory, (FIRST_OF_4, "cannot be opened")),
    "empty": (content(b"\r\n \n"), (FIRST_OF_4, "the text file is empty")),
    "binary": (content(b"1\n2\n\0\0\0"), (FIRST_OF_4, "the file is binary")),
    "words": (content(f"1\n{CANARY}\n".encode()), (FIRST_OF_4, "not a number")),
    "decimal comma": (content(b"1,5\n"), (FIRST_OF_4, "with a decimal point")),
    "two columns": (content(b"1 2\n3 4\n"), (FIRST_OF_4, "more than one number")),
    "NaN": (nan_in_file, (FIRST_OF_4, "not finite (nan or inf)")),
    "inf": (content(b"1\n-inf\n" * 400), (FIRST_OF_4, "not finite (nan or inf)")),
    "flat": (content(b"7\n" * 400), (FIRST_OF_4, "channel 'EEG' is flat")),
    "short": (content(b"7\n8\n" * 50), (FIRST_OF_4, "too short: 100 samples")),
    "unknown label": (
        lambda f: first(f).rename(f / f"{CANARY}001.txt") and None,
        (FIRST_OF_4, "not one of the study's names (Z, S)"),
    ),
    "no label": (
        lambda f: first(f).rename(f / f"001{CANARY}.txt") and None,
        (FIRST_OF_4, "does not begin with letters"),
    ),
    "too few subjects": (lambda f: [path.unlink() for path in f.rglob("Z*.*")] and None, ("too few subjects: 2",)),
    "no recordings": (lambda f: f.rename(f.parent / "south") and None, ("holds no recordings",)),
}
CASES = [pytest.param(edf_site, EDF, *case, id=f"edf, {name}") for name, case in BAD_EDF.items()]
CASES += [pytest.param(text_site, TEXT, *case, id=f"text, {name}") for name, case in BAD_TEXT.items()]


@pytest.mark.parametrize(("make", "study", "spoil", "fragments"), CASES)
def test_a_bad_site_is_refused_with_its_cause_and_without_naming_anybody(
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
    make: Callable[[Path], Path],
    study: Study,
    spoil: Callable[[Path], None],
    fragments: tuple[str, ...],
) -> None:
    folder = make(tmp_path / "north")
    spoil(folder)
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}

    with pytest.raises(RecordingError) as refusal:
        read_site(folder, site="north", study=study)

    message = str(refusal.value)
    said = message + caplog.text + "".join(capfd.readouterr())
    for fragment in ("site 'north'", "Nothing was written", *fragments):
        assert fragment in message
    assert CANARY.lower() not in said.lower()
    assert "wolf" not in said.lower()
    assert str(tmp_path) not in said
    assert refusal.value.exit_code == 2
    assert refusal.value.__suppress_context__ or refusal.value.__cause__ is None
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == before


def test_all_bad_files_are_named_in_one_run_in_a_table(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    folder = edf_site(tmp_path / "north")
    files = sorted(path for path in folder.rglob("*") if path.suffix.lower() == ".edf")
    files[0].write_bytes(b"")
    overwrite(files[1], 236, b"400")
    write_edf(files[3], unit="mV", seed=1)

    with caplog.at_level(logging.WARNING), pytest.raises(RecordingError) as refusal:
        read_site(folder, site="north", study=EDF)

    [last] = str(refusal.value).splitlines()
    assert "site 'north': 3 of 4 recordings cannot be used. recording 1 of 4 (in name order)" in last
    assert "Nothing was written" in last
    table = caplog.records[-1].getMessage().splitlines()[1:]
    assert [line.split()[0] for line in table] == ["1", "2", "4"]
    for line, fragment in zip(table, ("is empty", "is truncated", "1000 times too large"), strict=True):
        assert fragment in line
    assert CANARY not in str(refusal.value) + caplog.text
    shown = subprocess.run(
        last.split("shown by: ")[1], shell=True, cwd=tmp_path, check=True, capture_output=True, text=True
    ).stdout
    assert [tmp_path / line for line in shown.splitlines()] == [files[0], files[1], files[3]]


def test_a_label_that_is_not_the_studys_is_refused_with_the_labels_that_several_people_have(tmp_path: Path) -> None:
    folder = edf_site(tmp_path / "north")
    rows(HEAD, f"{ID}a\tKontrolle (gesund)", f"{ID}b\tKontrolle (gesund)", f"{ID}c\t{CANARY}")(folder)

    with pytest.raises(
        RecordingError, match=r"labels found: 'Kontrolle .gesund.' .2 people.; and 1 that one"
    ) as no:
        read_site(folder, site="north", study=EDF)

    assert CANARY not in str(no.value)


def test_copies_of_one_persons_recording_count_once_and_folders_aside_are_left_out(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = edf_site(tmp_path / "north")
    before = windows_of(read_site(folder, site="north", study=EDF), study=EDF)
    original = folder / f"sub-{CANARY}a_eeg.edf"
    for place in ("derivatives", "sourcedata", "old", ".Trash-1000", "again"):
        (folder / place).mkdir()
        (folder / place / original.name).write_bytes(original.read_bytes())

    with caplog.at_level(logging.WARNING):
        after = windows_of(read_site(folder, site="north", study=EDF), study=EDF)

    np.testing.assert_array_equal(np.sort(after.signal, axis=0), np.sort(before.signal, axis=0))
    assert "site 'north': 2 files were left out: folders of derivatives, sources and code" in caplog.text
    assert "site 'north': 1 files were left out: folders of bins and backups" in caplog.text
    assert "site 'north': 1 files were left out: hidden names" in caplog.text
    assert "1 of 5 recordings have the samples of another recording of the same person" in caplog.text


SAVED_AGAIN: dict[str, dict[str, object]] = {
    "other data records": {"record": 2},
    "annotations added": {"stamped": True},
    "an unused channel dropped": {"labels": ("EEG C4-Ref", "eeg c3"), "keep": (0, 2)},
    "channels reordered": {"labels": ("eeg c3", CANARY[:16], "EEG C4-Ref"), "keep": (2, 1, 0)},
    "in millivolts": {"unit": "mV", "gain": 1e-3},
}


@pytest.mark.parametrize("how", SAVED_AGAIN)
def test_the_same_recording_saved_again_under_another_name_is_one_person(tmp_path: Path, how: str) -> None:
    folder = edf_site(tmp_path / "north")
    how_saved = dict(SAVED_AGAIN[how])
    keep = how_saved.pop("keep", (0, 1, 2))
    labels = how_saved.pop("labels", ("EEG C4-Ref", CANARY[:16], "eeg c3"))
    write_edf(folder / "sub-x_eeg.edf", labels=labels, waves=keep, **how_saved)  # type: ignore[arg-type]
    with (folder / "participants.tsv").open("a") as file:
        file.write("sub-x\tH\t-\n")

    recordings = read_site(folder, site="north", study=EDF)

    people = dict(zip((item.subject[-1] for item in recordings), people_of(recordings), strict=True))
    assert people["x"] == people["a"]
    assert len(set(people.values())) == 3
    assert is_copy(recordings) == [False] * 4 + [True]


def test_the_sites_word_for_the_unit_goes_before_the_files_and_is_logged(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = edf_site(tmp_path / "north")
    for number, path in enumerate(sorted(path for path in folder.rglob("*") if path.suffix.lower() == ".edf")):
        write_edf(path, seed=number, unit="mV")
    with pytest.raises(RecordingError, match="1000 times too large"):
        read_site(folder, site="north", study=EDF)

    with caplog.at_level(logging.WARNING):
        recordings = read_site(folder, site="north", study=EDF, options=SiteOptions(unit="uV"))

    np.testing.assert_allclose(recordings[0].signal[1], wave(seed=0), atol=LSB)
    assert "4 of 4 recordings have their unit by the site's word (uV)" in caplog.text


@pytest.mark.parametrize(("make", "study"), [(edf_site, EDF), (text_site, TEXT)])
def test_the_command_of_a_refusal_shows_the_name_of_the_file(
    tmp_path: Path, make: Callable[[Path], Path], study: Study
) -> None:
    folder = make(tmp_path / "hospital north")
    spoilt = sorted(path for path in folder.rglob("*") if path.suffix.lower() in (".edf", ".txt"))[2]
    spoilt.write_bytes(b"")

    with pytest.raises(RecordingError) as refusal:
        read_site(folder, site="north", study=study)
    found = re.search(r"shown by: (.*)$", str(refusal.value))

    assert found is not None
    shown = subprocess.run(found[1], shell=True, cwd=tmp_path, check=True, capture_output=True, text=True).stdout
    assert Path(tmp_path / shown.strip()) == spoilt


@pytest.mark.parametrize("part", ["head", "signals"])
def test_random_damage_to_a_header_is_read_or_refused_but_nothing_else(tmp_path: Path, part: str) -> None:
    folder = edf_site(tmp_path / "north")
    rng = np.random.default_rng(3)
    good = first(folder).read_bytes()
    refused = 0
    for _ in range(60):
        start = int(rng.integers(256) if part == "head" else 256 + rng.integers(768))
        overwrite(first(folder), start, rng.bytes(int(rng.integers(1, 9))))
        try:
            recordings = read_site(folder, site="north", study=EDF)
            assert all(np.isfinite(recording.signal).all() for recording in recordings)
        except RecordingError:
            refused += 1
        first(folder).write_bytes(good)
    assert refused > 0


REAL = pytest.mark.skipif(
    "FEDSYNTH_DATA" not in os.environ, reason="FEDSYNTH_DATA names no folder of real recordings"
)
WAVEFORM = "3Hz +5/-5 V"
SMALL_WAVE = "0.2Hz Blk 1/0uV"


def real(channel: str, sfreq: float) -> Study:
    """A study of one file; its channel may have a label that a study could not have."""
    signal = EDF.signal.model_copy(update={"channels": (channel,), "sfreq": sfreq})
    cohort = EDF.cohort.model_copy(update={"least_subjects": 1})
    return EDF.model_copy(update={"signal": signal, "cohort": cohort})


def read_one(path: Path, study: Study, folder: Path) -> Recording:
    folder.mkdir()
    (folder / "x.edf").symlink_to(path)
    write_rows(folder, HEAD, "x\till")
    return read_site(folder, site="north", study=study, options=SiteOptions(follow_links=True))[0]


@REAL
@pytest.mark.parametrize(
    ("name", "channel", "sfreq", "fragment"),
    [
        ("digital_min_eq_max", WAVEFORM, 100, "digital minimum of channel"),
        ("physical_min_eq_max", WAVEFORM, 100, "physical minimum and maximum of channel"),
        ("nrecords_overstated", WAVEFORM, 100, "is truncated"),
        ("record_duration_zero", WAVEFORM, 100, "duration of a data record is 0 seconds"),
        ("empty", WAVEFORM, 100, "the EDF file is empty"),
        ("not_edf", WAVEFORM, 100, "not an EDF or BDF file"),
    ],
)
def test_a_damaged_sample_is_refused(tmp_path: Path, name: str, channel: str, sfreq: float, fragment: str) -> None:
    path = Path(os.environ["FEDSYNTH_DATA"]) / "malformed" / "damaged" / f"{name}.edf"

    with pytest.raises(RecordingError, match=fragment):
        read_one(path, real(channel, sfreq), tmp_path / "north")


@REAL
@pytest.mark.parametrize(
    ("name", "remark"), [("bad_startdate", "start that is no date"), ("nrecords_minus1", "record count of -1")]
)
def test_a_sample_with_a_harmless_fault_is_read_whole_with_a_remark(name: str, remark: str) -> None:
    path = Path(os.environ["FEDSYNTH_DATA"]) / "malformed" / "damaged" / f"{name}.edf"
    notes = Notes()

    samples = gather(read_edf(path, Request((SMALL_WAVE,), 12.8), notes), notes)

    assert samples.signal.shape == (1, 11 * 128)
    assert any(remark in said for said in samples.remarks)


@REAL
def test_a_falling_physical_range_keeps_its_sign(tmp_path: Path) -> None:
    path = Path(os.environ["FEDSYNTH_DATA"]) / "malformed" / "pyedflib" / "test_subsecond.edf"
    theirs = edfio.read_edf(path).signals[0]

    recording = read_one(path, real("Fp1", 128), tmp_path / "north")

    assert theirs.physical_min > theirs.physical_max
    np.testing.assert_allclose(recording.signal[0], theirs.data, rtol=1e-5, atol=0.1)


@REAL
def test_a_channel_that_is_there_twice_is_refused_only_where_the_study_needs_it(tmp_path: Path) -> None:
    path = Path(os.environ["FEDSYNTH_DATA"]) / "malformed" / "mne" / "duplicate_channel_labels.edf"

    with pytest.raises(RecordingError, match="is there 2 times"):
        read_one(path, real("F1", 250), tmp_path / "north")
    assert read_one(path, real("F2", 250), tmp_path / "east").signal.shape == (1, 2500)


@REAL
def test_the_guinea_bissau_recordings_have_the_amplitude_of_eeg() -> None:
    channels = ("AF3", "F7", "F3", "FC5", "T7", "P7", "O1", "O2", "P8", "T8", "FC6", "F4", "F8", "AF4")
    labels = EDF.labels.model_copy(update={"rename": {"Control": "healthy", "Epilepsy": "ill"}})
    signal = EDF.signal.model_copy(update={"channels": channels})
    study = EDF.model_copy(update={"labels": labels, "signal": signal})

    recordings = read_site(Path(os.environ["FEDSYNTH_DATA"]) / "guinea_bissau", site="north", study=study)

    assert [item.label for item in recordings].count("ill") == 38
    assert {item.signal.shape for item in recordings} == {(14, 180 * 128)}
    medians = [float(np.median(item.signal)) for item in recordings]
    spreads = [float(np.median(np.abs(np.diff(item.signal, axis=1)))) for item in recordings]
    assert 4000 < np.median(medians) < 4400  # uV, the offset of the device
    assert 1 < np.median(spreads) < 50  # uV between neighbouring samples
