"""Counts and means: the first sum, and how noisy counts and means are shrunk.

Post-processing that the sums themselves guide (empirical Bayes; Efron and Morris 1973): of several normal priors,
the one under which the noisy numbers are likeliest gives the posterior mean.
"""

import itertools
import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from fedsynth.anchors.anchor import Anchor, positive
from fedsynth.anchors.coordinates import coordinates_of, means_by, within
from fedsynth.modalities.codec import BOUND
from fedsynth.modalities.registry import codec_of
from fedsynth.modalities.shape import Shape
from fedsynth.privacy.budget import SumRequest

_COUNT_STDS = (0.03, 0.1, 0.2, 0.4, 0.8)  # of labels' mean count
_WIDENINGS = (0.5, 1.0, 2.0, 4.0, 8.0, 16.0)  # of a prior variance; log-normal around 1, of one nat
_WIDER_FOR_CLIPPING, _LEAST_UNEXPLAINED = 1.5, 0.003
# Of the public prior's variance: the centre's and that of labels around it, and how the prior is bent; with the
# logarithms' (for the bend its own) standard deviations around a public guess.
_CENTRE_VARIANCES, _CENTRE_GUESS, _CENTRE_STD = (0.1, 0.3, 1.0), 0.3, 0.7
_LABEL_VARIANCES, _LABEL_GUESS, _LABEL_STD = (0.03, 0.1, 0.3, 1.0), 0.3, 0.5
_BENDS, _BEND_GUESS, _BEND_STD = (1.0, 1.5, 2.0, 3.0), 1.5, 0.5


@dataclass(frozen=True)
class CountsAndMeans:
    """The first sum: a count and a mean vector for each label.

    `radius` bounds a vector, in units of the square root of the number of features; `count_weight` is a count's
    size beside it. `budget_share` is the sum's weight among those over everybody.
    """

    radius: float = 0.75
    count_weight: float = 0.4
    budget_share: float = 0.4

    def request(self, shape: Shape) -> SumRequest:
        """Return the sum; shares of windows add up to one, so a row of one label alone is longest."""
        bound = math.hypot(self._bound(shape), self.count_size(shape))
        return SumRequest("anchor: counts and means", bound, self.budget_share)

    def size(self, shape: Shape) -> int:
        """Return how many numbers a row has: a count and a mean."""
        return 1 + codec_of(shape).n_features

    def contribution(self, anchor: Anchor, shape: Shape, *, vector: Tensor, labels: Tensor) -> Tensor:  # noqa: ARG002
        """Return by label a count and the mean vector, times the label's share of the unit's windows."""
        onehot = torch.nn.functional.one_hot(labels, shape.n_labels).to(vector)
        share = onehot.mean(dim=0)[:, None]
        mean = within(means_by(vector, onehot), self._bound(shape))
        return torch.cat([self.count_size(shape) * share, mean * share], dim=1)

    def advance(self, anchor: Anchor, shape: Shape, *, rows: Tensor, noise_std: float) -> Anchor:
        """Return the anchor with counts and means; covariances stay the public prior's."""
        frame = coordinates_of(shape)
        counts = shrink_counts(*self.counts(shape, rows=rows, noise_std=noise_std))
        noise_variance = (noise_std / counts) ** 2
        means = shrink_means(rows[:, 1:] / counts[:, None], frame.covariance, noise_variance) @ frame.back
        means = means.clamp(-BOUND, BOUND)[:, None].expand_as(anchor.means).clone()
        return replace(anchor, counts=counts, noise_variance=noise_variance, means=means)

    def counts(self, shape: Shape, *, rows: Tensor, noise_std: float) -> tuple[Tensor, float]:
        """Return the noisy units of each label, shape (label,), and their noise, of `rows` (label, size)."""
        return rows[:, 0] / self.count_size(shape), noise_std / self.count_size(shape)

    def count_size(self, shape: Shape) -> float:
        """Return what a unit of one label adds to its count."""
        return self.count_weight * self.radius * math.sqrt(codec_of(shape).n_features)

    def _bound(self, shape: Shape) -> float:
        return self.radius * math.sqrt(codec_of(shape).n_features)


def shrink_counts(counts: Tensor, noise: float) -> Tensor:
    """Return counts shrunk towards their mean as far as noise, not labels, makes them differ, 1 or more."""
    mean = counts.mean().clamp_min(1.0)
    best, answer = -math.inf, counts
    for std in _COUNT_STDS:
        signal = float((std * mean) ** 2)
        whole = signal + noise**2 + 1e-9
        fit = -0.5 * float(((counts - mean).square() / whole + math.log(whole)).sum())
        if fit > best:
            best, answer = fit, mean + signal / whole * (counts - mean)
    return answer.clamp_min(1.0)


