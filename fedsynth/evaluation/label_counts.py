"""Label counts: from the first private sum to how many units stand behind each label, noise included."""

from collections.abc import Iterable

from torch import Tensor

from fedsynth.evaluation.evidence import says_nothing
from fedsynth.evaluation.score import PRIVATE_COUNT, Score

_OF_LABEL = "s that trained with label "
_NORMAL = 1.96  # half of a 95 % interval, in standard deviations


def label_counts(counts: Tensor, *, noise_std: float, label_names: tuple[str, ...], unit: str) -> tuple[Score, ...]:
    """Return what the sum says of each label; an interval that reaches nobody is no evidence of anybody.

    Args:
        counts: noisy units of each label, shape (label,), not cut off at zero.
        noise_std: of each.
        label_names: of the study.
        unit: of privacy, which is what was counted.
    """
    half = _NORMAL * noise_std
    return tuple(
        Score(
            name=f"{unit}{_OF_LABEL}{label}",
            value=float(count),
            low=float(count) - half,
            high=float(count) + half,
            direction=0,
            source=PRIVATE_COUNT,
            about="counted with privacy noise over all sites, a unit with several labels by its share of windows",
        )
        for label, count in zip(label_names, counts, strict=True)
    )


def labels_of_nobody(scores: Iterable[Score]) -> tuple[str, ...]:
    """Return the labels whose private count cannot be told from zero."""
    return tuple(
        score.name.split(_OF_LABEL, 1)[1]
        for score in scores
        if score.source == PRIVATE_COUNT and says_nothing(score, labels=1)
    )
