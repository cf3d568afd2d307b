"""Fidelity by feature: how far synthetic windows are from real ones, against how far real people are from others.

The distance is Kolmogorov and Smirnov's, with every person weighing the same. Its p-value comes from permuting
people, not windows: windows of one person are alike, and a test by window would reject two halves of one
population. The floor is the mean distance between two halves of the real people; halves are smaller than the whole,
so that it is, if anything, too high. P-values are corrected over all features and labels together.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from fedsynth.evaluation.protocol.features import feature_names, features_of
from fedsynth.evaluation.protocol.material import Material
from fedsynth.modalities.shape import Shape
from fedsynth.rng import numpy_generator

Correction = Literal["holm", "benjamini-hochberg"]
_MOST = 4  # windows looked at of one person and label, spread evenly: people then weigh nearly alike
_FEWEST = 4  # people of a label on either side


@dataclass(frozen=True)
class Distance:
    """One feature of one label: the distance, real people among themselves, and corrected p-value.

    `floor` is the mean over halvings of the real people, `floor_high` the distance that 19 of 20 keep below.
    """

    feature: str
    label: str
    distance: float
    floor: float
    floor_high: float
    p: float
    corrected_p: float


def distances(
    real: Material,
    synthetic: Material,
    *,
    shape: Shape,
    names: tuple[str, ...],
    correction: Correction = "benjamini-hochberg",
    draws: int = 400,
    progress: Callable[[int, int], None] | None = None,
) -> tuple[Distance, ...]:
    """Compare every feature of every label that four people or more have on either side.

    Args:
        real: windows of people.
        synthetic: windows of made-up subjects.
        shape: of the windows.
        names: of the labels.
        correction: over all comparisons, by Holm (1979) or Benjamini and Hochberg (1995).
        draws: permutations of people.
        progress: called with (labels done, labels in all).
    """
    found: list[tuple[str, str, float, float, float, float]] = []
    features = feature_names(shape)
    for label, name in enumerate(names):
        sides = [_few(some, label) for some in (real, synthetic)]
        if min(some.n_people for some in sides) >= _FEWEST:
            tables = [features_of(some.signal, shape=shape) for some in sides]
            rng = numpy_generator("protocol", "fidelity", label)
            rows = _label_distances(tables, [some.people for some in sides], rng=rng, draws=draws)
            found += [(feature, name, *row) for feature, row in zip(features, rows, strict=True)]
        if progress:
            progress(label + 1, len(names))
    corrected = corrected_p([row[-1] for row in found], how=correction)
    return tuple(Distance(*row, p) for row, p in zip(found, corrected, strict=True))


def corrected_p(values: list[float], *, how: Correction) -> list[float]:
    """Correct p-values for being many.

    >>> corrected_p([0.01, 0.04, 0.03], how="holm")
    [0.03, 0.06, 0.06]
    >>> corrected_p([0.01, 0.04, 0.03], how="benjamini-hochberg")
    [0.03, 0.04, 0.04]
    """
    count = len(values)
    if not count:
        return []
    order = np.argsort(values, kind="stable")
    ordered = np.array(values)[order]
    if how == "holm":
        steps = np.maximum.accumulate(ordered * (count - np.arange(count)))
    else:
        steps = np.minimum.accumulate((ordered * count / (1 + np.arange(count)))[::-1])[::-1]
    out = np.empty(count)
    out[order] = np.minimum(steps, 1)
    return [round(float(value), 6) for value in out]


def _few(windows: Material, label: int) -> Material:
    """Return a label's windows, at most a few of each person, spread evenly."""
    rows: list[NDArray[np.int64]] = []
    mine = np.flatnonzero(windows.labels == label)
    for person in np.unique(windows.people[mine]):
        theirs = mine[windows.people[mine] == person]
        rows.append(theirs[np.unique(np.linspace(0, len(theirs) - 1, _MOST).round().astype(np.int64))])
    return windows.at(np.concatenate(rows) if rows else mine)


def _label_distances(
    tables: list[NDArray[np.float64]], people: list[NDArray[np.int64]], *, rng: np.random.Generator, draws: int
) -> list[tuple[float, float, float, float]]:
    """Return distance, floor, its high end and p-value of each feature."""
    whose_real = np.unique(people[0], return_inverse=True)[1]
    whose_made = np.unique(people[1], return_inverse=True)[1]
    n_real, n_made = int(whose_real.max()) + 1, int(whose_made.max()) + 1
    whose = np.concatenate([whose_real, whose_made + n_real])
    sides = np.arange(n_real + n_made) < n_real
    shuffled = np.stack([sides, *(rng.permutation(sides) for _ in range(draws))])
    halves = np.stack([rng.permutation(n_real) < n_real // 2 for _ in range(draws)])
    both = np.concatenate(tables)
    rows = []
    for feature in range(both.shape[1]):
        each = _ks(both[:, feature], whose, shuffled)
        floors = _ks(tables[0][:, feature], whose_real, halves)
        p = float((1 + (each[1:] >= each[0] - 1e-12).sum()) / (1 + draws))
        rows.append((float(each[0]), float(floors.mean()), float(np.quantile(floors, 0.95)), p))
    return rows


def _ks(values: NDArray[np.float64], whose: NDArray[np.int64], sides: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Return the largest gap between two distribution functions, for each row of `sides` (draw, person)."""
    order = np.argsort(values, kind="stable")
    ordered = values[order]
    weight = 1 / np.bincount(whose)
    last = np.append(np.diff(ordered) > 0, True)  # where equal values end
    out = np.empty(len(sides))
    for draw, one in enumerate(sides):
        first = np.where(one[whose[order]], weight[whose[order]], 0.0)
        second = np.where(one[whose[order]], 0.0, weight[whose[order]])
        gap = np.cumsum(first) / one.sum() - np.cumsum(second) / (~one).sum()
        out[draw] = np.abs(gap[last]).max()
    return out
