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
from fedsynth.anchors.moments.statements import statements_of
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

    With statements also units by statement and label, value or statement, and residuals by statement. `radius`
    bounds a residual, in units of the square root of the number of features; `count_weight` is the size of a
    unit's count beside it, `pair_weight` that of a count of statements, and `kept_weight` that of the share of the
    residual that the bound left. `budget_share` is the sum's weight among those over everybody.
    """

    radius: float = 0.5
    count_weight: float = 1.0
    pair_weight: float = 0.3
    kept_weight: float = 0.3
    budget_share: float = 0.25

    def request(self, shape: Shape) -> SumRequest:
        """Return the sum; shares of a unit's windows add up to one within labels, and within each covariate.

        A window bears `most_statements`, so that its statements meet as many labels, values and statements.
        """
        made, kinds = shape.most_statements, 1 + len(shape.strata)
        pairs = self.pair_weight * math.sqrt(made * kinds + made * (made + 1) / 2)
        factors = (math.sqrt(kinds + made), self.count_weight, pairs, self.kept_weight)
        return SumRequest(PURPOSE, self._bound(shape) * math.hypot(*factors), self.budget_share)

    def size(self, shape: Shape) -> int:
        """Return how many numbers a unit contributes."""
        return sum(_sizes(shape))

    def prior(self, anchor: Anchor, shape: Shape) -> Anchor:
        """Return the anchor with strata alike in every label, and no effects."""
        size, made = codec_of(shape).n_features, shape.n_statements
        shares = torch.full((shape.n_labels, shape.n_strata), 1 / shape.n_strata, dtype=torch.float64)
        anchor = replace(anchor, effects=torch.zeros(sum(shape.strata), size, dtype=torch.float64), strata=shares)
        if not made:
            return anchor
        return replace(
            anchor,
            statement_effects=torch.zeros(made, size, dtype=torch.float64),
            statement_shares=torch.full((shape.n_labels, shape.n_strata, made), 0.5, dtype=torch.float64),
            statement_correlation=torch.eye(made, dtype=torch.float64),
        )

    def contribution(
        self, anchor: Anchor, shape: Shape, *, vector: Tensor, labels: Tensor, covariates: Tensor
    ) -> Tensor:
        """Return one unit's numbers, shape (size,), from vectors in the frame, (window, feature)."""
        bound, strata = self._bound(shape), covariates[:, 0]
        made = at_most(covariates[:, 1:], shape.most_statements)
        means = torch.einsum("lc,lcf->lf", anchor.weights, anchor.means).to(vector)
        residual = vector - means[labels] @ coordinates_of(shape).there
        cells = torch.nn.functional.one_hot(labels * shape.n_strata + strata, shape.n_labels * shape.n_strata)
        by_label = torch.nn.functional.one_hot(labels, shape.n_labels)
        rows, kept = [], vector.new_zeros(())
        values = values_by_condition(strata, shape)
        for kinds in (by_label, *values, made):
            onehot = kinds.to(vector)
            share, mean = onehot.mean(dim=0)[:, None], means_by(residual, onehot)
            cut = within(mean, bound)
            rows.append(cut * share)
            if kinds is by_label:
                lengths = mean.norm(dim=1).clamp_min(1e-12)
                kept = ((bound / lengths).clamp(max=1.0) * share[:, 0]).sum()
        counted = self.count_weight * bound * cells.to(vector).mean(dim=0)
        pairs = _upper(made, torch.cat([by_label, *values, made], dim=1), shape).to(vector)
        met = self.pair_weight * bound * pairs / len(labels)
        return torch.cat([counted, met, self.kept_weight * bound * kept[None], torch.cat(rows).flatten()])

    def advance(self, anchor: Anchor, shape: Shape, *, total: Tensor, noise_std: float) -> Anchor:
        """Return the anchor with effects and shares of strata; what these explain no longer varies by chance."""
        frame, bound = coordinates_of(shape), self._bound(shape)
        size = codec_of(shape).n_features
        counted, pairs, kept, rows = total.split(_sizes(shape))
        count_size = self.count_weight * bound
        counts = (counted / count_size).unflatten(0, (shape.n_labels, shape.n_strata))
        shares = shares_of(counts, anchor.counts, shape.strata, noise=noise_std / count_size)
        units = anchor.counts.sum()
        left = float((kept / (self.kept_weight * bound) / units).clamp(_LEAST_KEPT, 1.0))
        by_stratum, known = shares * anchor.counts[:, None], design(shape)
        anchor = replace(anchor, strata=shares)
        gram = torch.einsum("lsi,ls,lsj->ij", known, by_stratum, known)
        if shape.n_statements:
            pair_size = self.pair_weight * bound
            table = _square(pairs / pair_size, shape)
            told = statements_of(table, by_stratum, known, shape, noise=noise_std / pair_size)
            gram = told.gram
            anchor = replace(anchor, statement_shares=told.shares, statement_correlation=told.correlation)
        found = effects_of(
            Equations(gram, rows.unflatten(0, (-1, size)) / left, shape.n_labels),
            anchor,
            shape,
            noise_variance=(noise_std / left) ** 2,
            label_variance=anchor.noise_variance,
        )
        effects, made = (found @ frame.back).split([sum(shape.strata), shape.n_statements])
        after = replace(anchor, effects=effects)
        return without_effects(replace(after, statement_effects=made) if shape.n_statements else after, shape)

    def _bound(self, shape: Shape) -> float:
        return self.radius * math.sqrt(codec_of(shape).n_features)


