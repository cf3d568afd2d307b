"""Measures of any waveform: band powers, peakedness, asymmetry."""

import itertools
import math
from functools import lru_cache

import torch
from torch import Tensor

from fedsynth.modalities.shape import Shape

_EDGES_HZ = (0.5, 2.0, 4.0, 6.0, 8.0, 10.0, 12.5, 16.0, 22.0, 30.0, 40.0, 60.0, 90.0)

_FLOOR_UV2 = 1e-4


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
    spectrum = torch.fft.rfft(signal * taper).abs().square() * (2.0 / (shape.n_times * taper.square().sum()))
    bands = [spectrum[..., first:last].sum(dim=-1) for first, last in band_bins(shape)]
    return torch.log10(torch.stack(bands, dim=-1) + _FLOOR_UV2)


def peakedness(signal: Tensor) -> Tensor:
    mean_square = signal.square().mean(dim=-1)
    return 0.5 * torch.log(mean_square + 1e-3) - torch.log(signal.abs().mean(dim=-1) + 1e-2)


def asymmetry(signal: Tensor) -> Tensor:
    centred = signal - signal.mean(dim=-1, keepdim=True)
    return (centred * centred.abs()).mean(dim=-1) / (centred.square().mean(dim=-1) + 1e-2)
