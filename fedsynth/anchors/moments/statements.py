"""Statements: from noisy counts of statements and pairs of them to how often each is made and which go together.

Counts are shrunk as far as noise explains them. Which statements go together is told by normal numbers that
correlate behind them (a Gaussian copula of 0 and 1; Emrich and Piedmonte 1991, doi:10.2307/2684312).
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from fedsynth.anchors.moments.shrinkage import kept
from fedsynth.modalities.shape import Shape
from fedsynth.rng import normal_of

_LEAST, _MOST = 1e-4, 0.99  # of people who bear a statement
_OFTEN = (0.0005, 0.002, 0.01, 0.05, 0.2)  # means of a share, of which a mixture is the prior
_SWEEPS, _FAR = 30, 20.0
_RATIOS = (0.2, 5.0)  # by which a covariate may change how often a statement is made
_STEPS, _LARGEST = 40, 0.95  # of correlations that are tried, either way


@dataclass(frozen=True)
class Statements:
    """`shares` (label, stratum, statement) bear each, `correlation` (statement, statement) is of numbers behind.

    `gram` (row, row) are the units' sums of products of their design: labels, values of covariates, statements.
    """

    shares: Tensor
    correlation: Tensor
    gram: Tensor


def statements_of(counted: Tensor, counts: Tensor, design: Tensor, shape: Shape, *, noise: float) -> Statements:
    """Clean what was counted of statements.

    Args:
        counted: noisy units by statement, and label, value of a covariate or statement, shape (statement, row).
        counts: units by label and stratum, as shrunk before, shape (label, stratum).
        design: of labels and values, shape (label, stratum, row).
        shape: of the windows.
        noise: standard deviation on every count.
    """
    first, labels = design.shape[2], shape.n_labels
    rows = torch.einsum("ls,lsr->r", counts, design)
    by_label, by_value, pairs = counted.split([labels, first - labels, shape.n_statements], dim=1)
    often = _positive_mean(pairs.diagonal(), noise, float(counts.sum())) / counts.sum()
    often = often.clamp(_LEAST, _MOST)
    of_label = _ratios(by_label, often, rows[:labels], noise)
    shares = (often * of_label.T)[:, None, :].expand(-1, shape.n_strata, -1)
    start = 0
    for size in shape.strata:
        mine = slice(labels + start, labels + start + size)
        # What labels explain of a value is no effect of it.
        usual = torch.einsum("ls,lsv,lsj->jv", counts, design[:, :, mine], shares)
        ratio = _ratios(by_value[:, start : start + size], usual / rows[mine], rows[mine], noise)
        shares = shares * torch.einsum("lsv,jv->lsj", design[:, :, mine], ratio)
        start += size
    shares = shares.clamp(_LEAST, _MOST)
    crossed = torch.einsum("ls,lsr,lsj->rj", counts, design, shares)
    alone = torch.einsum("ls,lsi,lsj->ij", counts, shares, shares)
    off = ~torch.eye(shape.n_statements, dtype=torch.bool)
    away = pairs - alone
    keep = kept(
        away[off], torch.tensor(noise**2, dtype=torch.float64), largest=float(alone[off].square().mean()) + 1.0
    )
    usual = torch.einsum("ls,lsj->j", counts, shares)
    together = (alone + keep * away).clamp_min(0).minimum(torch.minimum(usual[:, None], usual))
    together = torch.where(off, together, torch.diag(usual))
    known = torch.einsum("lsi,ls,lsj->ij", design, counts, design)
    gram = torch.cat([torch.cat([known, crossed], dim=1), torch.cat([crossed.T, together], dim=1)])
    correlation = _correlation(usual / counts.sum(), (together - alone) / counts.sum())
    return Statements(shares, correlation, _nearest(gram))


def thresholds(shares: Tensor) -> Tensor:
    """Return above which number behind a statement is made, of any shape."""
    return normal_of(1 - shares)


def correlated(correlation: Tensor) -> Tensor:
    """Return the root that turns independent numbers into those behind, shape (statement, statement)."""
    values, vectors = torch.linalg.eigh(correlation)
    return vectors @ torch.diag(values.clamp_min(0).sqrt()) @ vectors.T


def _positive_mean(counts: Tensor, noise: float, units: float) -> Tensor:
    """Return posterior means of counts that are not below 0: most statements are rare and a few are common.

    The prior is a mixture of exponential distributions, whose weights are those under which the counts are
    likeliest (empirical Bayes).
    """
    if noise < 1e-6 * units:
        return counts.clamp_min(0)
    means = units * torch.tensor(_OFTEN, dtype=torch.float64)
    scaled = (counts[:, None] - noise**2 / means) / noise
    above = torch.special.log_ndtr(scaled)
    likely = above - means.log() + 0.5 * (noise / means).square() - counts[:, None] / means
    density = torch.exp(-0.5 * scaled.square() - 0.5 * math.log(2 * math.pi) - above)
    # Far below 0 the mean is that of the tail, without what cancels.
    posterior = noise * torch.where(scaled > -_FAR, scaled + density, 1 / scaled.abs().clamp_min(1.0))
    weights = torch.full_like(means, 1 / len(means))
    for _ in range(_SWEEPS):
        belongs = torch.softmax(likely + weights.log(), dim=1)
        weights = (belongs.sum(dim=0) + 1 / len(means)) / (len(counts) + 1)
    return (belongs * posterior.clamp_min(0)).sum(dim=1)


def _ratios(counted: Tensor, usual: Tensor, units: Tensor, noise: float) -> Tensor:
    """Return how much more often a statement is made in each column, (statement, column), as far as not noise.

    Args:
        counted: units, shape (statement, column).
        usual: shares that are expected, shape (statement,) or (statement, column).
        units: of each column, shape (column,).
        noise: on every count.
    """
    expected = (usual if usual.ndim == 2 else usual[:, None]) * units
    away = counted - expected
    keep = kept(away, torch.tensor(noise**2, dtype=torch.float64), largest=float(expected.square().mean()) + 1e-9)
    return ((expected + keep * away) / expected.clamp_min(1e-9)).clamp(*_RATIOS)


def _correlation(shares: Tensor, beyond: Tensor) -> Tensor:
    """Return correlations of numbers behind by which `beyond`, a share of units, more pairs are made."""
    height = thresholds(shares.clamp(_LEAST, _MOST))
    steps = torch.linspace(-_LARGEST, _LARGEST, 2 * _STEPS + 1, dtype=torch.float64)
    one, other = height[:, None, None], height[None, :, None]
    # The derivative of the probability that both lie above, by the correlation (Plackett 1954).
    spread = 1 - steps.square()
    square = (one.square() - 2 * steps * one * other + other.square()) / (2 * spread)
    density = torch.exp(-square) / (2 * math.pi * spread.sqrt())
    pieces = (density[..., 1:] + density[..., :-1]) / 2 * (steps[1] - steps[0])
    grown = torch.cat([torch.zeros_like(pieces[..., :1]), pieces.cumsum(dim=2)], dim=2)
    grown = grown - grown[..., _STEPS : _STEPS + 1]
    found = steps[(grown - beyond[:, :, None]).abs().argmin(dim=2)]
    found.fill_diagonal_(1.0)
    near = _nearest((found + found.T) / 2)
    scale = near.diagonal().clamp_min(1e-9).rsqrt()
    return near * scale[:, None] * scale


def _nearest(matrix: Tensor) -> Tensor:
    """Return the nearest matrix without eigenvalues below 0."""
    values, vectors = torch.linalg.eigh((matrix + matrix.T) / 2)
    return vectors @ torch.diag(values.clamp_min(1e-6 * float(values.max()))) @ vectors.T
