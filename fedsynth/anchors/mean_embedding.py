"""Mean embedding: one private sum of random features of each label's vectors, then a mixture fitted to it.

DP-MERF (Harder, Adamczewski and Park 2021, AISTATS, algorithm 1) with its generator replaced by a mixture of
Gaussians, whose embedding has a closed form: the characteristic function at the same public frequencies. A unit's
contribution has a bounded length whatever its vectors are, so there is no radius to choose, and one sum tells
counts, means and covariances together. The fit is post-processing.
"""

import itertools
import math
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from fedsynth.anchors.anchor import Anchor, positive, prior_anchor
from fedsynth.anchors.coordinates import coordinates_of
from fedsynth.modalities.codec import BOUND
from fedsynth.modalities.registry import codec_of, standardise
from fedsynth.modalities.shape import Shape
from fedsynth.privacy.budget import SumRequest
from fedsynth.rng import torch_generator

_SHARED = (0.03, 0.1, 0.3, 1.0)  # of the public prior's variance: what labels' means share
_OWN = (0.03, 0.1, 0.3, 1.0)  # and what each has of its own
_MEAN_BENDS = (0.7, 1.2, 1.8, 2.5)  # means differ more where the prior varies more
_SIZE, _SIZE_SPREAD = 0.3, 0.7  # of the variance within a label beside the prior's, and the spread of its logarithm
_BEND, _BEND_SPREAD = 1.0, 0.5
_OWN_SIZE = 0.3  # spread of the logarithm of a label's own size
_POOLED_FORM, _OWN_FORM = 0.3, 0.15  # spread of entries of the logarithm of the covariance's form
_SAMPLING = 0.1  # weight of the chance of having met these units beside the noise
_PAIR_SPREAD = 0.2  # of labels' shares between subjects


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

    def advance(self, anchor: Anchor, shape: Shape, *, total: Tensor, noise_std: float) -> Anchor:
        """Take in the sum over all sites."""
        rows = total.to(torch.float64).unflatten(0, (shape.n_labels, -1))
        frame, directions = coordinates_of(shape), self._directions(shape)
        counts = (rows[:, 0] / self.count_weight).clamp_min(1.0)
        said = _Said(rows[:, 3:], counts, directions, noise=noise_std, count_noise=noise_std / self.count_weight)
        fitted = self._fitted(said, shape, _FIRST)
        fitted = self._fitted(said, shape, _likeliest(fitted, said, frame.covariance))
        share = _between(
            rows[:, 1:3] / self.pair_weight, fitted.covariances, directions, noise=noise_std / self.pair_weight
        )
        return Anchor(
            fitted.counts,
            (noise_std / fitted.counts).square(),
            fitted.weights,
            (fitted.means @ frame.back).clamp(-BOUND, BOUND),
            positive(frame.back.T @ fitted.covariances @ frame.back)[:, None].expand_as(anchor.covariances).clone(),
            share[:, None].expand(-1, anchor.between.shape[1]).clone(),
            anchor.together,
            1,
        )

    def _fitted(self, said: "_Said", shape: Shape, reach: "_Reach") -> "_Fitted":
        """Return the mixture fitted with means expected within a reach."""
        covariance, block = coordinates_of(shape).covariance, codec_of(shape).block
        mixture = _Mixture(said.counts, covariance, reach, block=block, components=self.components)
        return _fit(mixture, said, steps=self.steps)

    def _bound(self) -> float:
        """Return the length that no contribution exceeds; shares add up to one, so one label alone is longest."""
        return math.sqrt(1 + self.count_weight**2 + 2 * self.pair_weight**2)

    def _directions(self, shape: Shape) -> Tensor:
        return _frequencies(self.frequencies, self.widths, codec_of(shape).n_features)


@lru_cache(maxsize=8)
def _frequencies(number: int, widths: tuple[float, ...], size: int) -> Tensor:
    """Return public frequencies, shape (frequency, feature), float64, of Gaussian kernels of the widths in turn."""
    normal = torch.randn(
        number, size, generator=torch_generator("mean embedding", number, size), dtype=torch.float64
    )
    width = torch.tensor(widths, dtype=torch.float64)[torch.arange(number) % len(widths)]
    return normal / (width * math.sqrt(size))[:, None]


@dataclass(frozen=True)
class _Fitted:
    """What was fitted, in the frame: counts (label,), weights (label, component), means (label, component, feature)
    and covariances (label, feature, feature)."""

    counts: Tensor
    weights: Tensor
    means: Tensor
    covariances: Tensor


