"""Windows moved until, label by label, random convolutions respond to them as to recordings.

Random convolutions see what no feature was chosen for (`fedsynth.modalities.random_views`), and where noise is low
a private sum says their mean response to recordings. Drawn windows follow the gradient flow of the maximum mean
discrepancy in these responses (Arbel et al. 2019, arXiv:1906.04370): a window goes a few small steps along the
gradient of its own responses, in directions that are the same for all windows of a label. A direction is that of
Fisher's linear discriminant between drawn and recorded windows. They are found once, on windows of the very
generator, so that whatever it learned is not added twice.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from fedsynth.anchors.anchor import Anchor
from fedsynth.modalities.equaliser import spectrum_asked
from fedsynth.modalities.measures import band_powers
from fedsynth.modalities.random_views import random_responses, response_slope
from fedsynth.modalities.shape import Shape

_FOUND_ON = 1000  # windows of all labels together, on which directions are found, within these bounds of each label
_LEAST, _MOST = 100, 400
_STEPS = 10
_PRIOR = 0.04  # squared difference of means, in units of windows' covariance, that a response is thought to have
_RIDGE = 0.1  # of the mean variance of a response
_MOMENTUM = 0.5
_FIRST = 0.1  # of a step, in units of a direction, before anything is known of its effect
_FASTER = 5.0  # a step is at most so many times the one before, and at least its reciprocal
_LONGEST = 0.3  # of a window's root mean square, that one step may change
_SAMPLES = 2**17  # of all channels, at once

Draw = Callable[[int, int], Tensor]
"""From a label and a count to so many windows in microvolts, shape (window, channel, time)."""


@dataclass(frozen=True)
class EmbeddingFlow:
    """Directions among responses, step by step, float64 (step, label, response)."""

    shape: Shape
    directions: Tensor

    def __call__(self, windows: Tensor, *, label: int) -> Tensor:
        """Return windows of a label after all steps, microvolts (window, channel, time); rows are independent."""
        for direction in self.directions[:, label]:
            windows = _moved(windows, direction, self.shape)
        return windows


def found_flow(anchor: Anchor, shape: Shape, draw: Draw) -> EmbeddingFlow | None:
    """Return the flow from a generator's windows to recorded ones; None where no responses are known.

    Args:
        anchor: after its sums.
        shape: of the windows.
        draw: windows of the generator, without the flow.
    """
    told, noise = anchor.responses, anchor.responses_variance
    if told is None or noise is None or not told.numel():
        return None
    count = min(_MOST, max(_LEAST, _FOUND_ON // shape.n_labels))
    windows = [draw(label, count) for label in range(shape.n_labels)]
    seen = [_responses(some, shape) for some in windows]
    means = torch.stack([some.mean(dim=0) for some in seen])
    covariance = torch.cov(torch.cat([some - mean for some, mean in zip(seen, means, strict=True)]).T)
    ridge = _RIDGE * float(covariance.diagonal().mean())
    covariance = covariance + ridge * torch.eye(len(covariance), dtype=torch.float64)
    whiter = torch.linalg.inv(covariance)
    wanted = means + torch.stack(
        [
            _kept(gap, covariance, noise_variance=variance, count=count)
            for gap, variance in zip(told - means, noise.tolist(), strict=True)
        ]
    )
    gap, momentum, size, directions = wanted - means, torch.zeros_like(wanted), _FIRST, []
    for _ in range(_STEPS):
        momentum = _MOMENTUM * momentum + gap
        directions.append(size * momentum @ whiter)
        windows = [_moved(some, directions[-1][label], shape) for label, some in enumerate(windows)]
        before, gap = gap, wanted - torch.stack([_responses(some, shape).mean(dim=0) for some in windows])
        # The size that would have closed most of the gap, had effects been in proportion.
        effect = (before - gap) / size
        best = float((before * effect).sum() / effect.square().sum().clamp_min(1e-12))
        size = min(max(best, size / _FASTER), size * _FASTER)
    return EmbeddingFlow(shape, torch.stack(directions))


def _kept(gap: Tensor, covariance: Tensor, *, noise_variance: float, count: int) -> Tensor:
    """Return the posterior mean of a difference of means (response,) that carries noise.

    Beforehand it is thought to have the covariance of windows, times `_PRIOR`. Drawn windows' own mean is as far
    off as so many windows leave it.
    """
    even = torch.eye(len(covariance), dtype=torch.float64)
    seen = (_PRIOR + 1 / count) * covariance + noise_variance * even
    kept: Tensor = _PRIOR * covariance @ torch.linalg.solve(seen, gap)
    return kept


def _responses(windows: Tensor, shape: Shape) -> Tensor:
    with torch.no_grad():
        return torch.cat([random_responses(some, shape) for some in windows.split(_rows(shape))])


def _moved(windows: Tensor, direction: Tensor, shape: Shape) -> Tensor:
    """Return windows one step along `direction` (response,), each as its own responses lead there."""
    return torch.cat([_piece_moved(some, direction, shape) for some in windows.split(_rows(shape))])


def _piece_moved(windows: Tensor, direction: Tensor, shape: Shape) -> Tensor:
    gradient = response_slope(windows, direction, shape)
    # With each window's own spectrum, so that nothing is put where it has nothing.
    powers = band_powers(windows, shape)
    colour = spectrum_asked(powers, shape, shape.n_times) * torch.pow(10.0, powers.amax(dim=-1, keepdim=True))
    step = torch.fft.irfft(torch.fft.rfft(gradient) * colour, shape.n_times)
    size = windows.square().mean(dim=-1, keepdim=True).sqrt()
    length = step.square().mean(dim=-1, keepdim=True).sqrt()
    moved: Tensor = windows + step * (_LONGEST * size / length.clamp_min(1e-12)).clamp(max=1)
    return moved


def _rows(shape: Shape) -> int:
    """Return how many windows are looked at at once."""
    return max(1, min(256, _SAMPLES // (shape.n_times * len(shape.channels))))
