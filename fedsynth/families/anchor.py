"""The anchor: from three private sums of public features to a class-conditional Gaussian of those features.

Count and locate coarsely, locate again around the first answer with a tighter bound, then measure the spread.
Each sum is bounded by a public constant, and everything after the sums is post-processing. With no anchor the
generator starts at the public prior, the same for every label.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from fedsynth.families.features import N_SHAPE, band_bins, features, n_features
from fedsynth.families.prior import feature_covariance, feature_scale
from fedsynth.families.shape import Shape
from fedsynth.privacy.budget import Wish

STEPS = ("counts and coarse means", "centred means", "second moments")
_BOUND = 4.0  # a standardised feature beyond this counts as this
_WEIGHTS = (0.25, 0.4, 0.35)
_HETEROGENEITY = 0.08  # public guess at how much a label's covariance differs from the pooled one
_PRIOR_VARIANCE = 0.15  # of a standardised feature within a label, a public guess


@dataclass(frozen=True)
class Anchor:
    """What is known of each label, in standardised features.

    `counts` (label,) units, noisy; `means` (label, feature); `doubt` (label,) is the noise variance of a
    coordinate of the mean after the last step; `covariances` (label, feature, feature); `done` counts the steps
    finished.
    """

    counts: Tensor
    doubt: Tensor
    means: Tensor
    covariances: Tensor
    done: int

    def tensors(self) -> dict[str, Tensor]:
        """Return the anchor as named tensors, for the wire."""
        return {
            "anchor.counts": self.counts,
            "anchor.doubt": self.doubt,
            "anchor.means": self.means,
            "anchor.covariances": self.covariances,
            "anchor.done": torch.tensor([self.done]),
        }

    @classmethod
    def from_tensors(cls, tensors: dict[str, Tensor]) -> "Anchor":
        """Read what `tensors` returned."""
        return cls(
            counts=tensors["anchor.counts"],
            doubt=tensors["anchor.doubt"],
            means=tensors["anchor.means"],
            covariances=tensors["anchor.covariances"],
            done=int(tensors["anchor.done"][0]),
        )


def prior_anchor(shape: Shape) -> Anchor:
    """Return the anchor before anything was asked: every label looks like the public prior."""
    size = n_features(shape)
    return Anchor(
        counts=torch.ones(shape.n_labels, dtype=torch.float64),
        doubt=torch.zeros(shape.n_labels, dtype=torch.float64),
        means=torch.zeros(shape.n_labels, size, dtype=torch.float64),
        covariances=torch.eye(size, dtype=torch.float64).repeat(shape.n_labels, 1, 1),
        done=0,
    )


def wishes(shape: Shape) -> tuple[Wish, ...]:
    """Return the three private sums with their public bounds."""
    size = n_features(shape)
    block = _block(shape)
    bounds = (
        math.sqrt(_count_weight(shape) ** 2 + 0.8 * size),
        math.sqrt(0.35 * size),
        0.35 * math.sqrt(block) * math.sqrt(block + (size - block) / 2) / 1.5,
    )
    return tuple(
        Wish(f"anchor: {step}", clipping_norm=bound, weight=weight)
        for step, bound, weight in zip(STEPS, bounds, _WEIGHTS, strict=True)
    )


def statistic_size(shape: Shape, *, step: int) -> int:
    """Return how many numbers one unit contributes to a step."""
    size, block = n_features(shape), _block(shape)
    return shape.n_labels * (size + 1, size, block * (block + 1) // 2 + size - block)[step]


def statistics(anchor: Anchor, shape: Shape, *, signal: Tensor, labels: Tensor) -> Tensor:
    """Return each window's contribution to the next step, shape (window, statistic_size), float64.

    A unit contributes the mean over its windows; clipping happens there.

    Args:
        anchor: as of the step before.
        shape: of the windows.
        signal: microvolts, shape (window, channel, time).
        labels: shape (window,).
    """
    onehot = torch.nn.functional.one_hot(labels, shape.n_labels).to(torch.float64)
    vector = standardise(features(signal, shape), shape)
    if anchor.done == 0:
        count = torch.full((len(vector), 1), _count_weight(shape), dtype=torch.float64)
        row = torch.cat([count, vector], dim=1)
    elif anchor.done == 1:
        row = vector - anchor.means[labels]
    else:
        row = _products(vector - anchor.means[labels], shape)
    return (onehot[:, :, None] * row[:, None, :]).flatten(1)


def advance(anchor: Anchor, shape: Shape, *, total: Tensor, noise_std: float) -> Anchor:
    """Take in the sum over all sites of one step.

    Args:
        anchor: as of the step before.
        shape: of the windows.
        total: shape (statistic_size,), noise included.
        noise_std: of each coordinate of `total`, for shrinkage.
    """
    rows = total.to(torch.float64).unflatten(0, (shape.n_labels, -1))
    prior = feature_covariance(shape)
    if anchor.done == 0:
        counts = (rows[:, 0] / _count_weight(shape)).clamp_min(1.0)
        doubt = (noise_std / counts) ** 2
        means = _shrink(rows[:, 1:] / counts[:, None], prior.expand(shape.n_labels, -1, -1), doubt)
        return Anchor(counts, doubt, means, anchor.covariances, 1)
    counts = anchor.counts
    if anchor.done == 1:
        # What the first step left open: prior minus what was learned, a little wider for its clipping.
        gain = prior @ torch.linalg.inv(prior + _diagonal(anchor.doubt, len(prior)))
        open_still = 1.5 * (prior - gain @ prior)
        doubt = (noise_std / counts) ** 2
        means = anchor.means + _shrink(rows / counts[:, None], open_still, doubt)
        return Anchor(counts, doubt, means.clamp(-_BOUND, _BOUND), anchor.covariances, 2)
    return Anchor(counts, anchor.doubt, anchor.means, _covariances(rows, counts, shape, noise_std), 3)


def standardise(vector: Tensor, shape: Shape) -> Tensor:
    """Express features in units of the public prior's spread, bounded, float64."""
    centre, spread = (part.to(vector) for part in feature_scale(shape))
    return ((vector - centre) / spread).clamp(-_BOUND, _BOUND).to(torch.float64)


