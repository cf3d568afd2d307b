"""Spread: from noisy second moments of residuals to covariances; post-processing that the noisy sums guide.

How far anything is shrunk is read off the sums themselves (empirical Bayes).
"""

import itertools
import math
from dataclasses import dataclass

import torch
from torch import Tensor

from fedsynth.anchors.anchor import positive
from fedsynth.anchors.coordinates import within

_SIZES = (0.05, 0.12, 0.3, 0.5, 0.8, 1.2)
_BENDS = (0.5, 0.75, 1.0, 1.5, 2.0)
_FACTORS = (0.0, 0.05, 0.1, 0.2, 0.3, 0.45, 0.7, 1.0)


def products_of(residual: Tensor, block: int) -> Tensor:
    """Return the upper triangle of the block's products (off-diagonal times sqrt 2), then the other squares."""
    head, tail = residual[:, :block], residual[:, block:]
    rows, columns = torch.triu_indices(block, block)
    scale = torch.where(rows == columns, 1.0, math.sqrt(2)).to(head)
    return torch.cat([head[:, rows] * head[:, columns] * scale, tail.square()], dim=1)


def n_products(size: int, block: int) -> int:
    """Return how many products `products_of` makes of a vector of this size."""
    return block * (block + 1) // 2 + size - block


def matrices_of(products: Tensor, size: int) -> Tensor:
    """Return symmetric matrices, shape (label, size, size), from what `products_of` makes of a block."""
    rows, columns = torch.triu_indices(size, size)
    triangle = products / torch.where(rows == columns, 1.0, math.sqrt(2)).to(products)
    out = torch.zeros(len(products), size, size, dtype=torch.float64)
    out[:, rows, columns] = triangle
    out[:, columns, rows] = triangle
    return out


@dataclass(frozen=True)
class Products:
    """Second moments that a sum asks for: of `features` from `start`, the first `block` with one another.

    Vectors are cut to `radius` and their products multiplied by `weight`.
    """

    features: int
    block: int
    radius: float
    weight: float
    start: int = 0

    @property
    def span(self) -> slice:
        """Return which features."""
        return slice(self.start, self.start + self.features)

    @property
    def number(self) -> int:
        """Return how many numbers that is."""
        return n_products(self.features, self.block)

    def of(self, residual: Tensor) -> Tensor:
        """Return the weighted products of residuals, shape (window, product); at most weight * radius**2 long."""
        return products_of(within(residual[:, self.span], self.radius), self.block) * self.weight


class Principal:
    """Principal axes of an expected covariance, and the entries of covariances along them.

    An entry (i, j) varies around what is expected in proportion to the spreads of both axes, as in a Wishart law;
    so quiet directions, where noise would decide, stay near what is expected. Of features beyond the block only
    variances are known.
    """

    def __init__(self, expected: Tensor, block: int) -> None:
        """Take the expected covariance, shape (feature, feature)."""
        size = len(expected)
        self.block = block
        at_rows, at_columns = torch.triu_indices(block, block)
        self._root = torch.where(at_rows == at_columns, 1.0, math.sqrt(2)).to(expected)
        values, self._vectors = torch.linalg.eigh(expected[:block, :block])
        self.spreads = torch.cat([values, expected.diagonal()[block:]]).clamp_min(1e-4)
        self.first = torch.cat([at_rows, torch.arange(block, size)])
        self.second = torch.cat([at_columns, torch.arange(block, size)])
        self.diagonal = self.first == self.second

    def entries(self, products: Tensor) -> Tensor:
        """Turn means of products, shape (label, product), to these axes; the order and the shape stay."""
        number = len(self._root)
        turned = self._vectors.T @ matrices_of(products[:, :number], self.block) @ self._vectors
        rows, columns = torch.triu_indices(self.block, self.block)
        return torch.cat([turned[:, rows, columns] * self._root, products[:, number:]], dim=1)

    def whole(self, entry: Tensor, scale: Tensor, *, least: float = 0.1) -> Tensor:
        """Return the covariance of one row of entries; nothing is narrower than `least` of `scale` (feature,)."""
        number = len(self._root)
        out = torch.diag(entry[self.diagonal])
        out[: self.block, : self.block] = matrices_of(entry[None, :number], self.block)[0]
        out = scale[:, None] * positive((out / scale[:, None] / scale)[None], least=least)[0] * scale
        out[: self.block, : self.block] = self._vectors @ out[: self.block, : self.block] @ self._vectors.T
        return out

    def reach(self, variances: Tensor) -> Tensor:
        """Return by how much entries vary in a Wishart law, up to a factor (off-diagonal ones times sqrt 2)."""
        return (2 * variances[self.first] * variances[self.second]).sqrt()


