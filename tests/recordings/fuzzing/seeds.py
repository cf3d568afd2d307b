"""Small valid sites in every format, as bytes by file name: what the mutator begins with.

Every text that a reader has no need of holds the canary, which no message and no log may repeat.
"""

import io
import json
import struct
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np

CANARY = "Canarywolf"
SFREQ = 100
N_TIMES = 400
Site = dict[str, bytes]
EVENTS = ((50, 200, "T1"), (300, 0, CANARY))
"""Where an annotation begins, how long it lasts, in samples, and what it says."""


def signal(seed: int) -> np.ndarray:
    """C3, a channel that no study asks for, and C4, in steps of half a microvolt."""
    return np.round(np.random.default_rng(seed).normal(0, 30, (3, N_TIMES)) * 2).clip(-900, 900) / 2


def _edf(seed: int = 1, *, three: bool = False, gap: bool = False) -> bytes:
    kind = b"BDF" if three else b"EDF"
    n_notes, width = 60, 3 if three else 2
    labels = (b"EEG C3-Ref", CANARY.encode(), b"C4", kind + b" Annotations")
    limits = [(b"-16384", b"16383.5", b"-32768", b"32767")] * 3 + [(b"-1", b"1", b"-32768", b"32767")]
    columns = [
        (16, labels), (80, [CANARY.encode()] * 4), (8, [b"uV", b"\xb5V", b"uV", b""]),
        *((8, [one[i] for one in limits]) for i in range(4)), (80, [CANARY.encode()] * 4),
        (8, [b"100"] * 3 + [str(n_notes).encode()]), (32, [b""] * 4),
    ]  # fmt: skip
    head = b"".join(
        value.ljust(size)
        for value, size in (
            (b"\xffBIOSEMI" if three else b"0", 8), (b"X M 02-MAY-1951 " + CANARY.encode(), 80),
            (b"Startdate 02-MAR-2002 " + CANARY.encode(), 80), (b"02.03.02", 8), (b"10.00.00", 8), (b"1280", 8),
            (kind + (b"+D" if gap else b"+C"), 44), (b"4", 8), (b"1", 8), (b"4", 4),
        )
    )  # fmt: skip
    head += b"".join(value.ljust(size) for size, values in columns for value in values)
    steps = (signal(seed) * 2).astype(np.int32)
    body = b""
    for record in range(4):
        for row in steps[:, 100 * record : 100 * record + 100]:
            octets = row.astype("<i4").view(np.uint8).reshape(-1, 4)[:, :width]
            body += octets.tobytes()
        onset = record + (5 if gap and record > 1 else 0)
        notes = f"+{onset}\x14\x14\0"
        if record == 0:
            notes += "".join(f"+{a / SFREQ}\x15{n / SFREQ}\x14{text}\x14\0" for a, n, text in EVENTS)
        body += notes.encode().ljust(n_notes * width, b"\0")
    return head + body


def _record(name: str, form: int, steps: np.ndarray, *, comment: str = "") -> Site:
    lines = [f"{name} 3 {SFREQ} {steps.shape[1]}"]
    labels = ("C3", CANARY, "C4")
    lines += [
        f"{name}.dat {form} 2000(0)/mV 12 0 {row[0]} {0 if form != 16 else int(row.sum()) % 65536} 0 {label}"
        for row, label in zip(steps, labels, strict=True)
    ]
    flat = steps.T.reshape(-1)
    if form == 212:
        pairs = flat.reshape(-1, 2) & 0xFFF
        data = np.stack(
            [pairs[:, 0] & 0xFF, pairs[:, 0] >> 8 | pairs[:, 1] >> 8 << 4, pairs[:, 1] & 0xFF], axis=1
        ).astype(np.uint8)
    else:
        kinds = {16: "<i2", 32: "<i4", 61: ">i2", 160: "<u2"}
        data = (flat + (32768 if form == 160 else 0)).astype(kinds[form])
    text = "\n".join([*lines, f"#{comment} {CANARY}", "#Dx: 426783006"]) + "\n"
    return {f"{name}.hea": text.encode(), f"{name}.dat": data.tobytes()}


def _wfdb(form: int, seed: int = 1) -> Site:
    out = b""
    for step, text in ((10, b"(N"), (100, b"(T1"), (200, CANARY.encode())):
        out += struct.pack("<HH", 28 << 10 | step, 63 << 10 | len(text)) + text + b"\0" * (len(text) % 2)
    return _record("sub-a", form, (signal(seed) * 2).astype(np.int64)) | {"sub-a.atr": out + b"\0\0"}