def natural(standard: Tensor, shape: Shape) -> Tensor:
    """Undo `standardise`, float32."""
    centre, spread = (part.to(standard) for part in feature_scale(shape))
    return (standard * spread + centre).to(torch.float32)


def factors(anchor: Anchor) -> Tensor:
    """Return lower triangular factors of the covariances, shape (label, feature, feature), float64."""
    values, vectors = torch.linalg.eigh(anchor.covariances)
    repaired = vectors @ torch.diag_embed(values.clamp_min(1e-3)) @ vectors.transpose(1, 2)
    return torch.linalg.cholesky(repaired)


def _shrink(observed: Tensor, prior: Tensor, doubt: Tensor) -> Tensor:
    """Return the posterior mean under N(0, prior) of what was observed with noise variance `doubt`, by label."""
    gain = prior @ torch.linalg.inv(prior + _diagonal(doubt, observed.shape[1]))
    return (gain @ observed[..., None])[..., 0].clamp(-_BOUND, _BOUND)


def _diagonal(doubt: Tensor, size: int) -> Tensor:
    return (doubt[:, None, None] + 1e-6) * torch.eye(size, dtype=torch.float64)


def _block(shape: Shape) -> int:
    """Return how many features get a full covariance: the constant map's bands and the waveform's shape."""
    return len(band_bins(shape)) + N_SHAPE


def _order(shape: Shape) -> Tensor:
    """Return feature indices, those with a full covariance first."""
    bands, size = len(band_bins(shape)), n_features(shape)
    first = [*range(bands), *range(size - N_SHAPE, size)]
    return torch.tensor([*first, *range(bands, size - N_SHAPE)])


def _count_weight(shape: Shape) -> float:
    return max(1.0, 0.5 * math.sqrt(n_features(shape)))


def _products(residual: Tensor, shape: Shape) -> Tensor:
    """Return the upper triangle of the block's products (off-diagonal times sqrt 2), then the other squares."""
    block = _block(shape)
    ordered = residual[:, _order(shape).to(residual.device)]
    head, tail = ordered[:, :block], ordered[:, block:]
    rows, columns = torch.triu_indices(block, block)
    scale = torch.where(rows == columns, 1.0, math.sqrt(2)).to(head)
    return torch.cat([head[:, rows] * head[:, columns] * scale, tail.square()], dim=1)


def _covariances(rows: Tensor, counts: Tensor, shape: Shape, noise_std: float) -> Tensor:
    """Turn noisy sums of products into covariances, shrunk to the pooled one and that to the prior."""
    block, size = _block(shape), n_features(shape)
    pooled = rows.sum(dim=0) / counts.sum()
    pooled_variance = (noise_std * math.sqrt(len(counts)) / counts.sum()) ** 2
    prior = torch.zeros_like(pooled)
    at_rows, at_columns = torch.triu_indices(block, block)
    prior[: len(at_rows)][at_rows == at_columns] = _PRIOR_VARIANCE
    prior[len(at_rows) :] = _PRIOR_VARIANCE
    keep = _PRIOR_VARIANCE**2 / (_PRIOR_VARIANCE**2 + pooled_variance)
    pooled = keep * pooled + (1 - keep) * prior
    own_variance = (noise_std / counts[:, None]) ** 2
    trust = _HETEROGENEITY**2 / (_HETEROGENEITY**2 + own_variance)
    estimate = trust * rows / counts[:, None] + (1 - trust) * pooled
    scale = torch.where(at_rows == at_columns, 1.0, 1 / math.sqrt(2)).to(estimate)
    out = torch.zeros(len(counts), size, size, dtype=torch.float64)
    out[:, at_rows, at_columns] = estimate[:, : len(at_rows)] * scale
    out[:, at_columns, at_rows] = out[:, at_rows, at_columns]
    rest = torch.arange(block, size)
    out[:, rest, rest] = estimate[:, len(at_rows) :].clamp_min(1e-3)
    values, vectors = torch.linalg.eigh(out)
    out = vectors @ torch.diag_embed(values.clamp(1e-3, _BOUND**2)) @ vectors.transpose(1, 2)
    natural_order = _order(shape).argsort()
    return out[:, natural_order][:, :, natural_order]
