"""Equalisers: windows get the band powers asked for by smooth gains over frequency, which turn no phase."""

from collections.abc import Callable
from functools import lru_cache

import torch
from torch import Tensor

from fedsynth.modalities.measures import band_bins, band_powers, even_powers
from fedsynth.modalities.shape import Shape


def equalise(source: Tensor, powers: Tensor, shape: Shape, *, turns: int = 3) -> Tensor:
    """Scale the spectrum of `source` smoothly until its band powers are `powers`.

    Three fixed-point turns; a band's error falls below about 1 % of a decade. A wave that has the powers asked for
    is returned as it is.

    Args:
        source: shape (window, channel, time), any unit; as long as a window, or longer on both sides, so that the
            window's ends do not meet.
        powers: log10 microvolts squared, shape (window, channel, band).
        shape: of the windows.
        turns: of the fixed-point iteration.
    """
    return _inner(_scaled(source, powers, shape, turns=turns, measure=band_powers), shape)


def equalise_evenly(source: Tensor, powers: Tensor, shape: Shape, *, level: Tensor, turns: int = 3) -> Tensor:
    """Do the same for waves that know nothing of the powers asked for.

    Band powers are measured under a taper, which sees the middle of a window. If a band were made louder by one
    gain until the taper sees what is asked, bands that are weak in the middle by chance would be too loud at the
    ends. So gains make the whole window as loud as asked, and then only the middle is changed until the taper
    agrees.

    Args:
        source: as of `equalise`.
        powers: as of `equalise`.
        shape: of the windows.
        level: log10 of how loud whole windows are to be beside what the taper sees, shape (1,).
        turns: of each fixed-point iteration.
    """
    window = _inner(equalise_whole(source, powers + level, shape, turns=turns), shape)
    weights = _interpolation(shape, shape.n_times).to(window)
    spectrum = torch.fft.rfft(window)
    middle = torch.hann_window(shape.n_times, periodic=False, dtype=window.dtype, device=window.device)
    gain = torch.zeros_like(powers)
    signal = window
    for _ in range(turns):
        gain = (gain + 0.5 * (powers - band_powers(signal, shape))).clamp(-1, 1)
        more = torch.fft.irfft(spectrum * (torch.pow(10.0, gain @ weights) - 1), shape.n_times)
        signal = window + middle * more
    return signal


def equalise_whole(source: Tensor, powers: Tensor, shape: Shape, *, turns: int) -> Tensor:
    """Return `source`, as long as it is, by gains alone: whole windows have the powers, whatever a taper sees."""
    return _scaled(source, powers, shape, turns=turns, measure=even_powers)


def _scaled(
    source: Tensor, powers: Tensor, shape: Shape, *, turns: int, measure: Callable[[Tensor, Shape], Tensor]
) -> Tensor:
    weights = _interpolation(shape, source.shape[-1]).to(source)
    spectrum = torch.fft.rfft(source)
    gain = torch.zeros_like(powers)
    signal = source
    for _ in range(turns):
        gain = (gain + 0.5 * (powers - measure(_inner(signal, shape), shape))).clamp(-4, 6)
        signal = torch.fft.irfft(spectrum * torch.pow(10.0, gain @ weights), source.shape[-1])
    return signal


def _inner(source: Tensor, shape: Shape) -> Tensor:
    """Return the window in the middle of a wave that is longer on both sides."""
    first = (source.shape[-1] - shape.n_times) // 2
    return source[..., first : first + shape.n_times]


def spectrum_asked(powers: Tensor, shape: Shape, length: int) -> Tensor:
    """Return the power density that band powers stand for at the rfft bins of `length` samples, at most 1.

    Args:
        powers: log10 microvolts squared, shape (window, channel, band).
        shape: of the windows.
        length: in samples, at least that of a window.

    Returns:
        Shape (window, channel, bin); nothing beyond the pass band.
    """
    widths = torch.tensor([last - first for first, last in band_bins(shape)], dtype=powers.dtype)
    density = powers - torch.log10(widths)
    density = (density - density.amax(dim=-1, keepdim=True)) @ _interpolation(shape, length).to(powers)
    hertz = torch.arange(length // 2 + 1) * shape.sfreq / length
    low, high = shape.bandpass
    return torch.pow(10.0, density) * ((hertz >= low) & (hertz <= high))


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
