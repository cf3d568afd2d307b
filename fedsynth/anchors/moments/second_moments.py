"""Second moments: the second sum where noise is not loud, of residuals around the first sum's means.

Of all features with one another and of the codec's core besides, or of each part that the codec names and none
across (`SecondMomentsByPart`). How noisy moments become covariances: `covariances`, `covariance_posterior`.
"""

import math
from dataclasses import dataclass, field

import torch
from torch import Tensor

from fedsynth.anchors.anchor import Anchor, positive
from fedsynth.anchors.coordinates import coordinates_of, means_by, within
from fedsynth.anchors.moments import reach
from fedsynth.anchors.moments.covariance_posterior import covariances_given
from fedsynth.anchors.moments.covariances import covariances_of, with_core
from fedsynth.anchors.moments.means import posterior_moves, recentred, residuals, unexplained_covariance
from fedsynth.anchors.moments.products import Products, matrices_of, n_products
from fedsynth.anchors.moments.subjects import Answer, OwnProducts, Ratios, Squares
from fedsynth.modalities.registry import codec_of
from fedsynth.modalities.shape import Shape
from fedsynth.privacy.budget import SumRequest


@dataclass(frozen=True)
class SecondMoments:
    """The second sum: for each label the mean residual, its products, and what of them is the unit's own.

    `radius` bounds a residual, in units of the square root of the number of features; `product_weight` is the size
    of second moments beside it. Where the codec has a core, its second moments are asked for besides:
    `core_radius` bounds its residuals, in units of the square root of its number of features, and `core_weight` is
    for them what `product_weight` is for all. `own` says how it is asked what units differ by, and
    with `reach` it is asked how far beyond their bound residuals lie, where the codec has no core. `budget_share`
    is the sum's weight among those over everybody.
    """

    radius: float = 0.5
    product_weight: float = 1.0
    core_radius: float = 0.75
    core_weight: float = 1.0
    own: Squares | OwnProducts | Ratios = field(default_factory=Squares)
    reach: bool = False
    budget_share: float = 0.6

    def request(self, shape: Shape) -> SumRequest:
        """Return the sum; squares of a unit's own mean are not counted: a thirtieth, which the sum cuts off."""
        lengths = [products.length for products in self.asked(shape)]
        lengths += [reach.length(self._bound(shape))] * self._reaches(shape)
        bound = math.hypot(self._bound(shape), *lengths, self.own.length(shape, self._bound(shape)))
        return SumRequest("anchor: centred means and second moments", bound, self.budget_share)

    def size(self, shape: Shape) -> int:
        """Return how many numbers a row has: a mean, products, and what is the unit's own."""
        products = sum(products.number for products in self.asked(shape))
        reached = reach.NUMBERS if self._reaches(shape) else 0
        return codec_of(shape).n_features + reached + products + self.own.size(shape)

    def contribution(self, anchor: Anchor, shape: Shape, *, vector: Tensor, labels: Tensor) -> Tensor:
        """Return by label the mean residual, products and its own, times its share of the unit's windows."""
        bound = self._bound(shape)
        onehot = torch.nn.functional.one_hot(labels, shape.n_labels).to(vector)
        share = onehot.mean(dim=0)[:, None]
        residual = residuals(anchor, shape, vector=vector, labels=labels)
        mean = within(means_by(residual, onehot), bound)
        products = [means_by(asked.of(residual), onehot) for asked in self.asked(shape)]
        own = self.own.contribution(residual @ coordinates_of(shape).axes, onehot, shape, bound)
        far = [reach.contribution(residual, onehot, bound)] if self._reaches(shape) else []
        return torch.cat([mean, *far, *products, own], dim=1) * share

    def advance(self, anchor: Anchor, shape: Shape, *, rows: Tensor, noise_std: float) -> Anchor:
        """Return the anchor with means moved, covariances, and what of them lies between subjects."""
        frame, size = coordinates_of(shape), codec_of(shape).n_features
        rows, noise = rows / anchor.counts[:, None], noise_std / anchor.counts
        rows, far = self._parted(rows, shape)
        moves = posterior_moves(rows[:, :size], unexplained_covariance(anchor, frame.covariance), noise.square())
        asked, covariances = self.asked(shape), []
        own_size, bound = self.own.size(shape), self._bound(shape)
        by_products = rows[:, size:-own_size].split([products.number for products in asked], dim=1)
        for products, row in zip(asked, by_products, strict=True):
            around = self._covariances(products, row, anchor, shape, noise=noise)
            move = moves[:, products.span]
            # Second moments were taken around the first answer.
            covariances.append(positive(around - move[:, :, None] * move[:, None]))
        whole = self._joined(covariances, shape)
        turned = frame.axes.T @ whole @ frame.axes
        answer = Answer(rows[:, -own_size:], moves @ frame.axes, turned, noise, shape, bound)
        between = self.own.shares(answer)
        if far is not None:
            moved, turned = reach.farther(far, answer.moves, turned, between, noise=noise, bound=bound)
            moves, whole = moved @ frame.axes.T, frame.axes @ turned @ frame.axes.T
        return recentred(
            anchor, shape, moves=moves, covariances=whole, between=between, noise_variance=noise.square()
        )

    def _reaches(self, shape: Shape) -> bool:
        return self.reach and not codec_of(shape).core

    def _parted(self, rows: Tensor, shape: Shape) -> tuple[Tensor, Tensor | None]:
        """Return rows without what is asked of reach, and that; None where nothing is."""
        if not self._reaches(shape):
            return rows, None
        size = codec_of(shape).n_features
        mean, far, rest = rows.tensor_split([size, size + reach.NUMBERS], dim=1)
        return torch.cat([mean, rest], dim=1), far

    def asked(self, shape: Shape) -> tuple[Products, ...]:
        """Return what second moments are asked for: of the core, if there is one, then of everything."""
        codec, bound = codec_of(shape), self._bound(shape)
        whole = Products(codec.n_features, codec.block, bound, self.product_weight / bound)
        if not codec.core:
            return (whole,)
        radius = self.core_radius * math.sqrt(codec.core)
        return Products(codec.core, codec.core, radius, self.core_weight * bound / radius**2), whole

    def _covariances(
        self, products: Products, row: Tensor, anchor: Anchor, shape: Shape, *, noise: Tensor
    ) -> Tensor:
        """Return second moments around the first answer, (label, feature, feature), of what was asked for."""
        prior = coordinates_of(shape).covariance[products.span, products.span]
        weight = products.weight
        return covariances_of(row / weight, anchor.counts, prior, block=products.block, noise=noise / weight)

    def _joined(self, covariances: list[Tensor], shape: Shape) -> Tensor:  # noqa: ARG002
        """Return whole covariances, shape (label, feature, feature), from those of what was asked for."""
        return with_core(covariances[-1], covariances[0]) if len(covariances) > 1 else covariances[0]

    def _bound(self, shape: Shape) -> float:
        return self.radius * math.sqrt(codec_of(shape).n_features)


