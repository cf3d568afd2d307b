"""Estimators: from private sums of public features to an anchor. One interface, several ways; the plan names one.

Every estimator asks one or more sums over everybody, each bounded by a public constant; what it makes of them is
post-processing.
"""

import math
from dataclasses import replace
from typing import Protocol

from torch import Tensor

from fedsynth.anchors.anchor import Anchor
from fedsynth.anchors.mean_embedding import MeanEmbedding
from fedsynth.anchors.moments.estimator import Moments
from fedsynth.anchors.private_evolution import Evolution
from fedsynth.modalities.shape import Shape
from fedsynth.privacy.budget import SumRequest
from fedsynth.study import Study

QUIET = Moments(mean_radius=1.2, residual_radius=0.5, product_weight=2.0, first_weight=0.4)
APART = replace(QUIET, mean_radius=0.9, core_weight=0.3, apart=True)
CLEAR = replace(QUIET, residual_radius=0.75, axes=2)
OPEN = Moments(mean_radius=4.0, residual_radius=4.0, core_radius=4.0)  # nothing to hide: no vector is that long
LOUD = Moments(mean_radius=0.85, residual_radius=0.4, first_weight=0.45, groups=2)
# Noise on a label's mean from which sizes and tight bounds pay, and below which one axis of cells does, or two, or
# two and a wider bound.
_LOUD, _ONE_AXIS, _TWO_AXES, _CLEAR = 0.025, 0.01, 0.005, 0.0025  # docs/log.md


class Estimator(Protocol):
    """From sums to an anchor; the same on every machine."""

    def requests(self, shape: Shape) -> tuple[SumRequest, ...]:
        """Return the private sums in order, with their public bounds."""
        ...

    def prior(self, shape: Shape) -> Anchor:
        """Return the anchor before the first sum."""
        ...

    def statistic_size(self, shape: Shape, *, step: int) -> int:
        """Return how many numbers one unit contributes to a step."""
        ...

    def statistics(self, anchor: Anchor, shape: Shape, *, signal: Tensor, labels: Tensor) -> Tensor:
        """Return what one unit contributes to the next step, shape (statistic_size,), float64; not clipped yet.

        Args:
            anchor: as of the step before.
            shape: of the windows.
            signal: all windows of one unit in microvolts, shape (window, channel, time).
            labels: shape (window,).
        """
        ...

    def advance(self, anchor: Anchor, shape: Shape, *, total: Tensor, noise_std: float) -> Anchor:
        """Take in the sum over all sites of one step.

        Args:
            anchor: as of the step before.
            shape: of the windows.
            total: shape (statistic_size,), noise included.
            noise_std: of each coordinate of `total`, for shrinkage.
        """
        ...


def estimator_of(study: Study) -> Estimator:
    """Return the estimator that a study names; the constants follow from how loud the noise will be.

    Public facts alone decide: declared units, labels, sites, epsilon, delta and trust.
    """
    if study.training.estimator == "mean-embedding":
        return MeanEmbedding()
    if study.training.estimator == "evolution":
        return Evolution()
    if not study.privacy.is_private:
        return OPEN
    noise = expected_noise(study)
    if noise >= _LOUD:
        return LOUD
    if noise < _CLEAR:
        return CLEAR
    if noise < _ONE_AXIS:
        return replace(QUIET, axes=2 if noise < _TWO_AXES else 1)
    return APART


def expected_noise(study: Study) -> float:
    """Return the noise that one sum over everybody would put on a label's mean, in units of its bound.

    By the conversion of zero-concentrated differential privacy (Bun and Steinke 2016, proposition 1.3), which is a
    little too high; a choice of constants needs no more.
    """
    privacy, cohort = study.privacy, study.cohort
    if not privacy.is_private:
        return 0.0
    doubt = math.log(1 / privacy.delta)
    sigma = (math.sqrt(doubt + privacy.epsilon) + math.sqrt(doubt)) / (math.sqrt(2) * privacy.epsilon)
    sites = len(cohort.sites) or cohort.least_sites
    louder = 1 if privacy.trust == "aggregate" else math.sqrt(sites)
    return sigma * louder * len(study.labels.names) / (cohort.expected_units * sites)
