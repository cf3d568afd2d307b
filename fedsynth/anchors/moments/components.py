"""Components: a label's windows parted along the widest axes of their covariance, so that a label may have modes.

The axes are public once the sums before have given them; in which component a window falls is then a fixed function
of the window. A component is expected to be what a Gaussian is on that side of its centre, and is moved from there
as far as its own noisy sums can tell.
"""

import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from fedsynth.anchors.anchor import Anchor, positive
from fedsynth.anchors.coordinates import coordinates_of, means_by, within
from fedsynth.anchors.moments.covariances import Principal, shrink_entries
from fedsynth.anchors.moments.products import Products, products_of
from fedsynth.modalities.codec import BOUND
from fedsynth.modalities.registry import codec_of
from fedsynth.modalities.shape import Shape
from fedsynth.privacy.budget import SumRequest

_FACTORS = (
    0.0,
    0.02,
    0.05,
    0.1,
    0.2,
    0.4,
)  # of a component's variance: how far its mean may lie from what is expected
_COUNT_STD = 0.5  # of a component's expected share
_LEAST_COUNT = 0.05  # of what is expected
_HALF_NORMAL_MEAN = math.sqrt(2 / math.pi)  # E|z| of a standard normal z


@dataclass(frozen=True)
class Components:
    """The third sum: for each label and component a count, the mean residual and its products.

    A label has two components for each of `axes`. `radius` bounds a residual and `count_size` is what one window
    adds to a count, both in units of the square root of the number of features; `product_weight` is the size of
    second moments beside a residual's bound. `budget_share` is the sum's weight among those over everybody.
    """

    axes: int = 1
    radius: float = 0.5
    count_size: float = 0.3
    product_weight: float = 1.0
    budget_share: float = 0.3

    @property
    def number(self) -> int:
        """Return how many components a label has."""
        return 2**self.axes

    def request(self, shape: Shape) -> SumRequest:
        """Return the sum; shares of windows add up to one, so a row of one component alone is longest."""
        bound = math.hypot(self._count(shape), self._bound(shape), self._products(shape).length)
        return SumRequest("anchor: counts, means and second moments of cells", bound, self.budget_share)

    def size(self, shape: Shape) -> int:
        """Return how many numbers a label's row has: by component a count, a mean and products."""
        return self.number * (1 + codec_of(shape).n_features + self._products(shape).number)

    def contribution(self, anchor: Anchor, shape: Shape, *, vector: Tensor, labels: Tensor) -> Tensor:
        """Return by label and component a count, the mean residual and products, times its share of windows."""
        return unit_rows(
            self._expected(anchor, shape),
            vector,
            labels,
            radius=self._bound(shape),
            count=self._count(shape),
            products=self._products(shape),
        )

    def advance(self, anchor: Anchor, shape: Shape, *, rows: Tensor, noise_std: float) -> Anchor:
        """Return the anchor with each component's weight, mean and covariance."""
        back = coordinates_of(shape).back
        estimates = estimate(
            self._expected(anchor, shape),
            rows.unflatten(1, (self.number, -1)),
            anchor.counts,
            noise=noise_std,
            count=self._count(shape),
            products=self._products(shape),
        )
        covariances = positive((back.T @ estimates.covariances @ back).flatten(0, 1))
        return replace(
            anchor,
            weights=estimates.weights,
            means=(estimates.means @ back).clamp(-BOUND, BOUND),
            covariances=covariances.view_as(anchor.covariances),
        )

    def _expected(self, anchor: Anchor, shape: Shape) -> "Expected":
        there = coordinates_of(shape).there
        covariances = there.T @ anchor.covariances[:, 0] @ there
        return expected_components(anchor.means[:, 0] @ there, covariances, axes=self.axes)

    def _products(self, shape: Shape) -> Products:
        codec, bound = codec_of(shape), self._bound(shape)
        return Products(codec.n_features, codec.block, bound, self.product_weight / bound)

    def _bound(self, shape: Shape) -> float:
        return self.radius * math.sqrt(codec_of(shape).n_features)

    def _count(self, shape: Shape) -> float:
        return self.count_size * math.sqrt(codec_of(shape).n_features)


@dataclass(frozen=True)
class Expected:
    """What is expected of each component, in the frame.

    `axes` (label, axis, feature) of length 1, widest first; `centres` (label, feature) of the labels; `means`
    (label, component, feature) and `covariances` (label, feature, feature) of each component. A component's number
    has a bit for each axis, the widest axis' the highest, set where windows lie above the centre.
    """

    axes: Tensor
    centres: Tensor
    means: Tensor
    covariances: Tensor


@dataclass(frozen=True)
class Estimates:
    """What noisy sums say of components: `weights` (label, component), `means` (label, component, feature) and
    `covariances` (label, component, feature, feature)."""

    weights: Tensor
    means: Tensor
    covariances: Tensor


