"""Filters: from samples as recorded to the same in the study's band and at its rate, without delay.

A filter that runs forwards and backwards multiplies every frequency by the square of its gain, and a polyphase
filter by its kernel's; taking every n-th sample folds what lies beyond half of the new rate. All of it is done to
one transform of a stretch, which costs a third of the filters' recursions.
"""

import functools
import math

import numpy as np
from numpy.typing import NDArray
from scipy.fft import irfft, next_fast_len, rfft
from scipy.signal import butter, firwin, iirnotch, resample_poly, sosfilt, tf2sos

from fedsynth.recordings.recording import Beats, Stretch

ORDER = 4
NOTCH_QUALITY = 30.0
"""Of the notch: the line's frequency over the width at which half its power is left (Parks and Burrus 1987)."""
MARGIN_PERIODS, NOTCH_MARGIN_SECONDS = 12, 6.0
"""After so many periods of the band's lower edge less than a billionth of what the filter remembers is left."""
ROWS_AT_ONCE = 4
"""Channels that are transformed together: a vector register holds no more, and memory stays near."""
NEGLIGIBLE = 1e-10
_REACH = 10  # periods of the lower rate to either side of a sample, in scipy.signal.resample_poly

_Rows = NDArray[np.float32]
_Band = tuple[float, float]