@dataclass(frozen=True)
class _Said:
    """What the noisy sum said: embeddings times counts (label, 2 * frequency), counts (label,), and their noise."""

    embeddings: Tensor
    counts: Tensor
    directions: Tensor
    noise: float
    count_noise: float

    def variance(self) -> Tensor:
        """Return the variance of an embedding's coordinate, shape (label, one)."""
        return self.noise**2 + _SAMPLING * self.counts[:, None] / self.embeddings.shape[1]


@dataclass(frozen=True)
class _Reach:
    """How far means are expected from the public prior's: shares of its variance, and how it is bent."""

    shared: float
    own: float
    bend: float


_FIRST = _Reach(0.3, 0.3, 1.5)


class _Mixture:
    """Free numbers, all zero at the prior and standard normal a priori, and the mixture that they stand for."""

    def __init__(self, counts: Tensor, prior: Tensor, reach: _Reach, *, block: int, components: int) -> None:
        labels, size = len(counts), len(prior)
        self.counts, self.block, self.reach = counts, block, reach
        values, vectors = torch.linalg.eigh(prior)
        self.steps = _bent(values, reach.bend).sqrt()[:, None] * vectors.T
        spreads, self.axes = torch.linalg.eigh(prior[:block, :block])
        self.spreads = torch.cat([spreads, prior.diagonal()[block:]]).clamp_min(1e-4)
        self.start = torch.randn(
            labels, components, size, generator=torch_generator("mixture", components, size), dtype=torch.float64
        )
        self.start = self.start * (0.3 if components > 1 else 0.0)
        widths = {
            "scale": (labels,),
            "shared": (size,),
            "own": (labels, components, size),
            "weight": (labels, components),
            "size": (1 + labels,),
            "bend": (1,),
            "pooled": (size, size),
            "form": (labels, size, size),
        }
        self.free = {
            name: torch.zeros(*width, dtype=torch.float64, requires_grad=True) for name, width in widths.items()
        }

    def __call__(self) -> _Fitted:
        """Return the mixture that the free numbers stand for."""
        free, block = self.free, self.block
        means = math.sqrt(self.reach.shared) * free["shared"]
        means = means + math.sqrt(self.reach.own) * (free["own"] + self.start)
        size = torch.exp(_SIZE_SPREAD * free["size"][0] + _OWN_SIZE * free["size"][1:])
        bent = _SIZE * _bent(self.spreads, _BEND + _BEND_SPREAD * free["bend"])
        scale = (size[:, None] * bent).sqrt()
        form = _POOLED_FORM * free["pooled"] + _OWN_FORM * free["form"]
        form = (form + form.transpose(1, 2)) / 2
        inner = scale[:, :block, None] * torch.linalg.matrix_exp(form[:, :block, :block]) * scale[:, None, :block]
        outer = scale[:, block:].square() * torch.exp(form.diagonal(dim1=1, dim2=2)[:, block:])
        covariances = torch.diag_embed(torch.cat([torch.zeros_like(scale[:, :block]), outer], dim=1))
        covariances[:, :block, :block] += self.axes @ inner @ self.axes.T
        counts = self.counts * torch.exp(free["scale"])
        return _Fitted(counts, torch.softmax(free["weight"], dim=1), means @ self.steps, covariances)

    def doubt(self) -> Tensor:
        """Return minus the log of the prior's density, up to a constant; counts are judged by their own sum."""
        return 0.5 * sum(
            (value.square().sum() for name, value in self.free.items() if name != "scale"), torch.zeros(())
        )


def _fit(mixture: _Mixture, said: _Said, *, steps: int) -> _Fitted:
    """Return the mixture of the largest posterior density, by Adam from the prior; the step fades to zero."""
    parameters = list(mixture.free.values())
    optimizer = torch.optim.Adam(parameters, betas=(0.9, 0.99))
    variance = said.variance()
    for step in range(steps):
        optimizer.param_groups[0]["lr"] = 0.05 * (1 + math.cos(math.pi * step / steps))
        optimizer.zero_grad()
        guess = mixture()
        misfit = said.embeddings - guess.counts[:, None] * _embedding(guess, said.directions)
        loss = 0.5 * (misfit.square() / variance).sum() + mixture.doubt()
        loss = (
            loss + 0.5 * ((guess.counts - said.counts).square() / (said.count_noise**2 + 1e-3 * said.counts)).sum()
        )
        torch.autograd.backward(loss, inputs=parameters)
        optimizer.step()
    with torch.no_grad():
        return mixture()