def shrink_means(observed: Tensor, prior: Tensor, noise_variance: Tensor) -> Tensor:
    """Return posterior means of labels that share a centre; how far labels differ is read off the noisy means.

    The centre is N(0, a V) and a label's distance from it N(0, b V), where V is the public prior's covariance with
    its eigenvalues bent: where windows differ little, labels may differ even less. (a, b, bend) start from a public
    guess and move as far as the noisy means can tell (empirical Bayes; Efron and Morris 1973).

    Args:
        observed: noisy means in the frame, shape (label, feature).
        prior: the public prior's covariance, shape (feature, feature).
        noise_variance: of a label's coordinates, shape (label,).
    """
    labels = len(observed)
    values, vectors = torch.linalg.eigh(prior)
    rotated = observed @ vectors
    best, answer = -math.inf, observed
    for a, b, bend in itertools.product(_CENTRE_VARIANCES, _LABEL_VARIANCES, _BENDS):
        bent = values.clamp_min(1e-6) ** bend
        bent = bent * values.sum() / bent.sum()
        covariance = bent[:, None, None] * (
            a * torch.ones(labels, labels, dtype=torch.float64) + b * torch.eye(labels, dtype=torch.float64)
        )
        whole = covariance + torch.diag(noise_variance + 1e-9)
        solved = torch.linalg.solve(whole, rotated.T[:, :, None])
        fit = -0.5 * float((rotated.T[:, :, None] * solved).sum() + torch.linalg.slogdet(whole).logabsdet.sum())
        fit -= 0.5 * (
            (math.log(a / _CENTRE_GUESS) / _CENTRE_STD) ** 2
            + (math.log(b / _LABEL_GUESS) / _LABEL_STD) ** 2
            + ((bend - _BEND_GUESS) / _BEND_STD) ** 2
        )
        if fit > best:
            best, answer = fit, (covariance @ solved)[..., 0].T @ vectors.T
    return answer


def unexplained_covariance(anchor: Anchor, prior: Tensor) -> Tensor:
    """Return the covariance of what the first sum left open, a little wider for its clipping, by label.

    That of a normal posterior, V - V (V + noise)^-1 V.
    """
    eye = torch.eye(len(prior), dtype=torch.float64)
    gain = prior @ torch.linalg.inv(prior + (anchor.noise_variance[:, None, None] + 1e-9) * eye)
    return _WIDER_FOR_CLIPPING * (prior - gain @ prior) + _LEAST_UNEXPLAINED * eye


def posterior_moves(observed: Tensor, unexplained: Tensor, noise_variance: Tensor) -> Tensor:
    """Return posterior means of how far centres move, shape (label, feature), when residuals around them are seen.

    They may be more than `unexplained` (label, feature, feature) allows where much was cut off.
    """
    out = []
    for row, covariance, variance in zip(observed, unexplained, noise_variance, strict=True):
        values, vectors = torch.linalg.eigh(covariance)
        turned = row @ vectors
        best, answer = -math.inf, row
        for wider in _WIDENINGS:
            signal = wider * values.clamp_min(1e-9)
            whole = signal + variance
            fit = -0.5 * float((turned.square() / whole + torch.log(whole)).sum()) - 0.5 * math.log(wider) ** 2
            if fit > best:
                best, answer = fit, (signal / whole * turned) @ vectors.T
        out.append(answer)
    return torch.stack(out)


def residuals(anchor: Anchor, shape: Shape, *, vector: Tensor, labels: Tensor) -> Tensor:
    """Return how far vectors (window, feature) in the frame lie from the centres of their labels."""
    return vector - anchor.means[labels, 0].to(vector) @ coordinates_of(shape).there


def recentred(
    anchor: Anchor, shape: Shape, *, moves: Tensor, covariances: Tensor, between: Tensor, noise_variance: Tensor
) -> Anchor:
    """Return the anchor after sums around its centres: these have moved, and components vary all alike.

    Args:
        anchor: as of the sum before.
        shape: of the windows.
        moves: of the centres, in the frame, shape (label, feature).
        covariances: in the frame, shape (label, feature, feature).
        between: what subjects differ by, share matrices along the frame's axes, shape (label, axis, axis).
        noise_variance: of a coordinate of the moves, shape (label,).
    """
    frame = coordinates_of(shape)
    whole = positive(frame.back.T @ covariances @ frame.back)
    return replace(
        anchor,
        noise_variance=noise_variance,
        means=(anchor.means + (moves @ frame.back)[:, None]).clamp(-BOUND, BOUND),
        covariances=whole[:, None].expand_as(anchor.covariances).clone(),
        between=between,
        component_correlation=torch.sin(0.5 * math.pi * _share_of_widest(covariances, frame.axes, between)),
    )


def _share_of_widest(covariances: Tensor, axes: Tensor, between: Tensor) -> Tensor:
    """Return the share between subjects along each covariance's widest axis, where components are parted.

    Which half two windows are in correlates by the share s if the normal numbers behind correlate by sin(pi s / 2)
    (Sheppard 1899).
    """
    turned = axes.T @ covariances @ axes
    vectors = torch.linalg.eigh(turned).eigenvectors
    # Of R S R along v, an eigenvector of the root R with the value r: r v' S v r, of r^2.
    widest = vectors[..., -1]
    return torch.einsum("li,lij,lj->l", widest, between, widest).clamp(0, 1)
