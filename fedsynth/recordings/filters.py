"""Filters: from a recording as read to the same recording in the study's band and at its rate, without delay."""

import functools
import math
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from scipy.signal import butter, firwin, iirnotch, resample_poly, sosfilt, sosfilt_zi, tf2sos

from fedsynth.recordings.recording import Beats, Recording, Stretch
from fedsynth.study import rate_ratio

ORDER = 4
NOTCH_QUALITY = 30.0
"""Of the notch: the line's frequency over the width at which half its power is left (Parks and Burrus 1987)."""
MARGIN_PERIODS, NOTCH_MARGIN_SECONDS = 12, 6.0
"""After so many periods of the band's lower edge less than a billionth of what the filter remembers is left."""
_REACH = 10  # periods of the lower rate to either side of a sample, in scipy.signal.resample_poly

_Rows = NDArray[np.float32]


def band_pass(recording: Recording, *, bandpass: tuple[float, float], notch: float | None = None) -> Recording:
    """Band-pass a recording forwards and backwards, so that no wave is shifted in time.

    A Butterworth filter of order 4 at each edge, as second-order sections (scipy.signal.sosfiltfilt); both
    directions together halve the amplitude at the edges (-6 dB). The median is taken out first: amplifiers without
    a high-pass stand thousands of microvolts off zero. The ends are extended by a reflection of one period of the
    lower edge, or of the whole recording where that is shorter.

    Args:
        recording: signal in microvolts, shape (channel, time).
        bandpass: lower and upper edge in Hz, inside 0 to half of `recording.sfreq`.
        notch: frequency of the mains in Hz that is taken out as well, or None.

    Returns:
        The recording with its signal replaced, float32; its digest remains that of the samples as read.
    """
    passed = band_passed(recording.signal, sfreq=recording.sfreq, bandpass=bandpass, notch=notch)
    return replace(recording, signal=passed)


def band_passed(signal: _Rows, *, sfreq: float, bandpass: tuple[float, float], notch: float | None) -> _Rows:
    """Do as `band_pass` with samples, shape (channel, time), one channel after the other."""
    low, high = bandpass
    sections = butter(ORDER, (low, high), btype="bandpass", fs=sfreq, output="sos")
    if notch is not None:
        sections = np.concatenate([sections, tf2sos(*iirnotch(notch, NOTCH_QUALITY, fs=sfreq))])
    extension = min(signal.shape[1] - 1, math.ceil(sfreq / low))
    settled = sosfilt_zi(sections)
    passed = np.empty(signal.shape, dtype=np.float32)
    for row, out in zip(signal, passed, strict=True):
        centred = row.astype(np.float64)
        centred -= np.median(centred)
        out[:] = _both_ways(centred, sections, settled, extension=extension)
    return passed


def _both_ways(
    row: NDArray[np.float64],
    sections: NDArray[np.float64],
    settled: NDArray[np.float64],
    *,
    extension: int,
) -> NDArray[np.float64]:
    """Do as scipy.signal.sosfiltfilt with odd ends, whose steady state is computed once for all channels.

    Args:
        row: shape (time,).
        sections: of the filter.
        settled: their steady state on ones.
        extension: samples added at either end.
    """
    first, last = 2 * row[0] - row[extension:0:-1], 2 * row[-1] - row[-2 : -extension - 2 : -1]
    longer = np.concatenate([first, row, last])
    forth, _ = sosfilt(sections, longer, zi=settled * longer[0])
    back, _ = sosfilt(sections, forth[::-1], zi=settled * forth[-1])
    whole: NDArray[np.float64] = back[::-1][extension : extension + len(row)]
    return whole


def margin(sfreq: float, *, bandpass: tuple[float, float], notch: float | None, ratio: tuple[int, int]) -> int:
    """Return how many samples beside a stretch the filters must see, so that what lies farther does not matter."""
    up, down = ratio
    seconds = max(MARGIN_PERIODS / bandpass[0], 0.0 if notch is None else NOTCH_MARGIN_SECONDS)
    return math.ceil(seconds * sfreq) + (0 if up == down else reach(ratio))


def reach(ratio: tuple[int, int]) -> int:
    """Return how many samples to either side a resampled one depends on."""
    up, down = ratio
    return math.ceil(_REACH * max(up, down) / up) + 1


def resample(recording: Recording, *, sfreq: float) -> Recording:
    """Bring a recording to another rate by polyphase filtering, with the exact ratio of the two rates.

    The filter is scipy.signal.resample_poly's: a Kaiser window of beta 5 over 20 periods of the lower rate, cut off
    at half the lower rate, without delay. Beyond its ends the recording goes on along the line from its first
    sample to its last, so that the ends do not ring.

    Args:
        recording: band-passed below half of either rate; signal in microvolts, shape (channel, time).
        sfreq: wanted, in Hz.

    Returns:
        The recording at that rate, float32, beats and stretches included; the same recording where the rate is met
        already.
    """
    up, down = ratio = rate_ratio(recording.sfreq, sfreq)
    if up == down:
        return recording
    single = resampled(recording.signal, ratio=ratio, padtype="line")
    beats, stretches = at_rate(recording.beats, recording.stretches, ratio=ratio)
    return replace(recording, signal=single, sfreq=sfreq, beats=beats, stretches=stretches)


def resampled(signal: _Rows, *, ratio: tuple[int, int], padtype: str) -> _Rows:
    """Do as `resample` with samples, shape (channel, time); what lies beyond their ends says `padtype`."""
    up, down = ratio
    kernel = _kernel(max(up, down))
    rows = [
        # The stubs do not know that a window may be the filter itself.
        resample_poly(row.astype(np.float64), up, down, window=kernel, padtype=padtype)  # type: ignore[call-overload]
        for row in signal
    ]
    return np.stack(rows).astype(np.float32)


def at_rate(
    beats: Beats | None, stretches: tuple[Stretch, ...] | None, *, ratio: tuple[int, int]
) -> tuple[Beats | None, tuple[Stretch, ...] | None]:
    """Bring beats and stretches to another rate; a stretch stays inside what was recorded, to the sample."""
    up, down = ratio
    if up == down:
        return beats, stretches
    if beats is not None:
        beats = Beats((2 * beats.samples * up + down) // (2 * down), beats.labels)
    if stretches is not None:
        inside = [Stretch(-(-one.start * up // down), one.stop * up // down, one.label) for one in stretches]
        stretches = tuple(one for one in inside if one.stop > one.start)
    return beats, stretches


@functools.lru_cache(maxsize=4)
def _kernel(rate: int) -> NDArray[np.float64]:
    kernel: NDArray[np.float64] = firwin(2 * _REACH * rate + 1, 1.0 / rate, window=("kaiser", 5.0))
    return kernel