@dataclass(frozen=True)
class SecondMomentsByPart(SecondMoments):
    """The second sum by part: products within each part that the codec names; those of all where it names none.

    What lies across parts counts as zero, and a part's covariances are those expected given the sums
    (`fedsynth.anchors.moments.covariance_posterior`). A part is bounded as the core is and weighs as it does, times
    the square root of how many more products it has.
    """

    def asked(self, shape: Shape) -> tuple[Products, ...]:
        """Return what second moments are asked for, part by part."""
        parts, bound = codec_of(shape).parts, self._bound(shape)
        if not parts:
            return super().asked(shape)
        out = []
        for number, size in enumerate(parts):
            radius = self.core_radius * math.sqrt(size)
            weight = self.core_weight * math.sqrt(n_products(size, size) / n_products(parts[0], parts[0]))
            out.append(Products(size, size, radius, weight * bound / radius**2, start=sum(parts[:number])))
        return tuple(out)

    def _covariances(
        self, products: Products, row: Tensor, anchor: Anchor, shape: Shape, *, noise: Tensor
    ) -> Tensor:
        start = super()._covariances(products, row, anchor, shape, noise=noise)
        if not codec_of(shape).parts:
            return start
        observed = matrices_of(row / products.weight, products.block)
        prior = coordinates_of(shape).covariance[products.span, products.span]
        return covariances_given(observed, noise=noise / products.weight, prior=prior, start=start)

    def _joined(self, covariances: list[Tensor], shape: Shape) -> Tensor:
        if not codec_of(shape).parts:
            return super()._joined(covariances, shape)
        return torch.stack([torch.block_diag(*parts) for parts in zip(*covariances, strict=True)])
