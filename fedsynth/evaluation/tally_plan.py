"""What is asked of held-out units, chosen so that a score can say something: from public facts to bins and bounds.

Every cell of a tally carries the whole noise, so cells that cannot help only hurt. With K bins the noise of an
AUROC grows like the root of K; with fewer, less of the answers' order is kept. Declared units, labels, sites,
epsilon, delta and trust decide; no recording does.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import accumulate, pairwise
from statistics import NormalDist

from fedsynth.modalities.affordable import asks_raw_views, compares_raw_windows
from fedsynth.study import Study

BINS = 16
"""The most that an AUROC is read from; its mean error is below .01 where noise is small (docs/log.md)."""

SUPPOSED = 0.85
"""The AUROC that a plan supposes when it asks how well it could be measured."""

_DISTANCE = math.sqrt(2) * NormalDist().inv_cdf(SUPPOSED)  # of two normal laws with that AUROC
_CHOICES = (2, 3, 4, 6, 8, 12, 16)
_HALF = 1.96  # of a 95 % interval, in standard deviations
_USEFUL = 0.5  # the widest interval of a macro-F1 that says something


@dataclass(frozen=True)
class TallyPlan:
    """`bins` of the positive label's probability, and whether the `confusion` matrix is asked for beside them.

    `compared` more histograms say whether raw windows tell labels apart as well as features do: none, two of
    classifiers that the release taught, or a third of one that recordings taught.
    """

    bins: int = BINS
    confusion: bool = True
    compared: int = 0

    @property
    def bound(self) -> float:
        """Return the L2 bound of one unit's tally: an average of one-hot vectors, side by side."""
        return math.sqrt(1 + self.confusion + self.compared)


EVERYTHING = TallyPlan()
"""What is asked where there is no noise."""


def tally_plan_of(study: Study) -> TallyPlan:
    """Return what a study asks of its held-out units; the same on every machine.

    The confusion matrix is left out where the interval of a perfect macro-F1 would be half a scale wide. Of bins
    there are as many as put the supposed AUROC most standard deviations above chance. Raw windows are held against
    features where noise is low and enough units are held out (`fedsynth.modalities.affordable`).
    """
    compared = (2 + asks_raw_views(study)) * compares_raw_windows(study)
    if not study.privacy.is_private:
        return replace(EVERYTHING, compared=compared)
    n_labels, noise = len(study.labels.names), _noise(study)
    units = held_out_units(study)
    with_confusion = EVERYTHING.bound * noise
    # A perfect matrix is moved by its other cells alone, each of which counts in two labels' scores.
    f1_std = with_confusion * math.sqrt((n_labels - 1) / n_labels) / (units / n_labels)
    confusion = 2 * _HALF * f1_std < _USEFUL
    noise_std = noise * TallyPlan(confusion=confusion, compared=compared).bound
    positives = units / n_labels

    def evidence(bins: int) -> float:
        area, std = _expected(bins, positives=positives, others=units - positives, noise_std=noise_std)
        return (area - 0.5) / std

    return TallyPlan(max(_CHOICES, key=evidence), confusion, compared)


def held_out_units(study: Study) -> int:
    """Return about how many units of all sites are held out, by what the study declares."""
    sites = len(study.cohort.sites) or study.cohort.least_sites
    return max(1, round(study.cohort.expected_units * sites * study.training.held_out))


def supposed_shares(bins: int) -> tuple[list[float], list[float]]:
    """Return the shares of other and of positive units in each bin, where the AUROC is the one supposed.

    Probabilities follow two normal laws, and bins are equally full of both together.
    """
    others, positives = NormalDist(), NormalDist(_DISTANCE)
    edges = [_quantile(number / bins, others, positives) for number in range(1, bins)]
    below = [[0.0, *(law.cdf(edge) for edge in edges), 1.0] for law in (others, positives)]
    rest, true = ([high - low for low, high in pairwise(one)] for one in below)
    return rest, true


def supposed_reading(bins: int) -> float:
    """Return what the supposed AUROC reads like in so many bins."""
    return _expected(bins, positives=1.0, others=1.0, noise_std=0.0)[0]


def _expected(bins: int, *, positives: float, others: float, noise_std: float) -> tuple[float, float]:
    """Return the expected AUROC from `bins` bins and its standard deviation, by the delta method."""
    rest, true = supposed_shares(bins)
    below = [total - 0.5 * share for total, share in zip(accumulate(rest), rest, strict=True)]
    above = [1 - total + 0.5 * share for total, share in zip(accumulate(true), true, strict=True)]
    area = sum(share * level for share, level in zip(true, below, strict=True))
    variance = _variance(true, below, area, count=positives, noise_std=noise_std)
    variance += _variance(rest, above, area, count=others, noise_std=noise_std)
    return area, math.sqrt(variance)


def _variance(
    shares: Sequence[float], levels: Sequence[float], area: float, *, count: float, noise_std: float
) -> float:
    """Return what counts that vary like Poisson's, and their noise, add to the variance of the area."""
    return sum(
        (level - area) ** 2 * (count * share + noise_std**2) / count**2
        for share, level in zip(shares, levels, strict=True)
    )


def _quantile(level: float, *laws: NormalDist) -> float:
    """Return where the mixture of laws in equal shares reaches a level, by bisection."""
    low, high = -10.0, 10.0 + _DISTANCE
    for _ in range(60):
        middle = (low + high) / 2
        if sum(law.cdf(middle) for law in laws) / len(laws) < level:
            low = middle
        else:
            high = middle
    return low


def _noise(study: Study) -> float:
    """Return about how much noise the total of one sum over the held-out units carries, in units of its bound.

    By zero-concentrated differential privacy (Bun and Steinke 2016, proposition 1.3), a little too high.
    """
    privacy = study.privacy
    log_delta = math.log(1 / privacy.delta)
    sigma = (math.sqrt(log_delta + privacy.epsilon) + math.sqrt(log_delta)) / (math.sqrt(2) * privacy.epsilon)
    sites = len(study.cohort.sites) or study.cohort.least_sites
    return sigma * (1.0 if privacy.trust == "aggregate" else math.sqrt(sites))
