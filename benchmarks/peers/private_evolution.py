"""Private Evolution: from private votes of real windows to a population of simulated spectra that resembles them.

Lin, Gopi, Kulkarni, Nori and Yekhanin 2023, "Differentially Private Synthetic Data via Foundation Model APIs 1:
Images" (ICLR 2024). In each round every private sample votes for its nearest member of the population; the
histogram is released with Gaussian noise, cut at a threshold, and the population resampled from it and varied.

Not as in the paper: the foundation model is a public simulator, as in Lin et al. 2025, "Differentially Private
Synthetic Data via APIs 3: Using Simulators Instead of Foundation Model"; a variation adds the scaled difference of
two simulator draws, to half of a population; distances are taken in feature space; a unit with several windows
parts its one vote among them; the noise of all rounds is priced by privacy loss distributions.
"""

import numpy as np
from numpy.typing import NDArray

from peers.spectral import BOUND, Space
from peers.task import Outcome, Progress, Task, balanced_labels, gaussian, noisy_sum, outcome

ROUNDS = 4
POPULATION = 300  # of each label
THRESHOLD = 1.0  # in standard deviations of a vote's noise
FIRST_STEP, LAST_STEP = 0.5, 0.1  # of a variation, in spreads of the simulator


def private_evolution(task: Task, space: Space, progress: Progress) -> Outcome:
    """Evolve a population for each label, and draw variations of its survivors."""
    rng = np.random.default_rng(task.seed)
    n_labels = task.shape.n_labels
    mechanism = gaussian("private evolution: votes", epsilon=task.epsilon, delta=task.delta, steps=ROUNDS)
    vectors = space.encode(task.signal)
    population = space.simulate(n_labels * POPULATION, rng=rng).reshape(n_labels, POPULATION, -1)
    weights = np.full((n_labels, POPULATION), 1 / POPULATION)
    for turn in range(ROUNDS):
        votes = ballots(vectors, task.labels, population)
        histogram = noisy_sum(votes, task.units, mechanism).reshape(n_labels, POPULATION)
        weights = shares(histogram, threshold=THRESHOLD * mechanism.noise_multiplier)
        progress("rounds of votes", turn + 1, ROUNDS)
        if turn < ROUNDS - 1:
            step = FIRST_STEP * (LAST_STEP / FIRST_STEP) ** (turn / max(1, ROUNDS - 2))
            population = np.stack(
                [
                    _next(members, share, space, step, rng)
                    for members, share in zip(population, weights, strict=True)
                ]
            )
    drawn = [
        _vary(members[rng.choice(POPULATION, task.per_label, p=share)], space, LAST_STEP, rng)
        for members, share in zip(population, weights, strict=True)
    ]
    signal = space.decode(np.concatenate(drawn), rng=rng)
    return outcome(task, signal, balanced_labels(task), mechanisms=[mechanism])


def ballots(
    vectors: NDArray[np.float64], labels: NDArray[np.int64], population: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return each window's vote for the nearest member of its label, shape (window, label x member)."""
    n_labels, members, _ = population.shape
    votes = np.zeros((len(vectors), n_labels * members))
    for label in range(n_labels):
        mine = np.flatnonzero(labels == label)
        distances = np.linalg.norm(vectors[mine, None] - population[label][None], axis=2)
        votes[mine, label * members + distances.argmin(axis=1)] = 1.0
    return votes


def shares(histogram: NDArray[np.float64], *, threshold: float) -> NDArray[np.float64]:
    """Return each member's share of the next population; all alike for a label without a vote above the threshold.

    >>> shares(np.array([[5.0, 2.0, 4.0], [0.0, 1.0, 0.5]]), threshold=3.0).tolist()
    [[0.6666666666666666, 0.0, 0.3333333333333333], [0.3333333333333333, 0.3333333333333333, 0.3333333333333333]]
    """
    kept = np.maximum(histogram - threshold, 0.0)
    kept = np.where(kept.sum(axis=1, keepdims=True) > 0, kept, 1.0)
    normed: NDArray[np.float64] = kept / kept.sum(axis=1, keepdims=True)
    return normed


def _next(
    members: NDArray[np.float64], share: NDArray[np.float64], space: Space, step: float, rng: np.random.Generator
) -> NDArray[np.float64]:
    """Return half the next population as resampled, the other half varied."""
    parents = members[rng.choice(len(members), len(members), p=share)]
    half = len(members) // 2
    return np.concatenate([parents[:half], _vary(parents[half:], space, step, rng)])


def _vary(vectors: NDArray[np.float64], space: Space, step: float, rng: np.random.Generator) -> NDArray[np.float64]:
    """Return vectors moved along differences of simulator draws."""
    one, other = (space.simulate(len(vectors), rng=rng) for _ in range(2))
    moved: NDArray[np.float64] = np.clip(vectors + step * (one - other) / np.sqrt(2), -BOUND, BOUND)
    return moved
