"""Estimators: from private sums of public features to an anchor. One interface, several ways; the plan names one.

Every estimator asks one or more sums over everybody, each bounded by a public constant; what it makes of them is
post-processing.
"""

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Protocol

from torch import Tensor

from fedsynth.anchors.anchor import Anchor
from fedsynth.anchors.mean_embedding.estimator import MeanEmbedding
from fedsynth.anchors.moments.beat_series import BeatSeries
from fedsynth.anchors.moments.coherence import Coherence
from fedsynth.anchors.moments.components import Components
from fedsynth.anchors.moments.conditions import Conditions
from fedsynth.anchors.moments.estimator import Moments, SignalStage
from fedsynth.anchors.moments.event_related import EventRelated
from fedsynth.anchors.moments.log_variances import LogVariances
from fedsynth.anchors.moments.means import CountsAndMeans
from fedsynth.anchors.moments.modulation import Modulation
from fedsynth.anchors.moments.raw_views import RawViews
from fedsynth.anchors.moments.responses import Responses
from fedsynth.anchors.moments.second_moments import SecondMoments, SecondMomentsByPart
from fedsynth.anchors.moments.subjects import OwnProducts, Ratios
from fedsynth.anchors.private_evolution import PrivateEvolution
from fedsynth.modalities.affordable import asks_raw_views, asks_responses, expected_noise
from fedsynth.modalities.codec import BOUND
from fedsynth.modalities.coherence import CoherencePlan
from fedsynth.modalities.event_related import EventRelatedPlan
from fedsynth.modalities.registry import codec_of, n_beat_series
from fedsynth.modalities.shape import Shape, shape_of
from fedsynth.privacy.budget import SumRequest
from fedsynth.study import EstimatorName, Study

_MEANS = CountsAndMeans(radius=1.2, budget_share=0.4)
_SECOND_MOMENTS = SecondMoments(radius=0.5, product_weight=2.0, budget_share=0.3)
# A count is as large as in the first sum: .4 of 1.2.
_COMPONENTS = Components(axes=1, radius=0.5, count_size=0.48, product_weight=2.0, budget_share=0.3)

HIGH_NOISE = Moments(
    (CountsAndMeans(radius=0.85, budget_share=0.45), LogVariances(radius=0.4, groups=2, budget_share=0.55))
)
MEDIUM_NOISE = Moments(
    (
        CountsAndMeans(radius=0.9, budget_share=0.4),
        SecondMomentsByPart(
            radius=0.5, product_weight=2.0, core_weight=0.3, own=Ratios(), reach=True, budget_share=0.6
        ),
    )
)
LOW_NOISE = Moments((_MEANS, _SECOND_MOMENTS, _COMPONENTS))
VERY_LOW_NOISE = Moments((_MEANS, _SECOND_MOMENTS, replace(_COMPONENTS, axes=2)))
LEAST_NOISE = Moments((_MEANS, replace(_SECOND_MOMENTS, radius=0.75), replace(_COMPONENTS, axes=2, radius=0.75)))
NO_NOISE_FEW = Moments((CountsAndMeans(radius=4.0), SecondMoments(radius=4.0, core_radius=4.0, own=OwnProducts())))
"""Without privacy there is nothing to hide: no vector is longer than these bounds."""
_FREE_COMPONENTS = replace(_COMPONENTS, axes=2, radius=4.0)
NO_NOISE = Moments(
    (
        replace(_MEANS, radius=4.0),
        replace(_SECOND_MOMENTS, radius=4.0, core_radius=4.0, own=OwnProducts()),
        _FREE_COMPONENTS,
    )
)
"""The same, where declared units are so many that each component has some."""

# From how much noise on a label's mean, in units of its bound, which of them is best (docs/log.md).
_BY_NOISE = (
    (0.025, HIGH_NOISE),
    (0.01, MEDIUM_NOISE),
    (0.005, LOW_NOISE),
    (0.0025, VERY_LOW_NOISE),
    (0.0, LEAST_NOISE),
)


