"""Random views of a raw window: numbers that no feature was chosen for, in which a plain classifier sees most.

Random convolutions with random dilations (after ROCKET, Dempster et al. 2020, arXiv:1910.13051), of which the share
of positive outputs over eighths of the window and the largest output are taken; standardised by windows of the
public decoder, and projected at random on a few numbers (Johnson and Lindenstrauss 1984). The last number is
loudness, which is divided out of the others. Fixed public functions of one window, bounded for finite windows.
"""

from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from fedsynth.modalities.codec import BOUND
from fedsynth.modalities.registry import rendered_by_prior
from fedsynth.modalities.shape import Shape
from fedsynth.rng import torch_generator

N_VIEWS = 96
_KERNELS, _LENGTH, _PIECES = 24, 9, 8
_STEEP = 4.0  # of the step from a negative to a positive output
_FLOOR_UV = 0.1
_ROWS = 256  # at once


@dataclass(frozen=True)
class _Public:
    """Mean and deviation of responses (response,) and of loudness, and the projection (response, view - 1)."""

    mean: Tensor
    std: Tensor
    loudness: tuple[float, float]
    projection: Tensor


def random_responses(signal: Tensor, shape: Shape) -> Tensor:
    """Return what views are made of: every standardised response, and loudness last, float64 (window, response).

    Args:
        signal: microvolts, shape (window, channel, time).
        shape: of the windows.
    """
    public = _public(shape)
    responses, loudness = _responses(signal, shape)
    standard = ((responses - public.mean) / public.std).clamp(-BOUND, BOUND)
    mean, std = public.loudness
    loud = ((loudness - mean) / std).clamp(-BOUND, BOUND)
    return torch.cat([standard, loud[:, None]], dim=1).to(torch.float64)


def n_responses(shape: Shape) -> int:
    """Return how many numbers `random_responses` gives."""
    return len(_kernels(shape)) * _KERNELS * (_PIECES + 1) + 1


def random_views(signal: Tensor, shape: Shape) -> Tensor:
    """Return the views of windows, about standard normal for the public decoder's, float64 (window, N_VIEWS).

    Args:
        signal: microvolts, shape (window, channel, time).
        shape: of the windows.
    """
    responses = random_responses(signal, shape)
    return torch.cat([responses[:, :-1] @ _public(shape).projection.to(responses), responses[:, -1:]], dim=1)


@lru_cache(maxsize=4)
def _public(shape: Shape) -> _Public:
    responses, loudness = _responses(rendered_by_prior(shape), shape)
    size = responses.shape[1]
    drawn = torch.randn(size, N_VIEWS - 1, generator=torch_generator("random views", "projection", size))
    return _Public(
        mean=responses.mean(dim=0),
        std=responses.std(dim=0).clamp_min(1e-3),
        loudness=(float(loudness.mean()), max(float(loudness.std()), 1e-3)),
        projection=drawn / size**0.5,
    )


def _responses(signal: Tensor, shape: Shape) -> tuple[Tensor, Tensor]:
    """Return what convolutions say of windows of unit size (window, response) and those sizes' logs (window,)."""
    parts, sizes = [], []
    for some in signal.to(torch.float32).split(_ROWS):
        size = some.square().mean(dim=(1, 2)).sqrt() + _FLOOR_UV
        unit = some / size[:, None, None]
        parts.append(torch.cat([_pooled(unit, *one) for one in _kernels(shape)], dim=1))
        sizes.append(torch.log(size))
    return torch.cat(parts), torch.cat(sizes)


def _pooled(unit: Tensor, weights: Tensor, bias: Tensor, dilation: int) -> Tensor:
    padding = (_LENGTH // 2) * dilation
    out = torch.nn.functional.conv1d(unit, weights, bias, padding=padding, dilation=dilation)
    pieces = torch.nn.functional.adaptive_avg_pool1d(torch.sigmoid(_STEEP * out), _PIECES)
    return torch.cat([pieces.flatten(1), out.amax(dim=2)], dim=1)


@lru_cache(maxsize=4)
def _kernels(shape: Shape) -> list[tuple[Tensor, Tensor, int]]:
    """Return weights (kernel, channel, length), biases and dilation, for each dilation that fits half a window."""
    channels, found, dilation = len(shape.channels), [], 1
    generator = torch_generator("random views", channels, shape.n_times)
    while (_LENGTH - 1) * dilation < shape.n_times // 2:
        weights = torch.randn(_KERNELS, channels, _LENGTH, generator=generator)
        weights = weights - weights.mean(dim=2, keepdim=True)
        # Every other kernel sees one channel alone.
        only = torch.nn.functional.one_hot(torch.arange(_KERNELS) % channels, channels)[:, :, None]
        weights = torch.where((torch.arange(_KERNELS) % 2 == 0)[:, None, None], weights * only, weights)
        bias = 0.5 * torch.randn(_KERNELS, generator=generator) * (channels * _LENGTH) ** 0.5
        found.append((weights, bias, dilation))
        dilation *= 2
    return found
