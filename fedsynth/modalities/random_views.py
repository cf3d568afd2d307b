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


def response_slope(signal: Tensor, direction: Tensor, shape: Shape) -> Tensor:
    """Return the slope of `random_responses` along a direction by the signal, float32 (window, channel, time).

    Written out in single precision, without what autograd keeps: about half its time. A window of nothing has no
    slope.

    Args:
        signal: microvolts, shape (window, channel, time).
        direction: of every response, shape (response,).
        shape: of the windows.
    """
    return torch.cat([_slope(some, direction, shape) for some in signal.to(torch.float32).split(_ROWS)])


def _by_dilation(responses: Tensor, shape: Shape) -> tuple[Tensor, ...]:
    """Part numbers of all responses but loudness by dilation, each as (kernel, piece and at last the top)."""
    size = _KERNELS * (_PIECES + 1)
    parts = responses[: len(_kernels(shape)) * size].unflatten(0, (-1, size)).split(_KERNELS * _PIECES, dim=1)
    pieces, tops = parts[0].unflatten(1, (_KERNELS, _PIECES)), parts[1][..., None]
    return torch.cat([pieces, tops], dim=2).unbind()


def _slope(signal: Tensor, direction: Tensor, shape: Shape) -> Tensor:
    public, pieces = _public(shape), _piece_weights(shape.n_times)
    root = signal.square().mean(dim=(1, 2), keepdim=True).sqrt()
    size = root + _FLOOR_UV
    unit = signal / size
    slope = torch.zeros_like(unit)
    by_dilation = (_by_dilation(one, shape) for one in (direction.to(signal), public.mean, public.std))
    for (weights, bias, dilation), *parts in zip(_kernels(shape), *by_dilation, strict=True):
        wanted, mean, std = parts
        out = _convolved(unit, weights, bias, dilation)
        positive = torch.sigmoid(_STEEP * out)
        top, at = out.max(dim=2, keepdim=True)
        seen = torch.cat([positive @ pieces, top], dim=2)
        # What lies beyond the bound of a response moves nothing.
        by_response = (wanted / std) * ((seen - mean).abs() <= BOUND * std)
        by_out = by_response[..., :-1] @ pieces.T
        by_out *= _STEEP * positive * (1 - positive)
        by_out.scatter_add_(2, at, by_response[..., -1:])
        slope += _convolved_back(by_out, weights, dilation)
    centre, spread = public.loudness
    heard = ((torch.log(size) - centre) / spread).abs() <= BOUND
    by_size = heard * (float(direction[-1]) / spread) - (slope * unit).sum(dim=(1, 2), keepdim=True)
    moved: Tensor = (slope + by_size * signal / (signal[0].numel() * root.clamp_min(1e-12))) / size
    return moved * (root > 0)


@lru_cache(maxsize=4)
def _piece_weights(n_times: int) -> Tensor:
    """Return the weights of samples in the mean of each eighth of a window, shape (time, piece)."""
    return torch.nn.functional.adaptive_avg_pool1d(torch.eye(n_times), _PIECES)


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
    out = _convolved(unit, weights, bias, dilation)
    pieces = torch.nn.functional.adaptive_avg_pool1d(torch.sigmoid(_STEEP * out), _PIECES)
    return torch.cat([pieces.flatten(1), out.amax(dim=2)], dim=1)


def _convolved(unit: Tensor, weights: Tensor, bias: Tensor, dilation: int) -> Tensor:
    """Return windows (window, channel, time) through kernels, shape (window, kernel, time)."""
    padding = _LENGTH // 2 * dilation
    if unit.shape[1] > 1:
        return torch.nn.functional.conv1d(unit, weights, bias, padding=padding, dilation=dilation)
    # Of one channel a product of matrices takes half the time.
    wide = torch.nn.functional.pad(unit[:, 0], (padding, padding))
    shifted = torch.stack([wide[:, shift:][:, : unit.shape[2]] for shift in _shifts(dilation)], dim=1)
    return torch.baddbmm(bias[:, None], weights[:, 0].expand(len(unit), -1, -1), shifted)


def _convolved_back(by_out: Tensor, weights: Tensor, dilation: int) -> Tensor:
    """Return the slope by windows, shape (window, channel, time), of a slope by what `_convolved` returns."""
    padding, n_times = _LENGTH // 2 * dilation, by_out.shape[2]
    if weights.shape[1] > 1:
        return torch.nn.functional.conv_transpose1d(by_out, weights, padding=padding, dilation=dilation)
    shifted = weights[:, 0].T @ by_out
    wide = by_out.new_zeros(len(by_out), 1, n_times + 2 * padding)
    for place, shift in enumerate(_shifts(dilation)):
        wide[:, 0, shift : shift + n_times] += shifted[:, place]
    return wide[..., padding : padding + n_times]


def _shifts(dilation: int) -> range:
    return range(0, _LENGTH * dilation, dilation)


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
