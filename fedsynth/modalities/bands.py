"""Delta, theta, alpha, beta and gamma: windows parted into the bands of EEG, as far as they pass."""

import itertools
from functools import lru_cache

import torch
from torch import Tensor

from fedsynth.modalities.shape import Shape

_EDGES_HZ = (4.0, 8.0, 13.0, 30.0)
_CROSSOVER = 0.15  # of an edge's frequency, over which one band takes over from another


def n_bands(shape: Shape) -> int:
    """Return how many bands the course of power is told for."""
    return len(_gains(shape))


def band_parts(signal: Tensor, shape: Shape) -> Tensor:
    """Return what windows have in each band, shape (window, channel, band, time); bands add up to the pass band."""
    spectrum = torch.fft.rfft(signal)[..., None, :] * _gains(shape).to(signal)
    return torch.fft.irfft(spectrum, shape.n_times)


def analytic_parts(signal: Tensor, shape: Shape) -> Tensor:
    """Return the analytic signal of each band (Gabor 1946), complex, shape (window, channel, band, time).

    Its absolute value is the band's envelope, its angle the band's phase.
    """
    spectrum = torch.fft.rfft(signal)[..., None, :] * _gains(shape).to(signal)
    whole = torch.zeros(*spectrum.shape[:-1], shape.n_times, dtype=spectrum.dtype, device=spectrum.device)
    whole[..., : spectrum.shape[-1]] = 2 * spectrum
    return torch.fft.ifft(whole)


@lru_cache(maxsize=8)
def _gains(shape: Shape) -> Tensor:
    """Return the gain of every band at every rfft bin, shape (band, bin); within the pass band they sum to 1."""
    low, high = shape.bandpass
    edges = [edge for edge in _EDGES_HZ if 1.5 * low < edge < high / 1.25]
    hertz = torch.arange(shape.n_times // 2 + 1, dtype=torch.float64) * shape.sfreq / shape.n_times
    above = [torch.ones_like(hertz)]
    above += [((hertz / edge - 1) / (2 * _CROSSOVER) + 0.5).clamp(0, 1) for edge in edges]
    above.append(torch.zeros_like(hertz))
    inside = ((hertz > 0) & (hertz <= high)).to(torch.float64)
    return torch.stack([(one - next_) * inside for one, next_ in itertools.pairwise(above)]).to(torch.float32)
