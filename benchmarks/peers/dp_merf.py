"""DP-MERF: from one private sum of random Fourier features to a small generator fitted to it.

Harder, Adamczewski and Park 2021, "DP-MERF: Differentially private mean embeddings with random features for
practical privacy-preserving data generation", AISTATS. The embedding of each label's features is released once with
Gaussian noise; everything after it is post-processing.

Not as in the paper: the noise is priced by privacy loss distributions; a unit with several windows contributes
their mean; counts and embeddings are one vector with one noise; the generator works on features, and a fixed
decoder turns them into windows.
"""

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from peers.spectral import BOUND, Space
from peers.task import Outcome, Progress, Task, balanced_labels, gaussian, noisy_sum, one_hot, outcome

FREQUENCIES = 200
COUNT_WEIGHT = 0.4  # of a contribution's unit norm that says which label it has; the rest is the embedding
BANDWIDTH = 0.6  # times the median distance between two simulated vectors
_NOISE_WIDTH, _HIDDEN, _STEPS, _BATCH, _RATE = 10, 100, 1000, 100, 5e-3


def dp_merf(task: Task, space: Space, progress: Progress) -> Outcome:
    """Release the mean embedding of each label's features, fit a generator to it, and draw."""
    rng = np.random.default_rng(task.seed)
    frequencies = draw_frequencies(space, rng)
    mechanism = gaussian("dp-merf: counts and embeddings", epsilon=task.epsilon, delta=task.delta)
    rows = contributions(space.encode(task.signal), task.labels, frequencies, n_labels=task.shape.n_labels)
    counts, embeddings = split(noisy_sum(rows, task.units, mechanism), task.shape.n_labels)
    generate = _fit(counts, embeddings, frequencies, seed=task.seed, progress=progress)
    labels = balanced_labels(task)
    return outcome(task, space.decode(generate(labels), rng=rng), labels, mechanisms=[mechanism])


def draw_frequencies(space: Space, rng: np.random.Generator) -> NDArray[np.float64]:
    """Return frequencies of a Gaussian kernel, (feature, frequency), by the median heuristic on simulated data."""
    vectors = space.simulate(400, rng=rng)
    distances = np.linalg.norm(vectors[:200] - vectors[200:], axis=1)
    length = BANDWIDTH * float(np.median(distances))
    return rng.standard_normal((space.size, FREQUENCIES)) / length


def contributions(
    vectors: NDArray[np.float64], labels: NDArray[np.int64], frequencies: NDArray[np.float64], *, n_labels: int
) -> NDArray[np.float64]:
    """Return each window's contribution, of norm 1: its label, and its embedding in its label's place."""
    angles = vectors @ frequencies
    embedding = np.concatenate([np.cos(angles), np.sin(angles)], axis=1) / np.sqrt(frequencies.shape[1])
    which = one_hot(labels, n_labels)
    placed = (which[:, :, None] * embedding[:, None, :]).reshape(len(labels), -1)
    return np.concatenate([COUNT_WEIGHT * which, np.sqrt(1 - COUNT_WEIGHT**2) * placed], axis=1)


def split(total: NDArray[np.float64], n_labels: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return noisy counts (label,), at least 1, and mean embeddings (label, size)."""
    counts = np.maximum(total[:n_labels] / COUNT_WEIGHT, 1.0)
    embeddings = total[n_labels:].reshape(n_labels, -1) / np.sqrt(1 - COUNT_WEIGHT**2)
    return counts, embeddings / counts[:, None]


def _fit(
    counts: NDArray[np.float64],
    embeddings: NDArray[np.float64],
    frequencies: NDArray[np.float64],
    *,
    seed: int,
    progress: Progress,
) -> Callable[[NDArray[np.int64]], NDArray[np.float64]]:
    """Fit a generator of two hidden layers until its labels' mean embeddings are the released ones."""
    n_labels, size = len(counts), frequencies.shape[0]
    target, omega = (torch.from_numpy(part).float() for part in (embeddings, frequencies))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        net = nn.Sequential(
            nn.Linear(_NOISE_WIDTH + n_labels, _HIDDEN),
            nn.BatchNorm1d(_HIDDEN),
            nn.ReLU(),
            nn.Linear(_HIDDEN, _HIDDEN),
            nn.BatchNorm1d(_HIDDEN),
            nn.ReLU(),
            nn.Linear(_HIDDEN, size),
        )
        which = torch.eye(n_labels).repeat_interleave(_BATCH, dim=0)
        optimizer = torch.optim.Adam(net.parameters(), lr=_RATE)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, _STEPS)
        for step in range(_STEPS):
            angles = _bounded(net(torch.cat([torch.randn(len(which), _NOISE_WIDTH), which], dim=1))) @ omega
            given = torch.cat([angles.cos(), angles.sin()], dim=1) / omega.shape[1] ** 0.5
            loss = (given.unflatten(0, (n_labels, _BATCH)).mean(dim=1) - target).square().sum()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            if step % 100 == 99:
                progress("fitting the embedding", step + 1, _STEPS)

        def generate(labels: NDArray[np.int64]) -> NDArray[np.float64]:
            asked = torch.eye(n_labels)[torch.from_numpy(labels)]
            noise = torch.randn(len(labels), _NOISE_WIDTH, generator=torch.Generator().manual_seed(seed))
            with torch.no_grad():
                vectors: NDArray[np.float64] = (
                    _bounded(net.eval()(torch.cat([noise, asked], dim=1))).double().numpy()
                )
            return vectors

    return generate


def _bounded(vectors: Tensor) -> Tensor:
    return BOUND * torch.tanh(vectors / BOUND)
