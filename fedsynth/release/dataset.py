"""From synthetic windows to files people load: one NumPy archive, and EDF files in a BIDS layout.

Both are the same bytes on every machine and every day: no clock, no compression, fixed dates. The physical range
of the EDF files is the study's `range_uv`, a public constant, so it tells nothing about the data.
"""

import datetime
import json
import math
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from edfio import Edf, EdfSignal, Patient, Recording
from numpy.typing import NDArray

from fedsynth.errors import RefusedError
from fedsynth.families.synthetic import SyntheticWindows
from fedsynth.study import SignalPlan, Study

TASK = "synthetic"
LARGEST_DIGITAL = 32767
"""The EDF files use -32767 to 32767, so that 0 uV is digital 0 and one step is range / 32767."""

_NO_BIDS = ("data/", "privacy/", "report/", "provenance/", "integrity/", "croissant.json")
_NAMED_CHANNEL = 16


@dataclass(frozen=True)
class SyntheticSubject:
    """One made-up subject: consecutive windows of one label. It stands for no person."""

    name: str
    label: str
    rows: NDArray[np.int64]


def write_dataset(out: Path, *, windows: SyntheticWindows, study: Study) -> None:
    """Write `data/ml/windows.npz`, the EDF files and the BIDS files that describe them.

    Args:
        out: an existing folder.
        windows: what was drawn, in microvolts; amplitudes beyond the study's range are cut (`bounded`).
        study: gives the range, the windows per subject, the title and the licence.

    Raises:
        RefusedError: there is no window, a value is not finite, or shapes, labels or channels do not belong
            together or to the study.
    """
    windows = bounded(windows, range_uv=study.signal.range_uv)
    _check(windows, study=study)
    write_npz(out / "data" / "ml" / "windows.npz", windows=windows)
    people = subjects(windows, per_subject=study.release.windows_per_subject)
    for person in people:
        _write_subject(out / person.name / "eeg", person=person, windows=windows, plan=study.signal)
    _write_bids_files(out, people=people, study=study)


def bounded(windows: SyntheticWindows, *, range_uv: float) -> SyntheticWindows:
    """Cut amplitudes to plus or minus `range_uv`, as the recordings' own were before training.

    Raises:
        RefusedError: a value is not finite.
    """
    if not np.isfinite(windows.signal).all():
        raise RefusedError("a synthetic window holds a value that is not finite. Nothing was written")
    signal = np.clip(windows.signal, -range_uv, range_uv).astype(np.float32)
    return replace(windows, signal=signal)


def subjects(windows: SyntheticWindows, *, per_subject: int) -> tuple[SyntheticSubject, ...]:
    """Deal the windows of each label, in order, to made-up subjects; the last of a label may hold fewer."""
    parts = [
        (label, rows[start : start + per_subject])
        for number, label in enumerate(windows.label_names)
        for rows in [np.flatnonzero(windows.labels == number)]
        for start in range(0, len(rows), per_subject)
    ]
    width = max(4, len(str(len(parts))))
    return tuple(
        SyntheticSubject(f"sub-syn{number:0{width}d}", label, rows)
        for number, (label, rows) in enumerate(parts, start=1)
    )


