"""Plausible amplitudes: what a recording in microvolts can look like, and what a wrong unit makes of it.

The amplitude of a channel is the peak-to-peak of each second, and of these the median: an offset, a drift and a few
artefacts do not move it. The bounds are public constants, and less than a factor of a thousand from what is usual.

EEG: what stays within 2 uV is called electrocerebral inactivity (American Clinical Neurophysiology Society,
guideline 6 of 2016, doi:10.1097/WNP.0000000000000322), and amplifiers alone make about as much; seizures seen from
inside the skull come to some millivolts. ECG: deflections below 20 uV are not to be called waves, and amplifiers
must bear 10 mV from peak to peak (IEC 60601-2-25:2011), of which twice is allowed here for wandering baselines.
A second that stays within 2 uV (EEG), or within a fifth of the 20 uV (ECG), shows no source but the amplifier.
Steepest steps: for EEG 50 uV/ms, the largest that BrainVision Analyzer allows by default; for ECG 320 uV/ms, the
fastest change that electrocardiographs must follow (IEC 60601-2-25:2011).
"""

from dataclasses import dataclass
from typing import assert_never

import numpy as np
from numpy.typing import NDArray

from fedsynth.study import Modality


@dataclass(frozen=True)
class Limits:
    """What one kind of signal can look like.

    `bounds_uv` are the least and largest amplitude of a channel, in microvolts from peak to peak within a second,
    and `usual_uv` those that nearly all have. `slope_uv_per_ms` is the steepest step that a body makes, and what
    stays within `quiet_uv` for a second comes from none.
    """

    bounds_uv: tuple[float, float]
    usual_uv: tuple[float, float]
    slope_uv_per_ms: float
    quiet_uv: float


def limits_of(modality: Modality) -> Limits:
    """Return the public limits of a kind of signal.

    >>> limits_of("ecg").bounds_uv
    (20.0, 20000.0)
    """
    match modality:
        case "eeg":
            return Limits((2.0, 5_000.0), (5.0, 2_000.0), 50.0, 2.0)
        case "ecg":
            return Limits((20.0, 20_000.0), (100.0, 10_000.0), 320.0, 4.0)
        case other:
            assert_never(other)


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
    limits = limits_of(modality)
    least, largest = limits.bounds_uv
    if least <= found <= largest:
        return None
    side, bound = ("below", least) if found < least else ("above", largest)
    said = f"within a second it spans {side} {bound:g} uV from peak to peak, as no {modality.upper()} does"
    low, high = limits.usual_uv
    for factor, what in _MIX_UPS.items():
        if low <= found / factor <= high:
            size = f"{round(max(factor, 1 / factor))} times too {'small' if factor < 1 else 'large'}"
            return f"{said}; it is likely {size}: {what}"
    return said
