"""Faults by their kinds, in every format that can have them: the right cause of refusal, which names no one."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from fuzzing.attempt import study_of
from fuzzing.seeds import SEEDS, Site, signal
from odd_sites import (
    DIGITAL_HIGH,
    DIGITAL_LOW,
    EVENT_HEAD,
    HIGH,
    LABEL,
    LOW,
    RHYTHM_FAR_AWAY,
    UNIT,
    arrays,
    beside,
    changed,
    edf,
    head,
    put,
    segment,
    table,
    text,
    wfdb,
)

from fedsynth.errors import RecordingError
from fedsynth.recordings.readers.site import read_site

WRONG: dict[str, tuple[str, Callable[[], Site], str]] = {
    "unit: millivolts called nanovolts": ("edf", lambda: edf(UNIT, b"nV"), "1000 times too small"),
    "unit: microvolts called millivolts": ("edf", lambda: edf(UNIT, b"mVolt"), "1000 times too large"),
    "unit: mega or milli": ("edf", lambda: edf(UNIT, b"MV"), "a unit that is not known"),
    "unit: kilovolts": ("edf", lambda: edf(UNIT, b"kV"), "a unit that is not known"),
    "unit: more than a unit": ("edf", lambda: edf(UNIT, b"uV rms"), "a unit that is not known"),
    "unit: of a gain": ("wfdb", lambda: wfdb((b"2000(0)/mV", b"2000(0)/uV")), "1000 times too small"),
    "unit: text in millivolts": ("text", lambda: text(1e-3), "1000 times too small"),
    "unit: text in nanovolts": ("text", lambda: text(1e3), "1000 times too large"),
    "unit: text in volts": ("text", lambda: text(1e-6), "1000000 times too small"),
    "unit: array in millivolts": ("npz", lambda: arrays(signal=signal(1) / 1000), "1000 times too small"),
    "unit: an array and its sidecar": (
        "npz", lambda: arrays() | {"sub-a_eeg.json": b'{"unit": "mV"}'}, "give another unit",
    ),
    "unit: table in nanovolts": (
        "delimited", lambda: changed("delimited", "sub-a_eeg.json", (b'"uV"', b'"nV"')), "1000 times too small",
    ),
    "limits: unsigned": ("edf", lambda: edf(DIGITAL_HIGH, b"65535"), "outside the 16-bit whole numbers"),
    "limits: unsigned of BDF": (
        "edf", lambda: edf(DIGITAL_HIGH, b"16777215", kind="bdf"), "outside the 24-bit whole numbers",
    ),
    "limits: reversed": ("edf", lambda: edf(DIGITAL_LOW, b"32767"), "is not below its digital maximum"),
    "gain: zero": ("edf", lambda: edf(LOW, b"16383.5"), "are equal"),
    "gain: overflows": ("edf", lambda: edf(HIGH, b"1e300"), "not finite"),
    "gain: nearly zero": ("edf", lambda: edf(LOW, b"16383.49"), "flat|not plausible"),
    "gain: zero of WFDB": ("wfdb", lambda: wfdb((b"2000(0)/mV", b"0(0)/mV")), "has no gain"),
    "gain: zero of BrainVision": ("brainvision", lambda: head((b"C3,,0.5", b"C3,,0")), "is 0"),
    "gain: nan of BrainVision": ("brainvision", lambda: head((b"C3,,0.5", b"C3,,nan")), "not a finite number"),
    "gain: infinite array": ("npz", lambda: arrays(signal=np.full((3, 400), np.inf)), "not finite"),
    "channels: twice in EDF": ("edf", lambda: edf(LABEL, b"eeg c3", where=(1,)), "is there 2 times"),
    "channels: twice in WFDB": ("wfdb", lambda: wfdb((b"Canarywolf\nsub", b"C3\nsub")), "is there 2 times"),
    "channels: twice in BrainVision": ("brainvision", lambda: head((b"Ch3=C4", b"Ch3=C3")), "is there 2 times"),
    "channels: twice in an array": ("npz", lambda: arrays(channels=["C3", "C3", "C4"]), "is there 2 times"),
    "channels: a number twice": (
        "brainvision", lambda: head((b"Ch3=C4", b"Ch1=C4,,0.5,uV\r\nCh3=C4")), "there twice",
    ),
    "channels: fewer announced": (
        "brainvision", lambda: head((b"NumberOfChannels=3", b"NumberOfChannels=2")), "announces 2 .* describes 3",
    ),
    "channels: an array on its side": ("npz", lambda: arrays(signal=signal(1).T), "not as many"),
    "channels: objects": (
        "npz", lambda: arrays(channels=np.array(["C3", None, "C4"], dtype=object)), "no .npz file of plain arrays",
    ),
    "length: another number of samples": (
        "brainvision", lambda: head((b"NumberOfChannels=3", b"NumberOfChannels=3\r\nDataPoints=399")),
        "announces 399 samples",
    ),
    "length: announced of WFDB": ("wfdb", lambda: wfdb((b" 400\n", b" 401\n")), "is truncated"),
    "length: a compressed array of gigabytes": (
        "npz", lambda: arrays(signal=np.zeros((3, 12_000_000))), "larger than 256 MiB",
    ),
    "length: FIF cut short": (
        "fif", lambda: {"sub-a_raw.fif": SEEDS["fif"][1]()["sub-a_raw.fif"][:-400]}, "longer than the file",
    ),
    "length: MATLAB cut short": (
        "eeglab", lambda: {"sub-a_eeg.set": SEEDS["eeglab"][1]()["sub-a_eeg.set"][:-50]}, "do not fit together",
    ),
    "data: spectra": (
        "brainvision", lambda: head((b"DataFormat=BINARY", b"DataFormat=BINARY\r\nDataType=FREQUENCYDOMAIN")),
        "no samples in the order of time",
    ),
    "rate: of a sidecar": (
        "edf", lambda: beside("sub-a_eeg.json", '{"SamplingFrequency": 256}'), "256 Hz, and the file itself 100",
    ),
    "rate: of a table's sidecar": (
        "delimited", lambda: changed("delimited", "sub-a_eeg.json", (b"100", b"200")), "sampling rate is 200 Hz",
    ),
    "rate: nan": ("npz", lambda: arrays(sfreq=np.nan), "sampling rate is nan"),
    "rate: of one channel": ("edf", lambda: edf(8, b"50", where=(2,)), "truncated|longer|50 Hz"),
    "sidecar: no JSON": ("edf", lambda: beside("sub-a_eeg.json", "{"), "cannot be read as JSON"),
    "sidecar: nested": ("edf", lambda: beside("sub-a_eeg.json", "[" * 9000), "cannot be read as JSON"),
    "path: above": ("brainvision", lambda: head((b"DataFile=sub", b"DataFile=../sub")), "not a plain name"),
    "path: of another machine": (
        "brainvision", lambda: head((b"DataFile=sub", b"DataFile=C:\\sub")), "not a plain name",
    ),
    "segments: beyond the data": (
        "brainvision", lambda: segment(b"401"),
        "a segment begins after the end",
    ),
    "annotations: of another record": (
        "wfdb",
        lambda: SEEDS["wfdb 16"][1]() | {"sub-a.atr": RHYTHM_FAR_AWAY},
        "belong to another one",
    ),
    "annotations: beyond all time": (
        "edf", lambda: beside("sub-a_events.tsv", f"{EVENT_HEAD}1e308\t5\tT1\n"), "no usable onset",
    ),
    "annotations: nan": ("edf", lambda: beside("sub-a_events.tsv", f"{EVENT_HEAD}nan\t5\tT1\n"), "no usable onset"),
    "encoding: a column's name that is no UTF-8": (
        "parquet",
        lambda: changed("parquet", "sub-a_eeg.parquet", (b"Canarywolf", b"Canary\xffolf")),
        "cannot be read as Parquet",
    ),
    "numbers: an underscore in an onset": (
        "edf", lambda: beside("sub-a_events.tsv", f"{EVENT_HEAD}1_0\t5\tT1\n"), "no usable onset",
    ),
    "numbers: an underscore in a gain": (
        "brainvision", lambda: head((b"C3,,0.5", b"C3,,1_0")), "not a finite number",
    ),
    "numbers: an underscore in a table": (
        "delimited", lambda: table("1_0"), "line 3 of the table is not 3 finite numbers",
    ),
    "numbers: digits of another script in a table": (
        "delimited", lambda: table("\u0663"), "line 3 of the table is not 3 finite numbers",
    ),
    "encoding: UTF-16": (
        "text", lambda: {"sub-a.txt": SEEDS["text"][1]()["sub-a.txt"].decode().encode("utf-16")}, "binary",
    ),
    "encoding: digits that are no ASCII": ("text", lambda: {"sub-a.txt": "٣٤\n".encode() * 400}, "not a number"),
    "encoding: a header in UTF-16": (
        "edf",
        lambda: {"sub-a_eeg.edf": edf(UNIT, b"uV")["sub-a_eeg.edf"].decode("latin-1").encode("utf-16")},
        "not an EDF or BDF file",
    ),
}  # fmt: skip
"""What is refused, and why."""


@pytest.mark.parametrize("name", WRONG)
def test_what_is_in_doubt_is_refused_for_its_cause(tmp_path: Path, name: str) -> None:
    form, make, cause = WRONG[name]
    if form in ("fif", "parquet"):
        pytest.importorskip({"fif": "mne", "parquet": "pyarrow"}[form])

    with pytest.raises(RecordingError, match=cause) as refusal:
        read_site(put(tmp_path / "north", make()), site="north", study=study_of(form))

    assert "wolf" not in str(refusal.value).lower()
