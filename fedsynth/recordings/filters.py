"""Filters: from a recording as read to the same recording in the study's band and at its rate, without delay."""

import math
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from scipy.signal import butter, resample_poly, sosfiltfilt

from fedsynth.recordings.recording import Beats, Recording, Stretch
from fedsynth.study import rate_ratio

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


def resample(recording: Recording, *, sfreq: float) -> Recording:
    """Bring a recording to another rate by polyphase filtering, with the exact ratio of the two rates.

    The filter is scipy.signal.resample_poly's: a Kaiser window of beta 5 over 20 periods of the lower rate, cut off
    at half the lower rate, without delay. The line from the first sample to the last is taken out meanwhile, so
    that the ends do not ring.

    Args:
        recording: band-passed below half of either rate; signal in microvolts, shape (channel, time).
        sfreq: wanted, in Hz.

    Returns:
        The recording at that rate, float32, beats and stretches included; the same recording where the rate is met
        already.
    """
    up, down = rate_ratio(recording.sfreq, sfreq)
    if up == down:
        return recording
    signal = resample_poly(recording.signal.astype(np.float64), up, down, axis=1, padtype="line")
    beats = recording.beats
    if beats is not None:
        beats = Beats((2 * beats.samples * up + down) // (2 * down), beats.labels)
    stretches = recording.stretches
    if stretches is not None:
        # Inside the stretch as recorded, to the sample.
        inside = [Stretch(-(-one.start * up // down), one.stop * up // down, one.label) for one in stretches]
        stretches = tuple(one for one in inside if one.stop > one.start)
    single: NDArray[np.float32] = np.ascontiguousarray(signal, dtype=np.float32)
    return replace(recording, signal=single, sfreq=sfreq, beats=beats, stretches=stretches)
