"""Filters: from samples as recorded to the same in the study's band and at its rate, without delay.

A filter that runs forwards and backwards multiplies every frequency by the square of its gain, and a kernel of
resampling by its own. Where every n-th sample is wanted, each of the n phases of a stretch is transformed alone and
multiplied by the transform of the taps that meet it (polyphase: Crochiere and Rabiner 1983, chapter 3), and their
sum goes back at the lower rate. That costs a sixth of the filters' recursions.
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
"""After so many periods of the band's lower edge less than a billionth of what the filter remembers is left.

Where the band is narrow these are periods of half its width.
"""
ROWS_AT_ONCE = 4
"""Channels that are transformed together: a vector register holds no more, and memory stays near."""
SINGLE_UP_TO_UV = 128.0
"""Root mean square about a constant up to which single precision, which takes half the time, costs 0.0001 uV."""
_LARGEST_UNIT, _SOME = 16, 16  # samples
_VECTOR_BYTES = 16
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
    beside = _memory(sfreq, bandpass, notch)
    extension = min(n_times - 1, math.ceil(sfreq / bandpass[0]))
    taken = down if up == 1 else 1
    n_circle = fast_length(-(-(n_times + (begins + ends) * beside) // taken))
    found = np.empty((len(signal), -(-n_times * up // down)), dtype=np.float32)
    for first in range(0, len(signal), ROWS_AT_ONCE):
        rows = signal[first : first + ROWS_AT_ONCE]
        circle = _circle(rows, n_circle * taken, begins * extension, ends * extension)
        gains = _gains(n_circle * taken, taken, sfreq, bandpass, notch, circle.dtype)
        phases = circle.reshape(len(circle), n_circle, taken).transpose(2, 0, 1)
        passed = irfft(_summed(rfft(phases, axis=2), gains), n_circle, axis=1)
        if up > 1:
            passed = _around(passed, n_times, ratio)
        found[first : first + ROWS_AT_ONCE] = passed[: len(rows), : found.shape[1]]
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


def fast_length(n_times: int) -> int:
    """Return an even length, at least as long, whose real transform is fast: factors of 2, 3 and 5, several of 2.

    >>> fast_length(5), fast_length(167_000)
    (6, 172800)
    """
    unit = min(_LARGEST_UNIT, 1 << max(1, n_times.bit_length() - 10))
    return unit * int(next_fast_len(-(-n_times // unit), real=True))


def _circle(rows: _Rows, size: int, before: int, after: int) -> NDArray[np.floating]:
    """Return rows shifted to about 0, and around a circle what comes after them and before them, shape (row, size).

    They are in single precision where that is enough. Rows of zeros fill the last vector, for one row less than it
    holds would be transformed one by one.
    """
    # Any number near them will do, for no filter passes a constant. A single one is taken away without a loss.
    some = rows[:, ::_SOME]
    near = some.mean(axis=1, keepdims=True, dtype=np.float64).astype(np.float32)
    if _are_small(some - near):
        circle = _closed(rows, near, size, before, after, np.float32)
        if _are_small(circle[:, : rows.shape[1]]):
            return circle
    return _closed(rows, near, size, before, after, np.float64)


def _are_small(rows: _Rows) -> bool:
    """Tell whether all of some rows have at most the root mean square that single precision is enough for."""
    return bool(np.einsum("ij,ij->i", rows, rows).max() <= SINGLE_UP_TO_UV**2 * rows.shape[1])


def _closed(
    rows: _Rows, near: _Rows, size: int, before: int, after: int, kind: type[np.float32] | type[np.float64]
) -> NDArray[np.floating]:
    """Close a circle; where nothing is known of either side, by zeros."""
    n_times, at_once = rows.shape[1], _VECTOR_BYTES // np.dtype(kind).itemsize
    circle = np.empty((1 if len(rows) == 1 else -(-len(rows) // at_once) * at_once, size), dtype=kind)
    circle[len(rows) :] = 0
    whole, circle = circle, circle[: len(rows)]
    inside = circle[:, :n_times]
    np.subtract(rows, near, out=inside, dtype=kind)
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
    return whole


def _summed(
    spectra: NDArray[np.complexfloating], gains: NDArray[np.complexfloating]
) -> NDArray[np.complexfloating]:
    """Return the spectrum after the filter at the lower rate, shape (row, frequency), of those of phases before it.

    What is in `spectra`, shape (phase, row, frequency), is lost.
    """
    for spectrum, gain in zip(spectra, gains, strict=True):
        spectrum *= gain
    total: NDArray[np.complexfloating] = spectra[0]
    for spectrum in spectra[1:]:
        total += spectrum
    return total


def _around(circle: NDArray[np.floating], n_times: int, ratio: tuple[int, int]) -> NDArray[np.float64]:
    """Bring the first samples of a circle to another rate; before its beginning stands its end."""
    up, down = ratio
    before, after = -(-reach(ratio) // down) * down, reach(ratio)
    places = np.arange(-before, n_times + after) % circle.shape[1]
    return resampled(circle[:, places].astype(np.float64), ratio=ratio)[:, before // down * up :]


@functools.lru_cache(maxsize=2)
def _gains(
    size: int, taken: int, sfreq: float, bandpass: _Band, notch: float | None, kind: np.dtype[np.floating]
) -> NDArray[np.complexfloating]:
    """Return what the transforms of the phases of `size` samples are multiplied by, shape (phase, frequency)."""
    taps = _taps(taken, sfreq, bandpass, notch)
    places = (np.arange(len(taps)) - len(taps) // 2) % size
    around = np.bincount(places, weights=taps, minlength=size)
    # Sample n * taken after the filter is the sum of taps n * taken - m times samples m.
    phases = np.stack([np.roll(around, phase)[::taken] for phase in range(taken)])
    return np.asarray(rfft(phases, axis=1), dtype=np.result_type(kind, np.complex64))


@functools.lru_cache(maxsize=4)
def _taps(taken: int, sfreq: float, bandpass: _Band, notch: float | None) -> NDArray[np.float64]:
    """Return the taps of both directions, and of the kernel where a rate is divided, about the middle one."""
    impulse = _impulse_response(sfreq, bandpass, notch)
    kernel = _kernel(taken) if taken > 1 else np.ones(1)
    reached = len(impulse) - 1 + len(kernel) // 2
    size = fast_length(2 * reached + 1)
    forth = rfft(impulse, size)
    both = irfft((forth.real**2 + forth.imag**2) * rfft(kernel, size), size)
    taps: NDArray[np.float64] = np.roll(both, len(impulse) - 1)[: 2 * reached + 1]
    return taps


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
    # A band that is narrow rings for longer than its lower edge says.
    seconds = MARGIN_PERIODS * max(1 / bandpass[0], 2 / (bandpass[1] - bandpass[0]))
    return math.ceil(max(seconds, 0.0 if notch is None else NOTCH_MARGIN_SECONDS) * sfreq)


@functools.lru_cache(maxsize=4)
def _kernel(rate: int) -> NDArray[np.float64]:
    kernel: NDArray[np.float64] = firwin(2 * _REACH * rate + 1, 1.0 / rate, window=("kaiser", 5.0))
    return kernel
