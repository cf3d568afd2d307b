"""The reference: exact scores on real windows of held-out people, for whoever may see those people.

Train on synthetic, test on real; the same with the generator before its gradient steps; train on real, test on
real. None of it is private: the scores stay inside, unless the people were made up.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import f1_score, roc_auc_score

from fedsynth.evaluation.score import Score, Source
from fedsynth.evaluation.transfer import answer, train_referee
from fedsynth.families.synthetic import SyntheticWindows
from fedsynth.study import Study

WINDOWS_PER_LABEL = 800
Progress = Callable[[str, int, int], None]


class Draws(Protocol):
    """Anything that draws synthetic windows for a study."""

    @property
    def study(self) -> Study:
        """Return the study it was trained for."""
        ...

    def draw(self, *, per_label: int, seed: str, untrained: bool = False) -> SyntheticWindows:
        """Draw windows."""
        ...


@dataclass(frozen=True)
class Reference:
    """Real windows: microvolts, shape (window, channel, time), and labels (window,); no subject in both halves."""

    train_signal: NDArray[np.float32]
    train_labels: NDArray[np.int64]
    test_signal: NDArray[np.float32]
    test_labels: NDArray[np.int64]


def reference_scores(generator: Draws, real: Reference, *, source: Source, progress: Progress) -> list[Score]:
    """Return AUROC and macro-F1 for synthetic, anchor-only and real training data.

    Intervals are bootstraps over test windows; windows of one person are alike, so they are on the narrow side.
    """
    names = generator.study.labels.names
    synthetic = generator.draw(per_label=WINDOWS_PER_LABEL, seed="reference")
    trained_on = [("synthetic", synthetic.signal, synthetic.labels)]
    if generator.study.plan.rounds:
        anchor = generator.draw(per_label=WINDOWS_PER_LABEL, seed="reference", untrained=True)
        trained_on.append(("synthetic, anchor only", anchor.signal, anchor.labels))
    trained_on.append(("real", real.train_signal, real.train_labels))
    scores: list[Score] = []
    for what, signal, labels in trained_on:
        referee = train_referee(
            signal,
            labels,
            n_labels=len(names),
            seed=1,
            progress=partial(progress, f"referee on {what} windows"),
        )
        given = answer(referee, real.test_signal)
        scores += _scores(what, given, real.test_labels, generator.study, source)
    return scores


def _scores(
    what: str, given: NDArray[np.float64], labels: NDArray[np.int64], study: Study, source: Source
) -> list[Score]:
    names, positive = study.labels.names, study.labels.names.index(study.labels.positive)
    rng = np.random.default_rng(0)
    draws = [np.arange(len(labels)), *rng.integers(0, len(labels), (200, len(labels)))]
    auroc = [_auroc(labels[rows] == positive, given[rows, positive]) for rows in draws]
    f1 = [
        float(f1_score(labels[rows], given[rows].argmax(axis=1), average="macro", labels=np.arange(len(names))))
        for rows in draws
    ]
    # A tiny hold-out may lack a label; then there is no AUROC to report.
    auroc = [value for value in auroc if np.isfinite(value)] if np.isfinite(auroc[0]) else []
    about = f"exact, trained on {what}, tested on real windows of held-out people"
    named = [
        (f"AUROC, {names[positive]} against the rest, trained on {what}", auroc),
        (f"macro-F1, {len(names)} labels, trained on {what}", f1),
    ]
    return [_score(name, values, source, about) for name, values in named if len(values) > 1]


def _score(name: str, values: list[float], source: Source, about: str) -> Score:
    low, high = (float(np.quantile(values[1:], share)) for share in (0.025, 0.975))
    return Score(name=name, value=values[0], low=low, high=high, direction=1, source=source, about=about)


def _auroc(positive: NDArray[np.bool_], score: NDArray[np.float64]) -> float:
    if positive.all() or not positive.any():
        return float("nan")
    return float(roc_auc_score(positive, score))