_USUAL_DISTANCE = 2**0.5  # of a number of beats from the decoder's, in its own unit
_WIDER_NOISE = 0.02  # on a label's number of beats, in its own unit, that a wider bound may bring
_MOST_NOISE = 0.3  # of the bound, in a label's mean of windows themselves
_WAVEFORM_HZ = (40.0, 20.0, 10.0, 5.0)  # up to which a mean waveform may be asked
_MOST_CHANNELS = 32  # whose matrices are turned within seconds


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

    def statistics(
        self, anchor: Anchor, shape: Shape, *, signal: Tensor, labels: Tensor, covariates: Tensor | None = None
    ) -> Tensor:
        """Return what one unit contributes to the next step, shape (statistic_size,), float64; not clipped yet.

        Args:
            anchor: as of the step before.
            shape: of the windows.
            signal: all windows of one unit in microvolts, shape (window, channel, time).
            labels: shape (window,).
            covariates: the stratum's number and, of each statement, 0 or 1, shape (window, 1 + statement); None
                where there are none.
        """
        ...

    def counts(self, shape: Shape, *, total: Tensor, noise_std: float) -> tuple[Tensor, float]:
        """Return how many units the first sum counts of each label, and how noisy that is; nothing is cut off.

        Args:
            shape: of the windows.
            total: of the first step, shape (statistic_size,), noise included.
            noise_std: of each coordinate of `total`.

        Returns:
            Units, shape (label,), float64, and the standard deviation of their noise.
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
    """Return the estimator that a study names; the stages of moments follow from how loud the noise will be.

    Public facts alone decide: declared units, labels, sites, epsilon, delta and trust.
    """
    return ESTIMATORS[study.training.estimator](study)


def moments_of(study: Study) -> Moments:
    """Return the stages that expected noise leaves worth asking for."""
    noise, shape = expected_noise(study), shape_of(study)
    if study.privacy.is_private:
        moments = next(moments for least, moments in _BY_NOISE if noise >= least)
    else:
        moments = NO_NOISE if has_units_for_components(study, shape) else NO_NOISE_FEW
    last: tuple[SignalStage | None, ...] = (
        modulation_of(shape, noise=noise),
        beat_series_of(shape, noise=noise),
        coherence_of(shape, noise=noise),
        event_related_of(shape, noise=noise) if study.labels.source == "events" else None,
        raw_views_of(noise=noise) if asks_raw_views(study) else None,
        responses_of(noise=noise) if asks_responses(study) else None,
    )
    asked = tuple(stage for stage in last if stage is not None)
    return replace(moments, of_signals=asked, of_conditions=conditions_of(shape, noise=noise))


def has_units_for_components(study: Study, shape: Shape) -> bool:
    """Return whether half as many units as features are declared for each component of a label.

    With fewer a component's covariance is that of a handful of units, which are then drawn again and again.
    """
    cohort, components = study.cohort, _FREE_COMPONENTS.number * shape.n_labels
    units = cohort.expected_units * (len(cohort.sites) or cohort.least_sites)
    return 2 * units >= components * codec_of(shape).n_features


def conditions_of(shape: Shape, *, noise: float) -> Conditions | None:
    """Return what is asked of covariates, wherever a study names some."""
    if not shape.conditioned:
        return None
    # Without privacy there is nothing to cut.
    return Conditions() if noise else Conditions(radius=4.0)


def coherence_of(shape: Shape, *, noise: float) -> Coherence | None:
    """Return what is asked of channels together: the most whose noise leaves something, or nothing.

    Each coordinate carries `noise` times the bound, so that a mean is off by that times the root of their number.
    Where noise is high, the means need all there is. ECG leads are projections of one dipole, and one channel has
    nothing in common with another.
    """
    if shape.modality != "eeg" or not 1 < len(shape.channels) <= _MOST_CHANNELS or noise >= _BY_NOISE[0][0]:
        return None
    for plan in (CoherencePlan(), CoherencePlan(lags=False), CoherencePlan(by_band=False, lags=False)):
        if noise * math.sqrt(plan.size(shape)) <= _MOST_NOISE:
            # Without privacy there is nothing to cut.
            return Coherence(plan) if noise else Coherence(plan, radius=2.0)
    return None


def event_related_of(shape: Shape, *, noise: float) -> EventRelated | None:
    """Return what is asked of windows that begin at events: the finest waveform whose noise leaves something of it.

    Beats of ECG have their mean waveform among the features. Where noise is high, the means need all there is.
    """
    if shape.modality != "eeg" or noise >= _BY_NOISE[0][0]:
        return None
    for hertz in _WAVEFORM_HZ:
        stage = EventRelated(EventRelatedPlan(hertz))
        if noise * math.sqrt(stage.size(shape)) <= _MOST_NOISE:
            # Without privacy there is nothing to cut.
            return stage if noise else replace(stage, radius=4.0)
    return None


def modulation_of(shape: Shape, *, noise: float) -> Modulation | None:
    """Return what is asked of rhythms, where noise is low: few numbers, which means of features can spare."""
    if shape.modality != "eeg" or noise >= _BY_NOISE[1][0]:
        return None
    return Modulation() if noise else Modulation(radius=8.0)


def beat_series_of(shape: Shape, *, noise: float) -> BeatSeries | None:
    """Return what is asked of beats that follow one another, where noise is low and windows show several."""
    if not n_beat_series(shape) or noise >= _BY_NOISE[1][0]:
        return None
    if not noise:
        return BeatSeries(radius=16.0)
    # Usual beats are further from the decoder's than the least bound; what cuts them pulls labels together.
    usual = _USUAL_DISTANCE * math.sqrt(n_beat_series(shape))
    return BeatSeries(radius=min(usual, max(BeatSeries().radius, _WIDER_NOISE / noise)))


def responses_of(*, noise: float) -> Responses:
    """Return what is asked of random convolutions; without privacy there is nothing to cut."""
    return Responses() if noise else Responses(radius=BOUND)


def raw_views_of(*, noise: float) -> RawViews:
    """Return what is asked of raw windows for the report alone; without privacy there is nothing to cut."""
    return RawViews() if noise else RawViews(radius=8.0)


ESTIMATORS: dict[EstimatorName, Callable[[Study], Estimator]] = {
    "moments": moments_of,
    "mean-embedding": lambda _: MeanEmbedding(),
    "evolution": lambda _: PrivateEvolution(),
}
