"""Material: windows with labels and people, and the folds in which they train and are tested."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fedsynth.errors import RefusedError
from fedsynth.modalities.shape import Shape


@dataclass(frozen=True)
class Material:
    """Windows in microvolts, float32 (window, channel, time); `labels` and `people`, int64 (window,).

    Of synthetic windows `people` are the made-up subjects. People are dealt and resampled with all their windows.
    """

    signal: NDArray[np.float32]
    labels: NDArray[np.int64]
    people: NDArray[np.int64]

    def at(self, rows: NDArray[np.int64] | NDArray[np.bool_]) -> "Material":
        """Return the windows in these rows; a row may come more than once."""
        return Material(self.signal[rows], self.labels[rows], self.people[rows])

    def with_more(self, other: "Material") -> "Material":
        """Return these windows and then the other ones, whose people are others."""
        first = int(self.people.max(initial=-1)) + 1
        return Material(
            np.concatenate([self.signal, other.signal]),
            np.concatenate([self.labels, other.labels]),
            np.concatenate([self.people, other.people + first]),
        )

    def __len__(self) -> int:
        """Return the number of windows."""
        return len(self.labels)

    @property
    def n_people(self) -> int:
        """Return how many people there are."""
        return len(np.unique(self.people))


@dataclass(frozen=True)
class Fold:
    """Who trains and who is tested, once: real and synthetic windows of each."""

    train: Material
    test: Material
    synthetic: Material
    synthetic_test: Material


def check_material(what: str, windows: Material, *, shape: Shape) -> None:
    """Refuse windows, labels and people that do not belong together.

    Raises:
        RefusedError: with the shapes found.
    """
    wanted = (len(shape.channels), shape.n_times)
    if windows.signal.ndim != 3 or windows.signal.shape[1:] != wanted:
        raise RefusedError(
            f"the {what} windows have shape {windows.signal.shape}, not (window, {wanted[0]}, {wanted[1]}); "
            "cut and resample the recordings as the release's study says"
        )
    for name, column in (("labels", windows.labels), ("subjects", windows.people)):
        if column.shape != (len(windows.signal),):
            raise RefusedError(f"{len(windows.signal)} {what} windows come with {column.shape} {name}")
    if len(windows) and not 0 <= windows.labels.min() <= windows.labels.max() < shape.n_labels:
        raise RefusedError(f"a {what} window has a label outside 0 to {shape.n_labels - 1}")
    if not np.isfinite(windows.signal).all():
        raise RefusedError(f"the {what} windows hold numbers that are not finite; leave those windows out")
