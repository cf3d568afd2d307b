"""Evidence: whether a score says anything, and what can be expected of one before anybody is asked."""

import math
from dataclasses import dataclass

import torch

from fedsynth.evaluation.private_scores import scores_of
from fedsynth.evaluation.score import PRIVATE_COUNT, Score
from fedsynth.evaluation.tally_plan import BINS, SUPPOSED, supposed_shares, tally_plan_of
from fedsynth.study import Study

WIDEST = 0.5
"""An interval at least this wide, on a scale from chance to 1, says nothing."""

NOBODY = "its interval reaches zero: the label cannot be told from one that nobody has"
"""Of a label's private count; windows under it may be the public prior's and nothing else."""

_NEARLY = 0.95  # perfection, for an interval that also holds chance
_SATURATED = 0.9995  # printed as 1.000


def chance_level(score: Score, *, labels: int) -> float | None:
    """Return what a guess that ignores the signal would score; None where the score's name does not say."""
    name = score.name.lower()
    if score.source == PRIVATE_COUNT:
        return None
    if "auroc" in name:
        return 0.5
    if "macro-f1" in name or "balanced accuracy" in name:
        return 1.0 / labels
    return None


def says_nothing(score: Score, *, labels: int) -> str:
    """Return why a score is no evidence; an empty string where it says something.

    A number that is not finite; an interval that covers chance and (nearly) perfection, or is half a scale wide; a
    measure that has come to the end of its scale, which cannot tell good windows from better ones; a count that may
    be of nobody.
    """
    if not math.isfinite(score.value):
        return "it could not be computed"
    if score.source == PRIVATE_COUNT:
        return NOBODY if score.low <= 0 else ""
    chance = chance_level(score, labels=labels)
    bounded = math.isfinite(score.low) and math.isfinite(score.high)
    if chance is not None:
        if not bounded:
            return "it has no interval"
        if score.low <= chance and score.high >= _NEARLY:
            return "its interval covers chance and perfection"
        if score.high - score.low >= WIDEST:
            return "its interval is half a scale wide"
        if score.direction > 0 and score.low >= _SATURATED:
            return "it is at the end of its scale: the task is easy, and nothing follows for others"
    elif score.direction == 0 and score.source == "private sum" and score.high - score.low >= WIDEST:
        return "its interval is half a scale wide"
    elif score.direction > 0 and _is_share(score) and score.value >= _SATURATED:
        return "it is at the end of its scale"
    return ""


@dataclass(frozen=True)
class Expectation:
    """How well a plan could measure a true AUROC of .85, from public facts: units declared and noise.

    `reading` is what it would be read as in the `bins` that the plan asks for.
    """

    units: int
    noise_std: float
    bins: int
    reading: float
    low: float
    high: float

    @property
    def says_nothing(self) -> bool:
        """Whether even good windows would get an interval that says nothing."""
        return (self.low <= 0.5 and self.high >= _NEARLY) or self.high - self.low >= WIDEST

    def sentence(self, unit: str) -> str:
        """Say it in words, with what could be changed."""
        said = (
            f"With about {self.units} held-out {unit}s and noise of {self.noise_std:.2f} on every count, a true "
            f"AUROC of {SUPPOSED:.2f} would be read as {self.reading:.2f} in {self.bins} bins, with an interval of "
            f"{self.low:.2f} to {self.high:.2f}"
        )
        if self.says_nothing:
            return (
                f"{said}: the private score can say nothing. More {unit}s, a larger plan.held_out, a larger "
                'epsilon or trust = "aggregate" would help.'
            )
        return f"{said}."


def expected_interval(study: Study, *, noise_multiplier: float, sites: int, noise_shares: int = 1) -> Expectation:
    """Return the interval that the private AUROC of good windows would have, on average; opens no recording.

    The held-out units declared are parted evenly over the labels and answered by a classifier whose probabilities
    follow two normal laws (AUROC .85); the interval is that of `scores_of` on the expected counts.

    Args:
        study: for the units declared and the share held out.
        noise_multiplier: of the sum that asks for scores.
        sites: that answer.
        noise_shares: in how many shares the noise is drawn; 1 where every site adds all of it.
    """
    n_labels, tally = len(study.labels.names), tally_plan_of(study)
    units = max(1, round(study.cohort.expected_units * sites * study.training.held_out))
    noise_std = noise_multiplier * tally.bound * (math.sqrt(sites) if noise_shares == 1 else 1.0)
    positives = units / n_labels
    confusion = torch.eye(n_labels, dtype=torch.float64) * positives
    histogram = torch.zeros(2, BINS, dtype=torch.float64)
    for row, (count, shares) in enumerate(
        zip((units - positives, positives), supposed_shares(tally.bins), strict=True)
    ):
        histogram[row, : tally.bins] = count * torch.tensor(shares, dtype=torch.float64)
    auroc = scores_of(
        torch.cat([confusion.flatten(), histogram.flatten()]),
        label_names=study.labels.names,
        positive=0,
        noise_std=noise_std,
        source="public simulation",
        tally=tally,
    )[0]
    return Expectation(units, noise_std, tally.bins, auroc.value, auroc.low, auroc.high)


def _is_share(score: Score) -> bool:
    """Whether a score lies between 0 and 1 by what it is."""
    return score.high <= 1.0 and score.low >= 0.0
