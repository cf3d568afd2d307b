"""Moments: counts and means, then centred means and second moments around them; two private sums.

Everything after the sums is post-processing, so the noisy sums themselves may decide how much they are shrunk
(empirical Bayes): means towards the public prior with its covariance, covariances towards the pooled one.
"""

import itertools
import math
from dataclasses import dataclass, replace
from functools import lru_cache

import torch
from torch import Tensor

from fedsynth.families.anchor import Anchor, positive, prior_anchor
from fedsynth.families.codec import BOUND, codec_of, scale_of, standardise
from fedsynth.families.shape import Shape
from fedsynth.privacy.budget import Wish

_BETWEEN_WEIGHT = 0.25  # of the squares of a unit's own mean beside a centred mean
_POWER = 0.25
_SIZES = (0.05, 0.12, 0.3, 0.5, 0.8, 1.2)
_BENDS = (0.5, 0.75, 1.0, 1.5, 2.0)
_FLOOR = 0.02  # of the eigenvalues that are whitened


@dataclass(frozen=True)
class Moments:
    """Bounds in units of the square root of the number of features, and how the two sums share the budget.

    `mean_radius` bounds a vector, `residual_radius` one around the first answer; `count_weight` is a count's size
    beside a vector's bound, `product_weight` that of second moments beside centred means, and `first_weight` the
    first sum's share.
    """

    mean_radius: float = 0.75
    residual_radius: float = 0.5
    count_weight: float = 0.4
    product_weight: float = 1.0
    first_weight: float = 0.4

    def wishes(self, shape: Shape) -> tuple[Wish, ...]:
        """Return the two private sums with their public bounds."""
        radius, count, residual = self._bounds(shape)
        return (
            Wish("anchor: counts and means", math.hypot(radius, count), self.first_weight),
            Wish(
                "anchor: centred means and second moments",
                residual * math.hypot(1, self.product_weight),
                1 - self.first_weight,
            ),
        )

    def prior(self, shape: Shape) -> Anchor:
        """Return the public prior."""
        return prior_anchor(shape)

    def statistic_size(self, shape: Shape, *, step: int) -> int:
        """Return how many numbers one unit contributes to a step."""
        size, block = codec_of(shape).n_features, codec_of(shape).block
        second = 2 * size + block * (block + 1) // 2 + size - block
        return shape.n_labels * (second if step else size + 1)

    def statistics(self, anchor: Anchor, shape: Shape, *, signal: Tensor, labels: Tensor) -> Tensor:
        """Return one unit's contribution to the next step; its windows weigh alike."""
        frame = frame_of(shape)
        vector = standardise(codec_of(shape).features(signal), shape) @ frame.there
        onehot = torch.nn.functional.one_hot(labels, shape.n_labels).to(vector)
        radius, count, bound = self._bounds(shape)
        if anchor.done == 0:
            row = torch.cat([torch.full_like(vector[:, :1], count), _within(vector, radius)], dim=1)
            return (onehot[:, :, None] * row[:, None, :]).mean(dim=0).flatten()
        residual = _within(vector - anchor.means[labels, 0].to(vector) @ frame.there, bound)
        products = _products(residual, codec_of(shape).block) * (self.product_weight / bound)
        row = torch.cat([residual, products], dim=1)
        sums = (onehot[:, :, None] * row[:, None, :]).mean(dim=0)
        # The square of the unit's own mean, weighted by its share of the label: what subjects differ by.
        share = onehot.mean(dim=0)[:, None]
        own = sums[:, : residual.shape[1]] @ frame.axes / share.clamp_min(1e-12)
        return torch.cat([sums, own.square() * share * (_BETWEEN_WEIGHT / bound)], dim=1).flatten()

    def advance(self, anchor: Anchor, shape: Shape, *, total: Tensor, noise_std: float) -> Anchor:
        """Take in the sum over all sites of one step."""
        frame = frame_of(shape)
        rows = total.to(torch.float64).unflatten(0, (shape.n_labels, -1))
        _, count, bound = self._bounds(shape)
        if anchor.done == 0:
            counts = (rows[:, 0] / count).clamp_min(1.0)
            doubt = (noise_std / counts) ** 2
            means = _shrink(rows[:, 1:] / counts[:, None], frame.covariance, doubt) @ frame.back
            means = means.clamp(-BOUND, BOUND)[:, None]
            return replace(anchor, counts=counts, doubt=doubt, means=means, done=1)
        size, counts = anchor.means.shape[2], anchor.counts
        rows = rows / counts[:, None]
        noise = noise_std / counts
        moves = _posterior(rows[:, :size], _left(anchor, frame.covariance), noise.square())
        products, squares = self.product_weight / bound, _BETWEEN_WEIGHT / bound
        covariances = _covariances(
            rows[:, size:-size] / products,
            counts,
            frame.covariance,
            block=codec_of(shape).block,
            noise=noise / products,
        )
        # Second moments were taken around the first answer.
        covariances = positive(covariances - moves[:, :, None] * moves[:, None, :])
        turned = (frame.axes.T @ covariances @ frame.axes).diagonal(dim1=1, dim2=2)
        own = rows[:, -size:] / squares - (moves @ frame.axes).square()
        loads = (frame.back.T @ frame.axes).square()
        between = (_between(own, turned, noise / squares) * turned) @ loads.T / (turned @ loads.T)
        return Anchor(
            counts,
            noise.square(),
            anchor.weights,
            (anchor.means + (moves @ frame.back)[:, None]).clamp(-BOUND, BOUND),
            positive(frame.back.T @ covariances @ frame.back),
            between,
            2,
        )

    def _bounds(self, shape: Shape) -> tuple[float, float, float]:
        """Return the bound of a vector, the weight of a count, and the bound of a residual."""
        root = math.sqrt(codec_of(shape).n_features)
        return self.mean_radius * root, self.count_weight * self.mean_radius * root, self.residual_radius * root


