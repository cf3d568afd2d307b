"""Conditions: one more private sum, the normal equations of a linear model of features on labels and covariates.

A unit's design says which label and which value of each covariate its windows have. Labels share the effects of
covariates, and covariates those of labels, so one sum serves all. What the coordinator makes of it is
post-processing: `condition_effects` solves the equations, `condition_counts` cleans the counts.
"""

import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from fedsynth.anchors.anchor import Anchor
from fedsynth.anchors.coordinates import coordinates_of, means_by, within
from fedsynth.anchors.moments.condition_counts import shares_of
from fedsynth.anchors.moments.condition_effects import Equations, effects_of, without_effects
from fedsynth.condition_plan import numbers_of
from fedsynth.modalities.registry import codec_of
from fedsynth.modalities.shape import Shape
from fedsynth.privacy.budget import SumRequest

PURPOSE = "anchor: effects of conditions"
"""What the sum is called in plan, ledger and statement."""

_LEAST_KEPT = 0.1  # of a residual's length, on average


@dataclass(frozen=True)
class Conditions:
    """One sum: units by label and stratum, and the residuals of features by label and by value of each covariate.

    `radius` bounds a residual, in units of the square root of the number of features; `count_weight` is the size of
    a unit's count beside it, and `kept_weight` that of the share of the residual that the bound left.
    `budget_share` is the sum's weight among those over everybody.
    """

    radius: float = 0.5
    count_weight: float = 1.0
    kept_weight: float = 0.3
    budget_share: float = 0.25

    def request(self, shape: Shape) -> SumRequest:
        """Return the sum; shares of a unit's windows add up to one within labels, and within each covariate."""
        factors = (math.sqrt(1 + len(shape.strata)), self.count_weight, self.kept_weight)
        return SumRequest(PURPOSE, self._bound(shape) * math.hypot(*factors), self.budget_share)

    def size(self, shape: Shape) -> int:
        """Return how many numbers a unit contributes."""
        return shape.n_labels * shape.n_strata + 1 + _n_rows(shape) * codec_of(shape).n_features

    def prior(self, anchor: Anchor, shape: Shape) -> Anchor:
        """Return the anchor with strata alike in every label, and no effects."""
        effects = torch.zeros(sum(shape.strata), codec_of(shape).n_features, dtype=torch.float64)
        shares = torch.full((shape.n_labels, shape.n_strata), 1 / shape.n_strata, dtype=torch.float64)
        return replace(anchor, effects=effects, strata=shares)

    def contribution(
        self, anchor: Anchor, shape: Shape, *, vector: Tensor, labels: Tensor, strata: Tensor
    ) -> Tensor:
        """Return one unit's numbers, shape (size,), from vectors in the frame, (window, feature)."""
        bound = self._bound(shape)
        means = torch.einsum("lc,lcf->lf", anchor.weights, anchor.means).to(vector)
        residual = vector - means[labels] @ coordinates_of(shape).there
        cells = torch.nn.functional.one_hot(labels * shape.n_strata + strata, shape.n_labels * shape.n_strata)
        by_label = torch.nn.functional.one_hot(labels, shape.n_labels)
        rows, kept = [], vector.new_zeros(())
        for kinds in (by_label, *values_by_condition(strata, shape)):
            onehot = kinds.to(vector)
            share, mean = onehot.mean(dim=0)[:, None], means_by(residual, onehot)
            cut = within(mean, bound)
            rows.append(cut * share)
            if kinds is by_label:
                lengths = mean.norm(dim=1).clamp_min(1e-12)
                kept = ((bound / lengths).clamp(max=1.0) * share[:, 0]).sum()
        counted = self.count_weight * bound * cells.to(vector).mean(dim=0)
        return torch.cat([counted, self.kept_weight * bound * kept[None], torch.cat(rows).flatten()])

    def advance(self, anchor: Anchor, shape: Shape, *, total: Tensor, noise_std: float) -> Anchor:
        """Return the anchor with effects and shares of strata; what these explain no longer varies by chance."""
        frame, bound = coordinates_of(shape), self._bound(shape)
        n_cells, size = shape.n_labels * shape.n_strata, codec_of(shape).n_features
        counted, kept, rows = total.split([n_cells, 1, _n_rows(shape) * size])
        count_size = self.count_weight * bound
        counts = (counted / count_size).unflatten(0, (shape.n_labels, shape.n_strata))
        shares = shares_of(counts, anchor.counts, shape.strata, noise=noise_std / count_size)
        units = anchor.counts.sum()
        left = float((kept / (self.kept_weight * bound) / units).clamp(_LEAST_KEPT, 1.0))
        equations = Equations(
            design=design(shape), counts=shares * anchor.counts[:, None], rows=rows.unflatten(0, (-1, size)) / left
        )
        found = effects_of(
            equations, anchor, shape, noise_variance=(noise_std / left) ** 2, label_variance=anchor.noise_variance
        )
        return without_effects(replace(anchor, effects=found @ frame.back, strata=shares), shape)

    def _bound(self, shape: Shape) -> float:
        return self.radius * math.sqrt(codec_of(shape).n_features)


def values_by_condition(strata: Tensor, shape: Shape) -> list[Tensor]:
    """Return for each covariate which value windows have, one-hot, shape (window, value)."""
    table = torch.tensor([numbers_of(number, shape.strata) for number in range(shape.n_strata)])
    numbers = table.to(strata.device)[strata]
    return [torch.nn.functional.one_hot(numbers[:, k], size) for k, size in enumerate(shape.strata)]


def design(shape: Shape) -> Tensor:
    """Return the design of every label and stratum, (label, stratum, row): ones at its label and its values."""
    every = torch.arange(shape.n_strata)
    values = torch.cat(values_by_condition(every, shape), dim=1).to(torch.float64)
    labels = torch.eye(shape.n_labels, dtype=torch.float64)
    return torch.cat(
        [
            labels[:, None].expand(-1, shape.n_strata, -1),
            values[None].expand(shape.n_labels, -1, -1),
        ],
        dim=2,
    )


def _n_rows(shape: Shape) -> int:
    return shape.n_labels + sum(shape.strata)