def _flac(seed: int = 1) -> Site:
    import soundfile

    steps = (signal(seed) * 2).astype(np.int16)
    file = io.BytesIO()
    soundfile.write(file, steps.T, SFREQ, format="FLAC", subtype="PCM_16")
    site = _wfdb(16, seed)
    header = site["sub-a.hea"].replace(b"sub-a.dat 16", b"sub-a.dat 516")
    return site | {"sub-a.hea": header, "sub-a.dat": file.getvalue()}


def _segments(seed: int = 1) -> Site:
    steps = (signal(seed) * 2).astype(np.int64)
    first, second = _record("s_1", 16, steps[:, :150]), _record("s_2", 16, steps[:, 150:])
    header = f"sub-a/3 3 {SFREQ} 450\ns_1 150\n~ 50\ns_2 250\n# {CANARY}\n"
    page = 'files = ["sub-*"]\nmarks = "none"\n'
    return first | second | {"sub-a.hea": header.encode(), "recordings.toml": page.encode()}


def _brainvision(seed: int = 1) -> Site:
    lines = [
        "Brain Vision Data Exchange Header File Version 1.0", f"; {CANARY}", "[Common Infos]", "Codepage=UTF-8",
        "DataFile=sub-a_eeg.eeg", "MarkerFile=sub-a_eeg.vmrk", "DataFormat=BINARY", "DataOrientation=MULTIPLEXED",
        "NumberOfChannels=3", f"SamplingInterval={1e6 / SFREQ:g}", "[Binary Infos]", "BinaryFormat=INT_16",
        "[Channel Infos]", "Ch1=C3,,0.5,µV", f"Ch2={CANARY},,0.5,µV", "Ch3=C4,,0.0005,mV", "[Comment]", CANARY,
    ]  # fmt: skip
    marks = [
        "Brain Vision Data Exchange Marker File, Version 1.0",
        "[Marker Infos]",
        f"Mk1=New Segment,{CANARY},1,1,0",
    ]
    marks += [f"Mk{i}=Comment,{text},{a + 1},{n},0" for i, (a, n, text) in enumerate(EVENTS, start=2)]
    return {
        "sub-a_eeg.vhdr": "\r\n".join(lines).encode(),
        "sub-a_eeg.vmrk": "\n".join(marks).encode(),
        "sub-a_eeg.eeg": (signal(seed) * 2).astype("<i2").T.tobytes(),
    }


def _events() -> bytes:
    rows = "".join(f"{a / SFREQ}\t{n / SFREQ}\t{text}\t{CANARY}\n" for a, n, text in EVENTS)
    return f"onset\tduration\ttrial_type\tsubject\n{rows}".encode()


def _delimited(seed: int = 1) -> Site:
    rows = [";".join(["C3", CANARY, "C4"]), *(";".join(f"{x:.1f}" for x in row) for row in signal(seed).T)]
    return {
        "sub-a_eeg.csv": "\n".join(rows).encode(),
        "sub-a_eeg.json": json.dumps({"unit": "uV", "sfreq": SFREQ, "PatientName": CANARY}).encode(),
        "sub-a_events.tsv": _events(),
    }


def _npz(seed: int = 1) -> Site:
    file = io.BytesIO()
    np.savez(file, signal=signal(seed), channels=np.array(["C3", CANARY, "C4"]), sfreq=SFREQ, unit="uV", who=CANARY)
    return {"sub-a_eeg.npz": file.getvalue(), "sub-a_events.tsv": _events()}


def _parquet(seed: int = 1) -> Site:
    import pyarrow
    import pyarrow.parquet as store

    file = io.BytesIO()
    columns = dict(zip(("C3", CANARY, "C4"), signal(seed), strict=True)) | {"who": [CANARY] * N_TIMES}
    store.write_table(pyarrow.table(columns), file)
    beside = json.dumps({"unit": "uV", "sfreq": SFREQ}).encode()
    return {"sub-a_eeg.parquet": file.getvalue(), "sub-a_eeg.json": beside, "sub-a_events.tsv": _events()}


def _text(seed: int = 1) -> Site:
    lines = "\n".join(f"{x:.1f}" for x in signal(seed)[0])
    return {"sub-a.txt": lines.encode(), "sub-a_events.tsv": _events()}


def _rows(seed: int = 1) -> Site:
    lines = ["," + ",".join(f"X{i}" for i in range(100)) + ",y"]
    for second in range(4):
        cells = [f"{x:.1f}" for x in signal(seed)[0, 100 * second : 100 * second + 100]]
        lines.append(",".join([f"X{second + 1}.V1.1", *cells, "T1"]))
    return {"sub-a.csv": "\n".join(lines).encode()}