def _likeliest(fitted: _Fitted, said: _Said, prior: Tensor) -> _Reach:
    """Return the reach that makes the sum likeliest, were embeddings linear in the means around what was fitted.

    The evidence of y ~ N(Hm, H) under m ~ N(0, C) is, up to a constant, (h'(I + CH)^-1 Ch - log det(I + CH)) / 2,
    h = y (empirical Bayes; Efron and Morris 1973).
    """
    labels, size = fitted.means.shape[0], len(prior)
    values, vectors = torch.linalg.eigh(prior)
    turned, embedding = said.directions @ vectors, _embedding(fitted, said.directions)
    real, imaginary = (fitted.counts[:, None] * embedding).chunk(2, dim=1)
    # Moving a label's means by e turns its embedding: d(real) = -imaginary w'e, d(imaginary) = real w'e.
    slopes = torch.cat([-imaginary[:, :, None] * turned, real[:, :, None] * turned], dim=1)
    misfit = said.embeddings - fitted.counts[:, None] * embedding
    precision = torch.einsum("lfi,lfj->lij", slopes, slopes) / said.variance()[:, :, None]
    centre = torch.einsum("lk,lki->li", fitted.weights, fitted.means) @ vectors
    pull = (
        torch.einsum("lij,lj->li", precision, centre) + torch.einsum("lfi,lf->li", slopes, misfit) / said.variance()
    )
    whole, pull = torch.block_diag(*precision), pull.flatten()
    eye, best, answer = torch.eye(labels * size, dtype=torch.float64), -math.inf, _FIRST
    for shared, own, bend in itertools.product(_SHARED, _OWN, _MEAN_BENDS):
        alike = shared * torch.ones(labels, labels, dtype=torch.float64) + own * torch.eye(
            labels, dtype=torch.float64
        )
        covariance = torch.kron(alike, torch.diag(_bent(values, bend)))
        inner = eye + covariance @ whole
        fit = 0.5 * float(
            pull @ torch.linalg.solve(inner, covariance @ pull) - torch.linalg.slogdet(inner).logabsdet
        )
        if fit > best:
            best, answer = fit, _Reach(shared, own, bend)
    return answer


def _bent(values: Tensor, bend: Tensor | float) -> Tensor:
    """Return variances whose logarithms are stretched by `bend`, of the same sum."""
    bent = values.clamp_min(1e-6) ** bend
    return bent * values.sum() / bent.sum()


def _embedding(fitted: _Fitted, directions: Tensor) -> Tensor:
    """Return the mixtures' mean embeddings, shape (label, 2 * frequency): exp(i w'm - w'Sw / 2), by its parts."""
    angle = fitted.means @ directions.T
    fade = torch.exp(-0.5 * ((directions @ fitted.covariances) * directions).sum(dim=2))
    real = torch.einsum("lk,lkf->lf", fitted.weights, angle.cos()) * fade
    imaginary = torch.einsum("lk,lkf->lf", fitted.weights, angle.sin()) * fade
    return torch.cat([real, imaginary], dim=1) / math.sqrt(len(directions))


def _between(pairs: Tensor, covariances: Tensor, directions: Tensor, *, noise: float) -> Tensor:
    """Return the share of the variance between subjects, shape (label,), from the likeness of a unit's own windows.

    Two windows of one subject differ by N(0, 2 (1 - share) S), so their mean kernel is exp(-(1 - share) w'Sw).
    Labels' shares vary around a common one, which varies around one half.
    """
    grid = torch.linspace(0.05, 0.95, 91, dtype=torch.float64)
    power = ((directions @ covariances) * directions).sum(dim=2)
    kernel = torch.exp(-(1 - grid[None, :, None]) * power[:, None, :]).mean(dim=2)
    misfit = 0.5 * (pairs[:, 1:] - pairs[:, :1].clamp_min(0) * kernel).square()
    misfit = misfit / (noise**2 + 1e-3 * pairs[:, :1].clamp_min(1.0))
    common = misfit + 0.5 * ((grid - 0.5) / 0.25).square() / len(pairs)
    centre = grid[common.sum(dim=0).argmin()]
    return grid[(misfit + 0.5 * ((grid - centre) / _PAIR_SPREAD).square()).argmin(dim=1)]