def write_npz(path: Path, *, windows: SyntheticWindows) -> None:
    """Write windows as an uncompressed archive that `np.load(path, allow_pickle=False)` opens."""
    arrays: dict[str, NDArray[Any]] = {
        "X": np.ascontiguousarray(windows.signal, dtype="<f4"),
        "y": np.ascontiguousarray(windows.labels, dtype="<i8"),
        "label_names": np.array(windows.label_names),
        "channels": np.array(windows.channels),
        "sfreq": np.array(float(windows.sfreq)),
        "unit": np.array("uV"),
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        for name, array in arrays.items():
            entry = zipfile.ZipInfo(f"{name}.npy", date_time=(1980, 1, 1, 0, 0, 0))
            entry.create_system = 3
            entry.external_attr = 0o644 << 16
            with archive.open(entry, "w", force_zip64=True) as stream:
                np.lib.format.write_array(stream, array, allow_pickle=False)


def record_duration(*, n_times: int, sfreq: float) -> float:
    """Return the seconds of one window as EDF's eight characters hold them.

    173.61 Hz does not divide a second, so a window is one data record. The rate read back is
    n_times / duration, within one part in a hundred thousand of `sfreq`.

    >>> record_duration(n_times=512, sfreq=173.61)
    2.949139
    """
    return _eight_characters(n_times / sfreq, digits=7, up=False)


def physical_bound(range_uv: float) -> float:
    """Return the smallest bound of at least `range_uv` that fits EDF's eight characters with its sign.

    >>> physical_bound(500.0)
    500.0
    >>> physical_bound(1234.56789)
    1234.57
    """
    return _eight_characters(range_uv, digits=6, up=True)


def _eight_characters(value: float, *, digits: int, up: bool) -> float:
    decimals = max(0, digits - len(str(int(value))))
    scaled = value * 10**decimals
    # A value that is already a short decimal must not be pushed up by the last bit of the product.
    whole: int = math.ceil(scaled - 1e-6) if up else round(scaled)
    return float(round(whole / 10**decimals, decimals))


def _check(windows: SyntheticWindows, *, study: Study) -> None:
    n_windows = len(windows.labels)
    shape = (n_windows, len(windows.channels), study.windows.n_times)
    if n_windows == 0 or windows.signal.shape != shape:
        raise RefusedError(
            f"windows of shape {windows.signal.shape} with {n_windows} labels do not fit "
            f"{len(windows.channels)} channels of {study.windows.n_times} samples. Nothing was written"
        )
    if windows.labels.min() < 0 or windows.labels.max() >= len(windows.label_names):
        raise RefusedError(f"a label lies outside 0 to {len(windows.label_names) - 1}. Nothing was written")
    facts = (windows.channels, windows.label_names, windows.sfreq)
    if facts != (study.signal.channels, study.labels.names, study.signal.sfreq):
        raise RefusedError("channels, labels or rate of the windows are not the study's. Nothing was written")
    if long := [name for name in windows.channels if len(name) > _NAMED_CHANNEL]:
        raise RefusedError(f"EDF holds channel names of {_NAMED_CHANNEL} characters; {long[0]} is longer")


def _write_subject(folder: Path, *, person: SyntheticSubject, windows: SyntheticWindows, plan: SignalPlan) -> None:
    folder.mkdir(parents=True)
    stem = f"{person.name}_task-{TASK}"
    signal = windows.signal[person.rows]
    duration = record_duration(n_times=signal.shape[2], sfreq=plan.sfreq)
    _edf(signal, person=person, plan=plan, duration=duration).write(folder / f"{stem}_eeg.edf")
    sidecar = {
        "TaskName": TASK,
        "TaskDescription": "No task: windows drawn from a generator, one after another; they are not continuous.",
        "SamplingFrequency": plan.sfreq,
        "EEGReference": "n/a",
        "PowerLineFrequency": "n/a",
        "SoftwareFilters": "n/a",
        "RecordingType": "epoched",
        "EpochLength": duration,
        "RecordingDuration": round(duration * len(person.rows), 6),
        "EEGChannelCount": len(plan.channels),
    }
    _write_json(folder / f"{stem}_eeg.json", sidecar)
    rows = [("name", "type", "units", "sampling_frequency")]
    rows += [(channel, "EEG", "uV", str(plan.sfreq)) for channel in plan.channels]
    _write_tsv(folder / f"{stem}_channels.tsv", rows)


def _edf(signal: NDArray[np.float32], *, person: SyntheticSubject, plan: SignalPlan, duration: float) -> Edf:
    """Lay windows one after another, a data record each, with a fixed date and a made-up patient code."""
    bound = physical_bound(plan.range_uv)
    channels = [
        EdfSignal(
            # Again, because 0.1 as float32 is larger than 0.1.
            np.clip(signal[:, number].reshape(-1).astype(np.float64), -bound, bound),
            signal.shape[2] / duration,
            label=channel,
            physical_dimension="uV",
            physical_range=(-bound, bound),
            digital_range=(-LARGEST_DIGITAL, LARGEST_DIGITAL),
        )
        for number, channel in enumerate(plan.channels)
    ]
    return Edf(
        channels,
        patient=Patient(code=person.name.removeprefix("sub-")),
        recording=Recording(startdate=datetime.date(1985, 1, 1), equipment_code="fedsynth"),
        starttime=datetime.time(0, 0, 0),
        data_record_duration=duration,
    )


def _write_bids_files(out: Path, *, people: tuple[SyntheticSubject, ...], study: Study) -> None:
    rows = [("participant_id", "label", "n_windows")]
    rows += [(person.name, person.label, str(len(person.rows))) for person in people]
    _write_tsv(out / "participants.tsv", rows)
    levels = {name: f"windows drawn for the label {name}" for name in study.labels.names}
    described = {
        "participant_id": {"Description": "a made-up subject; it stands for no person"},
        "label": {"Description": "the label of all its windows", "Levels": levels},
        "n_windows": {"Description": "how many windows its EDF file holds, one per data record"},
    }
    _write_json(out / "participants.json", described)
    _write_json(
        out / "dataset_description.json",
        {
            "Name": study.title or study.name,
            "BIDSVersion": "1.10.0",
            # "raw" in BIDS' sense: no file is derived from another file of a BIDS data set.
            "DatasetType": "raw",
            "License": study.release.license,
            "Authors": [study.release.publisher],
            "GeneratedBy": [{"Name": "fedsynth", "Description": "synthetic windows; no recording of a person"}],
        },
    )
    (out / ".bidsignore").write_text("".join(f"{name}\n" for name in _NO_BIDS), encoding="utf-8", newline="\n")


def _write_tsv(path: Path, rows: Sequence[tuple[str, ...]]) -> None:
    # No cell can hold a tab: names of labels, channels and subjects are letters, digits and `_.-`.
    path.write_text("".join("\t".join(row) + "\n" for row in rows), encoding="utf-8", newline="\n")


def _write_json(path: Path, body: dict[str, Any]) -> None:
    path.write_text(json.dumps(body, indent=2, ensure_ascii=False) + "\n", encoding="utf-8", newline="\n")
