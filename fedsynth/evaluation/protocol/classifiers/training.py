"""What a classifier is given: windows, labels, and whether rare labels weigh more."""

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from fedsynth.evaluation.protocol.material import Material
from fedsynth.evaluation.protocol.size import Size
from fedsynth.modalities.shape import Shape
from fedsynth.rng import public_seed


@dataclass(frozen=True)
class Training:
    """Windows to learn from; `is_weighted` gives every label the same weight in the loss."""

    windows: Material
    is_weighted: bool = True

    def weights(self, n_labels: int) -> NDArray[np.float64]:
        """Return a weight for each label, with mean 1 over the windows; all ones where nothing is weighted."""
        if not self.is_weighted:
            return np.ones(n_labels)
        counts = np.bincount(self.windows.labels, minlength=n_labels)
        return len(self.windows) / ((counts > 0).sum() * np.maximum(counts, 1))


@dataclass(frozen=True)
class Setting:
    """What all classifiers of an evaluation share.

    `seed` is public. `memo` keeps features of windows that were asked before, by the windows' bytes.
    """

    shape: Shape
    size: Size
    seed: int = 1
    memo: dict[bytes, NDArray[np.float64]] = field(default_factory=dict, compare=False, repr=False)

    def seed_for(self, what: str) -> int:
        """Return a seed of 31 bits for one classifier."""
        return public_seed("protocol", what, self.seed) % 2**31


def as_table(answers: NDArray[np.float64], classes: NDArray[np.int64], n_labels: int) -> NDArray[np.float64]:
    """Return answers with a column for every label, zero where no training window bore it."""
    table = np.zeros((len(answers), n_labels))
    table[:, classes] = answers
    return table
