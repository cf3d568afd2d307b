"""Counts of strata: from noisy counts by label and combination of covariates to shares, as far as noise allows.

Shares are shrunk in three steps, as log-linear models are built up (Bishop, Fienberg and Holland 1975): values of a
covariate alike in every label, then by label, then combinations of covariates that are not independent.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from fedsynth.anchors.moments.shrinkage import kept

LEAST_SHARE = 1e-3
"""Of a label's units in any stratum, so that each can be drawn when it is asked for."""


def shares_of(counts: Tensor, units: Tensor, sizes: Sequence[int], *, noise: float) -> Tensor:
    """Return the share of each stratum among the units of a label, shape (label, stratum); rows add up to 1.

    Args:
        counts: noisy units, shape (label, stratum); the first covariate counts slowest.
        units: of each label, shape (label,), as shrunk before.
        sizes: how many values each covariate has.
        noise: standard deviation on every count.
    """
    labels, strata = counts.shape
    product = torch.ones(labels, strata, dtype=torch.float64)
    for place, size in enumerate(sizes):
        own = _by_value(counts, sizes, place)
        variance = torch.tensor(noise**2 * strata / size, dtype=torch.float64)
        pooled = _positive(_towards(own.sum(dim=0), units.sum() / size, variance * labels))
        expected = units[:, None] * pooled / pooled.sum()
        by_label = _positive(expected + _kept_apart(own - expected, variance, largest=expected))
        product = product * _spread(by_label / by_label.sum(dim=1, keepdim=True), sizes, place)
    expected = units[:, None] * product
    variance = torch.tensor(noise**2, dtype=torch.float64)
    found = expected + _kept_apart(counts - expected, variance, largest=expected)
    shares = found.clamp_min(0) / found.clamp_min(0).sum(dim=1, keepdim=True).clamp_min(1e-12)
    return (shares + LEAST_SHARE) / (1 + LEAST_SHARE * strata)


def _by_value(counts: Tensor, sizes: Sequence[int], place: int) -> Tensor:
    """Return counts by label and value of one covariate, shape (label, value)."""
    table = counts.unflatten(1, tuple(sizes))
    others = [1 + other for other in range(len(sizes)) if other != place]
    return table.sum(dim=others) if others else table


def _spread(shares: Tensor, sizes: Sequence[int], place: int) -> Tensor:
    """Return for each stratum the share of its value of one covariate, shape (label, stratum)."""
    before, after = math.prod(sizes[:place]), math.prod(sizes[place + 1 :])
    return shares[:, None, :, None].expand(-1, before, -1, after).flatten(1)


def _towards(counts: Tensor, middle: Tensor, variance: Tensor) -> Tensor:
    return middle + _kept_apart(counts - middle, variance, largest=middle)


def _kept_apart(away: Tensor, variance: Tensor, *, largest: Tensor) -> Tensor:
    """Return differences as far as noise does not explain them; they are at most as large as what is expected."""
    return away * kept(away, variance, largest=float(largest.square().mean()) + 1e-12)


def _positive(counts: Tensor) -> Tensor:
    return counts.clamp_min(1e-3 * float(counts.abs().mean()) + 1e-12)
