"""Mean embedding: one private sum of random features of each label's vectors, then a mixture fitted to it.

DP-MERF (Harder, Adamczewski and Park 2021, AISTATS, algorithm 1) with its generator replaced by a mixture of
Gaussians, whose embedding has a closed form: the characteristic function at the same public frequencies. A unit's
contribution has a bounded length whatever its vectors are, so there is no radius to choose, and one sum gives
counts, means and covariances at once. The fit is post-processing.
"""

import math
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from fedsynth.anchors.anchor import Anchor, positive, prior_anchor, uniform_shares
from fedsynth.anchors.coordinates import coordinates_of
from fedsynth.anchors.mean_embedding.mixture import (
    FIRST_SCALE,
    Fitted,
    Mixture,
    NoisySums,
    PriorScale,
    fit,
    likeliest_scale,
)
from fedsynth.modalities.codec import BOUND
from fedsynth.modalities.registry import codec_of, standardise
from fedsynth.modalities.shape import Shape
from fedsynth.privacy.budget import SumRequest
from fedsynth.rng import torch_generator

_LEAST_SHARE, _LARGEST_SHARE, _SHARE_GRID = 0.05, 0.95, 91  # between subjects
_COMMON_SHARE, _COMMON_SHARE_STD = 0.5, 0.25
_OWN_SHARE_STD = 0.2  # of labels' shares around the common one
_PAIR_SAMPLING = 1e-3  # variance of pairs beside their number and the noise


@dataclass(frozen=True)
class MeanEmbedding:
    """How the embedding is made and how the mixture is fitted.

    `frequencies` are drawn for kernels of the `widths`, in units of the square root of the number of features.
    `count_weight` is a count's size beside an embedding's, `pair_weight` that of the likeness of a unit's own
    windows. `components` each label gets, `steps` of gradient descent.
    """

    frequencies: int = 512
    widths: tuple[float, ...] = (0.5, 0.8)
    count_weight: float = 0.4
    pair_weight: float = 0.25
    components: int = 1
    steps: int = 200

    def requests(self, shape: Shape) -> tuple[SumRequest, ...]:  # noqa: ARG002
        """Return the one private sum with its public bound."""
        return (SumRequest("anchor: counts and mean embeddings", self._bound()),)

    def prior(self, shape: Shape) -> Anchor:
        """Return the public prior."""
        return prior_anchor(shape, components=self.components)

    def statistic_size(self, shape: Shape, *, step: int) -> int:  # noqa: ARG002
        """Return how many numbers one unit contributes."""
        return shape.n_labels * (3 + 2 * self.frequencies)

    def statistics(
        self,
        anchor: Anchor,  # noqa: ARG002
        shape: Shape,
        *,
        signal: Tensor,
        labels: Tensor,
        covariates: Tensor | None = None,  # noqa: ARG002
    ) -> Tensor:
        """Return one unit's contribution; its windows weigh alike.

        By label: share of the windows, share of them if the label has two windows at least, that share times the
        mean kernel of two different windows, then the embedding.
        """
        vector = standardise(codec_of(shape).features(signal), shape) @ coordinates_of(shape).there
        onehot = torch.nn.functional.one_hot(labels, shape.n_labels).to(vector)
        angle = vector @ self._directions(shape).T
        embedded = torch.cat([angle.cos(), angle.sin()], dim=1) / math.sqrt(self.frequencies)
        number, share = onehot.sum(dim=0), onehot.mean(dim=0)
        squares = (onehot.T @ embedded).square().sum(dim=1)
        likeness = ((squares - number) / (number * (number - 1)).clamp_min(1.0)).clamp(-1, 1)
        paired = share * (number > 1)
        head = torch.stack(
            [self.count_weight * share, self.pair_weight * paired, self.pair_weight * paired * likeness]
        )
        return torch.cat([head.T, onehot.T @ embedded / len(labels)], dim=1).flatten()

    def counts(self, shape: Shape, *, total: Tensor, noise_std: float) -> tuple[Tensor, float]:
        """Return the noisy units of each label, shape (label,), and their noise."""
        rows = total.to(torch.float64).unflatten(0, (shape.n_labels, -1))
        return rows[:, 0] / self.count_weight, noise_std / self.count_weight

    def advance(self, anchor: Anchor, shape: Shape, *, total: Tensor, noise_std: float) -> Anchor:
        """Take in the sum over all sites."""
        rows = total.to(torch.float64).unflatten(0, (shape.n_labels, -1))
        frame, directions = coordinates_of(shape), self._directions(shape)
        counts = (rows[:, 0] / self.count_weight).clamp_min(1.0)
        sums = NoisySums(
            rows[:, 3:], counts, directions, noise=noise_std, count_noise=noise_std / self.count_weight
        )
        fitted = self._fitted(sums, shape, FIRST_SCALE)
        fitted = self._fitted(sums, shape, likeliest_scale(fitted, sums, frame.covariance))
        share = _between(
            rows[:, 1:3] / self.pair_weight, fitted.covariances, directions, noise=noise_std / self.pair_weight
        )
        return Anchor(
            fitted.counts,
            (noise_std / fitted.counts).square(),
            fitted.weights,
            (fitted.means @ frame.back).clamp(-BOUND, BOUND),
            positive(frame.back.T @ fitted.covariances @ frame.back)[:, None].expand_as(anchor.covariances).clone(),
            uniform_shares(share, anchor.between.shape[1]),
            anchor.component_correlation,
            1,
        )

    def _fitted(self, sums: NoisySums, shape: Shape, prior_scale: PriorScale) -> Fitted:
        """Return the mixture fitted with means that vary by a prior scale."""
        covariance, block = coordinates_of(shape).covariance, codec_of(shape).block
        mixture = Mixture(sums.counts, covariance, prior_scale, block=block, components=self.components)
        return fit(mixture, sums, steps=self.steps)

    def _bound(self) -> float:
        """Return the length that no contribution exceeds; shares add up to one, so one label alone is longest."""
        return math.sqrt(1 + self.count_weight**2 + 2 * self.pair_weight**2)

    def _directions(self, shape: Shape) -> Tensor:
        return _frequencies(self.frequencies, self.widths, codec_of(shape).n_features)