@dataclass(frozen=True)
class Frame:
    """Coordinates in which sums are taken: `there` (feature, feature) leads to them, `back` from them.

    `covariance` is the public prior's in them, and `axes` (feature, axis) its principal axes, along which it is
    told what subjects differ by.

    Halfway to white: the fourth root of the public prior's covariance is divided out, so that directions in which
    windows differ little are not drowned by those in which they differ much, and the noise is the same in all.
    Before that, features are scaled by the codec's weights.
    """

    there: Tensor
    back: Tensor
    covariance: Tensor
    axes: Tensor


@lru_cache(maxsize=8)
def frame_of(shape: Shape) -> Frame:
    """Return the public frame of a shape."""
    covariance, block = scale_of(shape).covariance, codec_of(shape).block
    values, vectors = torch.linalg.eigh(covariance[:block, :block])
    there = torch.diag(covariance.diagonal().clamp_min(_FLOOR) ** -_POWER)
    there[:block, :block] = vectors @ torch.diag(values.clamp_min(_FLOOR) ** -_POWER) @ vectors.T
    there = torch.diag(codec_of(shape).weights) @ there
    turned = there.T @ covariance @ there
    size = len(covariance) / float(turned.trace())
    there, turned = there * math.sqrt(size), turned * size
    axes = torch.eye(len(covariance), dtype=torch.float64)
    axes[:block, :block] = torch.linalg.eigh(turned[:block, :block]).eigenvectors
    return Frame(there, torch.linalg.inv(there), turned, axes)


def _within(vector: Tensor, radius: float) -> Tensor:
    """Scale vectors to norm at most `radius`."""
    return vector * (radius / vector.norm(dim=1, keepdim=True).clamp_min(1e-12)).clamp(max=1.0)


def _products(residual: Tensor, block: int) -> Tensor:
    """Return the upper triangle of the block's products (off-diagonal times sqrt 2), then the other squares."""
    head, tail = residual[:, :block], residual[:, block:]
    rows, columns = torch.triu_indices(block, block)
    scale = torch.where(rows == columns, 1.0, math.sqrt(2)).to(head)
    return torch.cat([head[:, rows] * head[:, columns] * scale, tail.square()], dim=1)


def _posterior(observed: Tensor, prior: Tensor, noise: Tensor) -> Tensor:
    """Return posterior means under N(0, prior[label]) of what was observed with noise variance (label,)."""
    eye = torch.eye(observed.shape[1], dtype=torch.float64)
    gain = prior @ torch.linalg.inv(prior + (noise[:, None, None] + 1e-9) * eye)
    return (gain @ observed[..., None])[..., 0]


def _left(anchor: Anchor, prior: Tensor) -> Tensor:
    """Return the covariance of what the first sum left open, a little wider for its clipping, by label."""
    eye = torch.eye(len(prior), dtype=torch.float64)
    gain = prior @ torch.linalg.inv(prior + (anchor.doubt[:, None, None] + 1e-9) * eye)
    return 1.5 * (prior - gain @ prior) + 0.003 * eye


def _shrink(observed: Tensor, prior: Tensor, noise: Tensor) -> Tensor:
    """Return posterior means of labels that share a centre; how far labels differ is read off the noisy means.

    The centre is N(0, a V) and a label's distance from it N(0, b V), where V is the public prior's covariance with
    its eigenvalues bent: where windows differ little, labels may differ even less. (a, b, bend) start from a public
    guess and move as far as the noisy means can tell (empirical Bayes; Efron and Morris 1973).
    """
    labels = len(observed)
    values, vectors = torch.linalg.eigh(prior)
    rotated = observed @ vectors
    best, answer = -math.inf, observed
    for a, b, bend in itertools.product((0.1, 0.3, 1.0), (0.03, 0.1, 0.3, 1.0), (1.0, 1.5, 2.0, 3.0)):
        bent = values.clamp_min(1e-6) ** bend
        bent = bent * values.sum() / bent.sum()
        covariance = bent[:, None, None] * (
            a * torch.ones(labels, labels, dtype=torch.float64) + b * torch.eye(labels, dtype=torch.float64)
        )
        whole = covariance + torch.diag(noise + 1e-9)
        solved = torch.linalg.solve(whole, rotated.T[:, :, None])
        fit = -0.5 * float((rotated.T[:, :, None] * solved).sum() + torch.linalg.slogdet(whole).logabsdet.sum())
        fit -= 0.5 * ((math.log(a / 0.3) / 0.7) ** 2 + (math.log(b / 0.3) / 0.5) ** 2 + ((bend - 1.5) / 0.5) ** 2)
        if fit > best:
            best, answer = fit, (covariance @ solved)[..., 0].T @ vectors.T
    return answer


