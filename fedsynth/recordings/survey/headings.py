"""Headings: from a recording's file to its rate, its channels and its length, by the header alone."""

import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np

from fedsynth.errors import RecordingError
from fedsynth.recording_plan import RecordingFormat
from fedsynth.recordings.readers.brainvision import LARGEST_TEXT, parse_vhdr
from fedsynth.recordings.readers.delimited import names_of_table, sidecar_of
from fedsynth.recordings.readers.edf_header import LONGEST_HEADER, parse_header
from fedsynth.recordings.readers.eeglab import eeglab_heading
from fedsynth.recordings.readers.fif import fif_heading
from fedsynth.recordings.readers.parquet import parquet_heading
from fedsynth.recordings.readers.wfdb_header import LARGEST_HEADER, parse_wfdb_header
from fedsynth.recordings.units import VOLTS


@dataclass(frozen=True)
class Heading:
    """What a header says: the rate in Hz, and the labels of signals that are voltages.

    None, or no label, is what the file does not say. `has_unit` is whether it says what its numbers are.
    """

    sfreq: float | None = None
    labels: tuple[str, ...] = field(default=(), repr=False)
    has_unit: bool = True


def heading_of(form: RecordingFormat, path: Path) -> Heading:
    """Read the header of a recording.

    Raises:
        MissingPackageError: the format needs a package that is not installed.
        RecordingError: a header that cannot be used.
        OSError: a file that cannot be opened.
    """
    match form:
        case "edf":
            return _edf(path)
        case "wfdb":
            return _wfdb(path)
        case "brainvision":
            return _brainvision(path)
        case "fif" | "eeglab":
            sfreq, labels, _ = fif_heading(path) if form == "fif" else eeglab_heading(path)
            return Heading(sfreq, labels)
        case "delimited":
            return _beside(path, names=names_of_table(path))
        case "npz":
            return _npz(path)
        case "parquet":
            return _beside(path, names=parquet_heading(path))
        case _:
            return Heading()


def _edf(path: Path) -> Heading:
    with path.open("rb") as file:
        header = parse_header(file.read(LONGEST_HEADER), file_size=path.stat().st_size)
    signals = [one for one in header.signals if one.voltage and not one.is_annotations and one.samples_per_record]
    if not signals or not header.record_seconds:
        return Heading()
    counts = [one.samples_per_record for one in signals]
    most = max(set(counts), key=counts.count)
    labels = tuple(one.label for one in signals if one.samples_per_record == most)
    return Heading(most / header.record_seconds, labels)


def _wfdb(path: Path) -> Heading:
    header = parse_wfdb_header(path.read_bytes()[: LARGEST_HEADER + 1])
    described = header
    for name, _ in header.segments:
        if name is not None:
            described = parse_wfdb_header(path.with_name(f"{name}.hea").read_bytes()[: LARGEST_HEADER + 1])
            break
    leads = [one for one in described.signals if one.unit in VOLTS]
    frames = {one.per_frame for one in leads}
    rate = header.sfreq * frames.pop() if len(frames) == 1 else None
    return Heading(rate, tuple(one.label for one in leads))


def _brainvision(path: Path) -> Heading:
    data = path.read_bytes()[:LARGEST_TEXT]
    try:
        header = parse_vhdr(data.decode("utf-8-sig"))
    except UnicodeDecodeError:
        header = parse_vhdr(data.decode("latin-1"))
    return Heading(header.sfreq, tuple(one.label for one in header.tracks if one.unit in VOLTS))


def _npz(path: Path) -> Heading:
    said: dict[str, Any] = {}
    try:
        with np.load(path, allow_pickle=False) as file:
            names = [str(name) for name in file["channels"].reshape(-1)] if "channels" in file.files else []
            if "sfreq" in file.files:
                said["sfreq"] = float(file["sfreq"].reshape(-1)[0])
            if "unit" in file.files:
                said["unit"] = str(file["unit"].reshape(-1)[0])
    except (ValueError, KeyError, EOFError, IndexError, zipfile.BadZipFile) as error:
        raise RecordingError(
            f"it is no .npz file of plain arrays ({type(error).__name__}); save it again"
        ) from None
    return _beside(path, names=tuple(names), said=said)


def _beside(path: Path, *, names: tuple[str, ...], said: Mapping[str, Any] = MappingProxyType({})) -> Heading:
    """Complete what a table says by its sidecar."""
    told = {**said, **sidecar_of(path)}
    rate = told.get("sfreq")
    labels = tuple(told.get("channels") or names)
    return Heading(None if rate is None else float(rate), labels, has_unit="unit" in told)