def covariances_of(rows: Tensor, counts: Tensor, prior: Tensor, *, block: int, noise: Tensor) -> Tensor:
    """Turn noisy means of products, shape (label, product), into covariances, shape (label, feature, feature).

    In the principal axes of the public prior. Expected of the pooled covariance is the prior's shape at the size
    that the sums show, expected of a label the pooled one at the label's own size; how much either varies
    maximises the likelihood of the sums.
    """
    principal = Principal(prior, block)
    entries, diagonal = principal.entries(rows), principal.diagonal
    share = counts / counts.sum()
    pooled, doubt = (share[:, None] * entries).sum(dim=0), float((share * noise).square().sum())
    expected = _guess(pooled[diagonal], principal.spreads, doubt)[principal.first] * diagonal
    pooled = towards(pooled, expected, principal.reach(expected[diagonal]), doubt)
    variances = pooled[diagonal].clamp_min(0.02 * expected[diagonal])
    out = []
    for label, row in enumerate(entries):
        own_doubt = float(noise[label]) ** 2
        own = float((pooled * row).sum() / pooled.square().sum())
        trust = 0.25 / (0.25 + own_doubt / float(pooled.square().sum()))
        own = 1 + trust * (min(max(own, 0.1), 10.0) - 1)
        entry = towards(row, own * pooled, own * principal.reach(variances), own_doubt)
        out.append(principal.whole(entry, (own * variances).sqrt()))
    return torch.stack(out)


def towards(observed: Tensor, expected: Tensor, reach: Tensor, noise: float) -> Tensor:
    """Return the posterior mean of entries that vary by f * reach, with the f that maximises the likelihood."""
    difference, best, answer = observed - expected, -math.inf, expected
    for factor in _FACTORS:
        signal = (factor * reach).square()
        whole = signal + noise + 1e-12
        fit = -0.5 * float((difference.square() / whole + torch.log(whole)).sum())
        if fit > best:
            best, answer = fit, expected + signal / whole * difference
    return answer


def with_core(whole: Tensor, core: Tensor) -> Tensor:
    """Return covariances (..., feature, feature) whose first features spread as `core` (..., first, first) says.

    How the others follow the first, and what they do beside, stays.
    """
    size = core.shape[-1]
    slope = torch.linalg.solve(whole[..., :size, :size], whole[..., :size, size:])
    across = core @ slope
    rest = whole[..., size:, size:] + slope.mT @ (core - whole[..., :size, :size]) @ slope
    return torch.cat([torch.cat([core, across], dim=-1), torch.cat([across.mT, rest], dim=-1)], dim=-2)


def between_of(squares: Tensor, variances: Tensor, noise: Tensor) -> Tensor:
    """Return the share of the variance between subjects, shrunk to the labels' and axes' common one.

    Args:
        squares: of units' own means, noisy, shape (label, axis).
        variances: in all, the same shape.
        noise: standard deviation of the squares by label.
    """
    own = squares / variances
    precision = (variances / (noise[:, None] + 1e-9)).square()
    common = float((own * precision).sum() / precision.sum())
    common = min(max(common, 0.05), 0.95)
    trust = 0.04 / (0.04 + 1 / precision)
    return (common + trust * (own - common)).clamp(0.05, 0.95)


def _guess(variances: Tensor, spreads: Tensor, noise: float) -> Tensor:
    """Return variances within a label that follow the public prior's spreads: size * spreads ** bend.

    Within a label, directions in which the prior varies little may vary even less. Size and bend start from a
    public guess and move as far as noisy variances, with noise variance `noise` each, can tell.
    """
    best, answer = -math.inf, spreads
    for size, bend in itertools.product(_SIZES, _BENDS):
        shape = spreads**bend
        guess = size * shape * spreads.sum() / shape.sum()
        whole = noise + (0.3 * guess).square()
        doubt = (math.log(size / _SIZES[2]) / 0.7) ** 2 + ((bend - _BENDS[2]) / 0.5) ** 2
        fit = -0.5 * float(((variances - guess).square() / whole + torch.log(whole)).sum()) - 0.5 * doubt
        if fit > best:
            best, answer = fit, guess
    return answer
