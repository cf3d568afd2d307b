"""Compare: whether windows of a release serve for what real windows serve; for whoever may see the real ones.

A classifier is trained on synthetic windows, on real windows, and on both, and always tested on real windows of
people that it never saw. Nothing here is private: what comes out is about the real windows.
"""

import html
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from sklearn.model_selection import StratifiedGroupKFold

from fedsynth.errors import RefusedError
from fedsynth.evaluation.classifier import answer, train_classifier
from fedsynth.evaluation.exact_scores import utility_scores
from fedsynth.evaluation.score import Score
from fedsynth.modalities.shape import Shape
from fedsynth.progress import Progress
from fedsynth.rng import public_seed

FOLDS = 3


@dataclass(frozen=True)
class Labelled:
    """Windows in microvolts, shape (window, channel, time), and labels (window,)."""

    signal: NDArray[np.float32]
    labels: NDArray[np.int64]


@dataclass(frozen=True)
class Comparison:
    """Scores of classifiers trained on synthetic, on real and on both kinds of windows, tested on real ones."""

    scores: tuple[Score, ...]

    def __iter__(self) -> Iterator[Score]:
        """Go through the scores."""
        return iter(self.scores)

    def __str__(self) -> str:
        """Write one score a line, with its 95 % interval."""
        return "\n".join(f"{s.name}: {s.value:.3f} [{s.low:.3f}, {s.high:.3f}]" for s in self.scores)

    def _repr_html_(self) -> str:
        rows = "".join(
            f"<tr><td style='text-align:left'>{html.escape(s.name)}</td><td>{s.value:.3f}</td>"
            f"<td>[{s.low:.3f}, {s.high:.3f}]</td></tr>"
            for s in self.scores
        )
        return f"<table><tr><th>score</th><th>value</th><th>95 % interval</th></tr>{rows}</table>"


def compare(
    real: Labelled,
    synthetic: Labelled,
    *,
    people: NDArray[np.int64],
    shape: Shape,
    names: Sequence[str],
    positive: int,
    progress: Progress,
) -> Comparison:
    """Train on synthetic, on real, and on both; test on real, on people who did not train.

    Every person is tested once: people are parted into three folds, balanced by label, and a classifier that sees
    real windows sees those of the other two. The parting and the classifiers' seeds are public.

    Args:
        real: all real windows.
        synthetic: all synthetic windows, of the same shape and labels.
        people: whom a real window is of, shape (window,).
        shape: of the windows.
        names: of the labels.
        positive: the label whose AUROC against the rest is taken.
        progress: called with (what, done, all).

    Raises:
        RefusedError: windows that do not belong together, or too few people to hold some out.
    """
    _check(real, synthetic, people=people, shape=shape, n_labels=len(names))
    folds = StratifiedGroupKFold(FOLDS, shuffle=True, random_state=public_seed("compare") % 2**32)
    given = {what: np.zeros((len(real.labels), len(names))) for what in ("synthetic", "real", "real and synthetic")}

    def told(what: str, fold: int, training: Labelled, rows: NDArray[np.int64]) -> None:
        classifier = train_classifier(
            training.signal,
            training.labels,
            shape=shape,
            seed=fold + 1,
            progress=lambda done, total: progress(f"classifier on {what} windows ({fold + 1})", done, total),
        )
        given[what][rows] = answer(classifier, real.signal[rows])

    for fold, (rest, held_out) in enumerate(folds.split(real.signal, real.labels, people)):
        mine = Labelled(real.signal[rest], real.labels[rest])
        both = Labelled(
            np.concatenate([mine.signal, synthetic.signal]), np.concatenate([mine.labels, synthetic.labels])
        )
        for what, training in (("synthetic", synthetic), ("real", mine), ("real and synthetic", both)):
            told(what, fold, training, held_out)
    return Comparison(
        tuple(
            score
            for what, answers in given.items()
            for score in utility_scores(
                what,
                [answers],
                real.labels,
                people,
                names=names,
                positive=positive,
                source="real",
                about=f"exact, trained on {what}, tested on real windows of people who did not train",
            )
        )
    )


def _check(real: Labelled, synthetic: Labelled, *, people: NDArray[np.int64], shape: Shape, n_labels: int) -> None:
    wanted = (len(shape.channels), shape.n_times)
    for what, windows in (("real", real), ("synthetic", synthetic)):
        if windows.signal.ndim != 3 or windows.signal.shape[1:] != wanted:
            raise RefusedError(
                f"the {what} windows have shape {windows.signal.shape}, not (window, {wanted[0]}, {wanted[1]}) "
                "as the release's; cut and resample the recordings as its study says"
            )
        if windows.labels.shape != (len(windows.signal),):
            raise RefusedError(f"{len(windows.signal)} {what} windows come with {windows.labels.shape} labels")
        if len(windows.labels) and not 0 <= windows.labels.min() <= windows.labels.max() < n_labels:
            raise RefusedError(f"a {what} window has a label outside 0 to {n_labels - 1}")
    if people.shape != real.labels.shape:
        raise RefusedError(f"{len(real.labels)} real windows come with {people.shape} subjects")
    of_each = [len(np.unique(people[real.labels == label])) for label in range(n_labels)]
    if min(of_each) < FOLDS:
        raise RefusedError(
            f"a label is that of {min(of_each)} people, and {FOLDS} are needed so that some can be held out"
        )
