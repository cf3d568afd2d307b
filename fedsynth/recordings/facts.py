"""Facts: from the samples of a recording, in stretches, to its length, its ends and what the gate asks."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

_Rows = NDArray[np.float32]
_Scale = float | NDArray[np.float64]
Scales = tuple[tuple[float, float], ...]
"""Of each channel, the microvolts of a step and of the step 0."""


@dataclass(frozen=True)
class ChannelFacts:
    """What the gate asks of a channel: finite, flat, and its amplitude (`fedsynth.recordings.plausible`)."""

    finite: bool
    flat: bool
    amplitude: float


def facts_of(signal: _Rows, *, sfreq: float) -> tuple[ChannelFacts, ...]:
    """Return what the gate asks of samples in memory, shape (channel, time)."""
    gatherer = FactsGatherer(sfreq)
    gatherer.take(list(signal))
    return gatherer.found()


class FactsGatherer:
    """Gathers facts from stretches in the order of time; what it holds grows by two numbers a second.

    `n_times` is how many samples came.
    """

    def __init__(self, sfreq: float) -> None:
        self.n_times = 0
        self._second = max(2, round(sfreq))
        self._rest: list[NDArray[np.generic]] | None = None
        self._scales: Scales | None = None
        self._largest: list[NDArray[np.generic]] = []
        self._smallest: list[NDArray[np.generic]] = []

    def take(self, rows: Sequence[NDArray[np.generic]], scales: Scales | None = None) -> None:
        """Take in a stretch.

        Args:
            rows: samples of each channel, shape (time,); in microvolts where there are no scales.
            scales: of steps, which are compared in half the time; the same for all stretches.
        """
        n_times, missing, self._scales = len(rows[0]), 0, scales
        self.n_times += n_times
        if not n_times:
            return
        if self._rest is not None and len(self._rest[0]):
            missing = min(n_times, self._second - len(self._rest[0]))
            pairs = zip(self._rest, rows, strict=True)
            self._rest = [np.concatenate([rest, row[:missing]]) for rest, row in pairs]
            if len(self._rest[0]) == self._second:
                self._look([rest[None] for rest in self._rest])
                self._rest = None
        stop = missing + (n_times - missing) // self._second * self._second
        if stop > missing:
            self._look([row[missing:stop].reshape(-1, self._second) for row in rows])
        if stop < n_times or self._rest is None:
            self._rest = [row[stop:].copy() for row in rows]

    def _look(self, seconds: list[NDArray[np.generic]]) -> None:
        largest, smallest = _ends(seconds)
        self._largest.append(largest)
        self._smallest.append(smallest)

    def found(self) -> tuple[ChannelFacts, ...]:
        """Return the facts of each channel; none where no sample came."""
        if self._rest is None:
            return ()
        n_seconds = sum(one.shape[1] for one in self._largest) or 1
        last = _ends([rest[None] for rest in self._rest]) if len(self._rest[0]) else None
        largest = np.concatenate([*self._largest, last[0]] if last else self._largest, axis=1)
        smallest = np.concatenate([*self._smallest, last[1]] if last else self._smallest, axis=1)
        high, low = (_microvolts(one, self._scales) for one in (largest, smallest))
        with np.errstate(invalid="ignore"):
            high, low = np.maximum(high, low), np.minimum(high, low)  # a factor may be negative
            amplitudes = np.median((high.astype(np.float64) - low)[:, :n_seconds], axis=1)
        finite = np.asarray(np.isfinite(high).all(axis=1) & np.isfinite(low).all(axis=1))
        flat = high.max(axis=1) == low.min(axis=1)
        rows = zip(finite.tolist(), flat.tolist(), amplitudes.tolist(), strict=True)
        return tuple(ChannelFacts(*row) for row in rows)


def _ends(seconds: list[NDArray[np.generic]]) -> tuple[NDArray[np.generic], NDArray[np.generic]]:
    """Return the largest and the smallest sample of each second of each channel, shape (channel, second)."""
    with np.errstate(invalid="ignore"):  # of samples that are not all numbers the largest is none
        # A channel at a time, which the processor still holds when it is asked for the smallest.
        ends = [(row.max(axis=1), row.min(axis=1)) for row in seconds]
    return np.stack([high for high, _ in ends]), np.stack([low for _, low in ends])


def _microvolts(values: NDArray[np.generic], scales: Scales | None) -> _Rows:
    """Return microvolts of samples, shape (channel, time)."""
    if scales is None:
        return values.astype(np.float32)
    gains, offsets = np.array(scales, dtype=np.float64).T[:, :, None]
    return microvolts(values, gains, offsets)


def microvolts(steps: NDArray[np.generic], gain: _Scale, offset: _Scale) -> _Rows:
    """Return the microvolts of steps, of any shape, rounded once to single precision."""
    exact = steps.astype(np.float64)
    exact *= gain
    exact += offset
    with np.errstate(over="ignore"):  # the gate refuses what becomes infinite
        return exact.astype(np.float32)
