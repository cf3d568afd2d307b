"""Private evolution: a public population of feature vectors, on which the units vote in a few private histograms.

Lin et al. 2023 (arXiv:2305.15560, algorithm 1) over the simulator's feature vectors: every window votes for the
vector of its label that is nearest to it, the noisy histogram decides how often a vector is kept, and its children
vary less from round to round. Children are drawn as by Liu and West (2001, section 10.3): their variance is taken
off their parents', so that a population without information stays the public prior. All but the votes is public.
"""

import math
from dataclasses import dataclass, replace
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

_PRIOR_UNITS = 1.0  # weight of the public prior's covariance, in vectors for each feature


@dataclass(frozen=True)
class PrivateEvolution:
    """How many vectors stand for a label, how often they are voted on, and how much children vary.

    `variation` is the part of a population's variance that children get anew after the first round; it falls to
    `last_variation` in equal ratios, and that is the part left around each vector at the end.
    """

    population: int = 48
    rounds: int = 3
    variation: float = 0.6
    last_variation: float = 0.4

    def requests(self, shape: Shape) -> tuple[SumRequest, ...]:  # noqa: ARG002
        """Return one histogram for each round; a unit's votes add up to one, so their length is at most one."""
        return tuple(SumRequest(f"anchor: votes of round {index + 1}", 1.0) for index in range(self.rounds))

    def prior(self, shape: Shape) -> Anchor:
        """Return vectors of simulated windows, the same for every label, and the covariance that completes them."""
        anchor = prior_anchor(shape, components=self.population)
        vectors = _simulated(shape, self.population)
        covariance = _covariance(
            vectors, torch.full_like(vectors[:, 0], 1 / len(vectors)), coordinates_of(shape).covariance
        )
        return self._with_covariances(
            replace(anchor, means=vectors.repeat(shape.n_labels, 1, 1)), covariance[None], self.variation, shape
        )

    def statistic_size(self, shape: Shape, *, step: int) -> int:  # noqa: ARG002
        """Return one number for each vector of each label."""
        return shape.n_labels * self.population

    def statistics(
        self,
        anchor: Anchor,
        shape: Shape,
        *,
        signal: Tensor,
        labels: Tensor,
        covariates: Tensor | None = None,  # noqa: ARG002
    ) -> Tensor:
        """Return one unit's votes; its windows weigh alike."""
        frame = coordinates_of(shape)
        vector = standardise(codec_of(shape).features(signal), shape) @ frame.there
        candidates = anchor.means.to(vector)[labels] @ frame.there
        nearest = (candidates - vector[:, None]).square().sum(dim=2).argmin(dim=1)
        size = self.statistic_size(shape, step=anchor.done)
        votes = torch.nn.functional.one_hot(labels * self.population + nearest, size)
        return votes.to(torch.float64).mean(dim=0)

    def counts(self, shape: Shape, *, total: Tensor, noise_std: float) -> tuple[Tensor, float]:
        """Return the noisy units of each label, shape (label,), and their noise."""
        votes = total.to(torch.float64).view(shape.n_labels, self.population)
        return votes.sum(dim=1), noise_std * math.sqrt(self.population)

    def advance(self, anchor: Anchor, shape: Shape, *, total: Tensor, noise_std: float) -> Anchor:
        """Take in one round's votes; resample and vary unless it was the last."""
        frame = coordinates_of(shape)
        votes = total.to(torch.float64).view(shape.n_labels, self.population)
        done = anchor.done + 1
        counts = ((anchor.counts * anchor.done + votes.sum(dim=1)) / done).clamp_min(1.0)
        weights = _weights(votes, noise_std)
        vectors = anchor.means @ frame.there
        covariances = torch.stack(
            [_covariance(own, weight, frame.covariance) for own, weight in zip(vectors, weights, strict=True)]
        )
        centres = (weights[:, :, None] * vectors).sum(dim=1, keepdim=True)
        part = self._variation(done)
        if done < self.rounds:
            children = _children(vectors, weights, public=done)
            roots = torch.linalg.cholesky(covariances)
            jitter = torch.randn(
                vectors.shape, generator=torch_generator("evolution", done, *vectors.shape), dtype=torch.float64
            )
            vectors = centres + math.sqrt(1 - part) * (children - centres) + math.sqrt(part) * jitter @ roots.mT
            weights = torch.full_like(weights, 1 / self.population)
        else:
            vectors = centres + math.sqrt(1 - part) * (vectors - centres)
        bins = math.sqrt(self.population / done)
        out = replace(
            anchor,
            counts=counts,
            noise_variance=(noise_std * bins / counts).square(),
            weights=weights,
            means=(vectors @ frame.back).clamp(-BOUND, BOUND),
            done=done,
        )
        return self._with_covariances(out, covariances, part, shape)

    def _with_covariances(self, anchor: Anchor, covariances: Tensor, part: float, shape: Shape) -> Anchor:
        """Return the anchor with a part of covariances in the frame, shape (label or one, feature, feature)."""
        back = coordinates_of(shape).back
        own = positive(part * back.T @ covariances @ back)[:, None]
        return replace(anchor, covariances=own.expand_as(anchor.covariances).clone())

    def _variation(self, done: int) -> float:
        """Return the part of the variance that is drawn anew after `done` rounds."""
        if self.rounds == 1:
            return self.last_variation
        return float(self.variation * (self.last_variation / self.variation) ** ((done - 1) / (self.rounds - 1)))


