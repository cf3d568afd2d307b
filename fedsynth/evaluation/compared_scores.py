"""From the histograms of compared classifiers to scores, and to a sentence about what a release holds."""

from collections.abc import Sequence

import numpy as np
from torch import Tensor

from fedsynth.evaluation.comparison import COMPARED
from fedsynth.evaluation.private_scores import auroc_of, resampled_cells, tally_size
from fedsynth.evaluation.score import Score
from fedsynth.evaluation.tally_plan import BINS, TallyPlan

WINDOWS_LESS_FEATURES = "raw windows less features, both taught by the release"
RECORDINGS_LESS_RELEASE = "taught by recordings less taught by the release, raw windows"
_NAMES = {
    "features": "linear on features, taught by the release",
    "views": "linear on random views of raw windows, taught by the release",
    "recordings": "linear on random views of raw windows, taught by recordings",
}
_DIFFERENCES = (
    (WINDOWS_LESS_FEATURES, "views", "features"),
    (RECORDINGS_LESS_RELEASE, "recordings", "views"),
)
_BLIND = (
    "Neither sees a difference between labels that the release does not hold; only a classifier that recordings "
    "taught could, and none was asked for."
)


def compared_scores(
    total: Tensor, *, label_names: Sequence[str], positive: int, noise_std: float, tally: TallyPlan
) -> tuple[Score, ...]:
    """Return each compared classifier's AUROC and the differences that say something, none where none is compared.

    The people behind two classifiers are the same ones, and the interval of a difference treats them as different
    people: it is rather too wide.

    Args:
        total: shape (tally_size,), noise included.
        label_names: of the study.
        positive: index of the label whose AUROC is reported.
        noise_std: of each cell.
        tally: what was asked for.
    """
    first = tally_size(len(label_names))
    cells = total.double().numpy()[first:]
    again = resampled_cells(cells, noise_std=noise_std)
    names = COMPARED[: tally.compared]
    values, spread = {}, {}
    for number, name in enumerate(names):
        mine = slice(2 * BINS * number, 2 * BINS * (number + 1))
        values[name] = auroc_of(cells[mine], bins=tally.bins)
        spread[name] = np.array([auroc_of(row, bins=tally.bins) for row in again[:, mine]])
    scores = [
        _score(
            f"AUROC, {label_names[positive]} against the rest, {_NAMES[name]}",
            values[name],
            spread[name],
            direction=1,
            about="tested on real windows of held-out people; .5 is chance",
        )
        for name in names
    ]
    scores += [
        _score(
            what,
            values[more] - values[less],
            spread[more] - spread[less],
            direction=0,
            about="difference of two AUROCs at the same held-out people; 0 is none",
        )
        for what, more, less in _DIFFERENCES
        if more in values
    ]
    return tuple(scores)


def about_raw_windows(scores: Sequence[Score]) -> str:
    """Return what the differences among a run's scores mean, in sentences; nothing where none was asked for."""
    found = {score.name: score for score in scores}
    said = []
    if WINDOWS_LESS_FEATURES in found:
        said.append(
            _told(
                found[WINDOWS_LESS_FEATURES],
                less="A classifier of raw windows recovers less than one of their features: the waves that were "
                "drawn do not hold all that their features promise.",
                more="A classifier of raw windows recovers more than one of their features: windows hold something "
                "of the labels beyond them.",
                same="A classifier of raw windows recovers what one of features does, as far as the noise lets one "
                "see.",
            )
        )
    if RECORDINGS_LESS_RELEASE in found:
        said.append(
            _told(
                found[RECORDINGS_LESS_RELEASE],
                more="The same classifier, taught by recordings instead of the release, does better: labels differ "
                "in something that this release does not hold.",
                less="The same classifier does better where the release taught it than where one noisy sum of "
                "recordings did.",
                same="Taught by recordings instead of the release it does no better: nothing that it can see is "
                "missing from the release.",
            )
        )
    elif said:
        said.append(_BLIND)
    return " ".join(said)


def _told(score: Score, *, less: str, more: str, same: str) -> str:
    if score.high < 0:
        return less
    return more if score.low > 0 else same


def _score(name: str, value: float, spread: np.ndarray, *, direction: int, about: str) -> Score:
    low, high = (float(end) for end in np.quantile(spread, (0.025, 0.975)))
    return Score(name, value, low, high, direction, "private sum", about)
