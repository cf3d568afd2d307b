"""Measures of any waveform: band powers, peakedness, asymmetry."""

import itertools
import math
from functools import lru_cache

import torch
from torch import Tensor

from fedsynth.modalities.shape import Shape

_EDGES_HZ = (0.5, 2.0, 4.0, 6.0, 8.0, 10.0, 12.5, 16.0, 22.0, 30.0, 40.0, 60.0, 90.0)

_FLOOR_UV2 = 1e-4
_RISE = 1 / 8  # of a window's length, on either side


@lru_cache(maxsize=16)
def band_bins(shape: Shape) -> tuple[tuple[int, int], ...]:
    """Return for each band the half-open range of rfft bins that it sums; every band has a bin."""
    resolution = shape.sfreq / shape.n_times
    low, high = shape.bandpass
    edges = [low, *(edge for edge in _EDGES_HZ if low < edge < high), high]
    bins = sorted({max(1, math.ceil(edge / resolution)) for edge in edges})
    return tuple((first, last) for first, last in itertools.pairwise(bins))


def band_powers(signal: Tensor, shape: Shape) -> Tensor:
    """Return log10 power per band in microvolts squared, shape (window, channel, band), Hann-tapered.

    Args:
        signal: microvolts, shape (window, channel, time).
        shape: of the windows.
    """
    taper = torch.hann_window(shape.n_times, periodic=False, dtype=signal.dtype, device=signal.device)
    return _powers(signal, taper, shape)


def _powers(signal: Tensor, taper: Tensor, shape: Shape) -> Tensor:
    spectrum = torch.fft.rfft(signal * taper).abs().square() * (2.0 / (shape.n_times * taper.square().sum()))
    bands = [spectrum[..., first:last].sum(dim=-1) for first, last in band_bins(shape)]
    return torch.log10(torch.stack(bands, dim=-1) + _FLOOR_UV2)


def peakedness(signal: Tensor) -> Tensor:
    mean_square = signal.square().mean(dim=-1)
    return 0.5 * torch.log(mean_square + 1e-3) - torch.log(signal.abs().mean(dim=-1) + 1e-2)


def asymmetry(signal: Tensor) -> Tensor:
    centred = signal - signal.mean(dim=-1, keepdim=True)
    return (centred * centred.abs()).mean(dim=-1) / (centred.square().mean(dim=-1) + 1e-2)


def beyond_taper(signal: Tensor, powers: Tensor) -> Tensor:
    """Return log10 of a channel's variance over the sum of its band powers, shape (window, channel).

    Powers are measured under a taper, which sees the middle of a window.

    Args:
        signal: microvolts, shape (window, channel, time).
        powers: log10 microvolts squared, shape (window, channel, band).
    """
    variance = signal.var(dim=-1, correction=0) + _FLOOR_UV2
    return torch.log10(variance / torch.pow(10.0, powers).sum(dim=-1))


def even_powers(signal: Tensor, shape: Shape) -> Tensor:
    """Return band powers of nearly the whole window alike: under a taper that is flat but for its ends."""
    return _powers(signal, flat_taper(shape.n_times).to(signal), shape)


@lru_cache(maxsize=16)
def flat_taper(n_times: int) -> Tensor:
    """Return a window that rises and falls as a cosine over an eighth of its length (Tukey 1967)."""
    rise = max(1, round(_RISE * n_times))
    half = 0.5 - 0.5 * torch.cos(math.pi * (torch.arange(rise, dtype=torch.float64) + 0.5) / rise)
    taper = torch.ones(n_times, dtype=torch.float64)
    taper[:rise], taper[n_times - rise :] = half, half.flip(0)
    return taper
