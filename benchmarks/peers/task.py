"""What a peer is given and gives back: windows with units and a promise in, synthetic windows and a price out."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from numpy.typing import NDArray

from fedsynth.modalities.shape import Shape
from fedsynth.privacy.accountant import epsilon_pld, least_noise
from fedsynth.privacy.mechanism import Mechanism
from fedsynth.privacy.noise import NoiseSource, system_noise
from fedsynth.privacy.private_sum import PrivateSum

Progress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Task:
    """Real training windows, pooled over all hospitals, and the promise to keep.

    `signal` is float32 in microvolts, shape (window, channel, time); `labels`, `units` and `hospitals` are int64,
    shape (window,); a unit is what the promise protects, and all its windows have one hospital. `limit` is the
    public range in microvolts.
    """

    signal: NDArray[np.float32]
    labels: NDArray[np.int64]
    units: NDArray[np.int64]
    hospitals: NDArray[np.int64]
    shape: Shape
    limit: float
    unit: str
    epsilon: float
    delta: float
    seed: int
    per_label: int


@dataclass(frozen=True)
class Outcome:
    """Synthetic windows in microvolts, shape (window, channel, time), their labels, and what was done for them.

    `spent` is the epsilon that the mechanisms cost at the task's delta, by `accountant`.
    """

    signal: NDArray[np.float32]
    labels: NDArray[np.int64]
    spent: float
    accountant: str


def outcome(
    task: Task, signal: NDArray[np.float32], labels: NDArray[np.int64], *, mechanisms: Sequence[Mechanism]
) -> Outcome:
    """Price what was done by privacy loss distributions, and clip the windows to the public range."""
    return Outcome(
        signal=np.clip(signal, -task.limit, task.limit).astype(np.float32),
        labels=labels.astype(np.int64),
        spent=epsilon_pld(mechanisms, delta=task.delta),
        accountant="dp_accounting PLD",
    )


@lru_cache(maxsize=64)
def gaussian(purpose: str, *, epsilon: float, delta: float, steps: int = 1, probability: float = 1.0) -> Mechanism:
    """Return `steps` sums of norm-1 contributions, each with the least noise that keeps the promise in all.

    >>> round(gaussian("one sum", epsilon=1.0, delta=1e-5).noise_multiplier, 2)
    3.73
    """
    if np.isinf(epsilon):
        return Mechanism(purpose, 0.0, probability, steps, 1.0)

    def build(multiplier: float) -> list[Mechanism]:
        return [Mechanism(purpose, multiplier, probability, steps, 1.0)]

    return build(least_noise(build, epsilon=epsilon, delta=delta))[0]


def noisy_sum(
    rows: NDArray[np.float64], units: NDArray[np.int64], mechanism: Mechanism, *, noise: NoiseSource = system_noise
) -> NDArray[np.float64]:
    """Return the private sum over units of the mean of each unit's rows, clipped to norm 1, shape (size,).

    Args:
        rows: shape (window, size).
        units: of each row, shape (window,).
        mechanism: one step of it is what this costs.
        noise: tests only pass something else.
    """
    total = PrivateSum(
        rows.shape[1],
        clipping_norm=mechanism.clipping_norm,
        noise_multiplier=mechanism.noise_multiplier,
        noise=noise,
    )
    total.add(torch.from_numpy(unit_means(rows, units)))
    return total.read().numpy()


def unit_means(rows: NDArray[np.float64], units: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return the mean row of each unit, shape (unit, size).

    >>> unit_means(np.array([[1.0], [3.0], [5.0]]), np.array([7, 7, 2])).tolist()
    [[5.0], [2.0]]
    """
    _, index, counts = np.unique(units, return_inverse=True, return_counts=True)
    sums = np.zeros((len(counts), rows.shape[1]))
    np.add.at(sums, index, rows)
    means: NDArray[np.float64] = sums / counts[:, None]
    return means


def one_hot(labels: NDArray[np.int64], n_labels: int) -> NDArray[np.float64]:
    """Return one row per label with a single 1, shape (window, label)."""
    rows: NDArray[np.float64] = np.eye(n_labels)[labels]
    return rows


def balanced_labels(task: Task) -> NDArray[np.int64]:
    """Return `per_label` copies of each label in order: what every method is asked to draw."""
    return np.repeat(np.arange(task.shape.n_labels, dtype=np.int64), task.per_label)
