"""Plausible amplitudes: what a recording in microvolts can look like, and what a wrong unit makes of it.

The amplitude of a channel is the peak-to-peak of each second, and of these the median: an offset, a drift and a few
artefacts do not move it. The bounds are public constants, and less than a factor of a thousand from what is usual.

EEG: what stays within 2 uV is called electrocerebral inactivity (American Clinical Neurophysiology Society,
guideline 6 of 2016, doi:10.1097/WNP.0000000000000322), and amplifiers alone make about as much; seizures seen from
inside the skull come to some millivolts. ECG: deflections below 20 uV are not to be called waves, and amplifiers
must bear 10 mV from peak to peak (IEC 60601-2-25:2011), of which twice is allowed here for wandering baselines.
"""

import numpy as np
from numpy.typing import NDArray

from fedsynth.study import Modality

BOUNDS_UV: dict[Modality, tuple[float, float]] = {"eeg": (2.0, 5_000.0), "ecg": (20.0, 20_000.0)}
"""Least and largest amplitude of a channel, in microvolts from peak to peak within a second."""

_TYPICAL_UV: dict[Modality, tuple[float, float]] = {"eeg": (5.0, 2_000.0), "ecg": (100.0, 10_000.0)}
_MIX_UPS = {
    1e-3: "millivolts that are called microvolts",
    1e-6: "volts that are called microvolts, or millivolts called nanovolts",
    1e3: "microvolts that are called millivolts",
    1e6: "microvolts that are called volts",
}


def amplitude(row: NDArray[np.float32], *, sfreq: float) -> float:
    """Return the median over seconds of the peak-to-peak, in the unit of the samples.

    Args:
        row: one channel, shape (time,), finite.
        sfreq: in Hz.

    >>> amplitude(np.tile(np.float32([0, 3, -1, 1]), 100), sfreq=4.0)
    4.0
    """
    second = min(len(row), max(2, round(sfreq)))
    seconds = row[: len(row) // second * second].reshape(-1, second)
    return float(np.median(np.ptp(seconds.astype(np.float64), axis=1)))


def doubt(found: float, *, modality: Modality) -> str | None:
    """Say what is wrong with an amplitude in microvolts, and which factor would explain it; None if nothing is.

    >>> doubt(80.0, modality="eeg") is None
    True
    >>> "1000 times too small" in doubt(0.08, modality="eeg")
    True
    """
    least, largest = BOUNDS_UV[modality]
    if least <= found <= largest:
        return None
    side, bound = ("below", least) if found < least else ("above", largest)
    said = f"within a second it spans {side} {bound:g} uV from peak to peak, as no {modality.upper()} does"
    low, high = _TYPICAL_UV[modality]
    for factor, what in _MIX_UPS.items():
        if low <= found / factor <= high:
            size = f"{round(max(factor, 1 / factor))} times too {'small' if factor < 1 else 'large'}"
            return f"{said}; it is likely {size}: {what}"
    return said
