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
    """Gathers facts from stretches in the order of time; what it holds grows by two numbers a second.

    `n_times` is how many samples came.
    """

    def __init__(self, sfreq: float) -> None:
        self.n_times = 0
        self._second = max(2, round(sfreq))
        self._rest: _Rows | None = None
        self._largest: list[_Rows] = []
        self._smallest: list[_Rows] = []

    def take(self, signal: _Rows) -> None:
        """Take in a stretch in microvolts, shape (channel, time)."""
        for start in range(0, signal.shape[1], _AT_ONCE):
            self._take(signal[:, start : start + _AT_ONCE])

    def _take(self, part: _Rows) -> None:
        self.n_times += part.shape[1]
        missing = 0
        if self._rest is not None and self._rest.shape[1]:
            missing = min(part.shape[1], self._second - self._rest.shape[1])
            self._rest = np.concatenate([self._rest, part[:, :missing]], axis=1)
            if self._rest.shape[1] == self._second:
                self._look(self._rest[:, None, :])
                self._rest = None
        stop = missing + (part.shape[1] - missing) // self._second * self._second
        if stop > missing:
            self._look(part[:, missing:stop].reshape(len(part), -1, self._second))
        if stop < part.shape[1] or self._rest is None:
            self._rest = part[:, stop:].copy()

    def _look(self, seconds: _Rows) -> None:
        with np.errstate(invalid="ignore"):  # of samples that are not all numbers the largest is none
            self._largest.append(seconds.max(axis=2))
            self._smallest.append(seconds.min(axis=2))

    def found(self) -> tuple[ChannelFacts, ...]:
        """Return the facts of each channel; none where no sample came."""
        if self._rest is None:
            return ()
        last = self._rest.shape[1] > 0
        largest = [*self._largest, self._rest.max(axis=1, keepdims=True)] if last else self._largest
        smallest = [*self._smallest, self._rest.min(axis=1, keepdims=True)] if last else self._smallest
        n_seconds = sum(one.shape[1] for one in self._largest) or 1
        told = []
        for high, low in zip(np.concatenate(largest, axis=1), np.concatenate(smallest, axis=1), strict=True):
            with np.errstate(invalid="ignore"):
                spans = (high.astype(np.float64) - low)[:n_seconds]
            finite = bool(np.isfinite(high).all() and np.isfinite(low).all())
            told.append(ChannelFacts(finite, bool(high.max() == low.min()), float(np.median(spans))))
        return tuple(told)
