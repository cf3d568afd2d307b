"""The frame: what a pretrained network sees of a window, whatever the window's rate, length and channels.

A network knows single waveforms of unit variance whose rate is 2.3 times the upper edge of the pass band, and a
condition of fixed width: a relative spectrum on a grid tied to that edge, what else a modality's features say, and
three numbers that tell how long a sample is. One set of weights so serves windows of 0.5 to 10 s at any rate.
"""

import math
from functools import lru_cache
from typing import Protocol

import torch
from torch import Tensor

from fedsynth.modalities.shape import Shape

_RATE = 2.3
_STEP = 16
_SHORTEST = 64
N_GRID = 18
"""Points of the grid on which a relative spectrum is told."""

_GRID_STEP = 2.0**-0.4
N_LOCAL = 3
"""Local sources beside the shared one, where there are several channels."""

Bins = tuple[tuple[int, int], ...]


class Frame(Protocol):
    """Between windows of one shape and what networks see."""

    @property
    def raw_width(self) -> int:
        """Return the width of the raw condition; the same for every shape of a modality."""
        ...

    @property
    def length(self) -> int:
        """Return how many samples a waveform has in the frame."""
        ...

    @property
    def n_sources(self) -> int:
        """Return how many waveforms make a window."""
        ...

    @property
    def mixing_width(self) -> int:
        """Return how many standard normal numbers mix them."""
        ...

    def condition(self, vector: Tensor) -> Tensor:
        """Return the raw condition, shape (window, raw), of codec features in natural units."""
        ...

    def read(self, windows: Tensor, pick: Tensor) -> tuple[Tensor, Tensor]:
        """Return waveforms (window, length) and raw conditions (window, raw).

        Args:
            windows: microvolts, shape (window, channel, time).
            pick: uniform on [0, 1], shape (window,); says which channel is read.
        """
        ...

    def render(self, waves: Tensor, vector: Tensor, mixing: Tensor) -> Tensor:
        """Return windows in microvolts.

        Args:
            waves: shape (window, source, length).
            vector: codec features in natural units, shape (window, feature).
            mixing: standard normal, shape (window, mixing_width).
        """
        ...

    def read_together(self, windows: Tensor) -> Tensor:
        """Return all channels of windows in microvolts as a network sees them, shape (window, channel, length)."""
        ...

    def render_together(self, waves: Tensor, vector: Tensor) -> Tensor:
        """Return windows in microvolts.

        Args:
            waves: as `read_together` gives them.
            vector: codec features in natural units, shape (window, feature).
        """
        ...


def frame_length(shape: Shape) -> int:
    """Return how many samples a window has in the frame: a multiple of 16, at least 64."""
    samples = _RATE * shape.bandpass[1] * shape.n_times / shape.sfreq
    return max(_SHORTEST, _STEP * math.ceil(samples / _STEP - 1e-9))


def relative_spectrum(powers: Tensor, bins: Bins, shape: Shape) -> Tensor:
    """Return log10 of power density over total power on the grid, shape (window, 18).

    Args:
        powers: log10 microvolts squared, shape (window, band).
        bins: for each band the half-open range of rfft bins that it sums.
        shape: of the windows.
    """
    total = torch.log10(torch.pow(10.0, powers.clamp(-8, 8)).sum(dim=1, keepdim=True))
    density = powers - _band_widths(bins, shape).to(powers)
    return (density @ _to_grid(bins, shape).to(powers) - total).clamp(-8, 2)


def time_scale(shape: Shape, rows: int) -> Tensor:
    """Return what says how long a sample is, shape (row, 3): logs of upper edge, length and oversampling."""
    high = shape.bandpass[1]
    told = [math.log(high), math.log(frame_length(shape)), math.log(shape.sfreq / high)]
    return torch.tensor(told).expand(rows, -1)


def blend(shared: Tensor, local: Tensor, mixing: Tensor, *, share: float) -> Tensor:
    """Return a signal for every channel, shape (window, channel, time), each of unit variance.

    Args:
        shared: shape (window, 1, time).
        local: shape (window, 3, time); every channel hears a mixture of its own.
        mixing: standard normal, shape (window, 3 x channel).
        share: of a channel's standard deviation that is the shared source's.
    """
    weights = mixing.unflatten(1, (-1, N_LOCAL))
    weights = weights / (weights.norm(dim=2, keepdim=True) + 1e-6)
    return share * shared + math.sqrt(1 - share**2) * (weights @ local)


def unit(waves: Tensor) -> Tensor:
    """Return waveforms of mean 0 and standard deviation 1; a flat one stays flat."""
    centred = waves - waves.mean(dim=-1, keepdim=True)
    return centred / (centred.square().mean(dim=-1, keepdim=True).sqrt() + 1e-6)


def resample_waves(waves: Tensor, length: int) -> Tensor:
    """Resample to `length` samples by Fourier interpolation, after taking out the line from first to last sample.

    Without that line the ends would ring: a window is no period of anything.
    """
    old = waves.shape[-1]
    if old == length:
        return waves
    first, last = waves[..., :1], waves[..., -1:]
    ramp = torch.arange(old, device=waves.device, dtype=waves.dtype) / old
    flat = waves - first - (last - first) * ramp
    bins = min(old, length) // 2 + 1
    spectrum = torch.fft.rfft(flat)[..., :bins]
    fine = torch.arange(length, device=waves.device, dtype=waves.dtype) / length
    return torch.fft.irfft(spectrum, length) * (length / old) + first + (last - first) * fine


@lru_cache(maxsize=16)
def _band_widths(bins: Bins, shape: Shape) -> Tensor:
    """Return log10 of each band's width in Hz, shape (band,)."""
    resolution = shape.sfreq / shape.n_times
    return torch.log10(torch.tensor([(last - first) * resolution for first, last in bins]))


@lru_cache(maxsize=16)
def _to_grid(bins: Bins, shape: Shape) -> Tensor:
    """Return linear weights, in log frequency, from bands to the grid, shape (band, grid)."""
    resolution = shape.sfreq / shape.n_times
    centres = torch.tensor([math.log(resolution * (first + last - 1) / 2) for first, last in bins])
    at = torch.tensor([math.log(shape.bandpass[1] * _GRID_STEP ** (step + 0.5)) for step in range(N_GRID)])
    at = at.clamp(float(centres[0]), float(centres[-1]))
    if len(centres) == 1:
        return torch.ones(1, N_GRID)
    right = torch.searchsorted(centres, at).clamp(1, len(centres) - 1)
    share = (at - centres[right - 1]) / (centres[right] - centres[right - 1])
    weights, columns = torch.zeros(len(centres), N_GRID), torch.arange(N_GRID)
    weights[right - 1, columns] = 1 - share
    weights[right, columns] = share
    return weights