def _covariances(rows: Tensor, counts: Tensor, prior: Tensor, *, block: int, noise: Tensor) -> Tensor:
    """Turn noisy means of products, shape (label, product), into covariances, shape (label, feature, feature).

    In the principal axes of the public prior, an entry (i, j) varies around what is expected of it in proportion to
    the spreads of both axes, as in a Wishart law; so quiet directions, where noise would decide, stay near what is
    expected. Expected of the pooled covariance is the prior's shape at the size that the sums show, expected of a
    label the pooled one at the label's own size; how much either varies maximises the likelihood of the sums.
    """
    size, labels = len(prior), len(rows)
    at_rows, at_columns = torch.triu_indices(block, block)
    root = torch.where(at_rows == at_columns, 1.0, math.sqrt(2)).to(rows)
    values, vectors = torch.linalg.eigh(prior[:block, :block])
    spreads = torch.cat([values, prior.diagonal()[block:]]).clamp_min(1e-4)
    turned = vectors.T @ _square(rows[:, : len(at_rows)] / root, block) @ vectors
    entries = torch.cat([turned[:, at_rows, at_columns] * root, rows[:, len(at_rows) :]], dim=1)
    first = torch.cat([at_rows, torch.arange(block, size)])
    second = torch.cat([at_columns, torch.arange(block, size)])
    diagonal = first == second

    share = counts / counts.sum()
    pooled, doubt = (share[:, None] * entries).sum(dim=0), float((share * noise).square().sum())
    expected = _guess(pooled[diagonal], spreads, doubt)[first] * diagonal
    pooled = _towards(pooled, expected, _reach(expected[diagonal], first, second), doubt)
    variances = pooled[diagonal].clamp_min(0.02 * expected[diagonal])
    out = torch.zeros(labels, size, size, dtype=torch.float64)
    for label in range(labels):
        own_doubt = float(noise[label]) ** 2
        own = float((pooled * entries[label]).sum() / pooled.square().sum())
        trust = 0.25 / (0.25 + own_doubt / float(pooled.square().sum()))
        own = 1 + trust * (min(max(own, 0.1), 10.0) - 1)
        entry = _towards(entries[label], own * pooled, own * _reach(variances, first, second), own_doubt)
        whole = torch.diag(entry[diagonal])
        whole[:block, :block] = _square(entry[None, : len(at_rows)] / root, block)[0]
        # Nothing is narrower than a tenth of what is expected.
        scale = (own * variances).sqrt()
        whole = scale[:, None] * positive((whole / scale[:, None] / scale)[None], least=0.1)[0] * scale
        whole[:block, :block] = vectors @ whole[:block, :block] @ vectors.T
        out[label] = whole
    return out


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


def _square(triangle: Tensor, size: int) -> Tensor:
    """Return symmetric matrices from their upper triangles, shape (label, size, size)."""
    rows, columns = torch.triu_indices(size, size)
    out = torch.zeros(len(triangle), size, size, dtype=torch.float64)
    out[:, rows, columns] = triangle
    out[:, columns, rows] = triangle
    return out


def _reach(variances: Tensor, first: Tensor, second: Tensor) -> Tensor:
    """Return by how much entries vary in a Wishart law, up to a factor; off-diagonal ones count sqrt 2 times."""
    return (2 * variances[first] * variances[second]).sqrt()


def _towards(observed: Tensor, expected: Tensor, reach: Tensor, noise: float) -> Tensor:
    """Return the posterior mean of entries that vary by f * reach, with the f that maximises the likelihood."""
    difference, best, answer = observed - expected, -math.inf, expected
    for factor in (0.0, 0.05, 0.1, 0.2, 0.3, 0.45, 0.7, 1.0):
        signal = (factor * reach).square()
        whole = signal + noise + 1e-12
        fit = -0.5 * float((difference.square() / whole + torch.log(whole)).sum())
        if fit > best:
            best, answer = fit, expected + signal / whole * difference
    return answer


def _between(squares: Tensor, variances: Tensor, noise: Tensor) -> Tensor:
    """Return the share of the variance between subjects, shrunk to the labels' and axes' common one."""
    own = squares / variances
    precision = (variances / (noise[:, None] + 1e-9)).square()
    common = float((own * precision).sum() / precision.sum())
    common = min(max(common, 0.05), 0.95)
    trust = 0.04 / (0.04 + 1 / precision)
    return (common + trust * (own - common)).clamp(0.05, 0.95)