@lru_cache(maxsize=8)
def _simulated(shape: Shape, number: int) -> Tensor:
    """Return standardised vectors of simulated windows, shape (number, feature), float64."""
    codec = codec_of(shape)
    return standardise(codec.features(codec.simulate(number)), shape)


def _covariance(vectors: Tensor, weights: Tensor, prior: Tensor) -> Tensor:
    """Return the covariance of weighted vectors (vector, feature), with the prior's form where they are few."""
    away = vectors - weights @ vectors
    own = away.T @ (weights[:, None] * away)
    form = prior * own.trace() / prior.trace()
    few = 1 / float(weights.square().sum())
    trust = few / (few + _PRIOR_UNITS * len(prior))
    return trust * own + (1 - trust) * form + 1e-6 * torch.eye(len(prior), dtype=torch.float64)


def _weights(votes: Tensor, noise_std: float) -> Tensor:
    """Return how much each vector counts, shape (label, vector): votes shrunk towards all alike, none below zero.

    How far votes differ beyond the noise is read off them (empirical Bayes); two standard errors of that are taken
    off, so that noise alone leaves all alike.
    """
    number = votes.shape[1]
    centre = votes.mean(dim=1, keepdim=True)
    variance = (votes - centre).square().sum(dim=1, keepdim=True) / (number - 1)
    signal = (variance - noise_std**2 * (1 + 2 * math.sqrt(2 / (number - 1)))).clamp_min(0.0)
    gain = signal / (signal + noise_std**2 + 1e-12)
    kept = (centre.clamp_min(1 / number) + gain * (votes - centre)).clamp_min(0.0)
    return kept / kept.sum(dim=1, keepdim=True)


def _children(vectors: Tensor, weights: Tensor, *, public: int) -> Tensor:
    """Return as many vectors, each as often as its weight says, by systematic resampling with a public start."""
    number = vectors.shape[1]
    start = torch.rand(len(vectors), 1, generator=torch_generator("resampling", public), dtype=torch.float64)
    points = (torch.arange(number, dtype=torch.float64) + start) / number
    chosen = torch.searchsorted(weights.cumsum(dim=1).contiguous(), points.contiguous()).clamp(max=number - 1)
    return torch.gather(vectors, 1, chosen[:, :, None].expand(-1, -1, vectors.shape[2]))
