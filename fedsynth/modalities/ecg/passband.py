"""What reaches a window of a recording's spectrum: the site's filter and its resampling, as gains by frequency.

A site filters recordings at the rate at which they were recorded and then brings them to the windows' rate
(`fedsynth.recordings.filters`). A digital filter is steeper than the analog one that it stands for, up to a zero at
half its rate, and an anti-aliasing filter takes away what little is left. Who knows band and rates knows both.
"""

from fractions import Fraction
from functools import lru_cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fedsynth.modalities.shape import Shape

_ORDER = 4  # of the Butterworth filter, at each edge
_PERIODS, _BETA = 10, 5.0  # of the Kaiser window of scipy.signal.resample_poly, on either side
_LEAST_GAIN = 0.02


def band_limit(signal: Tensor, shape: Shape) -> Tensor:
    """Pass a signal through what recordings pass, over its mirror image so that its ends do not meet."""
    mirrored = torch.cat([signal, signal.flip(-1)], dim=-1)
    passed = torch.fft.rfft(mirrored) * _recorded(shape, 2 * shape.n_times)
    return torch.fft.irfft(passed, 2 * shape.n_times)[..., : shape.n_times]


def pass_lower_edge(signal: Tensor, shape: Shape) -> Tensor:
    """Pass what has passed the upper edge through the lower one, over its mirror image; nothing is left beyond."""
    mirrored = torch.cat([signal, signal.flip(-1)], dim=-1)
    passed = torch.fft.rfft(mirrored) * _lower(shape, 2 * shape.n_times)
    return torch.fft.irfft(passed, 2 * shape.n_times)[..., : shape.n_times]


def pass_upper_edge(signal: Tensor, shape: Shape) -> Tensor:
    """Take out what recordings cannot hold beyond the band, over the signal's mirror image, and nothing else."""
    mirrored = torch.cat([signal, signal.flip(-1)], dim=-1)
    passed = torch.fft.rfft(mirrored) * _upper(shape, 2 * shape.n_times)
    return torch.fft.irfft(passed, 2 * shape.n_times)[..., : shape.n_times]


def unlimited(signal: Tensor, shape: Shape) -> Tensor:
    """Undo `simple_gain` as far as numbers allow, so that what passes `band_limit` next was limited once."""
    return torch.fft.irfft(torch.fft.rfft(signal) * _undone(shape), shape.n_times)


def simple_gain(length: int, shape: Shape) -> NDArray[np.float64]:
    """Return the analog filter's gain at each rfft bin, both ways: what simulated noise has passed at any rate."""
    low, high = shape.bandpass
    frequencies = np.fft.rfftfreq(length, 1 / shape.sfreq).astype(np.float64)
    gain: NDArray[np.float64] = 1 / (1 + (low / np.maximum(frequencies, 1e-9)) ** (2 * _ORDER))
    return gain / (1 + (frequencies / high) ** (2 * _ORDER))


def recorded_gain(length: int, shape: Shape) -> NDArray[np.float64]:
    """Return the gain at each rfft bin of a site's filter, both ways, and of its resampling."""
    frequencies = np.fft.rfftfreq(length, 1 / shape.sfreq).astype(np.float64)
    rate = shape.recorded_sfreq or shape.sfreq
    low, high, bent = *(_bent(edge, rate) for edge in shape.bandpass), _bent(frequencies, rate)
    away = (bent**2 - low * high) / ((high - low) * np.maximum(bent, 1e-12))
    passed: NDArray[np.float64] = 1 / (1 + away ** (2 * _ORDER))
    return passed * _resampled(frequencies, rate, shape.sfreq)


def upper_gain(length: int, shape: Shape) -> NDArray[np.float64]:
    """Return what `recorded_gain` has without its lower edge, at the rfft bins of so many samples."""
    frequencies = np.fft.rfftfreq(length, 1 / shape.sfreq).astype(np.float64)
    rate = shape.recorded_sfreq or shape.sfreq
    above = _bent(frequencies, rate) / _bent(shape.bandpass[1], rate)
    passed: NDArray[np.float64] = 1 / (1 + above ** (2 * _ORDER))
    return passed * _resampled(frequencies, rate, shape.sfreq)


def _bent(frequencies: NDArray[np.float64] | float, rate: float) -> NDArray[np.float64]:
    """Return frequencies as the bilinear transform has them: half the rate lies at infinity."""
    bent: NDArray[np.float64] = np.tan(np.pi * np.minimum(np.asarray(frequencies) / rate, 0.5 - 1e-9))
    return bent


def _resampled(frequencies: NDArray[np.float64], before: float, after: float) -> NDArray[np.float64]:
    """Return the gain of scipy.signal.resample_poly's filter from one rate to another, 1 where they are equal."""
    ratio = Fraction(after).limit_denominator(100_000) / Fraction(before).limit_denominator(100_000)
    most = max(ratio.numerator, ratio.denominator)
    if most == 1:
        return np.ones_like(frequencies)
    taps = np.arange(-_PERIODS * most, _PERIODS * most + 1)
    weights = np.sinc(taps / most) * np.kaiser(len(taps), _BETA)
    weights /= weights.sum()
    turns = 2 * np.pi * frequencies / (before * ratio.numerator)
    gain: NDArray[np.float64] = np.cos(turns[:, None] * taps) @ weights
    return gain


@lru_cache(maxsize=8)
def _recorded(shape: Shape, length: int) -> Tensor:
    return torch.from_numpy(recorded_gain(length, shape).astype(np.float32))


@lru_cache(maxsize=8)
def _lower(shape: Shape, length: int) -> Tensor:
    frequencies = np.maximum(np.fft.rfftfreq(length, 1 / shape.sfreq), 1e-9)
    gain = 1 / (1 + (shape.bandpass[0] / frequencies) ** (2 * _ORDER))
    # Where a fiftieth and more passes, nothing is taken away again.
    return torch.from_numpy((gain * np.clip(50 * upper_gain(length, shape), 0, 1)).astype(np.float32))


@lru_cache(maxsize=8)
def _upper(shape: Shape, length: int) -> Tensor:
    return torch.from_numpy(upper_gain(length, shape).astype(np.float32))


@lru_cache(maxsize=8)
def _undone(shape: Shape) -> Tensor:
    gain = simple_gain(shape.n_times, shape)
    high = np.fft.rfftfreq(shape.n_times, 1 / shape.sfreq) > shape.bandpass[0]
    return torch.from_numpy(np.where(high, 1 / np.maximum(gain, _LEAST_GAIN), 1.0).astype(np.float32))
