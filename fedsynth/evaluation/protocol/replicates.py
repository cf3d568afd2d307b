"""Replicates: a measure on the windows tested and on bootstraps over people, the same for all cells of a column.

The draws follow from the people alone. So two cells tested on the same people are resampled alike, and the
difference of their replicates is a paired one.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fedsynth.rng import numpy_generator

DRAWS = 400
_LEVEL = (0.025, 0.975)


@dataclass(frozen=True)
class Replicates:
    """An estimate and what it is in each bootstrap; not a number where a bootstrap lacks a label."""

    value: float
    draws: tuple[float, ...]

    @property
    def low(self) -> float:
        """Return the lower end of the 95 % interval (percentiles)."""
        return self._end(_LEVEL[0])

    @property
    def high(self) -> float:
        """Return the upper end."""
        return self._end(_LEVEL[1])

    def minus(self, other: "Replicates") -> "Replicates":
        """Return the paired difference, bootstrap by bootstrap.

        >>> Replicates(0.9, (0.8, 0.9)).minus(Replicates(0.8, (0.7, 0.8))).draws
        (0.1, 0.1)
        """
        pairs = zip(self.draws, other.draws, strict=True)
        return Replicates(
            round(self.value - other.value, 6), tuple(round(mine - theirs, 6) for mine, theirs in pairs)
        )

    def to_plain(self) -> dict[str, Any]:
        """Return what JSON can hold: numbers that are not become nothing."""
        return {"value": _plain(self.value), "draws": [_plain(draw) for draw in self.draws]}

    @classmethod
    def from_plain(cls, raw: dict[str, Any]) -> "Replicates":
        """Read what `to_plain` returned."""
        return cls(_number(raw["value"]), tuple(_number(draw) for draw in raw["draws"]))

    def _end(self, share: float) -> float:
        known = [draw for draw in self.draws if np.isfinite(draw)]
        return float(np.quantile(known, share)) if len(known) > 1 and np.isfinite(self.value) else float("nan")


def times_drawn(people: NDArray[np.int64], *, draws: int = DRAWS) -> NDArray[np.int64]:
    """Return how often each bootstrap draws each person, in the order of `np.unique`; the first row is all ones.

    Returns:
        Shape (1 + draws, person).
    """
    count = len(np.unique(people))
    rng = numpy_generator("protocol", "bootstrap", count)
    drawn = rng.integers(0, count, (draws, count))
    times = np.stack([np.bincount(row, minlength=count) for row in drawn]) if draws else np.empty((0, count), int)
    return np.concatenate([np.ones((1, count), dtype=np.int64), times])


def _plain(value: float) -> float | None:
    return round(value, 5) if np.isfinite(value) else None


def _number(value: float | None) -> float:
    return float("nan") if value is None else float(value)
