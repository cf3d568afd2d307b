"""Utility as a private sum: what held-out units contribute, and the scores read off the noisy totals.

A unit's windows are shown to the classifier; the unit contributes, averaged over its windows, one cell of a
histogram of the positive label's probability and, where the plan asks for it, one of the confusion matrix. Where
raw windows are held against features, one cell of a histogram follows for each classifier that is compared
(`fedsynth.evaluation.comparison`).
"""

from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fedsynth.evaluation.score import Score, ScoreSource
from fedsynth.evaluation.tally_plan import BINS, EVERYTHING, SUPPOSED, TallyPlan, supposed_reading

EVEN_EDGES = tuple(number / BINS for number in range(1, BINS))
_NEVER = 2.0  # an edge that no probability reaches


def tally_size(n_labels: int, *, compared: int = 0) -> int:
    """Return the length of a tally with so many more histograms; cells that a plan does not ask for stay zero."""
    return n_labels * n_labels + 2 * BINS * (1 + compared)


def edges_for(
    probabilities: NDArray[np.float64], labels: NDArray[np.int64], *, positive: int, bins: int
) -> NDArray[np.float32]:
    """Return edges between bins that synthetic windows fill equally, shape (15,): public, and as many as bins need.

    Args:
        probabilities: of the positive label, by the classifier, for synthetic windows, shape (window,).
        labels: theirs, shape (window,); positive and other ones weigh alike.
        positive: the label whose AUROC is wanted.
        bins: 2 to 16; edges beyond theirs are never reached.
    """
    order = np.argsort(probabilities, kind="stable")
    is_positive = labels[order] == positive
    weights = np.where(is_positive, 0.5 / max(1, is_positive.sum()), 0.5 / max(1, (~is_positive).sum()))
    places = np.searchsorted(np.cumsum(weights), np.arange(1, bins) / bins)
    edges = np.full(BINS - 1, _NEVER, dtype=np.float32)
    edges[: bins - 1] = probabilities[order][np.minimum(places, len(order) - 1)]
    return edges


def tallies(
    probabilities: NDArray[np.float64],
    labels: NDArray[np.int64],
    *,
    positive: int,
    edges: Sequence[float] | NDArray[np.float32] = EVEN_EDGES,
    confusion: bool = True,
) -> Tensor:
    """Return each window's tally, shape (window, tally_size), float64.

    Args:
        probabilities: of the labels, shape (window, label).
        labels: the true ones, shape (window,).
        positive: the label whose AUROC is wanted.
        edges: between bins, shape (15,), ascending; whatever they hold, a window is in one bin.
        confusion: whether the matrix is asked for.

    A window whose probabilities are not finite counts as zero: a hostile classifier must not learn of it by a
    failure.
    """
    count, n_labels = probabilities.shape
    finite = _finite(probabilities)
    matrix = np.zeros((count, n_labels, n_labels))
    matrix[np.arange(count), labels, np.where(finite, probabilities, 0.0).argmax(axis=1)] = float(confusion)
    bins = histogram(probabilities, labels, positive=positive, edges=edges)
    return torch.from_numpy(np.concatenate([matrix.reshape(count, -1) * finite, bins], axis=1))


def histogram(
    probabilities: NDArray[np.float64],
    labels: NDArray[np.int64],
    *,
    positive: int,
    edges: Sequence[float] | NDArray[np.float32],
) -> NDArray[np.float64]:
    """Return the one bin of each window that its positive label's probability falls in, shape (window, 2 * BINS).

    Windows of other labels fill the first half, positive ones the second. The arguments are those of `tallies`.
    """
    count, finite = len(probabilities), _finite(probabilities)
    rows = np.zeros((count, 2, BINS))
    given = np.where(finite, probabilities, 0.0)[:, positive]
    bins = np.searchsorted(np.asarray(edges, dtype=np.float64), given, side="right")
    rows[np.arange(count), (labels == positive).astype(int), bins] = 1
    return rows.reshape(count, -1) * finite


def _finite(probabilities: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Return whether all of a window's probabilities are numbers, shape (window, 1)."""
    return np.array([[bool(np.isfinite(row).all())] for row in probabilities], dtype=bool).reshape(-1, 1)


def scores_of(
    total: Tensor,
    *,
    label_names: tuple[str, ...],
    positive: int,
    noise_std: float,
    source: ScoreSource,
    tally: TallyPlan = EVERYTHING,
) -> tuple[Score, ...]:
    """Read AUROC and, where the plan asks for its cells, macro-F1 off a noisy total.

    The interval covers the noise and the people: 400 times every cell is moved by as much as a count of its size
    and the noise vary. Noisy cells are never cut off at zero, which would pull AUROC towards .5.

    Args:
        total: shape (tally_size,), noise included.
        label_names: of the study.
        positive: index of the label whose AUROC is reported.
        noise_std: of each cell.
        source: what the scores are said to come from.
        tally: what was asked for; other cells hold noise and nothing else, and are not looked at.
    """
    n_labels = len(label_names)
    values = total.to(torch.float64).numpy()[: tally_size(n_labels)]
    again = resampled_cells(values, noise_std=noise_std)
    where = "trained on synthetic, tested on real windows of held-out people"
    named: tuple[tuple[str, str, Callable[[NDArray[np.float64], int], float]], ...] = (
        (f"AUROC, {label_names[positive]} against the rest", _blunted(tally), partial(_auroc, bins=tally.bins)),
        (f"macro-F1, {n_labels} labels", f"about {1 / n_labels:.2f} is chance", _macro_f1),
    )
    scores = []
    for name, chance, measure in named if tally.confusion else named[:1]:
        low, high = np.quantile([measure(row, n_labels) for row in again], (0.025, 0.975))
        value = measure(values, n_labels)
        scores.append(Score(name, value, float(low), float(high), 1, source, f"{where}; {chance}"))
    return tuple(scores)


def resampled_cells(values: NDArray[np.float64], *, noise_std: float) -> NDArray[np.float64]:
    """Return cells moved 400 times by as much as counts of their size and the noise vary, shape (400, cell)."""
    rng, size = np.random.default_rng(0), (400, len(values))
    return rng.poisson(np.maximum(values, 0), size) + rng.normal(0, 1, size) * noise_std


def auroc_of(cells: NDArray[np.float64], *, bins: int) -> float:
    """Return the AUROC that a histogram's cells (2 * BINS,) tell, one half where there is nobody."""
    return _auroc(cells, 0, bins=bins)


def _blunted(tally: TallyPlan) -> str:
    """Say what is lost where few bins let noise be small."""
    if tally.bins == BINS:
        return ".5 is chance"
    read = supposed_reading(tally.bins)
    return f"read in {tally.bins} bins, which blunt {SUPPOSED:.2f} to {read:.2f}; .5 is chance"


def _auroc(cells: NDArray[np.float64], n_labels: int, *, bins: int) -> float:
    rest, positive = cells[n_labels * n_labels :].reshape(2, BINS)[:, :bins]
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
