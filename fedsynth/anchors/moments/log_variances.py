"""Sizes: how far windows of a label lie from its centre, told by a few bounded logarithms instead of products.

Where noise is loud, second moments drown in it: there are hundreds, and a few long residuals use up their bound.
The logarithm of a residual's length along a group of axes is one number with a short range. The form within a group
stays the public prior's.
"""

import math
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from fedsynth.anchors.coordinates import Coordinates, coordinates_of, means_by
from fedsynth.modalities.shape import Shape
from fedsynth.rng import torch_generator

_RANGE = 4.0  # nats of variance between the ends of a bounded logarithm
_CENTRE = math.log(0.3)  # beside the public prior's variance
_ALL_SPREAD, _GROUP_SPREAD, _LABEL_SPREAD, _OWN_SPREAD = 0.5, 0.7, 0.5, 0.2  # of log variances
_BEND = 0.5  # within a label windows differ more evenly over the axes than all simulated ones do
_SHARE_CENTRE, _SHARE_SPREAD = 0.6, 0.15  # of the variance, between subjects
_SIMULATED = 4000


@dataclass(frozen=True)
class Groups:
    """Axes of the frame in groups, the widest first.

    `number` (axis,) is the group of each, `variances` (axis,) are expected beside each other, and `log_offset`
    (group,) is the mean logarithm of a squared length beside the logarithm of its mean.
    """

    number: Tensor
    variances: Tensor
    log_offset: Tensor

    def sums(self, squares: Tensor) -> Tensor:
        """Return sums over the axes of each group: (..., axis) to (..., group)."""
        onehot = torch.nn.functional.one_hot(self.number).to(squares)
        return squares @ onehot


@lru_cache(maxsize=8)
def groups_of(shape: Shape, groups: int) -> Groups:
    """Return the axes of a shape's frame in groups of about as many axes each."""
    frame = coordinates_of(shape)
    prior = (frame.axes.T @ frame.covariance @ frame.axes).diagonal().clamp_min(1e-4)
    order = torch.empty(len(prior), dtype=torch.long)
    order[prior.argsort(descending=True)] = torch.arange(len(prior))
    number = order * groups // len(prior)
    onehot = torch.nn.functional.one_hot(number).to(prior)
    variances = prior**_BEND
    variances = variances * ((prior @ onehot) / (variances @ onehot))[number]
    normal = torch.randn(
        _SIMULATED, len(variances), generator=torch_generator("sizes", len(variances)), dtype=torch.float64
    )
    out = Groups(number, variances, torch.zeros(groups, dtype=torch.float64))
    squares = out.sums(normal.square() * variances)
    return Groups(number, variances, squares.log().mean(dim=0) - out.sums(variances).log())


def logarithms(residual: Tensor, frame: Coordinates, groups: Groups) -> Tensor:
    """Return bounded logarithms of the residuals' squared lengths, -1/2 to 1/2, shape (window, group)."""
    squares = groups.sums((residual @ frame.axes).square())
    ratio = torch.log((squares + 1e-9) / groups.sums(groups.variances)) - _CENTRE - groups.log_offset
    return (ratio / _RANGE).clamp(-0.5, 0.5)


def share_between(residual: Tensor, onehot: Tensor) -> Tensor:
    """Return by label the squared length of the unit's mean residual beside the mean squared length, 0 to 1, less a
    half; zero for a label without two windows. The windows' own part in it is taken off."""
    number = onehot.sum(dim=0)
    whole = means_by(residual.square(), onehot).sum(dim=1)
    share = means_by(residual, onehot).square().sum(dim=1) / whole.clamp_min(1e-9)
    share = (share * number - 1) / (number - 1).clamp_min(1)
    return (share.clamp(0, 1) - 0.5) * (number > 1)


def variances_of(logs: Tensor, errors: Tensor, noise: Tensor, frame: Coordinates, groups: Groups) -> Tensor:
    """Turn noisy means of bounded logarithms into covariances in the frame, shape (label, feature, feature).

    Args:
        logs: shape (label, group).
        errors: squared length of the error of the centre the residuals were taken around, shape (label, group).
        noise: standard deviation of the logarithms by label.
        frame: the frame.
        groups: its groups.
    """
    labels, number = logs.shape
    said, doubt = (logs * _RANGE).flatten(), (noise * _RANGE).square().repeat_interleave(number)
    both = torch.ones(labels, labels, dtype=torch.float64), torch.ones(number, number, dtype=torch.float64)
    apart = torch.eye(labels, dtype=torch.float64), torch.eye(number, dtype=torch.float64)
    prior = (
        _ALL_SPREAD**2 * torch.kron(both[0], both[1])
        + _GROUP_SPREAD**2 * torch.kron(both[0], apart[1])
        + _LABEL_SPREAD**2 * torch.kron(apart[0], both[1])
        + _OWN_SPREAD**2 * torch.kron(apart[0], apart[1])
    )
    posterior = prior @ torch.linalg.solve(prior + torch.diag(doubt + 1e-9), said)
    whole = groups.sums(groups.variances)
    size = torch.exp(posterior.view(labels, number) + _CENTRE) * whole
    size = torch.maximum(size - errors, 0.3 * size)
    variances = (size / whole)[:, groups.number] * groups.variances
    return frame.axes @ torch.diag_embed(variances) @ frame.axes.T


def shares_of(told: Tensor, noise: Tensor) -> Tensor:
    """Return the share between subjects by label from noisy means of `share_between`."""
    precision = noise.square().clamp_min(1e-9).reciprocal()
    doubt = 1 / precision
    common = float(((told + 0.5) * precision).sum() / precision.sum())
    trust = _SHARE_SPREAD**2 / (_SHARE_SPREAD**2 + 1 / float(precision.sum()))
    common = _SHARE_CENTRE + trust * (common - _SHARE_CENTRE)
    own = common + 0.01 / (0.01 + doubt) * (told + 0.5 - common)
    return own.clamp(0.05, 0.95)