@lru_cache(maxsize=8)
def _frequencies(number: int, widths: tuple[float, ...], size: int) -> Tensor:
    """Return public frequencies, shape (frequency, feature), float64, of Gaussian kernels of the widths in turn.

    Random Fourier features (Rahimi and Recht 2007): those of a kernel of width w are normal, of standard deviation
    1 / w.
    """
    normal = torch.randn(
        number, size, generator=torch_generator("mean embedding", number, size), dtype=torch.float64
    )
    width = torch.tensor(widths, dtype=torch.float64)[torch.arange(number) % len(widths)]
    return normal / (width * math.sqrt(size))[:, None]


def _between(pairs: Tensor, covariances: Tensor, directions: Tensor, *, noise: float) -> Tensor:
    """Return the share of the variance between subjects, shape (label,), from the likeness of a unit's own windows.

    Two windows of one subject differ by N(0, 2 (1 - share) S), so their mean kernel is exp(-(1 - share) w'Sw).
    Labels' shares vary around a common one, which varies around one half.
    """
    grid = torch.linspace(_LEAST_SHARE, _LARGEST_SHARE, _SHARE_GRID, dtype=torch.float64)
    power = ((directions @ covariances) * directions).sum(dim=2)
    kernel = torch.exp(-(1 - grid[None, :, None]) * power[:, None, :]).mean(dim=2)
    misfit = 0.5 * (pairs[:, 1:] - pairs[:, :1].clamp_min(0) * kernel).square()
    misfit = misfit / (noise**2 + _PAIR_SAMPLING * pairs[:, :1].clamp_min(1.0))
    common = misfit + 0.5 * ((grid - _COMMON_SHARE) / _COMMON_SHARE_STD).square() / len(pairs)
    centre = grid[common.sum(dim=0).argmin()]
    return grid[(misfit + 0.5 * ((grid - centre) / _OWN_SHARE_STD).square()).argmin(dim=1)]
