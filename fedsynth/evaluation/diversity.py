"""Diversity: whether synthetic windows differ from one another, told from synthetic windows alone.

A generator that has collapsed gives one window for each label, whatever its noise. Such a set can pass for private
and even carry its labels; it is of no use, and no release is made of it.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from fedsynth.errors import RefusedError
from fedsynth.evaluation.score import Score
from fedsynth.rng import numpy_generator
from fedsynth.synthesis.windows import SyntheticWindows

LEAST_DIVERSITY = 0.03
"""A release needs at least this much; of 200 windows, some seven that are distinct (docs/families/index.md)."""

_AT_MOST = 200  # windows of one label that are compared
_WIDTH = 0.1  # windows that correlate at 0.95 are similar by 1 / e
_HALVES = 40
_FLAT = 0.05  # microvolts, root mean square: below a recorder's step

_Floats = NDArray[np.floating[Any]]


def diversity_score(windows: SyntheticWindows) -> Score:
    """Return the share of windows that are distinct, of the label where it is least.

    The effective number of distinct windows is the Vendi score of Friedman and Dieng (2023, arXiv:2210.02410,
    equation 3) with a Gaussian kernel on waveforms without mean and of unit energy; from 1 of n, where all are
    alike, to n. The score is (number - 1) / (n - 1), from 0 to 1. Its interval is a half-sample jackknife's (Shao
    and Wu 1989, doi:10.1214/aos/1176347263). Not a number where no label has two windows.

    Args:
        windows: of any number; 200 of a label, evenly spread, are compared.
    """
    chosen = [spread(np.flatnonzero(windows.labels == label)) for label in np.unique(windows.labels)]
    kernels = [_kernel(windows.signal[rows]) for rows in chosen if len(rows) > 1]
    rng = numpy_generator("diversity halves")
    halves = [_least([_half(kernel, rng) for kernel in kernels]) for _ in range(_HALVES)]
    value, error = _least(kernels), float(np.std(halves, ddof=1))
    return Score(
        name="diversity",
        value=value,
        low=max(0.0, value - 1.96 * error),
        high=min(1.0, value + 1.96 * error),
        direction=1,
        source="synthetic",
        about="share of windows that are distinct from one another, of the label where it is least (Vendi score)",
    )


def check_diversity(windows: SyntheticWindows) -> Score:
    """Return the diversity of windows that have enough of it.

    Raises:
        RefusedError: the generator has collapsed.
    """
    score = diversity_score(windows)
    # What is not a number has shown nothing.
    if not score.value >= LEAST_DIVERSITY:
        raise RefusedError(
            f"the windows lack diversity: {score.value:.4f} of them are distinct, and {LEAST_DIVERSITY:g} is the "
            "least. The generator has collapsed; nothing was released"
        )
    return score


def effective_number(kernel: _Floats) -> float:
    """Return the Vendi score: how many different things stand behind a similarity matrix.

    >>> round(effective_number(np.eye(4)), 6), round(effective_number(np.ones((4, 4))), 6)
    (4.0, 1.0)
    """
    values = np.linalg.eigvalsh(kernel / len(kernel))
    values = values[values > 1e-12]
    return float(np.exp(-(values * np.log(values)).sum()))


def spread(rows: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return at most 200 of the rows, evenly spread."""
    if len(rows) <= _AT_MOST:
        return rows
    return rows[np.linspace(0, len(rows) - 1, _AT_MOST).round().astype(np.int64)]


def _kernel(signal: _Floats) -> _Floats:
    waves = _unit_waves(signal).reshape(len(signal), -1)
    energy = (waves**2).sum(axis=1)
    squared = np.maximum(energy[:, None] + energy[None, :] - 2 * waves @ waves.T, 0.0)
    kernel = np.exp(-squared / _WIDTH)
    np.fill_diagonal(kernel, 1.0)
    return kernel


def _unit_waves(signal: _Floats) -> NDArray[np.float64]:
    """Return waves without mean and of unit energy over all channels; nothing where nothing changes."""
    waves: NDArray[np.float64] = signal.astype(np.float64)
    waves -= waves.mean(axis=-1, keepdims=True)
    size = np.sqrt((waves**2).sum(axis=(1, 2), keepdims=True))
    least = _FLAT * np.sqrt(waves[0].size)
    unit: NDArray[np.float64] = np.where(size > least, waves / np.maximum(size, least), 0.0)
    return unit


def _half(kernel: _Floats, rng: np.random.Generator) -> _Floats:
    rows = rng.choice(len(kernel), max(2, len(kernel) // 2), replace=False)
    half: _Floats = kernel[np.ix_(rows, rows)]
    return half


def _least(kernels: list[_Floats]) -> float:
    shares = [(effective_number(kernel) - 1) / (len(kernel) - 1) for kernel in kernels]
    return max(0.0, min(shares)) if shares else float("nan")
