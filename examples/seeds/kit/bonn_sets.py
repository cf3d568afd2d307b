"""The Bonn sets (Andrzejak et al. 2001, doi:10.1103/PhysRevE.64.061907), windows as in the UCI table."""

from pathlib import Path

import numpy as np

from fedsynth.errors import RecordingError
from fedsynth.evaluation.protocol.material import Material
from fedsynth.recordings.filters import in_band
from kit.cohorts import BONN_BAND, oscillators

SETS, TIMES, SFREQ = "ZONFS", 178, 173.61


def read(folder: Path | None, *, each: int, most: int, seed: int) -> Material:
    """Read windows of 178 samples, evenly spread over every recording, or simulate such recordings.

    Raises:
        RecordingError: a set without files, or a file of another length.
    """
    if folder is None:
        return oscillators(per_label=most, each=each, n_times=TIMES, sfreq=SFREQ, seed=seed)
    signals, labels, people = [], [], []
    for name in SETS:
        paths = sorted(path for path in (folder / name).glob("*") if path.suffix.lower() == ".txt")[:most]
        if not paths:
            raise RecordingError(f"{folder} has no text files in a folder {name}; it should be as published")
        for path in paths:
            values = np.loadtxt(path, dtype=np.float32)
            if len(values) < each * TIMES:
                raise RecordingError("a recording is shorter than its windows; it should have 4097 samples")
            # Published as recorded, 0.5 to 85 Hz; the paper's own analysis begins with a filter up to 40 Hz.
            values = in_band(values[None], sfreq=SFREQ, bandpass=BONN_BAND)[0]
            for start in np.linspace(0, len(values) - TIMES, each).astype(int):
                signals.append(values[None, start : start + TIMES])
                labels.append(int(name == "S"))
                people.append(len(people) // each)
    return Material(np.stack(signals).astype(np.float32), np.array(labels), np.array(people))


def thinned(real: Material, *, per_seizure: int) -> Material:
    """Return every recording without a seizure, and one with a seizure for each `per_seizure` of those."""
    rest, seizures = (np.unique(real.people[real.labels == label]) for label in (0, 1))
    kept = seizures[: max(2, round(len(rest) / per_seizure))]
    return real.at((real.labels == 0) | np.isin(real.people, kept))
