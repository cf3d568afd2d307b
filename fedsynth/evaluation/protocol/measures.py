"""Measures of answers: accuracy, macro-F1, AUROC and F1 of one label, each with bootstraps over people."""

import numpy as np
from numpy.typing import NDArray

from fedsynth.evaluation.protocol.replicates import DRAWS, Replicates, times_drawn

MACRO_F1, MACRO_AUROC, ACCURACY = "macro-F1", "macro-AUROC", "accuracy"


def positive_f1(label: str) -> str:
    """Return the name of the F1 of one label."""
    return f"F1, {label}"


def measured(
    answers: NDArray[np.float64],
    labels: NDArray[np.int64],
    people: NDArray[np.int64],
    *,
    names: tuple[str, ...],
    positive: int,
    draws: int = DRAWS,
) -> dict[str, Replicates]:
    """Measure answers on windows; people are resampled with all their windows.

    A label that no window of a bootstrap bears is left out of that bootstrap's means.

    Args:
        answers: probabilities, shape (window, label).
        labels: the true ones, shape (window,).
        people: whose a window is, shape (window,).
        names: of the labels.
        positive: the label whose F1 is told.
        draws: how many bootstraps.
    """
    times = times_drawn(people, draws=draws)
    tables = _tables(answers, labels, people, times)
    right = np.diagonal(tables, axis1=1, axis2=2)
    truly, said = tables.sum(axis=2), tables.sum(axis=1)
    there = truly > 0
    with np.errstate(invalid="ignore", divide="ignore"):
        f1 = np.where(there, 2 * right / np.maximum(truly + said, 1), np.nan)
        accuracy = right.sum(axis=1) / truly.sum(axis=1)
    _, whose = np.unique(people, return_inverse=True)
    weights = times[:, whose].astype(np.float64)
    aurocs = np.stack([_aurocs(answers[:, label], labels == label, weights) for label in range(len(names))], axis=1)
    columns = {
        MACRO_F1: _mean(f1),
        MACRO_AUROC: _mean(aurocs),
        ACCURACY: accuracy,
        positive_f1(names[positive]): f1[:, positive],
    }
    return {name: Replicates(float(column[0]), tuple(column[1:].tolist())) for name, column in columns.items()}


def _tables(
    answers: NDArray[np.float64], labels: NDArray[np.int64], people: NDArray[np.int64], times: NDArray[np.int64]
) -> NDArray[np.float64]:
    """Return confusion tables, shape (draw, true label, label said): a person's table, as often as drawn."""
    n_labels = answers.shape[1]
    whom, whose = np.unique(people, return_inverse=True)
    each = np.zeros((len(whom), n_labels, n_labels))
    np.add.at(each, (whose, labels, answers.argmax(axis=1)), 1)
    return (times @ each.reshape(len(whom), -1)).reshape(-1, n_labels, n_labels)


def _mean(columns: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the mean over labels that are there, shape (draw,); not a number where none is."""
    known = np.isfinite(columns)
    count = known.sum(axis=1)
    total = np.where(known, columns, 0).sum(axis=1)
    return np.where(count > 0, total / np.maximum(count, 1), np.nan)


def _aurocs(
    score: NDArray[np.float64], positive: NDArray[np.bool_], weights: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return the AUROC in each draw, shape (draw,): the weighted share of pairs in order, ties by half."""
    _, tie = np.unique(score, return_inverse=True)
    size = int(tie.max()) + 1
    ups, downs = (np.zeros((len(weights), size)) for _ in range(2))
    for table, some in ((ups, positive), (downs, ~positive)):
        order = np.argsort(tie[some], kind="stable")
        places, starts = np.unique(tie[some][order], return_index=True)
        if len(places):
            table[:, places] = np.add.reduceat(weights[:, some][:, order], starts, axis=1)
    below = np.cumsum(downs, axis=1) - 0.5 * downs
    pairs = ups.sum(axis=1) * downs.sum(axis=1)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(pairs > 0, (ups * below).sum(axis=1) / pairs, np.nan)
