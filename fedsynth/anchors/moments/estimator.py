"""Moments: counts and means, then what spreads around them; two or three private sums.

Everything after the sums is post-processing, so the noisy sums themselves may decide how much they are shrunk
(empirical Bayes): means towards the public prior with its covariance, covariances towards the pooled one.
"""

import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from fedsynth.anchors.anchor import Anchor, positive, prior_anchor
from fedsynth.anchors.coordinates import coordinates_of, means_by, within
from fedsynth.anchors.moments import components as cells
from fedsynth.anchors.moments import log_variances as sizes
from fedsynth.anchors.moments.covariance_posterior import covariances_given
from fedsynth.anchors.moments.covariances import (
    Products,
    between_of,
    covariances_of,
    matrices_of,
    n_products,
    with_core,
)
from fedsynth.anchors.moments.means import even, left_open, moved, towards_centre
from fedsynth.modalities.codec import BOUND
from fedsynth.modalities.registry import codec_of, standardise
from fedsynth.modalities.shape import Shape
from fedsynth.privacy.budget import SumRequest

_BETWEEN_WEIGHT = 0.25  # of the squares of a unit's own mean beside a centred mean
_SIZE_WEIGHT = 1.0  # of a bounded logarithm beside a residual's bound
_SHARE_WEIGHT = 0.5