def _fif(seed: int = 1) -> Site:
    import mne

    info = mne.create_info(["C3", "X1", "C4"], SFREQ, "eeg", verbose="ERROR")
    info["subject_info"] = {"last_name": CANARY, "his_id": CANARY}
    info["description"] = CANARY
    raw = mne.io.RawArray(signal(seed) * 1e-6, info, first_samp=30, verbose="ERROR")
    raw.set_annotations(mne.Annotations(*zip(*((a / SFREQ, n / SFREQ, x) for a, n, x in EVENTS), strict=True)))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "x_raw.fif"
        raw.save(path, fmt="double", verbose="ERROR")
        return {"sub-a_raw.fif": path.read_bytes()}


def _eeglab(seed: int = 1) -> Site:
    from scipy.io import savemat

    kinds = [("type", object), ("latency", object), ("duration", object)]
    events = np.array([(text, a + 1.0, float(n)) for a, n, text in EVENTS], dtype=kinds)
    body = {
        "setname": CANARY, "subject": CANARY, "comments": CANARY, "nbchan": 3.0, "trials": 1.0,
        "pnts": float(N_TIMES), "srate": float(SFREQ), "xmin": 0.0, "xmax": (N_TIMES - 1) / SFREQ,
        "data": signal(seed).astype(np.float32), "event": events, "epoch": [], "icawinv": [], "icaweights": [],
        "icasphere": [], "chanlocs": np.array([("C3",), (CANARY,), ("C4",)], dtype=[("labels", object)]),
    }  # fmt: skip
    file = io.BytesIO()
    savemat(file, {"EEG": body}, appendmat=False)
    return {"sub-a_eeg.set": file.getvalue()}


def _siena(seed: int = 1) -> Site:
    listed = (
        f"Data Sampling Rate: 100 Hz\n{CANARY}\nSeizure n 1\nFile name: PN00-1.edf\n"
        "Registration start time: 10.00.00\nRegistration end time: 10.00.04\n"
        "Seizure start time: 10.00.01\nSeizure end time: 10.00.03\n"
    )
    page = 'marks = "siena"\n[labels]\n'.replace("[labels]\n", "") + "person = { path = '(PN[0-9]+)' }\n"
    return {
        "PN00/PN00-1.edf": _edf(seed),
        "PN00/Seizures-list-PN00.txt": listed.encode(),
        "recordings.toml": page.encode(),
    }


def _chb(seed: int = 1) -> Site:
    listed = (
        f"Data Sampling Rate: 100 Hz\n{CANARY}\nFile Name: chb01_01.edf\nNumber of Seizures in File: 1\n"
        "Seizure Start Time: 1 seconds\nSeizure End Time: 3 seconds\n"
    )
    page = "marks = \"chb-mit\"\nperson = { path = '(chb[0-9]+)' }\n"
    return {
        "chb01/chb01_01.edf": _edf(seed),
        "chb01/chb01-summary.txt": listed.encode(),
        "recordings.toml": page.encode(),
    }


def _bids(seed: int = 1) -> Site:
    channels = f"name\ttype\tunits\tstatus\nEEG C3-Ref\tEEG\tuV\tgood\n{CANARY}\tEEG\tuV\tbad\nC4\tEEG\tuV\tgood\n"
    table = f"recording,who,kind\nsub-a_eeg,{CANARY} sub-a,T1\n"
    page = '[table]\nfile = "list.csv"\nkey = "recording"\nperson = "who"\n'
    return {
        "sub-a_eeg.edf": _edf(seed),
        "sub-a_events.tsv": _events(),
        "sub-a_channels.tsv": channels.encode(),
        "list.csv": table.encode(),
        "recordings.toml": page.encode(),
    }


SEEDS: dict[str, tuple[str, Callable[..., Site]]] = {
    "edf": ("edf", lambda seed=1: {"sub-a_eeg.edf": _edf(seed)}),
    "edf+d": ("edf", lambda seed=1: {"sub-a_eeg.edf": _edf(seed, gap=True)}),
    "bdf": ("edf", lambda seed=1: {"sub-a_eeg.bdf": _edf(seed, three=True)}),
    "bids": ("edf", _bids),
    "siena": ("edf", _siena),
    "chb-mit": ("edf", _chb),
    "wfdb 16": ("wfdb", lambda seed=1: _wfdb(16, seed)),
    "wfdb 212": ("wfdb", lambda seed=1: _wfdb(212, seed)),
    "wfdb 32": ("wfdb", lambda seed=1: _wfdb(32, seed)),
    "wfdb segments": ("wfdb", _segments),
    "wfdb flac": ("wfdb", _flac),
    "brainvision": ("brainvision", _brainvision),
    "delimited": ("delimited", _delimited),
    "npz": ("npz", _npz),
    "parquet": ("parquet", _parquet),
    "text": ("text", _text),
    "rows": ("rows", _rows),
    "fif": ("fif", _fif),
    "eeglab": ("eeglab", _eeglab),
}
"""For each kind of site the format that a study names, and the site's files, with other signals by a seed."""
