"""A mixture of Gaussians for each label, fitted to noisy mean embeddings: the largest posterior density, by Adam.

The embedding of a Gaussian is its characteristic function at public frequencies, so the fit needs no samples.
Post-processing of a private sum; it sees nothing else.
"""

import itertools
import math
from dataclasses import dataclass

import torch
from torch import Tensor

from fedsynth.rng import torch_generator

_SHARED = (0.03, 0.1, 0.3, 1.0)  # of the public prior's variance: what labels' means share
_OWN = (0.03, 0.1, 0.3, 1.0)  # and what each has of its own
_MEAN_BENDS = (0.7, 1.2, 1.8, 2.5)  # means differ more where the prior varies more
_SIZE, _SIZE_STD = 0.3, 0.7  # of the variance within a label beside the prior's; the std is its logarithm's
_BEND, _BEND_STD = 1.0, 0.5  # of the prior's variances within a label
_OWN_SIZE_STD = 0.3  # of the logarithm of a label's own size
_POOLED_FORM_STD, _OWN_FORM_STD = 0.3, 0.15  # of entries of the logarithm of the covariance's form
_START_STD = 0.3  # of the means of several components, in units of their prior's, where the descent begins
_SAMPLING = 0.1  # weight of the chance of having met these units beside the noise
_COUNT_SAMPLING = 1e-3  # variance of a count beside itself and the noise
_LEARNING_RATE, _BETAS = 0.05, (0.9, 0.99)  # of Adam; the rate falls from twice this to zero by a cosine


@dataclass(frozen=True)
class Fitted:
    """What was fitted, in the frame: counts (label,), weights (label, component), means (label, component, feature)
    and covariances (label, feature, feature)."""

    counts: Tensor
    weights: Tensor
    means: Tensor
    covariances: Tensor


@dataclass(frozen=True)
class NoisySums:
    """The private sum: embeddings times counts (label, 2 * frequency), counts (label,), and their noise."""

    embeddings: Tensor
    counts: Tensor
    directions: Tensor
    noise: float
    count_noise: float

    def variance(self) -> Tensor:
        """Return the variance of an embedding's coordinate, shape (label, one)."""
        return self.noise**2 + _SAMPLING * self.counts[:, None] / self.embeddings.shape[1]


@dataclass(frozen=True)
class PriorScale:
    """How far means are expected from the public prior's: shares of its variance, and how it is bent."""

    shared: float
    own: float
    bend: float


FIRST_SCALE = PriorScale(0.3, 0.3, 1.5)


class Mixture:
    """Free numbers, all zero at the prior and standard normal a priori, and the mixture that they stand for."""

    def __init__(
        self, counts: Tensor, prior: Tensor, prior_scale: PriorScale, *, block: int, components: int
    ) -> None:
        labels, size = len(counts), len(prior)
        self.counts, self.block, self.prior_scale = counts, block, prior_scale
        values, vectors = torch.linalg.eigh(prior)
        self.steps = _bent(values, prior_scale.bend).sqrt()[:, None] * vectors.T
        variances, self.axes = torch.linalg.eigh(prior[:block, :block])
        self.variances = torch.cat([variances, prior.diagonal()[block:]]).clamp_min(1e-4)
        self.start = torch.randn(
            labels, components, size, generator=torch_generator("mixture", components, size), dtype=torch.float64
        )
        self.start = self.start * (_START_STD if components > 1 else 0.0)
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

    def __call__(self) -> Fitted:
        """Return the mixture that the free numbers stand for."""
        free, block = self.free, self.block
        means = math.sqrt(self.prior_scale.shared) * free["shared"]
        means = means + math.sqrt(self.prior_scale.own) * (free["own"] + self.start)
        size = torch.exp(_SIZE_STD * free["size"][0] + _OWN_SIZE_STD * free["size"][1:])
        bent = _SIZE * _bent(self.variances, _BEND + _BEND_STD * free["bend"])
        scale = (size[:, None] * bent).sqrt()
        form = _POOLED_FORM_STD * free["pooled"] + _OWN_FORM_STD * free["form"]
        form = (form + form.transpose(1, 2)) / 2
        inner = scale[:, :block, None] * torch.linalg.matrix_exp(form[:, :block, :block]) * scale[:, None, :block]
        outer = scale[:, block:].square() * torch.exp(form.diagonal(dim1=1, dim2=2)[:, block:])
        covariances = torch.diag_embed(torch.cat([torch.zeros_like(scale[:, :block]), outer], dim=1))
        covariances[:, :block, :block] += self.axes @ inner @ self.axes.T
        counts = self.counts * torch.exp(free["scale"])
        return Fitted(counts, torch.softmax(free["weight"], dim=1), means @ self.steps, covariances)

    def negative_log_prior(self) -> Tensor:
        """Return minus the log of the prior's density, up to a constant; counts are judged by their own sum."""
        return 0.5 * sum(
            (value.square().sum() for name, value in self.free.items() if name != "scale"), torch.zeros(())
        )


