"""What a report and the checks of a release look at: a bounded, evenly spaced sample of the windows drawn."""

import numpy as np
from numpy.typing import NDArray

from fedsynth.synthesis.windows import SyntheticStream, SyntheticWindows

MOST_WINDOWS = 200  # of one label
LEAST_WINDOWS = 24  # of one label, where windows are huge
MOST_NUMBERS = 2**24
PER_SUBJECT = 2


def public_sample(windows: SyntheticStream) -> SyntheticWindows:
    """Return windows of the first, the last and evenly spaced made-up subjects of each label, in order.

    At most 200 windows of a label, fewer where windows are huge; two or more of each subject taken, where it has
    them, so that the sample shows what subjects differ by.
    """
    numbers = len(windows.channels) * windows.n_times * len(windows.label_names)
    most = min(MOST_WINDOWS, max(LEAST_WINDOWS, MOST_NUMBERS // numbers))
    starts = np.cumsum(windows.subject_windows) - windows.subject_windows
    rows: list[NDArray[np.int64]] = []
    for label in range(len(windows.label_names)):
        mine = np.flatnonzero(windows.subject_labels == label)
        several = bool((windows.subject_windows[mine] > 1).any())
        people = mine[_spaced(len(mine), most // PER_SUBJECT if several else most)]
        each = most // max(1, len(people))
        for person in people:
            rows.append(starts[person] + _spaced(int(windows.subject_windows[person]), each))
    return windows.pick(np.concatenate(rows) if rows else np.zeros(0, np.int64))


def _spaced(count: int, most: int) -> NDArray[np.int64]:
    """Return at most `most` of the numbers below `count`, the first and the last among them."""
    if count == 0:
        return np.zeros(0, np.int64)
    return np.unique(np.linspace(0, count - 1, min(count, most)).round().astype(np.int64))


def coherence(windows: SyntheticWindows) -> float | None:
    """Return which share of the windows' variance lies between made-up subjects of one label.

    The intraclass correlation ICC(1) from a one-way analysis of variance (Shrout and Fleiss 1979,
    doi:10.1037/0033-2909.86.2.420) over the log power of the signal and of its slope, averaged over channels, all
    labels pooled: 0 where windows of a subject are as different as anybody's, 1 where they are equal. None where no
    label has two subjects with two windows.
    """
    values = _log_powers(windows.signal)
    between, within = np.zeros(values.shape[1]), np.zeros(values.shape[1])
    free_between, free_within, size = 0, 0, 0.0
    for label in range(len(windows.label_names)):
        mine = windows.labels == label
        _, person, counts = np.unique(windows.subjects[mine], return_inverse=True, return_counts=True)
        if len(counts) < 2 or counts.max() < 2:
            continue
        rows, total = values[mine], counts.sum()
        means = np.stack([np.bincount(person, column) / counts for column in rows.T], axis=1)
        between += (counts[:, None] * (means - rows.mean(axis=0)) ** 2).sum(axis=0)
        within += ((rows - means[person]) ** 2).sum(axis=0)
        size += total - (counts**2).sum() / total
        free_between, free_within = free_between + len(counts) - 1, free_within + int(total) - len(counts)
    if free_within == 0:
        return None
    each = size / free_between
    above, below = between / free_between, within / free_within
    whole = above + (each - 1) * below
    return float(np.mean(np.divide(above - below, whole, out=np.zeros_like(above), where=whole > 0)))


def _log_powers(signal: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return the log power of each window and of its slope, shape (window, 2)."""
    exact = signal.astype(np.float64)
    powers = [np.log(part.var(axis=-1) + 1e-3).mean(axis=-1) for part in (exact, np.diff(exact, axis=-1))]
    return np.stack(powers, axis=1)
