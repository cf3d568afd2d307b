"""Reach: how far beyond their bound residuals lie, and what moves and covariances are then.

A second sum cuts residuals to a bound. Where a label lies farther off than that, or its windows differ by more,
what is left tells a direction and no distance. So how far units' means and windows lie beyond the bound is asked
besides, as two bounded logarithms, and the moves and covariances are looked for that would have given, once cut,
what the sum says.
"""

import itertools
import math

import torch
from torch import Tensor

from fedsynth.anchors.coordinates import means_by, within
from fedsynth.rng import torch_generator

NUMBERS = 2
"""Units' means, and windows."""

_WEIGHT = 0.35  # of a logarithm, which has a range of 1, beside a centred mean
_RANGE = 3.0  # nats of squared length between the ends of a bounded logarithm
_LONGER = tuple(1.15**step for step in range(13))  # times what a move seems to be
_WIDER = tuple(1.3**step for step in range(11))  # times what a covariance seems to be
_LONGER_STD, _WIDER_STD = 0.5, 0.5  # of their logarithms, around 1
_SIMULATED = 600


def length(bound: float) -> float:
    """Return how long a row of both numbers is at most, beside residuals of at most `bound`."""
    return 0.5 * _WEIGHT * bound * math.sqrt(NUMBERS)


def contribution(residual: Tensor, onehot: Tensor, bound: float) -> Tensor:
    """Return by label both logarithms, weighted, shape (label, 2), for residuals (window, feature)."""
    found = (onehot.sum(dim=0) > 0)[:, None]
    means = _logarithms(means_by(residual, onehot), bound)[:, None]
    windows = means_by(_logarithms(residual, bound)[:, None], onehot)
    return torch.cat([means, windows], dim=1) * found * (_WEIGHT * bound)


def farther(
    rows: Tensor, moves: Tensor, covariances: Tensor, shares: Tensor, *, noise: Tensor, bound: float
) -> tuple[Tensor, Tensor]:
    """Return moves and covariances as they were before anything was cut.

    Args:
        rows: noisy means of contributions, shape (label, 2).
        moves: of units' means as cut, along the frame's axes, shape (label, axis).
        covariances: of windows as cut, shape (label, axis, axis).
        shares: what of them subjects differ by, share matrices of the same shape.
        noise: standard deviation of a number of a label's row, shape (label,).
        bound: as of the contributions.
    """
    size = moves.shape[1]
    generator = torch_generator("reach", size)
    normal = torch.randn(2, _SIMULATED, size, generator=generator, dtype=torch.float64)
    out_moves, out_covariances = [], []
    for label, row in enumerate(rows / (_WEIGHT * bound)):
        log_noise = float(noise[label]) / (_WEIGHT * bound) + 0.02
        move_noise = float(noise[label]) + 0.02 * bound
        own, alone = _parts(covariances[label], shares[label])
        best, chosen = -math.inf, (1.0, 1.0)
        direction = moves[label] / moves[label].norm().clamp_min(1e-9)
        for longer, wider in itertools.product(_LONGER, _WIDER):
            unit = longer * moves[label] + math.sqrt(wider) * normal[0] @ own
            window = unit + math.sqrt(wider) * normal[1] @ alone
            seen = [_logarithms(unit, bound).mean() - row[0], _logarithms(window, bound).mean() - row[1]]
            cut = (within(unit, bound).mean(dim=0) @ direction) - moves[label].norm()
            fit = -0.5 * float(
                (seen[0] / log_noise).square() + (seen[1] / log_noise).square() + (cut / move_noise).square()
            )
            fit -= 0.5 * ((math.log(longer) / _LONGER_STD) ** 2 + (math.log(wider) / _WIDER_STD) ** 2)
            if fit > best:
                best, chosen = fit, (longer, wider)
        out_moves.append(chosen[0] * moves[label])
        out_covariances.append(chosen[1] * covariances[label])
    return torch.stack(out_moves), torch.stack(out_covariances)


def _logarithms(residual: Tensor, bound: float) -> Tensor:
    """Return bounded logarithms of squared lengths beyond the bound, from -1/2 (within it) to 1/2."""
    square = residual.square().sum(dim=-1) / bound**2
    return (square.clamp_min(1.0).log() / _RANGE).clamp(max=1.0) - 0.5


def _parts(covariance: Tensor, share: Tensor) -> tuple[Tensor, Tensor]:
    """Return factors of what subjects differ by and of the rest, so that normal rows @ factor have it."""
    values, vectors = torch.linalg.eigh(covariance)
    root = vectors @ torch.diag(values.clamp_min(0).sqrt()) @ vectors.T
    shares, turned = torch.linalg.eigh(share)
    shares = shares.clamp(0, 1)
    along = (root @ turned).T
    return shares.sqrt()[:, None] * along, (1 - shares).sqrt()[:, None] * along