@dataclass(frozen=True)
class Moments:
    """Bounds in units of the square root of the number of features, and how the sums share the budget.

    `mean_radius` bounds a vector, `residual_radius` one around the first answer; `count_weight` is a count's size
    beside a vector's bound, `product_weight` that of second moments beside centred means, and `first_weight` the
    first sum's share; the others share the rest evenly. Where the codec has a core, its second moments are asked
    for apart: `core_radius` bounds its residuals, in units of the square root of its number of features, and
    `core_weight` is for them what `product_weight` is for all. With `apart`, every part that the codec names is
    asked for so and second moments of all features together are not: what lies across parts counts as zero, and a
    part's covariances are those expected given the sums (`fedsynth.anchors.moments.covariance_posterior`). With
    `groups`, sizes along so many groups of axes are asked for instead of second moments
    (`fedsynth.anchors.moments.log_variances`). With `axes`, a third sum parts labels into cells along so many axes
    (`fedsynth.anchors.moments.components`).
    """

    mean_radius: float = 0.75
    residual_radius: float = 0.5
    count_weight: float = 0.4
    product_weight: float = 1.0
    core_radius: float = 0.75
    core_weight: float = 1.0
    first_weight: float = 0.4
    apart: bool = False
    groups: int = 0
    axes: int = 0

    def __post_init__(self) -> None:
        """Refuse what has no meaning: cells know their covariances whole.

        Raises:
            ValueError: both `apart` and `axes`.
        """
        if self.apart and self.axes:
            raise ValueError("second moments are asked for by part, or labels are parted into cells, not both")

    def requests(self, shape: Shape) -> tuple[SumRequest, ...]:
        """Return the private sums with their public bounds."""
        radius, count, residual = self._bounds(shape)
        if self.groups:
            purpose = "anchor: centred means and sizes"
            size, share = _SIZE_WEIGHT * residual, _SHARE_WEIGHT * residual
            bound = math.sqrt(residual**2 + self.groups * size**2 / 4 + share**2 / 4)
        else:
            purpose = "anchor: centred means and second moments"
            bound = math.hypot(residual, *self._lengths(shape))
        rest = (1 - self.first_weight) / (2 if self.axes else 1)
        out = (
            SumRequest("anchor: counts and means", math.hypot(radius, count), self.first_weight),
            SumRequest(purpose, bound, rest),
        )
        if not self.axes:
            return out
        third = math.hypot(count, residual, self._lengths(shape)[-1])
        return (*out, SumRequest("anchor: counts, means and second moments of cells", third, rest))

    def prior(self, shape: Shape) -> Anchor:
        """Return the public prior."""
        return prior_anchor(shape, components=2**self.axes)

    def statistic_size(self, shape: Shape, *, step: int) -> int:
        """Return how many numbers one unit contributes to a step."""
        size = codec_of(shape).n_features
        if step == 1 and self.groups:
            return shape.n_labels * (size + self.groups + 1)
        asked = self._products(shape)
        second = 2 * size + sum(products.number for products in asked)
        return shape.n_labels * (size + 1, second, 2**self.axes * (1 + size + asked[-1].number))[step]

    def statistics(self, anchor: Anchor, shape: Shape, *, signal: Tensor, labels: Tensor) -> Tensor:
        """Return one unit's contribution to the next step: by label its share of the unit's windows times a row.

        What is bounded is the mean over the unit's windows, shorter than most windows; so less is cut off.
        """
        frame = coordinates_of(shape)
        vector = standardise(codec_of(shape).features(signal), shape) @ frame.there
        onehot = torch.nn.functional.one_hot(labels, shape.n_labels).to(vector)
        share = onehot.mean(dim=0)[:, None]
        radius, count, bound = self._bounds(shape)
        if anchor.done == 0:
            return torch.cat([count * share, within(means_by(vector, onehot), radius) * share], dim=1).flatten()
        if anchor.done == 2:
            return cells.contribution(
                self._cells(anchor, shape),
                vector,
                labels,
                radius=bound,
                count=count,
                products=self._products(shape)[-1],
            )
        away = vector - anchor.means[labels, 0].to(vector) @ frame.there
        mean = within(means_by(away, onehot), bound)
        if self.groups:
            logs = means_by(sizes.logarithms(away, frame, sizes.groups_of(shape, self.groups)), onehot)
            between = sizes.share_between(away, onehot)[:, None]
            row = torch.cat([mean, _SIZE_WEIGHT * bound * logs, _SHARE_WEIGHT * bound * between], dim=1)
            return (row * share).flatten()
        products = [means_by(asked.of(away), onehot) for asked in self._products(shape)]
        # The square of the unit's own mean: what subjects differ by.
        own = (mean @ frame.axes).square()
        row = torch.cat([mean, *products, own * (_BETWEEN_WEIGHT / bound)], dim=1)
        return (row * share).flatten()

    def advance(self, anchor: Anchor, shape: Shape, *, total: Tensor, noise_std: float) -> Anchor:
        """Take in the sum over all sites of one step."""
        rows = total.to(torch.float64).unflatten(0, (shape.n_labels, -1))
        step = (self._counted, self._sized if self.groups else self._spread, self._parted)[anchor.done]
        return step(anchor, shape, rows, noise_std)

    def _counted(self, anchor: Anchor, shape: Shape, rows: Tensor, noise_std: float) -> Anchor:
        frame = coordinates_of(shape)
        count = self._bounds(shape)[1]
        counts = even(rows[:, 0] / count, noise_std / count)
        doubt = (noise_std / counts) ** 2
        means = towards_centre(rows[:, 1:] / counts[:, None], frame.covariance, doubt) @ frame.back
        means = means.clamp(-BOUND, BOUND)[:, None].expand_as(anchor.means).clone()
        return replace(anchor, counts=counts, doubt=doubt, means=means, done=1)

    def _spread(self, anchor: Anchor, shape: Shape, rows: Tensor, noise_std: float) -> Anchor:
        frame, size = coordinates_of(shape), anchor.means.shape[2]
        rows, noise = rows / anchor.counts[:, None], noise_std / anchor.counts
        squares = _BETWEEN_WEIGHT / self._bounds(shape)[2]
        moves = moved(rows[:, :size], left_open(anchor, frame.covariance), noise.square())
        asked = self._products(shape)
        told = rows[:, size:-size].split([products.number for products in asked], dim=1)
        spreads = []
        for products, row in zip(asked, told, strict=True):
            span, row, doubt = products.span, row / products.weight, noise / products.weight
            prior = frame.covariance[span, span]
            covariances = covariances_of(row, anchor.counts, prior, block=products.block, noise=doubt)
            if self._parts(shape):
                covariances = covariances_given(
                    matrices_of(row, products.block), noise=doubt, prior=prior, start=covariances
                )
            # Second moments were taken around the first answer.
            spreads.append(positive(covariances - moves[:, span, None] * moves[:, None, span]))
        covariances = self._joined(spreads, shape)
        turned = (frame.axes.T @ covariances @ frame.axes).diagonal(dim1=1, dim2=2)
        own = rows[:, -size:] / squares - (moves @ frame.axes).square()
        loads = (frame.back.T @ frame.axes).square()
        between = (between_of(own, turned, noise / squares) * turned) @ loads.T / (turned @ loads.T)
        return self._centred(anchor, shape, moves, covariances, between, noise)

    def _joined(self, spreads: list[Tensor], shape: Shape) -> Tensor:
        """Return whole covariances, shape (label, feature, feature), from those of what was asked for."""
        if self._parts(shape):
            return torch.stack([torch.block_diag(*parts) for parts in zip(*spreads, strict=True)])
        return with_core(spreads[-1], spreads[0]) if len(spreads) > 1 else spreads[0]

    def _sized(self, anchor: Anchor, shape: Shape, rows: Tensor, noise_std: float) -> Anchor:
        frame, size = coordinates_of(shape), anchor.means.shape[2]
        rows, noise = rows / anchor.counts[:, None], noise_std / anchor.counts
        bound, groups = self._bounds(shape)[2], sizes.groups_of(shape, self.groups)
        moves = moved(rows[:, :size], left_open(anchor, frame.covariance), noise.square())
        covariances = sizes.variances_of(
            rows[:, size:-1] / (_SIZE_WEIGHT * bound),
            groups.sums((moves @ frame.axes).square()),
            noise / (_SIZE_WEIGHT * bound),
            frame,
            groups,
        )
        between = sizes.shares_of(rows[:, -1] / (_SHARE_WEIGHT * bound), noise / (_SHARE_WEIGHT * bound))
        return self._centred(anchor, shape, moves, covariances, between[:, None].expand(-1, size).clone(), noise)

    def _centred(
        self, anchor: Anchor, shape: Shape, moves: Tensor, covariances: Tensor, between: Tensor, noise: Tensor
    ) -> Anchor:
        """Return the anchor whose centres have moved and whose components, all alike, spread so."""
        frame = coordinates_of(shape)
        whole = positive(frame.back.T @ covariances @ frame.back)
        return Anchor(
            anchor.counts,
            noise.square(),
            anchor.weights,
            (anchor.means + (moves @ frame.back)[:, None]).clamp(-BOUND, BOUND),
            whole[:, None].expand_as(anchor.covariances).clone(),
            between,
            between.mean(dim=1),
            2,
        )

    def _parted(self, anchor: Anchor, shape: Shape, rows: Tensor, noise_std: float) -> Anchor:
        frame = coordinates_of(shape)
        told = cells.tell(
            self._cells(anchor, shape),
            rows.unflatten(1, (2**self.axes, -1)),
            anchor.counts,
            noise=noise_std,
            count=self._bounds(shape)[1],
            products=self._products(shape)[-1],
        )
        return replace(
            anchor,
            weights=told.weights,
            means=(told.means @ frame.back).clamp(-BOUND, BOUND),
            covariances=positive((frame.back.T @ told.covariances @ frame.back).flatten(0, 1)).view_as(
                anchor.covariances
            ),
            done=3,
        )

    def _cells(self, anchor: Anchor, shape: Shape) -> cells.Cells:
        frame = coordinates_of(shape)
        covariances = frame.there.T @ anchor.covariances[:, 0] @ frame.there
        return cells.cells_of(anchor.means[:, 0] @ frame.there, covariances, axes=self.axes)

    def _products(self, shape: Shape) -> tuple[Products, ...]:
        """Return what second moments are asked for: of the core, if there is one, and of everything; or of parts.

        A part weighs as the core does, times the square root of how many more products it has.
        """
        codec, bound = codec_of(shape), self._bounds(shape)[2]
        if parts := self._parts(shape):
            out = []
            for number, size in enumerate(parts):
                radius = self.core_radius * math.sqrt(size)
                weight = self.core_weight * math.sqrt(n_products(size, size) / n_products(parts[0], parts[0]))
                out.append(Products(size, size, radius, weight * bound / radius**2, start=sum(parts[:number])))
            return tuple(out)
        whole = Products(codec.n_features, codec.block, bound, self.product_weight / bound)
        if not codec.core:
            return (whole,)
        radius = self.core_radius * math.sqrt(codec.core)
        return Products(codec.core, codec.core, radius, self.core_weight * bound / radius**2), whole

    def _parts(self, shape: Shape) -> tuple[int, ...]:
        return codec_of(shape).parts if self.apart else ()

    def _lengths(self, shape: Shape) -> list[float]:
        """Return how long a row of each kind of products is at most."""
        return [products.weight * products.radius**2 for products in self._products(shape)]

    def _bounds(self, shape: Shape) -> tuple[float, float, float]:
        """Return the bound of a vector, the weight of a count, and the bound of a residual."""
        root = math.sqrt(codec_of(shape).n_features)
        return self.mean_radius * root, self.count_weight * self.mean_radius * root, self.residual_radius * root