def expected_components(centres: Tensor, covariances: Tensor, *, axes: int) -> Expected:
    """Part labels at their centres.

    Along an axis of standard deviation s, the half of a Gaussian above its centre has the mean s sqrt(2 / pi), and
    of the variance that mean's square is gone.

    Args:
        centres: of the labels' windows in the frame, shape (label, feature).
        covariances: of them, shape (label, feature, feature).
        axes: along how many axes.
    """
    values, vectors = torch.linalg.eigh(covariances)
    values, chosen = values[:, -axes:].flip(1).clamp_min(0), vectors[:, :, -axes:].flip(2).mT
    # The sign must not hang on the linear algebra library.
    largest = chosen.gather(2, chosen.abs().argmax(dim=2, keepdim=True))
    chosen = chosen * torch.sign(largest)
    sides = torch.cartesian_prod(*[torch.tensor([-1.0, 1.0], dtype=torch.float64)] * axes).view(2**axes, axes)
    offset = _HALF_NORMAL_MEAN * values.sqrt()[:, :, None] * chosen
    gone = torch.einsum("laf,lag->lfg", offset, offset)
    means = centres[:, None] + torch.einsum("ca,laf->lcf", sides, offset)
    return Expected(chosen, centres, means, covariances - gone)


def unit_rows(
    expected: Expected, vector: Tensor, labels: Tensor, *, radius: float, count: float, products: Products
) -> Tensor:
    """Return one unit's rows, shape (label, component * number): a count, the residual and its products.

    A component counts by its share of the unit's windows, so the length is at most that of one component alone.
    """
    residual = vector - expected.centres.to(vector)[labels]
    bits = (torch.einsum("waf,wf->wa", expected.axes.to(vector)[labels], residual) > 0).long()
    number = expected.means.shape[1]
    component = (bits * 2 ** torch.arange(bits.shape[1] - 1, -1, -1)).sum(dim=1)
    residual = vector - expected.means.to(vector)[labels, component]
    onehot = torch.nn.functional.one_hot(labels * number + component, len(expected.means) * number).to(vector)
    share = onehot.mean(dim=0)[:, None]
    mean = within(means_by(residual, onehot), radius)
    square = means_by(products.of(residual), onehot)
    rows = torch.cat([torch.full_like(share, count), mean, square], dim=1) * share
    return rows.view(len(expected.means), -1)


def estimate(
    expected: Expected, rows: Tensor, counts: Tensor, *, noise: float, count: float, products: Products
) -> Estimates:
    """Take in noisy sums over everybody, shape (label, component, count and residual and products).

    Args:
        expected: as of the contributions.
        rows: the sums.
        counts: units by label, noisy.
        noise: standard deviation on every number.
        count: the size of a count, as in the contributions.
        products: what was asked of their products.
    """
    size, number = expected.means.shape[2], expected.means.shape[1]
    weights, means, covariances = [], [], []
    for label, row in enumerate(rows):
        equal = counts[label] / number
        count_variance, prior_variance = (noise / count) ** 2, (_COUNT_STD * equal) ** 2
        trust = prior_variance / (prior_variance + count_variance)
        units = (equal + trust * (row[:, 0] / count - equal)).clamp_min(_LEAST_COUNT * equal)
        noises = noise / units
        moves = _posterior_moves(row[:, 1 : 1 + size] / units[:, None], expected.covariances[label], noises)
        principal = Principal(expected.covariances[label], products.block)
        # Second moments were taken around the expected mean.
        entries = principal.entries(
            row[:, 1 + size :] / units[:, None] / products.weight - products_of(moves, products.block)
        )
        expected_entry = principal.variances[principal.first] * principal.diagonal
        prior_scale = principal.prior_scale(principal.variances)
        shrunk = [
            shrink_entries(entry, expected_entry, prior_scale, (std / products.weight) ** 2)
            for entry, std in zip(entries, noises.tolist(), strict=True)
        ]
        weights.append(units / units.sum())
        means.append(expected.means[label] + moves)
        covariances.append(torch.stack([principal.whole(entry, principal.variances.sqrt()) for entry in shrunk]))
    return Estimates(torch.stack(weights), torch.stack(means), torch.stack(covariances))


def _posterior_moves(observed: Tensor, covariance: Tensor, noises: Tensor) -> Tensor:
    """Return posterior means of components' moves (component, feature), whose prior maximises the likelihood."""
    values, vectors = torch.linalg.eigh(covariance)
    turned, noise_variance = observed @ vectors, noises.square()[:, None] + 1e-12
    best, answer = -math.inf, observed
    for factor in _FACTORS:
        signal = factor * values.clamp_min(0)
        whole = signal + noise_variance
        fit = -0.5 * float((turned.square() / whole + torch.log(whole)).sum())
        if fit > best:
            best, answer = fit, (signal / whole * turned) @ vectors.T
    return answer
