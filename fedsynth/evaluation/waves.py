"""How alike two windows are wherever their waves begin: from windows to the best correlation over all lags.

A copy that was shifted in time, made louder or quieter, or turned upside down is still the same wave.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import fft

_FLAT = 0.05  # microvolts, root mean square: below a recorder's step
_SILENT = 0.05  # of a window's energy
_PAIRS = 2**22  # numbers in one chunk of correlations

_Floats = NDArray[np.floating[Any]]


def best_correlations(one: _Floats, other: _Floats) -> Iterator[tuple[slice, slice, NDArray[np.float32]]]:
    """Yield, chunk by chunk, the largest correlation of each pair of windows over all lags, in size.

    Every channel is brought to mean 0 and unit energy before, so that a gain, even one of each channel, changes
    nothing; all channels are shifted by the same lag. At each lag the two are compared where they overlap, at least
    half a window, and brought to mean 0 and unit energy there: a wave that begins later, and one that was turned
    round the window's end, are both found. Channels and windows without change correlate with nothing.

    Args:
        one: microvolts, shape (window, channel, time).
        other: the same shape but for the number of windows.

    Yields:
        Rows of `one`, rows of `other`, and correlations in [0, 1] of shape (rows, rows).
    """
    half = one.shape[-1] // 2
    size = fft.next_fast_len(one.shape[-1] + half, real=True)
    many = max(1, int((_PAIRS // size) ** 0.5))
    for first in range(0, len(one), many):
        rows = slice(first, min(first + many, len(one)))
        mine = _prepared(one[rows], size)
        for second in range(0, len(other), many):
            columns = slice(second, min(second + many, len(other)))
            theirs = _prepared(other[columns], size)
            # (frequency, one, channel) x (frequency, channel, other): one product sums over the channels.
            crossed = mine.spectra.conj() @ theirs.spectra.transpose(0, 2, 1)
            lagged = fft.irfft(crossed, size, axis=0)
            # At lag k, one's first n - k samples meet other's last n - k; at lag -k the other way round.
            best = _best(lagged[: half + 1], mine.start, theirs.end)
            sooner = np.concatenate([lagged[:1], lagged[: size - half - 1 : -1]])
            yield rows, columns, np.minimum(np.maximum(best, _best(sooner, mine.end, theirs.start)), 1.0)


def largest_correlations(one: _Floats, other: _Floats) -> NDArray[np.float32]:
    """Return, for each window of `one`, its correlation with the nearest of `other` at the best lag."""
    largest = np.zeros(len(one), np.float32)
    for rows, _, found in best_correlations(one, other):
        largest[rows] = np.maximum(largest[rows], found.max(axis=1, initial=0.0))
    return largest


def similarities(signal: _Floats) -> NDArray[np.float32]:
    """Return the best correlation of every pair of windows, shape (window, window); 1 with itself, flat or not."""
    matrix = np.zeros((len(signal), len(signal)), np.float32)
    for rows, columns, found in best_correlations(signal, signal):
        matrix[rows, columns] = found
    matrix = np.maximum(matrix, matrix.T)
    flat = unit_channels(signal).any(axis=(1, 2)) == 0
    matrix[np.ix_(flat, flat)] = 1.0
    np.fill_diagonal(matrix, 1.0)
    return matrix


def unit_channels(signal: _Floats) -> NDArray[np.float32]:
    """Return windows whose channels have mean 0 and equal energy, 1 over all; 0 where nothing changes."""
    waves = signal.astype(np.float32) - signal.mean(axis=-1, keepdims=True, dtype=np.float64).astype(np.float32)
    size = np.sqrt((waves.astype(np.float64) ** 2).sum(axis=-1, keepdims=True))
    alive = size > _FLAT * np.sqrt(signal.shape[-1])
    counted = np.sqrt(np.maximum(alive.sum(axis=1, keepdims=True), 1))
    unit: NDArray[np.float32] = np.where(alive, waves / np.maximum(size * counted, 1e-9), 0.0).astype(np.float32)
    return unit


@dataclass(frozen=True)
class _Part:
    """The first, or the last, n - k samples of windows, for every lag k.

    `sums` over time, divided by the root of n - k, shape (lag, window, channel); `inverse` is one over the size of
    what is left without them, shape (lag, window).
    """

    sums: NDArray[np.float32]
    inverse: NDArray[np.float32]


@dataclass(frozen=True)
class _Prepared:
    """Spectra, shape (frequency, window, channel), and both parts of every window."""

    spectra: NDArray[np.complex64]
    start: _Part
    end: _Part


def _best(lagged: NDArray[np.float32], mine: _Part, theirs: _Part) -> NDArray[np.float32]:
    """Return the largest correlation over the lags, from products (lag, one, other) of windows with means."""
    products = lagged - mine.sums @ theirs.sums.transpose(0, 2, 1)
    np.abs(products, out=products)
    products *= mine.inverse[:, :, None]
    products *= theirs.inverse[:, None, :]
    best: NDArray[np.float32] = products.max(axis=0)
    return best


def _prepared(signal: _Floats, size: int) -> _Prepared:
    waves = unit_channels(signal)
    spectra = fft.rfft(waves, size, axis=-1).transpose(2, 0, 1)
    exact = waves.astype(np.float64)
    return _Prepared(spectra, start=_part(exact), end=_part(exact[..., ::-1]))


def _part(waves: NDArray[np.float64]) -> _Part:
    """Return the first n - k samples for k from 0 to n / 2."""
    n_times = waves.shape[-1]
    counts = np.arange(n_times, n_times - n_times // 2 - 1, -1)
    sums = (np.cumsum(waves, axis=-1)[..., counts - 1] / np.sqrt(counts)).transpose(2, 0, 1)
    energy = np.cumsum((waves**2).sum(axis=1), axis=-1)[:, counts - 1].T - (sums**2).sum(axis=-1)
    # A part that is nearly silent in a loud window cannot be compared.
    inverse = np.where(energy > _SILENT, 1 / np.sqrt(np.maximum(energy, _SILENT)), 0.0)
    return _Part(sums.astype(np.float32), inverse.astype(np.float32))
