"""One made-up site written in every format, with annotations, and a canary wherever no reader needs a text."""

import json
from collections.abc import Callable
from pathlib import Path

import edfio
import numpy as np
import pytest

from fedsynth.study import Study, parse_study

CANARY = "Canarywolf"
SFREQ = 100.0
N_TIMES = 2000
STUDY = """
name = "small"
[signal]
modality = "eeg"
format = "FORMAT"
channels = ["C3", "C4"]
sfreq = 100.0
[windows]
n_times = 100
per_recording = 6
[labels]
names = ["rest", "task"]
source = "SOURCE"
rename = { T0 = "rest", T1 = "task", "(N" = "rest", "(AFIB" = "task" }
others = "leave out"
positive = "task"
[privacy]
unit = "subject"
epsilon = 1.0
delta = 1e-5
[cohort]
least_subjects = 3
[family]
name = "cwgan"
"""
Write = Callable[[Path, np.ndarray], Path]


def study(form: str, source: str = "participants.tsv") -> Study:
    text = STUDY.replace("FORMAT", form).replace("SOURCE", source)
    return parse_study(text.replace('"C3", "C4"', '"C3"') if form in ("text", "rows") else text)


def rows(seed: int) -> np.ndarray:
    """C3, a channel that the study does not use, and C4, in steps of half a microvolt."""
    return np.round(np.random.default_rng(seed).normal(0, 30, (3, N_TIMES)) * 2) / 2


LABELS = ("C3", "X1", "C4")
RANGE, DIGITAL = (-16384.0, 16383.5), (-32768, 32767)  # half a microvolt a step
EVENTS = ((100, 800, "T0"), (1000, 700, "T1"), (1900, 20, CANARY))


def edf(stem: Path, signal: np.ndarray) -> Path:
    signals = [
        edfio.EdfSignal(row, SFREQ, label=label if label != "X1" else CANARY, physical_dimension="uV",
                        physical_range=RANGE, transducer_type=CANARY, prefiltering=CANARY)
        for row, label in zip(signal, LABELS, strict=True)
    ]  # fmt: skip
    notes = [edfio.EdfAnnotation(start / SFREQ, length / SFREQ, text) for start, length, text in EVENTS]
    edfio.Edf(
        signals,
        patient=edfio.Patient(code=CANARY, name=CANARY, additional=(CANARY,)),
        recording=edfio.Recording(
            hospital_administration_code=CANARY, investigator_technician_code=CANARY, equipment_code=CANARY
        ),
        annotations=notes,
    ).write(stem.with_suffix(".edf"))
    return stem.with_suffix(".edf")


def bdf(stem: Path, signal: np.ndarray) -> Path:
    signals = [
        edfio.BdfSignal(
            row,
            SFREQ,
            label=label,
            physical_dimension="uV",
            physical_range=RANGE,
            digital_range=DIGITAL,
            transducer_type=CANARY,
        )
        for row, label in zip(signal, LABELS, strict=True)
    ]
    notes = [edfio.EdfAnnotation(start / SFREQ, length / SFREQ, text) for start, length, text in EVENTS]
    edfio.Bdf(signals, patient=edfio.Patient(name=CANARY), annotations=notes).write(stem.with_suffix(".bdf"))
    return stem.with_suffix(".bdf")


def brainvision(stem: Path, signal: np.ndarray, *, kind: str = "<i2", turns: bool = True) -> Path:
    number = {"<i2": "INT_16", "<f4": "IEEE_FLOAT_32"}[kind]
    lines = [
        "Brain Vision Data Exchange Header File Version 1.0", f"; {CANARY} Åsa", "", "[Common Infos]",
        "Codepage=UTF-8", f"DataFile={stem.name}.eeg", f"MarkerFile={stem.name}.vmrk", "DataFormat=BINARY",
        f"DataOrientation={'MULTIPLEXED' if turns else 'VECTORIZED'}", "NumberOfChannels=3",
        f"SamplingInterval={1e6 / SFREQ:g}", "[Binary Infos]", f"BinaryFormat={number}", "[Channel Infos]",
        "Ch1=C3,,0.5,µV", f"Ch2={CANARY},,0.5,µV", "Ch3=C4,,0.0005,mV", "[Comment]", CANARY,
    ]  # fmt: skip
    stem.with_suffix(".vhdr").write_text("\r\n".join(lines), encoding="utf-8")
    marks = [f"Mk{i}=Comment,{text},{start + 1},{n},0" for i, (start, n, text) in enumerate(EVENTS, start=2)]
    head = [
        "Brain Vision Data Exchange Marker File, Version 1.0",
        "[Marker Infos]",
        f"Mk1=New Segment,{CANARY},1,1,0,20030102",
    ]
    stem.with_suffix(".vmrk").write_text("\n".join([*head, *marks]), encoding="utf-8")
    steps = (signal * 2).astype(kind)
    stem.with_suffix(".eeg").write_bytes((steps.T if turns else steps).tobytes())
    return stem.with_suffix(".vhdr")


