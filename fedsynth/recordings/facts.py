"""Facts: from the samples of a recording, in stretches, to its length, its ends and what the gate asks."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

_AT_ONCE = 1 << 19  # samples of a channel
_Rows = NDArray[np.float32]


@dataclass(frozen=True)
class ChannelFacts:
    """What the gate asks of a channel: finite, flat, and its amplitude (`fedsynth.recordings.plausible`)."""

    finite: bool
    flat: bool
    amplitude: float


def facts_of(signal: _Rows, *, sfreq: float) -> tuple[ChannelFacts, ...]:
    """Return what the gate asks of samples in memory, shape (channel, time)."""
    gatherer = FactsGatherer(sfreq)
    gatherer.take(signal)
    return gatherer.found()


class FactsGatherer:
    """Gathers facts from stretches in the order of time; what it holds grows by one number a second.

    `n_times` is how many samples came. `n_ends` samples of both ends are kept.
    """

    def __init__(self, sfreq: float, *, n_ends: int = 0) -> None:
        self.n_times = 0
        self._second, self._ends = max(2, round(sfreq)), n_ends
        self._first: _Rows | None = None
        self._finite = self._flat = np.ones(0, dtype=bool)
        self._rest: _Rows = np.empty((0, 0), dtype=np.float32)
        self._spans: list[NDArray[np.float64]] = []
        self._head: list[_Rows] = []
        self._tail: list[_Rows] = []

    def take(self, signal: _Rows) -> None:
        """Take in a stretch in microvolts, shape (channel, time)."""
        for start in range(0, signal.shape[1], _AT_ONCE):
            self._take(signal[:, start : start + _AT_ONCE])

    def _take(self, part: _Rows) -> None:
        if self._first is None:
            self._first = part[:, :1].copy()
            self._finite = self._flat = np.ones(len(part), dtype=bool)
            self._rest = part[:, :0]
        self._finite = self._finite & np.array([bool(np.isfinite(row).all()) for row in part])
        self._flat = self._flat & (part == self._first).all(axis=1)
        if self._ends:
            self._keep_ends(part)
        self.n_times += part.shape[1]
        joined = np.concatenate([self._rest, part], axis=1)
        whole = joined.shape[1] // self._second * self._second
        if whole:
            seconds = joined[:, :whole].reshape(len(joined), -1, self._second)
            self._spans.append(_span(seconds))
        self._rest = joined[:, whole:].copy()

    def _keep_ends(self, part: _Rows) -> None:
        missing = self._ends - self.n_times
        if missing > 0:
            self._head.append(part[:, :missing].copy())
        self._tail.append(part[:, -self._ends :].copy())
        while sum(one.shape[1] for one in self._tail[1:]) >= self._ends:
            self._tail.pop(0)

    def ends(self) -> tuple[_Rows, _Rows]:
        """Return the first and the last samples, shape (channel, time)."""
        if not self._ends or self._first is None:
            empty = np.empty((0 if self._first is None else len(self._first), 0), dtype=np.float32)
            return empty, empty
        return np.concatenate(self._head, axis=1), np.concatenate(self._tail, axis=1)[:, -self._ends :]

    def found(self) -> tuple[ChannelFacts, ...]:
        """Return the facts of each channel; none where no sample came."""
        if self._first is None:
            return ()
        spans = self._spans or [_span(self._rest[:, None, :])]
        amplitudes = [float(np.median(row)) for row in np.concatenate(spans, axis=1)]
        told = zip(self._finite.tolist(), self._flat.tolist(), amplitudes, strict=True)
        return tuple(ChannelFacts(*one) for one in told)


def _span(rows: _Rows) -> NDArray[np.float64]:
    """Return the peak-to-peak of every second, shape (channel, second)."""
    with np.errstate(invalid="ignore", over="ignore"):
        spans: NDArray[np.float64] = rows.max(axis=2).astype(np.float64) - rows.min(axis=2)
    return spans
