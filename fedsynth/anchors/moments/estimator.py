"""Moments: an estimator made of stages, each one private sum: counts and means, variances around them, components.

Everything after the sums is post-processing, so the noisy sums themselves may decide how much they are shrunk
(empirical Bayes): means towards the public prior with its covariance, covariances towards the pooled one.
"""

from dataclasses import dataclass, replace
from typing import Protocol

import torch
from torch import Tensor

from fedsynth.anchors.anchor import Anchor, prior_anchor
from fedsynth.anchors.coordinates import coordinates_of
from fedsynth.anchors.moments.components import Components
from fedsynth.anchors.moments.conditions import Conditions
from fedsynth.anchors.moments.means import CountsAndMeans
from fedsynth.anchors.moments.second_moments import SecondMoments, SecondMomentsByPart
from fedsynth.modalities.registry import codec_of, standardise
from fedsynth.modalities.shape import Shape
from fedsynth.privacy.budget import SumRequest


class Stage(Protocol):
    """One private sum over everybody: a row of numbers for each label, and what is made of it.

    Vectors are standardised and in the frame of the shape (`coordinates_of`), shape (window, feature), float64.
    What is bounded is the mean over a unit's windows, shorter than most windows; so less is cut off.
    """

    def request(self, shape: Shape) -> SumRequest:
        """Return the private sum with its public bound on the length of a contribution."""
        ...

    def size(self, shape: Shape) -> int:
        """Return how many numbers the row of one label has."""
        ...

    def contribution(self, anchor: Anchor, shape: Shape, *, vector: Tensor, labels: Tensor) -> Tensor:
        """Return one unit's rows, shape (label, size): each times the label's share of the unit's windows."""
        ...

    def advance(self, anchor: Anchor, shape: Shape, *, rows: Tensor, noise_std: float) -> Anchor:
        """Return the anchor after the sum, `rows` (label, size) with noise of `noise_std` on every number."""
        ...


class SignalStage(Protocol):
    """One private sum of windows themselves, which features do not tell; its answer stands beside theirs."""

    def request(self, shape: Shape) -> SumRequest:
        """Return the private sum with its public bound on the length of a contribution."""
        ...

    def size(self, shape: Shape) -> int:
        """Return how many numbers the row of one label has."""
        ...

    def prior(self, anchor: Anchor, shape: Shape) -> Anchor:
        """Return the anchor with what the public decoder gives."""
        ...

    def contribution(self, shape: Shape, *, signal: Tensor, labels: Tensor) -> Tensor:
        """Return one unit's rows, shape (label, size), of microvolts (window, channel, time)."""
        ...

    def advance(self, anchor: Anchor, shape: Shape, *, rows: Tensor, noise_std: float) -> Anchor:
        """Return the anchor after the sum, `rows` (label, size) with noise of `noise_std` on every number."""
        ...


@dataclass(frozen=True)
class Moments:
    """Stages in order, each of which knows what the ones before it have made.

    Effects of covariates, where a study has some, come after what features say of labels; signals are last.
    """

    stages: tuple[Stage, ...] = (CountsAndMeans(), SecondMoments())
    of_signals: tuple[SignalStage, ...] = ()
    of_conditions: Conditions | None = None

    def __post_init__(self) -> None:
        """Refuse what has no meaning: components know their covariances whole.

        Raises:
            ValueError: second moments by part, and components.
        """
        kinds = {type(stage) for stage in self.stages}
        if {SecondMomentsByPart, Components} <= kinds:
            raise ValueError("second moments are asked for by part, or of components, not both")

    def requests(self, shape: Shape) -> tuple[SumRequest, ...]:
        """Return the private sums with their public bounds."""
        return tuple(stage.request(shape) for stage in self._every)

    def prior(self, shape: Shape) -> Anchor:
        """Return the public prior, with room for as many components as a stage estimates."""
        numbers = [stage.number for stage in self.stages if isinstance(stage, Components)]
        anchor = prior_anchor(shape, components=max(numbers, default=1))
        if self.of_conditions is not None:
            anchor = self.of_conditions.prior(anchor, shape)
        for stage in self.of_signals:
            anchor = stage.prior(anchor, shape)
        return anchor

    def statistic_size(self, shape: Shape, *, step: int) -> int:
        """Return how many numbers one unit contributes to a step."""
        asked = self._every[step]
        return asked.size(shape) if isinstance(asked, Conditions) else shape.n_labels * asked.size(shape)

    def statistics(
        self, anchor: Anchor, shape: Shape, *, signal: Tensor, labels: Tensor, covariates: Tensor | None = None
    ) -> Tensor:
        """Return one unit's contribution to the next step."""
        asked = self._every[anchor.done]
        if anchor.done >= len(self._every) - len(self.of_signals):
            last = self.of_signals[anchor.done - len(self._every)]
            return last.contribution(shape, signal=signal, labels=labels).flatten()
        vector = standardise(codec_of(shape).features(signal), shape) @ coordinates_of(shape).there
        if isinstance(asked, Conditions):
            told = labels.new_zeros(len(labels), 1 + shape.n_statements) if covariates is None else covariates
            return asked.contribution(anchor, shape, vector=vector, labels=labels, covariates=told)
        return self.stages[anchor.done].contribution(anchor, shape, vector=vector, labels=labels).flatten()

    def counts(self, shape: Shape, *, total: Tensor, noise_std: float) -> tuple[Tensor, float]:
        """Return the noisy units of each label, shape (label,), and their noise.

        Raises:
            TypeError: the first stage does not count.
        """
        first = self.stages[0]
        if not isinstance(first, CountsAndMeans):
            raise TypeError("moments begin with counts")
        rows = total.to(torch.float64).unflatten(0, (shape.n_labels, -1))
        return first.counts(shape, rows=rows, noise_std=noise_std)

    def advance(self, anchor: Anchor, shape: Shape, *, total: Tensor, noise_std: float) -> Anchor:
        """Take in the sum over all sites of one step."""
        asked, numbers = self._every[anchor.done], total.to(torch.float64)
        if isinstance(asked, Conditions):
            after = asked.advance(anchor, shape, total=numbers, noise_std=noise_std)
        else:
            rows = numbers.unflatten(0, (shape.n_labels, -1))
            after = asked.advance(anchor, shape, rows=rows, noise_std=noise_std)
        return replace(after, done=anchor.done + 1)

    @property
    def _every(self) -> tuple[Stage | Conditions | SignalStage, ...]:
        """What the steps ask for, in order."""
        between = () if self.of_conditions is None else (self.of_conditions,)
        return (*self.stages, *between, *self.of_signals)
