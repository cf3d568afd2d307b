"""Covariances from noisy second moments of residuals; post-processing that the noisy sums guide.

How far anything is shrunk is read off the sums themselves (empirical Bayes).
"""

import itertools
import math

import torch
from torch import Tensor

from fedsynth.anchors.anchor import positive
from fedsynth.anchors.moments.products import matrices_of

# Variances within a label are expected to be size * (the public prior's) ** bend, of the same sum; which size and
# bend is read off the sums, from log-normal and normal guesses around the third of each.
_SIZES, _SIZE_STD = (0.05, 0.12, 0.3, 0.5, 0.8, 1.2), 0.7
_BENDS, _BEND_STD = (0.5, 0.75, 1.0, 1.5, 2.0), 0.5
_GUESS_ERROR = 0.3  # of an expected variance: how far a true one lies from it
_FACTORS = (0.0, 0.05, 0.1, 0.2, 0.3, 0.45, 0.7, 1.0)  # of a Wishart law's standard deviations
_LEAST_POOLED = 0.02  # of an expected variance
_OWN_SIZE_VARIANCE, _OWN_SIZES = 0.25, (0.1, 10.0)  # of a label's size beside the pooled one, and its limits
_SHARE_VARIANCE, _SHARES = 0.04, (0.05, 0.95)  # of shares between subjects over labels and axes, and their limits


class Principal:
    """Principal axes of an expected covariance, and the entries of covariances along them.

    An entry (i, j) varies around what is expected in proportion to the standard deviations along both axes, as in a
    Wishart law; so quiet directions, where noise would decide, stay near what is expected. Of features beyond the
    block only variances are known. `variances` (feature,) are those expected along the axes.
    """

    def __init__(self, expected: Tensor, block: int) -> None:
        """Take the expected covariance, shape (feature, feature)."""
        size = len(expected)
        self.block = block
        at_rows, at_columns = torch.triu_indices(block, block)
        self._root = torch.where(at_rows == at_columns, 1.0, math.sqrt(2)).to(expected)
        values, self._vectors = torch.linalg.eigh(expected[:block, :block])
        self.variances = torch.cat([values, expected.diagonal()[block:]]).clamp_min(1e-4)
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

    def prior_scale(self, variances: Tensor) -> Tensor:
        """Return standard deviations of entries in a Wishart law, up to a factor (off-diagonal ones times sqrt 2).

        An entry of a Wishart matrix of n degrees of freedom with expectation n S has the variance
        n (S_ij^2 + S_ii S_jj); along principal axes that is 2 n S_ii^2 on the diagonal and n S_ii S_jj beside it.
        """
        return (2 * variances[self.first] * variances[self.second]).sqrt()


def covariances_of(rows: Tensor, counts: Tensor, prior: Tensor, *, block: int, noise: Tensor) -> Tensor:
    """Turn noisy means of products, shape (label, product), into covariances, shape (label, feature, feature).

    In the principal axes of the public prior. Expected of the pooled covariance is the prior's shape at the size
    that the sums show, expected of a label the pooled one at the label's own size; how much either varies
    maximises the likelihood of the sums.

    Args:
        rows: means of `products_of` residuals.
        counts: units by label.
        prior: the public prior's covariance, shape (feature, feature).
        block: the first so many features have all products, the others squares.
        noise: standard deviation on every number of a label's row, shape (label,).
    """
    principal = Principal(prior, block)
    entries, diagonal = principal.entries(rows), principal.diagonal
    share = counts / counts.sum()
    pooled, noise_variance = (share[:, None] * entries).sum(dim=0), float((share * noise).square().sum())
    expected = _expected_variances(pooled[diagonal], principal.variances, noise_variance)
    expected = expected[principal.first] * diagonal
    pooled = shrink_entries(pooled, expected, principal.prior_scale(expected[diagonal]), noise_variance)
    variances = pooled[diagonal].clamp_min(_LEAST_POOLED * expected[diagonal])
    least, largest = _OWN_SIZES
    out = []
    for label, row in enumerate(entries):
        own_variance = float(noise[label]) ** 2
        own = float((pooled * row).sum() / pooled.square().sum())
        trust = _OWN_SIZE_VARIANCE / (_OWN_SIZE_VARIANCE + own_variance / float(pooled.square().sum()))
        own = 1 + trust * (min(max(own, least), largest) - 1)
        entry = shrink_entries(row, own * pooled, own * principal.prior_scale(variances), own_variance)
        out.append(principal.whole(entry, (own * variances).sqrt()))
    return torch.stack(out)


def shrink_entries(observed: Tensor, expected: Tensor, prior_scale: Tensor, noise_variance: float) -> Tensor:
    """Return posterior means of entries that vary by f * prior_scale, with the f that maximises the likelihood."""
    difference, best, answer = observed - expected, -math.inf, expected
    for factor in _FACTORS:
        signal = (factor * prior_scale).square()
        whole = signal + noise_variance + 1e-12
        fit = -0.5 * float((difference.square() / whole + torch.log(whole)).sum())
        if fit > best:
            best, answer = fit, expected + signal / whole * difference
    return answer


def with_core(whole: Tensor, core: Tensor) -> Tensor:
    """Return covariances (..., feature, feature) whose first features vary as `core` (..., first, first) says.

    How the others follow the first (the regression's slope), and what they do beside (the Schur complement), stays.
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
    common = min(max(common, _SHARES[0]), _SHARES[1])
    trust = _SHARE_VARIANCE / (_SHARE_VARIANCE + 1 / precision)
    return (common + trust * (own - common)).clamp(*_SHARES)


def _expected_variances(observed: Tensor, prior: Tensor, noise_variance: float) -> Tensor:
    """Return variances within a label that follow the public prior's: size * prior ** bend, shape (feature,).

    Within a label, directions in which the prior varies little may vary even less. Size and bend start from a
    public guess and move as far as noisy variances, with `noise_variance` each, can tell.
    """
    best, answer = -math.inf, prior
    for size, bend in itertools.product(_SIZES, _BENDS):
        shape = prior**bend
        guess = size * shape * prior.sum() / shape.sum()
        whole = noise_variance + (_GUESS_ERROR * guess).square()
        penalty = (math.log(size / _SIZES[2]) / _SIZE_STD) ** 2 + ((bend - _BENDS[2]) / _BEND_STD) ** 2
        fit = -0.5 * float(((observed - guess).square() / whole + torch.log(whole)).sum()) - 0.5 * penalty
        if fit > best:
            best, answer = fit, guess
    return answer
