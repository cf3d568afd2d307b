"""MST and AIM on binned features, from their own package in an environment of its own.

McKenna, Miklau and Sheldon 2021, "Winning the NIST Contest: A scalable and general approach to differentially
private synthetic data" (MST); McKenna, Mullins, Sheldon and Miklau 2022, "AIM: An Adaptive and Iterative Mechanism
for Differentially Private Synthetic Data". Both as in smartnoise-synth 1.0.8, which
`python benchmarks/peers/environment.py` installs.

Not as in the papers: a row is one window of a unit, chosen at random, since both protect rows; bins have public
edges; a bin is decoded to a uniform draw within it. Both are told the exact number of rows, as their package is.
"""

import os
import subprocess
import tempfile
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from peers.environment import PYTHON
from peers.spectral import BOUND, Space
from peers.task import Outcome, Progress, Task

BINS = 8  # from -2 to 2 spreads of the simulator, the outer two open
_EDGE = 2.0
_WORKER = Path(__file__).with_name("marginals_worker.py")


class UnavailableError(Exception):
    """A peer that cannot run here, and why."""


def marginals(task: Task, space: Space, progress: Progress, *, mechanism: str) -> Outcome:
    """Bin the features of one window per unit, have MST or AIM synthesise rows, and decode them.

    Raises:
        UnavailableError: the package is not installed, or epsilon is infinite.
    """
    if not PYTHON.exists():
        raise UnavailableError("smartnoise-synth is not installed; run: python benchmarks/peers/environment.py")
    if np.isinf(task.epsilon):
        raise UnavailableError("MST and AIM have no version without noise")
    rng = np.random.default_rng(task.seed)
    rows = one_per_unit(task.units, rng)
    table = np.column_stack([binned(space.encode(task.signal[rows])), task.labels[rows]])
    sizes = np.array([BINS] * space.size + [task.shape.n_labels])
    progress(f"{mechanism} in its own environment", 0, 1)
    drawn = _synthesise(table, sizes, task, mechanism)
    progress(f"{mechanism} in its own environment", 1, 1)
    vectors = unbinned(drawn[:, :-1], rng)
    signal = np.clip(space.decode(vectors, rng=rng), -task.limit, task.limit).astype(np.float32)
    return Outcome(signal, drawn[:, -1].astype(np.int64), task.epsilon, "smartnoise-synth 1.0.8, zCDP")


def one_per_unit(units: NDArray[np.int64], rng: np.random.Generator) -> NDArray[np.int64]:
    """Return one row of each unit, chosen at random."""
    return np.array([rng.choice(np.flatnonzero(units == unit)) for unit in np.unique(units)])


def binned(vectors: NDArray[np.float64]) -> NDArray[np.int64]:
    """Return the bin of each coordinate, 0 to BINS - 1.

    >>> binned(np.array([[-9.0, -1.2, 0.1, 9.0]])).tolist()
    [[0, 1, 4, 7]]
    """
    edges = np.linspace(-_EDGE, _EDGE, BINS + 1)[1:-1]
    return np.digitize(vectors, edges).astype(np.int64)


def unbinned(bins: NDArray[np.int64], rng: np.random.Generator) -> NDArray[np.float64]:
    """Return a uniform draw within each bin; the outer bins reach to a half more than the inner ones' width."""
    edges = np.linspace(-_EDGE, _EDGE, BINS + 1)
    width = edges[1] - edges[0]
    edges[0], edges[-1] = edges[0] - width / 2, edges[-1] + width / 2
    low, high = edges[bins], edges[bins + 1]
    return np.clip(low + (high - low) * rng.random(bins.shape), -BOUND, BOUND)


def _synthesise(
    table: NDArray[np.int64], sizes: NDArray[np.int64], task: Task, mechanism: str
) -> NDArray[np.int64]:
    with tempfile.TemporaryDirectory(prefix="peers-") as folder:
        given, made = Path(folder) / "given.npz", Path(folder) / "made.npz"
        np.savez(
            given,
            table=table,
            sizes=sizes,
            epsilon=task.epsilon,
            delta=task.delta,
            seed=task.seed,
            rows=task.per_label * task.shape.n_labels,
            mechanism=mechanism,
        )
        done = subprocess.run(
            [str(PYTHON), str(_WORKER), str(given), str(made)],
            capture_output=True,
            text=True,
            check=False,
            env={**os.environ, "JAX_PLATFORMS": "cpu"},
        )
        if done.returncode:
            raise RuntimeError(f"{mechanism} failed: {done.stderr[-600:]}")
        with np.load(made) as file:
            rows: NDArray[np.int64] = file["table"].astype(np.int64)
            return rows
