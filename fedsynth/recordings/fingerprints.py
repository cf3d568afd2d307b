"""Fingerprints: from the samples of a channel to a few digests by which the same signal is known again.

A recording that was saved again differs in its bytes: other data records, padded at its end, annotations stripped,
channels dropped or in another order, other gains, another format. What stays is the sequence of steps from each
sample to the next; and where it was rounded anew, as when the same values are written with other physical limits,
still the times at which the signal begins to rise. Of either sequence the few runs with the smallest hash are kept
(`fedsynth.recordings.sketch`).

Runs with few different numbers are passed over: zeros, rails, counters, triggers and square waves are alike in
people who are not.
"""

import math

import numpy as np
from numpy.typing import NDArray

from fedsynth.recordings.sketch import Sketch

RUN = 64
KEPT = 4
LEAST_DIFFERENT = 12
"""A run of steps has at least this many different ones, other than 0."""
LAG, RISES = 8, 32
"""A signal rises where a sample is larger than the one `LAG` before; a run is of so many times between rises."""
LEAST_DIFFERENT_TIMES = 6

_AT_ONCE = 1 << 18
"""Samples that are taken in together, as many as a processor keeps near."""
_FACTOR_AT_ONCE = 1 << 10
_FLOAT_NOISE = 4e-7
"""Steps below this share of the largest value are 0: float32 has 24 bits."""


def fingerprints(values: NDArray[np.generic]) -> tuple[str, ...]:
    """Return at most `KEPT` digests of either kind of one channel, sorted; none where all runs are too uniform.

    Args:
        values: shape (time,). Whole numbers are compared exactly, up to a common factor; other numbers after
            division by their smallest step, so that neither a gain, of whatever sign, nor an offset matters; what
            was rounded anew keeps the digests of the second kind. nan stands for no sample.

    >>> wave = np.random.default_rng(1).integers(-99, 99, 4000)
    >>> found = fingerprints(wave)
    >>> found == fingerprints(7 * wave + 5) == fingerprints(wave * 0.25)
    True
    >>> len(set(found) & set(fingerprints(np.concatenate([wave[300:], np.zeros(500, np.int64)])))) >= 2
    True
    >>> fingerprints(np.arange(4000) % 128)
    ()
    """
    whole = Fingerprinter()
    while whole.wanting:
        whole.take(values)
        whole.end_pass()
    return whole.found()


class Fingerprinter:
    """The fingerprints of one channel that comes in stretches; the same as those of the whole, wherever it is cut.

    The channel is gone through once where its first samples show that steps have no common factor, otherwise twice,
    and three times where its samples are no whole numbers: steps are counted in units of the finest, and which that
    is shows in the end. While `wanting`, give all stretches in the order of time to `take`, then call `end_pass`.
    """

    def __init__(self) -> None:
        self.wanting = True
        self._passes = 0
        self._whole = self._at_once = True
        self._last: NDArray[np.generic] | None = None
        self._factor = 0
        self._largest = 0.0
        self._finest, self._coarsest = math.inf, 0.0
        self._nearest = Sketch(RUN)
        self._rises = _Rises()

    def take(self, values: NDArray[np.generic]) -> None:
        """Take in a stretch, shape (time,)."""
        for start in range(0, len(values), _AT_ONCE):
            part = values[start : start + _AT_ONCE]
            joined = part if self._last is None else np.concatenate([self._last, part])
            self._last = joined[-RUN:]
            if self._passes == 0:
                self._rises.take(part)
                self._scale(joined)
                self._at_once = self._at_once and self._whole and self._factor == 1
                if self._at_once:
                    self._nearest.take(self._steps(joined))
            elif self._passes == 1 and not self._whole:
                self._size(joined)
            else:
                self._nearest.take(self._steps(joined))

    def end_pass(self) -> None:
        """Note that all stretches were given once more."""
        self._passes += 1
        self._last = None
        self.wanting = not self._at_once and self._passes < (2 if self._whole else 3)

    def found(self) -> tuple[str, ...]:
        """Return the fingerprints, when nothing more is wanted."""
        exact = self._nearest.digests(kept=KEPT, least_different=LEAST_DIFFERENT)
        return tuple(sorted((*exact, *self._rises.found())))

    def _scale(self, values: NDArray[np.generic]) -> None:
        if np.issubdtype(values.dtype, np.integer):
            for start in range(0, len(values) - 1, _FACTOR_AT_ONCE):
                if self._factor == 1:
                    break
                steps = np.diff(values[start : start + _FACTOR_AT_ONCE + 1].astype(np.int64))
                self._factor = math.gcd(self._factor, int(np.gcd.reduce(steps)))
            return
        self._whole = False
        self._largest = max(self._largest, float(np.abs(_finite(values)).max(initial=0.0)))

    def _size(self, values: NDArray[np.generic]) -> None:
        sizes = np.abs(np.diff(_finite(values)))
        seen = sizes[sizes > _FLOAT_NOISE * self._largest]
        if len(seen):
            self._finest = min(self._finest, float(seen.min()))
            self._coarsest = max(self._coarsest, float(seen.max()))

    def _steps(self, values: NDArray[np.generic]) -> NDArray[np.signedinteger]:
        """Return the steps between neighbouring samples in units of the finest one, shape (time - 1,)."""
        if self._whole:
            whole: NDArray[np.signedinteger] = np.diff(values.astype(_fitting(values), copy=False))
            return whole // self._factor if self._factor > 1 else whole
        steps = np.diff(_finite(values))
        if not math.isfinite(self._finest) or self._coarsest / self._finest > 2**52:
            return np.zeros(len(steps), dtype=np.int64)
        kept = np.abs(steps) > _FLOAT_NOISE * self._largest
        return np.rint(np.where(kept, steps, 0.0) / self._finest).astype(np.int64)


class _Rises:
    """The times between the samples at which a channel that comes in stretches begins to rise."""

    def __init__(self) -> None:
        self._sketch = Sketch(RISES)
        self._at = 0
        self._last: NDArray[np.generic] | None = None
        self._times = np.empty(0, dtype=np.int64)

    def take(self, values: NDArray[np.generic]) -> None:
        """Take in a stretch, shape (time,)."""
        joined = values if self._last is None else np.concatenate([self._last, values])
        self._last = joined[-LAG - 1 :]
        rising = joined[LAG:] > joined[:-LAG]  # type: ignore[operator]
        # It begins to rise and to fall in turns.
        begins = np.flatnonzero(rising[1:] != rising[:-1])[int(rising[:1].any()) :: 2]
        times = np.concatenate([self._times, begins + self._at])
        self._at += max(0, len(rising) - 1)
        self._sketch.take(np.diff(times))
        self._times = times[-RISES:]

    def found(self) -> tuple[str, ...]:
        return self._sketch.digests(kept=KEPT, least_different=LEAST_DIFFERENT_TIMES, kind=b"rises")


def _fitting(values: NDArray[np.generic]) -> type[np.signedinteger]:
    """Return the smallest whole numbers that hold the differences: a processor takes more of them at once."""
    if values.dtype.itemsize > 2:
        return np.int64
    if values.dtype == np.int16 and len(values) and int(values.max()) - int(values.min()) < 1 << 15:
        return np.int16
    return np.int32


def _finite(values: NDArray[np.generic]) -> NDArray[np.float64]:
    numbers = values.astype(np.float64)
    return np.where(np.isfinite(numbers), numbers, 0.0)
