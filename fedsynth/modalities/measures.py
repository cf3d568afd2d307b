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


def beyond_taper(signal: Tensor, powers: Tensor) -> Tensor:
    """Return log10 of a channel's variance over the sum of its band powers, shape (window, channel).

    Powers are measured under a taper, which sees the middle of a window.

    Args:
        signal: microvolts, shape (window, channel, time).
        powers: log10 microvolts squared, shape (window, channel, band).
    """
    variance = signal.var(dim=-1, correction=0) + _FLOOR_UV2
    return torch.log10(variance / torch.pow(10.0, powers).sum(dim=-1))


def loud_as(signal: Tensor, powers: Tensor, *, usual: Tensor) -> Tensor:
    """Scale each channel half the way to the variance that its band powers usually stand for.

    The whole way, powers would be off by what the taper sees by chance; not at all, and the variance would be.
    Arguments are those of `beyond_taper`; `usual` is the mean of what it returns.
    """
    return signal * torch.pow(10.0, 0.25 * (usual - beyond_taper(signal, powers)))[..., None]


def equalise(source: Tensor, powers: Tensor, shape: Shape, *, turns: int = 3) -> Tensor:
    """Scale the spectrum of `source` smoothly until its band powers are `powers`.

    Three fixed-point turns; a band's error falls below about 1 % of a decade.

    Args:
        source: shape (window, channel, time), any unit; as long as a window, or longer on both sides, so that the
            window's ends do not meet.
        powers: log10 microvolts squared, shape (window, channel, band).
        shape: of the windows.
        turns: of the fixed-point iteration.
    """
    length = source.shape[-1]
    first = (length - shape.n_times) // 2
    window = slice(first, first + shape.n_times)
    weights = _interpolation(shape, length).to(source)
    spectrum = torch.fft.rfft(source)
    gain = torch.zeros_like(powers)
    signal = source[..., window]
    for _ in range(turns):
        gain = (gain + 0.5 * (powers - band_powers(signal, shape))).clamp(-4, 6)
        signal = torch.fft.irfft(spectrum * torch.pow(10.0, gain @ weights), length)[..., window]
    return signal


@lru_cache(maxsize=8)
def _interpolation(shape: Shape, length: int) -> Tensor:
    """Return linear weights from bands to the rfft bins of `length` samples, shape (band, bin).

    Between the outermost centres and the edges of the pass band the line goes on; beyond, the filter decides.
    """
    bins = band_bins(shape)
    if len(bins) == 1:
        return torch.ones(1, length // 2 + 1)
    centres = torch.tensor([(first + last - 1) / 2 for first, last in bins])
    at = torch.arange(length // 2 + 1, dtype=torch.float32) * (shape.n_times / length)
    at = at.clamp(float(bins[0][0]), float(bins[-1][1]))
    right = torch.searchsorted(centres, at).clamp(1, len(bins) - 1)
    share = (at - centres[right - 1]) / (centres[right] - centres[right - 1])
    weights = torch.zeros(len(bins), len(at))
    columns = torch.arange(len(at))
    weights[right - 1, columns] = 1 - share
    weights[right, columns] = share
    return weights