def in_band(
    signal: _Rows,
    *,
    sfreq: float,
    bandpass: _Band,
    notch: float | None = None,
    ratio: tuple[int, int] = (1, 1),
    begins: bool = True,
    ends: bool = True,
) -> _Rows:
    """Band-pass a stretch of a recording, so that no wave is shifted in time, and bring it to another rate.

    A Butterworth filter of order 4 at each edge, as second-order sections, forwards and backwards; both directions
    together halve the amplitude at the edges (-6 dB). A recording goes on beyond its ends by an odd reflection of
    one period of the lower edge, or of all there is where that is shorter, and then as a constant: with that,
    samples are those of scipy.signal.sosfiltfilt to a billionth of the signal. The rate is changed as by
    scipy.signal.resample_poly: by the exact ratio, with a Kaiser window of beta 5 over 20 periods of the lower
    rate, cut off at half of it.

    Args:
        signal: in microvolts, shape (channel, time).
        sfreq: in Hz.
        bandpass: lower and upper edge in Hz, inside 0 to half of either rate.
        notch: frequency of the mains in Hz that is taken out as well, or None.
        ratio: of rates, as (up, down).
        begins: whether the stretch begins where the recording does. If not, `margin` samples there are not valid.
        ends: whether it ends where the recording does, likewise.

    Returns:
        Samples at the new rate, shape (channel, time), float32; the first is at the time of the stretch's first.
    """
    up, down = ratio
    n_times = signal.shape[1]
    beside = margin(sfreq, bandpass=bandpass, notch=notch, ratio=ratio)
    extension = min(n_times - 1, math.ceil(sfreq / bandpass[0]))
    taken = down if up == 1 else 1
    n_circle = next_fast_len(-(-(n_times + (begins + ends) * (extension + beside)) // taken), real=True)
    gains = _gains(n_circle * taken, taken, sfreq, bandpass, notch)
    found = np.empty((len(signal), -(-n_times * up // down)), dtype=np.float32)
    for first in range(0, len(signal), ROWS_AT_ONCE):
        rows = signal[first : first + ROWS_AT_ONCE]
        circle = _circle(rows, n_circle * taken, begins * extension, ends * extension)
        passed = irfft(_folded(rfft(circle, axis=1, overwrite_x=True), gains, n_circle), n_circle, axis=1)
        if up > 1:
            passed = _around(passed, n_times, ratio)
        found[first : first + ROWS_AT_ONCE] = passed[:, : found.shape[1]]
    return found


def margin(sfreq: float, *, bandpass: _Band, notch: float | None, ratio: tuple[int, int]) -> int:
    """Return how many samples beside a stretch the filters must see, so that what lies farther does not matter."""
    up, down = ratio
    return _memory(sfreq, bandpass, notch) + (0 if up == down else reach(ratio))


def reach(ratio: tuple[int, int]) -> int:
    """Return how many samples to either side a resampled one depends on."""
    up, down = ratio
    return math.ceil(_REACH * max(up, down) / up) + 1


def resampled(signal: NDArray[np.float64], *, ratio: tuple[int, int]) -> NDArray[np.float64]:
    """Bring samples to another rate, shape (channel, time); before and after them are zeros."""
    kernel = _kernel(max(ratio))
    # The stubs do not know that a window may be the filter itself.
    rows = [resample_poly(row, *ratio, window=kernel) for row in signal]  # type: ignore[call-overload]
    return np.stack(rows)


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


def _circle(rows: _Rows, size: int, before: int, after: int) -> NDArray[np.float64]:
    """Return rows without their mean, and around a circle what comes after them and before them, shape (row, size).

    Where nothing is known of either side, the circle is closed by zeros.
    """
    n_times = rows.shape[1]
    circle = np.empty((len(rows), size))
    inside = circle[:, :n_times]
    inside[:] = rows
    inside -= inside.mean(axis=1, keepdims=True)
    first, last = inside[:, :1], inside[:, -1:]
    behind, ahead = circle[:, n_times : n_times + after], circle[:, size - before :]
    behind[:] = 2 * last - inside[:, n_times - 1 - after : n_times - 1][:, ::-1]
    ahead[:] = 2 * first - inside[:, 1 : before + 1][:, ::-1]
    rest = circle[:, n_times + after : size - before]
    rest[:] = 0
    half = rest.shape[1] // (2 if before and after else 1)
    if after:
        rest[:, :half] = behind[:, -1:]
    if before:
        rest[:, -half:] = ahead[:, :1]
    return circle


def _folded(spectrum: NDArray[np.complex128], gains: NDArray[np.float64], n_circle: int) -> NDArray[np.complex128]:
    """Return the spectrum of every n-th sample after the filter, shape (row, n_circle // 2 + 1)."""
    half, size = n_circle // 2 + 1, 2 * (spectrum.shape[1] - 1)
    last = len(gains)
    folded = np.zeros((len(spectrum), half), dtype=np.complex128)
    spectrum[:, :last] *= gains
    folded[:, :last] = spectrum[:, : min(half, last)]
    for turn in range(1, round(size / n_circle)):
        low = turn * n_circle
        if 2 * low < size:
            part = spectrum[:, low : min(low + half, last)]
            folded[:, : part.shape[1]] += part
        else:  # beyond half of the old rate: the mirror image
            high = size - low
            part = spectrum[:, max(0, high - half + 1) : min(high + 1, last)]
            skipped = max(0, high + 1 - last)
            folded[:, skipped : skipped + part.shape[1]] += part[:, ::-1].conj()
    return folded


def _around(circle: NDArray[np.float64], n_times: int, ratio: tuple[int, int]) -> NDArray[np.float64]:
    """Bring the first samples of a circle to another rate; before its beginning stands its end."""
    up, down = ratio
    before, after = -(-reach(ratio) // down) * down, reach(ratio)
    places = np.arange(-before, n_times + after) % circle.shape[1]
    return resampled(circle[:, places], ratio=ratio)[:, before // down * up :]


@functools.lru_cache(maxsize=2)
def _gains(size: int, taken: int, sfreq: float, bandpass: _Band, notch: float | None) -> NDArray[np.float64]:
    """Return what the frequencies of a transform over `size` samples are multiplied by, shape (frequency,).

    What comes after the last is negligible.
    """
    forth = rfft(_impulse_response(sfreq, bandpass, notch), size)
    gains: NDArray[np.float64] = forth.real**2 + forth.imag**2
    if taken > 1:
        kernel = _kernel(taken)
        around = np.zeros(size)
        around[: len(kernel)] = kernel
        gains *= rfft(np.roll(around, -(len(kernel) // 2))).real / taken
    return gains[: int(np.flatnonzero(np.abs(gains) > NEGLIGIBLE)[-1]) + 1].copy()


@functools.lru_cache(maxsize=4)
def _impulse_response(sfreq: float, bandpass: _Band, notch: float | None) -> NDArray[np.float64]:
    sections = butter(ORDER, bandpass, btype="bandpass", fs=sfreq, output="sos")
    if notch is not None:
        sections = np.concatenate([sections, tf2sos(*iirnotch(notch, NOTCH_QUALITY, fs=sfreq))])
    impulse = np.zeros(_memory(sfreq, bandpass, notch))
    impulse[0] = 1.0
    response: NDArray[np.float64] = sosfilt(sections, impulse)
    return response


def _memory(sfreq: float, bandpass: _Band, notch: float | None) -> int:
    return math.ceil(max(MARGIN_PERIODS / bandpass[0], 0.0 if notch is None else NOTCH_MARGIN_SECONDS) * sfreq)


@functools.lru_cache(maxsize=4)
def _kernel(rate: int) -> NDArray[np.float64]:
    kernel: NDArray[np.float64] = firwin(2 * _REACH * rate + 1, 1.0 / rate, window=("kaiser", 5.0))
    return kernel
