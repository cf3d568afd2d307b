"""The reference: exact scores on real windows of held-out people, for whoever may see those people.

Train on synthetic, test on real; the same with the generator before its gradient steps; train on real, test on
real. None of it is private: the scores stay inside, unless the people were made up.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from fedsynth.evaluation.classifier import answer, classifier_plan, train_classifier
from fedsynth.evaluation.score import Score, ScoreSource
from fedsynth.modalities.shape import Shape
from fedsynth.progress import Progress
from fedsynth.study import Study
from fedsynth.synthesis.windows import SyntheticWindows

_RESAMPLINGS = 200

Measure = Callable[[NDArray[np.int64], NDArray[np.float64]], float]
"""Takes true labels, shape (window,), and answers, shape (window, label)."""


class Draws(Protocol):
    """Anything that draws synthetic windows for a study."""

    @property
    def study(self) -> Study:
        """Return the study it was trained for."""
        ...

    @property
    def shape(self) -> Shape:
        """Return the shape of its windows."""
        ...

    def draw(
        self, *, per_label: int | Sequence[int], seed: str, windows_per_subject: int = 1, untrained: bool = False
    ) -> SyntheticWindows:
        """Draw windows, so many of each made-up subject."""
        ...


@dataclass(frozen=True)
class Drawn:
    """The windows of a release that a classifier learns from, and the SHA-256 of the archive they stand in."""

    windows: SyntheticWindows
    digest: str


@dataclass(frozen=True)
class Reference:
    """Real windows: microvolts, shape (window, channel, time), and labels (window,); no subject in both halves.

    `test_units` (window,) number the people that are tested: their windows are resampled together.
    """

    train_signal: NDArray[np.float32]
    train_labels: NDArray[np.int64]
    test_signal: NDArray[np.float32]
    test_labels: NDArray[np.int64]
    test_units: NDArray[np.int64]


def reference_scores(
    generator: Draws,
    real: Reference,
    *,
    source: ScoreSource,
    progress: Progress,
    classifiers: int = 1,
    released: Drawn | None = None,
) -> list[Score]:
    """Return AUROC, macro-AUROC and macro-F1 for synthetic, anchor-only and real training data.

    Values are means over the classifiers. Intervals are bootstraps over held-out people with all their windows,
    since windows of one person are alike; they do not cover another draw or another classifier.

    Args:
        generator: draws the synthetic windows that are not released.
        real: windows to train and test on.
        source: what the scores are said to come from.
        progress: called with (what, done, all).
        classifiers: how many are trained, each from another seed; without `released`, each on another draw.
        released: the very windows that are released; "trained on synthetic" is then about them.
    """
    scores: list[Score] = []
    if not len(real.test_labels):
        # So few people that chance put none of them into the held-out group: there is nobody to ask.
        return scores
    most = classifier_plan(generator.shape).windows_per_label
    per_label = tuple(min(most, count) for count in generator.study.windows_by_label)
    names = generator.study.labels.names
    for what, untrained in _kinds(generator.study):
        given = []
        for seed in range(1, classifiers + 1):
            if untrained is None:
                signal, labels = real.train_signal, real.train_labels
            elif released is not None and not untrained:
                signal, labels = released.windows.signal, released.windows.labels
            else:
                name = "reference" if seed == 1 else f"reference {seed}"
                # As many of one subject as in what it is compared with.
                each = 1 if released is None else generator.study.release.windows_per_subject
                drawn = generator.draw(
                    per_label=per_label, seed=name, windows_per_subject=each, untrained=untrained
                )
                signal, labels = drawn.signal, drawn.labels
            classifier = train_classifier(
                signal,
                labels,
                shape=generator.shape,
                seed=seed,
                progress=partial(progress, f"classifier on {what} windows" + f" ({seed})" * (classifiers > 1)),
            )
            given.append(answer(classifier, real.test_signal))
        about = f"exact, trained on {what}, tested on real windows of held-out people"
        digest = released.digest if released is not None and untrained is False else ""
        found = utility_scores(
            what,
            given,
            real.test_labels,
            real.test_units,
            names=names,
            positive=names.index(generator.study.labels.positive),
            source=source,
            about=about + f"; mean of {len(given)} classifiers" * (len(given) > 1),
        )
        scores += [replace(score, windows=digest) for score in found]
    return scores


def macro_auroc(labels: NDArray[np.int64], answers: NDArray[np.float64]) -> float:
    """Return the mean over labels of the AUROC of one against the rest; not a number where a label is missing.

    Args:
        labels: the true ones, shape (window,).
        answers: probabilities or scores, shape (window, label).
    """
    return float(np.mean([_auroc(labels == label, answers[:, label]) for label in range(answers.shape[1])]))


def resampled(units: NDArray[np.int64], *, times: int) -> list[NDArray[np.int64]]:
    """Return rows of windows for `times` bootstraps over units: a unit's windows come together or not at all."""
    rng = np.random.default_rng(0)
    _, unit = np.unique(units, return_inverse=True)
    rows_of = np.split(np.argsort(unit, kind="stable"), np.cumsum(np.bincount(unit))[:-1])
    draws = rng.integers(0, len(rows_of), (times, len(rows_of)))
    return [np.concatenate([rows_of[chosen] for chosen in draw]) for draw in draws]