def values_by_condition(strata: Tensor, shape: Shape) -> list[Tensor]:
    """Return for each covariate which value windows have, one-hot, shape (window, value)."""
    if not shape.strata:
        return []
    table = torch.tensor([numbers_of(number, shape.strata) for number in range(shape.n_strata)])
    numbers = table.to(strata.device)[strata]
    return [torch.nn.functional.one_hot(numbers[:, k], size) for k, size in enumerate(shape.strata)]


def design(shape: Shape) -> Tensor:
    """Return the design of every label and stratum, (label, stratum, row): ones at its label and its values."""
    every = torch.arange(shape.n_strata)
    none = torch.zeros(shape.n_strata, 0, dtype=torch.int64)
    values = torch.cat([none, *values_by_condition(every, shape)], dim=1).to(torch.float64)
    labels = torch.eye(shape.n_labels, dtype=torch.float64)
    return torch.cat(
        [
            labels[:, None].expand(-1, shape.n_strata, -1),
            values[None].expand(shape.n_labels, -1, -1),
        ],
        dim=2,
    )


def at_most(flags: Tensor, most: int) -> Tensor:
    """Return statements of windows, shape (window, statement), of each window the first `most` alone."""
    return flags * (flags.cumsum(dim=1) <= most)


def _upper(made: Tensor, every: Tensor, shape: Shape) -> Tensor:
    """Return how many windows bear a statement and are of a label, a value or a later statement, flat."""
    table = made.T @ every
    return table[_places(shape)]


def _square(flat: Tensor, shape: Shape) -> Tensor:
    """Undo `_upper`: every pair of statements stands twice, shape (statement, row)."""
    first = shape.n_labels + sum(shape.strata)
    table = torch.zeros(shape.n_statements, first + shape.n_statements, dtype=flat.dtype)
    table[_places(shape)] = flat
    pairs = table[:, first:]
    table[:, first:] = pairs + pairs.T - torch.diag(pairs.diagonal())
    return table


def _places(shape: Shape) -> Tensor:
    """Return which cells of the table are asked for: of two statements one, shape (statement, row)."""
    first = shape.n_labels + sum(shape.strata)
    pairs = torch.ones(shape.n_statements, shape.n_statements).triu()
    return torch.cat([torch.ones(shape.n_statements, first), pairs], dim=1).bool()


def _sizes(shape: Shape) -> list[int]:
    """Return how many numbers of a sum are counts of strata, counts of statements, what was kept, and residuals."""
    values, made = sum(shape.strata), shape.n_statements
    met = made * (shape.n_labels + values) + made * (made + 1) // 2
    rows = (shape.n_labels + values + made) * codec_of(shape).n_features
    return [shape.n_labels * shape.n_strata, met, 1, rows]