def fit(mixture: Mixture, sums: NoisySums, *, steps: int) -> Fitted:
    """Return the mixture of the largest posterior density, by Adam from the prior; the step fades to zero."""
    parameters = list(mixture.free.values())
    optimizer = torch.optim.Adam(parameters, betas=_BETAS)
    variance = sums.variance()
    for step in range(steps):
        optimizer.param_groups[0]["lr"] = _LEARNING_RATE * (1 + math.cos(math.pi * step / steps))
        optimizer.zero_grad()
        guess = mixture()
        misfit = sums.embeddings - guess.counts[:, None] * embedding_of(guess, sums.directions)
        loss = 0.5 * (misfit.square() / variance).sum() + mixture.negative_log_prior()
        count_variance = sums.count_noise**2 + _COUNT_SAMPLING * sums.counts
        loss = loss + 0.5 * ((guess.counts - sums.counts).square() / count_variance).sum()
        torch.autograd.backward(loss, inputs=parameters)
        optimizer.step()
    with torch.no_grad():
        return mixture()


def likeliest_scale(fitted: Fitted, sums: NoisySums, prior: Tensor) -> PriorScale:
    """Return the prior scale under which the sum is likeliest, were embeddings linear in means around those fitted.

    The evidence of y ~ N(Hm, H) under m ~ N(0, C) is, up to a constant, (h'(I + CH)^-1 Ch - log det(I + CH)) / 2,
    h = y (empirical Bayes; Efron and Morris 1973).
    """
    labels, size = fitted.means.shape[0], len(prior)
    values, vectors = torch.linalg.eigh(prior)
    turned, embedding = sums.directions @ vectors, embedding_of(fitted, sums.directions)
    real, imaginary = (fitted.counts[:, None] * embedding).chunk(2, dim=1)
    # Moving a label's means by e turns its embedding: d(real) = -imaginary w'e, d(imaginary) = real w'e.
    slopes = torch.cat([-imaginary[:, :, None] * turned, real[:, :, None] * turned], dim=1)
    misfit = sums.embeddings - fitted.counts[:, None] * embedding
    precision = torch.einsum("lfi,lfj->lij", slopes, slopes) / sums.variance()[:, :, None]
    centre = torch.einsum("lk,lki->li", fitted.weights, fitted.means) @ vectors
    pull = (
        torch.einsum("lij,lj->li", precision, centre) + torch.einsum("lfi,lf->li", slopes, misfit) / sums.variance()
    )
    whole, pull = torch.block_diag(*precision), pull.flatten()
    eye, best, answer = torch.eye(labels * size, dtype=torch.float64), -math.inf, FIRST_SCALE
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
            best, answer = fit, PriorScale(shared, own, bend)
    return answer


def _bent(values: Tensor, bend: Tensor | float) -> Tensor:
    """Return variances whose logarithms are stretched by `bend`, of the same sum."""
    bent = values.clamp_min(1e-6) ** bend
    return bent * values.sum() / bent.sum()


def embedding_of(fitted: Fitted, directions: Tensor) -> Tensor:
    """Return the mixtures' mean embeddings, shape (label, 2 * frequency): exp(i w'm - w'Sw / 2), by its parts."""
    angle = fitted.means @ directions.T
    fade = torch.exp(-0.5 * ((directions @ fitted.covariances) * directions).sum(dim=2))
    real = torch.einsum("lk,lkf->lf", fitted.weights, angle.cos()) * fade
    imaginary = torch.einsum("lk,lkf->lf", fitted.weights, angle.sin()) * fade
    return torch.cat([real, imaginary], dim=1) / math.sqrt(len(directions))
