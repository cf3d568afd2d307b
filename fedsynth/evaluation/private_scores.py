"""Utility as a private sum: what held-out units contribute, and the scores read off the noisy totals.

A unit's windows are shown to the classifier; the unit contributes, averaged over its windows, one cell of the
confusion matrix and one cell of a 16-bin histogram of the positive label's probability. AUROC from 16 bins has
a mean error below .01 where noise is small (docs/log.md).
"""

import math
from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fedsynth.evaluation.score import Score, ScoreSource

BINS = 16


def tally_bound() -> float:
    """Return the L2 bound of one unit's tally: two averages of one-hot vectors."""
    return math.sqrt(2.0)


def tally_size(n_labels: int) -> int:
    """Return the length of a tally."""
    return n_labels * n_labels + 2 * BINS


def tallies(probabilities: NDArray[np.float64], labels: NDArray[np.int64], *, positive: int) -> Tensor:
    """Return each window's tally, shape (window, tally_size), float64.

    Args:
        probabilities: of the labels, shape (window, label).
        labels: the true ones, shape (window,).
        positive: the label whose AUROC is wanted.

    A window whose probabilities are not finite counts as zero: a hostile classifier must not learn of it by a
    failure.
    """
    count, n_labels = probabilities.shape
    finite: NDArray[np.bool_] = np.array([bool(np.isfinite(row).all()) for row in probabilities], dtype=bool)
    probabilities = np.where(finite[:, None], probabilities, 0.0)
    confusion = np.zeros((count, n_labels, n_labels))
    confusion[np.arange(count), labels, probabilities.argmax(axis=1)] = 1
    histogram = np.zeros((count, 2, BINS))
    bins = np.minimum((probabilities[:, positive] * BINS).astype(int), BINS - 1)
    histogram[np.arange(count), (labels == positive).astype(int), bins] = 1
    rows = np.concatenate([confusion.reshape(count, -1), histogram.reshape(count, -1)], axis=1)
    return torch.from_numpy(rows * finite[:, None])


def scores_of(
    total: Tensor, *, label_names: tuple[str, ...], positive: int, noise_std: float, source: ScoreSource
) -> tuple[Score, ...]:
    """Read AUROC and macro-F1 off a noisy total.

    The interval covers the noise and the people: 400 times every cell is moved by as much as a count of its size
    and the noise vary. Noisy cells are never cut off at zero, which would pull AUROC towards .5.

    Args:
        total: shape (tally_size,), noise included.
        label_names: of the study.
        positive: index of the label whose AUROC is reported.
        noise_std: of each cell.
        source: what the scores are said to come from.
    """
    values = total.to(torch.float64).numpy()
    n_labels = len(label_names)
    rng = np.random.default_rng(0)
    again = (
        rng.poisson(np.maximum(values, 0), (400, len(values))) + rng.normal(0, 1, (400, len(values))) * noise_std
    )
    where = "trained on synthetic, tested on real windows of held-out people"
    named: tuple[tuple[str, str, Callable[[NDArray[np.float64], int], float]], ...] = (
        (f"AUROC, {label_names[positive]} against the rest", ".5 is chance", _auroc),
        (f"macro-F1, {n_labels} labels", f"about {1 / n_labels:.2f} is chance", _macro_f1),
    )
    scores = []
    for name, chance, measure in named:
        low, high = np.quantile([measure(row, n_labels) for row in again], (0.025, 0.975))
        value = measure(values, n_labels)
        scores.append(Score(name, value, float(low), float(high), 1, source, f"{where}; {chance}"))
    return tuple(scores)


def _auroc(cells: NDArray[np.float64], n_labels: int) -> float:
    rest, positive = cells[n_labels * n_labels :].reshape(2, BINS)
    pairs = rest.sum() * positive.sum()
    if rest.sum() <= 0 or positive.sum() <= 0:
        return 0.5
    below = np.cumsum(rest) - rest
    return float(np.clip((positive * (below + 0.5 * rest)).sum() / pairs, 0, 1))


def _macro_f1(cells: NDArray[np.float64], n_labels: int) -> float:
    confusion = cells[: n_labels * n_labels].reshape(n_labels, n_labels)
    hits = np.diag(confusion)
    sums = confusion.sum(axis=0) + confusion.sum(axis=1)
    each = np.divide(2 * hits, sums, out=np.zeros(n_labels), where=sums > 0)
    return float(np.mean(np.clip(each, 0, 1)))
