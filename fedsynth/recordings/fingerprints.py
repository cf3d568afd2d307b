"""Fingerprints: from the samples of a channel to a few digests by which the same signal is known again.

A recording that was saved again differs in its bytes: other data records, padded at its end, annotations stripped,
channels dropped or in another order, other gains, another format. What stays is the sequence of steps from each
sample to the next. Of all stretches of `RUN` such steps, the few whose hash is smallest are kept (a bottom-k
sketch: Broder 1997, doi:10.1109/SEQUEN.1997.666900); which they are depends on what they hold and not on where they
stand, so that a recording that was lengthened or cut shares nearly all of them.

Stretches with few different steps are passed over: zeros, rails, counters, triggers and square waves are alike in
people who are not.
"""

import functools
import hashlib
import math

import numpy as np
from numpy.typing import NDArray

RUN = 64
KEPT = 4
LEAST_DIFFERENT = 12
"""A stretch has at least this many different steps, other than 0."""

_CANDIDATES = 64
_AT_ONCE = 1 << 19  # samples
_FLOAT_NOISE = 4e-7
"""Steps below this share of the largest value are 0: float32 has 24 bits."""
_BLOCK = 1 << 15
"""Stretches that are hashed together."""
_ODD = np.uint64(0x9E3779B97F4A7C15)


def fingerprints(values: NDArray[np.generic]) -> tuple[str, ...]:
    """Return at most `KEPT` digests of one channel, sorted; none where no stretch has enough different steps.

    Args:
        values: shape (time,). Whole numbers are compared exactly, up to a common factor; other numbers after
            division by their smallest step, so that neither a gain, of whatever sign, nor an offset matters. nan
            stands for no sample.

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

    The channel is gone through twice, or three times where its samples are no whole numbers: steps are counted in
    units of the finest, and which that is shows in the end. While `wanting`, give all stretches in the order of
    time to `take`, then call `end_pass`.
    """

    def __init__(self) -> None:
        self.wanting = True
        self._passes = 0
        self._whole = True
        self._last: NDArray[np.generic] | None = None
        self._factor = 0
        self._largest = 0.0
        self._finest, self._coarsest = math.inf, 0.0
        self._tail = np.empty(0, dtype=np.int64)
        self._nearest: list[tuple[int, bytes]] = []

    def take(self, values: NDArray[np.generic]) -> None:
        """Take in a stretch, shape (time,)."""
        for start in range(0, len(values), _AT_ONCE):
            part = values[start : start + _AT_ONCE]
            joined = part if self._last is None else np.concatenate([self._last, part])
            self._last = part[-1:]
            if self._passes == 0:
                self._scale(joined)
            elif self._passes == 1 and not self._whole:
                self._size(joined)
            else:
                self._hash(joined)

    def end_pass(self) -> None:
        """Note that all stretches were given once more."""
        self._passes += 1
        self._last = None
        self.wanting = self._passes < (2 if self._whole else 3)

    def found(self) -> tuple[str, ...]:
        """Return the fingerprints, when nothing more is wanted."""
        found: list[str] = []
        for _, run in self._nearest:
            steps = np.frombuffer(run, dtype="<i8")
            if len(np.unique(steps[steps != 0])) >= LEAST_DIFFERENT:
                upright = steps * np.sign(steps[np.flatnonzero(steps)[0]])
                digest = hashlib.sha256(upright.astype("<i8").tobytes()).hexdigest()
                if digest not in found:
                    found.append(digest)
            if len(found) == KEPT:
                break
        return tuple(sorted(found))

    def _scale(self, values: NDArray[np.generic]) -> None:
        if np.issubdtype(values.dtype, np.integer):
            if self._factor != 1 and len(values) > 1:
                self._factor = math.gcd(self._factor, int(np.gcd.reduce(np.diff(values.astype(np.int64)))))
            return
        self._whole = False
        self._largest = max(self._largest, float(np.abs(_finite(values)).max(initial=0.0)))

    def _size(self, values: NDArray[np.generic]) -> None:
        sizes = np.abs(np.diff(_finite(values)))
        seen = sizes[sizes > _FLOAT_NOISE * self._largest]
        if len(seen):
            self._finest = min(self._finest, float(seen.min()))
            self._coarsest = max(self._coarsest, float(seen.max()))

    def _steps(self, values: NDArray[np.generic]) -> NDArray[np.int64]:
        """Return the steps between neighbouring samples in units of the finest one, shape (time - 1,)."""
        if self._whole:
            whole = np.diff(values.astype(np.int64))
            return np.asarray(whole // self._factor if self._factor > 1 else whole, dtype=np.int64)
        steps = np.diff(_finite(values))
        if not math.isfinite(self._finest) or self._coarsest / self._finest > 2**52:
            return np.zeros(len(steps), dtype=np.int64)
        kept = np.abs(steps) > _FLOAT_NOISE * self._largest
        return np.rint(np.where(kept, steps, 0.0) / self._finest).astype(np.int64)

    def _hash(self, values: NDArray[np.generic]) -> None:
        steps = np.concatenate([self._tail, self._steps(values)])
        self._tail = steps[max(0, len(steps) - RUN + 1) :]
        if len(steps) < RUN:
            return
        hashes = _rolling(np.abs(steps))
        count = min(_CANDIDATES, len(hashes))
        nearest = np.argpartition(hashes, count - 1)[:count]
        runs = [(int(hashes[at]), steps[at : at + RUN].astype("<i8").tobytes()) for at in nearest]
        # By hash and then by what they hold, so that where a channel was cut does not matter.
        self._nearest = sorted([*self._nearest, *runs])[:_CANDIDATES]


def _finite(values: NDArray[np.generic]) -> NDArray[np.float64]:
    numbers = values.astype(np.float64)
    return np.where(np.isfinite(numbers), numbers, 0.0)


def _rolling(steps: NDArray[np.int64]) -> NDArray[np.uint64]:
    """Hash every stretch of `RUN` steps, shape (time - RUN + 1,): a polynomial in its mixed steps, modulo 2^64.

    Sums from the beginning give all of them at once; that the factor is odd makes its powers divide (Karp and Rabin
    1987, doi:10.1147/rd.312.0249).
    """
    hashes = np.empty(len(steps) - RUN + 1, dtype=np.uint64)
    powers, inverses = _powers()
    with np.errstate(over="ignore"):
        for start in range(0, len(hashes), _BLOCK):
            part = steps[start : start + _BLOCK + RUN - 1].astype(np.uint64)
            terms = _mixed(part + _ODD) * powers[: len(part)]
            sums = np.concatenate([np.zeros(1, np.uint64), np.cumsum(terms, dtype=np.uint64)])
            count = len(part) - RUN + 1
            hashes[start : start + count] = _mixed((sums[RUN:] - sums[:-RUN]) * inverses[:count])
    return hashes


@functools.cache
def _powers() -> tuple[NDArray[np.uint64], NDArray[np.uint64]]:
    """Return the powers of the factor and of its inverse modulo 2^64, from the zeroth on."""
    found = []
    with np.errstate(over="ignore"):
        for factor in (int(_ODD), pow(int(_ODD), -1, 1 << 64)):
            factors = np.full(_BLOCK + RUN, factor, dtype=np.uint64)
            factors[0] = 1
            found.append(np.multiply.accumulate(factors))
    return found[0], found[1]


def _mixed(values: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Mix the bits (the finaliser of SplitMix64: Steele et al. 2014, doi:10.1145/2714064.2660195)."""
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))
