"""Filters: from a recording as read to the same recording within the study's band, without delay."""

import math
from dataclasses import replace

import numpy as np
from scipy.signal import butter, sosfiltfilt

from fedsynth.signals.recording import Recording

ORDER = 4


def band_pass(recording: Recording, *, bandpass: tuple[float, float]) -> Recording:
    """Band-pass a recording forwards and backwards, so that no wave is shifted in time.

    A Butterworth filter of order 4 at each edge, as second-order sections (scipy.signal.sosfiltfilt); both
    directions together halve the amplitude at the edges (-6 dB). The median is taken out first: amplifiers without
    a high-pass stand thousands of microvolts off zero. The ends are extended by a reflection of one period of the
    lower edge, or of the whole recording where that is shorter.

    Args:
        recording: signal in microvolts, shape (channel, time).
        bandpass: lower and upper edge in Hz, inside 0 to half of `recording.sfreq`.

    Returns:
        The recording with its signal replaced, float32; its digest remains that of the samples as read.
    """
    low, high = bandpass
    sections = butter(ORDER, (low, high), btype="bandpass", fs=recording.sfreq, output="sos")
    signal = recording.signal.astype(np.float64)
    signal -= np.median(signal, axis=1, keepdims=True)
    extension = min(signal.shape[1] - 1, math.ceil(recording.sfreq / low))
    passed = sosfiltfilt(sections, signal, axis=1, padtype="odd", padlen=extension)
    return replace(recording, signal=np.ascontiguousarray(passed, dtype=np.float32))