def fif(stem: Path, signal: np.ndarray) -> Path:
    mne = pytest.importorskip("mne")
    info = mne.create_info(list(LABELS), SFREQ, "eeg", verbose="ERROR")
    info["subject_info"] = {"last_name": CANARY, "his_id": CANARY}
    info["description"] = CANARY
    raw = mne.io.RawArray(signal * 1e-6, info, first_samp=300, verbose="ERROR")
    onset, duration, text = zip(*((a / SFREQ, b / SFREQ, c) for a, b, c in EVENTS), strict=True)
    raw.set_annotations(mne.Annotations(onset, duration, text))
    path = stem.with_name(f"{stem.name}_raw.fif")
    raw.save(path, fmt="double", verbose="ERROR")
    return path


def eeglab(stem: Path, signal: np.ndarray) -> Path:
    from scipy.io import savemat

    pytest.importorskip("mne")
    events = np.array(
        [(text, start + 1.0, float(n)) for start, n, text in EVENTS],
        dtype=[("type", object), ("latency", object), ("duration", object)],
    )
    locations = np.array([(name,) for name in LABELS], dtype=[("labels", object)])
    body = {
        "setname": CANARY, "subject": CANARY, "comments": CANARY, "nbchan": 3.0, "trials": 1.0, "pnts":
        float(N_TIMES), "srate": SFREQ, "xmin": 0.0, "xmax": (N_TIMES - 1) / SFREQ, "data":
        signal.astype(np.float32), "chanlocs": locations, "event": events, "epoch": [], "icawinv": [], "icaweights":
        [], "icasphere": [],
    }  # fmt: skip
    savemat(stem.with_suffix(".set"), {"EEG": body}, appendmat=False)
    return stem.with_suffix(".set")


def delimited(stem: Path, signal: np.ndarray) -> Path:
    lines = [
        ";".join(["C3", CANARY, "C4"]),
        *(";".join(f"{x:.1f}".replace(".", ",") for x in row) for row in signal.T),
    ]
    stem.with_suffix(".csv").write_text("\r\n".join(lines), encoding="utf-8-sig")
    stem.with_suffix(".json").write_text(json.dumps({"unit": "uV", "sfreq": SFREQ, "PatientName": CANARY}))
    return stem.with_suffix(".csv")


def npz(stem: Path, signal: np.ndarray) -> Path:
    np.savez(
        stem.with_suffix(".npz"), signal=signal, channels=["C3", CANARY, "C4"], sfreq=SFREQ, unit="uV", name=CANARY
    )
    return stem.with_suffix(".npz")


def parquet(stem: Path, signal: np.ndarray) -> Path:
    pyarrow = pytest.importorskip("pyarrow")
    import pyarrow.parquet as store

    columns = dict(zip(("C3", CANARY, "C4"), signal, strict=True)) | {"who": [CANARY] * N_TIMES}
    store.write_table(pyarrow.table(columns), stem.with_suffix(".parquet"))
    stem.with_suffix(".json").write_text(json.dumps({"unit": "uV", "sfreq": SFREQ}))
    return stem.with_suffix(".parquet")


def text(stem: Path, signal: np.ndarray) -> Path:
    stem.with_suffix(".txt").write_text("\n".join(f"{x:.1f}" for x in signal[0]))
    return stem.with_suffix(".txt")


def wfdb(stem: Path, signal: np.ndarray) -> Path:
    steps = (signal * 2).astype(int)
    sums = [int(row.sum()) % 65536 for row in steps]
    lines = [f"r 3 {SFREQ:g} {N_TIMES}", f"#{CANARY} Łukasz, 80 M", "#Dx: 426783006"] + [
        f"{stem.name}.dat 16 2000/mV 16 0 0 {total} 0 {label}"
        for total, label in zip(sums, ("C3", CANARY, "C4"), strict=True)
    ]
    stem.with_suffix(".hea").write_text("\n".join(lines), encoding="utf-8")
    stem.with_suffix(".dat").write_bytes(steps.T.astype("<i2").tobytes())
    return stem.with_suffix(".hea")


WRITERS: dict[str, tuple[str, Write]] = {
    "edf": ("edf", edf),
    "bdf": ("edf", bdf),
    "brainvision": ("brainvision", brainvision),
    "brainvision, floats": ("brainvision", lambda stem, signal: brainvision(stem, signal, kind="<f4")),
    "brainvision, vectorised": ("brainvision", lambda stem, signal: brainvision(stem, signal, turns=False)),
    "fif": ("fif", fif),
    "eeglab": ("eeglab", eeglab),
    "delimited": ("delimited", delimited),
    "npz": ("npz", npz),
    "parquet": ("parquet", parquet),
    "text": ("text", text),
    "wfdb": ("wfdb", wfdb),
}


def site(folder: Path, write: Write, *, whole_stem: bool = False) -> Path:
    folder.mkdir()
    names = []
    for number in range(4):
        name = f"sub-{CANARY}{number}"
        names.append(name)
        write(folder / (name if whole_stem else f"{name}_eeg"), rows(number))
    lines = [f"participant_id\tgroup\t{CANARY}", *(f"{name}\tT{i % 2}\t{CANARY}" for i, name in enumerate(names))]
    (folder / "participants.tsv").write_text("\n".join(lines))
    return folder


def quiet(caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str], *more: object) -> None:
    said = caplog.text + "".join(capfd.readouterr()) + "".join(map(str, more))
    assert "wolf" not in said.lower()


def nowhere(folder: Path) -> None:
    for path in folder.rglob("*"):
        assert "wolf" not in path.name.lower()
        assert not path.is_file() or b"wolf" not in path.read_bytes().lower()