def _kinds(study: Study) -> list[tuple[str, bool | None]]:
    """Return what classifiers are trained on, and whether it is drawn from the anchor alone (None: real)."""
    synthetic: list[tuple[str, bool | None]] = [("synthetic", False)]
    if study.n_rounds:
        synthetic.append(("synthetic, anchor only", True))
    return [*synthetic, ("real", None)]


def utility_scores(
    what: str,
    answers: Sequence[NDArray[np.float64]],
    labels: NDArray[np.int64],
    units: NDArray[np.int64],
    *,
    names: Sequence[str],
    positive: int,
    source: ScoreSource,
    about: str,
) -> list[Score]:
    """Score what classifiers answered on real windows; intervals are bootstraps over units.

    Args:
        what: what the classifiers were trained on.
        answers: of each classifier, probabilities, shape (window, label).
        labels: the true ones, shape (window,).
        units: which person or recording a window is of, shape (window,).
        names: of the labels.
        positive: the label whose AUROC against the rest is taken.
        source: what the scores are said to come from.
        about: what they are, in words.
    """
    draws = [np.arange(len(labels)), *resampled(units, times=_RESAMPLINGS)]

    def auroc(true: NDArray[np.int64], given: NDArray[np.float64]) -> float:
        return _auroc(true == positive, given[:, positive])

    def f1(true: NDArray[np.int64], given: NDArray[np.float64]) -> float:
        from sklearn.metrics import f1_score  # scikit-learn takes a second to load

        known = np.arange(len(names))
        return float(f1_score(true, given.argmax(axis=1), average="macro", labels=known, zero_division=0))

    named: list[tuple[str, Measure]] = [(f"AUROC, {names[positive]} against the rest, trained on {what}", auroc)]
    if len(names) > 2:
        named.append((f"macro-AUROC, {len(names)} labels, trained on {what}", macro_auroc))
    named.append((f"macro-F1, {len(names)} labels, trained on {what}", f1))
    found = []
    for name, measure in named:
        values = [float(np.mean([measure(labels[rows], one[rows]) for one in answers])) for rows in draws]
        # A tiny hold-out may lack a label; then there is no AUROC to report.
        finite = [value for value in values if np.isfinite(value)] if np.isfinite(values[0]) else []
        if len(finite) > 1:
            found.append(_score(name, finite, source, about))
    return found


def _score(name: str, values: list[float], source: ScoreSource, about: str) -> Score:
    low, high = (float(np.quantile(values[1:], share)) for share in (0.025, 0.975))
    return Score(name=name, value=values[0], low=low, high=high, direction=1, source=source, about=about)


def _auroc(positive: NDArray[np.bool_], score: NDArray[np.float64]) -> float:
    from sklearn.metrics import roc_auc_score

    if positive.all() or not positive.any():
        return float("nan")
    return float(roc_auc_score(positive, score))
