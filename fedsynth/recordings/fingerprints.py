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
from itertools import groupby
from operator import itemgetter

import numpy as np
from numpy.typing import NDArray

RUN = 64
KEPT = 4
LEAST_DIFFERENT = 12
"""A stretch has at least this many different steps, other than 0."""

_CANDIDATES = 64
_AT_ONCE = 1 << 15
"""Samples that are hashed together: a processor keeps them near."""
_FACTOR_AT_ONCE = 1 << 10
_FLOAT_NOISE = 4e-7
"""Steps below this share of the largest value are 0: float32 has 24 bits."""
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
        self._hashes = np.empty(0, dtype=np.uint64)
        self._runs = np.empty((0, RUN), dtype=np.int64)

    def take(self, values: NDArray[np.generic]) -> None:
        """Take in a stretch, shape (time,)."""
        for start in range(0, len(values), _AT_ONCE):
            part = values[start : start + _AT_ONCE]
            joined = part if self._last is None else np.concatenate([self._last, part])
            self._last = joined[-RUN:]
            if self._passes == 0:
                self._scale(joined)
                self._at_once = self._at_once and self._whole and self._factor == 1
                if self._at_once:
                    self._hash(joined)
            elif self._passes == 1 and not self._whole:
                self._size(joined)
            else:
                self._hash(joined)

    def end_pass(self) -> None:
        """Note that all stretches were given once more."""
        self._passes += 1
        self._last = None
        self.wanting = not self._at_once and self._passes < (2 if self._whole else 3)

    def found(self) -> tuple[str, ...]:
        """Return the fingerprints, when nothing more is wanted."""
        found: list[str] = []
        for _, alike in groupby(zip(self._hashes.tolist(), self._runs, strict=True), key=itemgetter(0)):
            # By hash and then by what they hold, so that where a channel was cut does not matter.
            for data in sorted({run.tobytes() for _, run in alike}):
                steps = np.frombuffer(data, dtype=np.int64)
                if len(set(steps.tolist()) - {0}) < LEAST_DIFFERENT:
                    continue
                upright = steps * np.sign(steps[np.flatnonzero(steps)[0]])
                digest = hashlib.sha256(upright.astype("<i8").tobytes()).hexdigest()
                if digest not in found:
                    found.append(digest)
                if len(found) == KEPT:
                    return tuple(sorted(found))
        return tuple(sorted(found))

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

    def _steps(self, values: NDArray[np.generic]) -> NDArray[np.int64]:
        """Return the steps between neighbouring samples in units of the finest one, shape (time - 1,)."""
        if self._whole:
            whole = np.subtract(values[1:], values[:-1], dtype=np.int64)
            return np.asarray(whole // self._factor if self._factor > 1 else whole, dtype=np.int64)
        steps = np.diff(_finite(values))
        if not math.isfinite(self._finest) or self._coarsest / self._finest > 2**52:
            return np.zeros(len(steps), dtype=np.int64)
        kept = np.abs(steps) > _FLOAT_NOISE * self._largest
        return np.rint(np.where(kept, steps, 0.0) / self._finest).astype(np.int64)

    def _hash(self, values: NDArray[np.generic]) -> None:
        steps = self._steps(values)
        if len(steps) < RUN:
            return
        hashes = _rolling(np.abs(steps))
        full = len(self._hashes) == _CANDIDATES
        near = np.flatnonzero(hashes < self._hashes[-1]) if full else np.arange(len(hashes))
        if len(near) > _CANDIDATES:
            near = near[np.argpartition(hashes[near], _CANDIDATES - 1)[:_CANDIDATES]]
        if len(near):
            joined = np.concatenate([self._hashes, hashes[near]])
            runs = np.concatenate([self._runs, steps[near[:, None] + np.arange(RUN)]])
            order = np.argsort(joined, kind="stable")[:_CANDIDATES]
            self._hashes, self._runs = joined[order], runs[order]


def _finite(values: NDArray[np.generic]) -> NDArray[np.float64]:
    numbers = values.astype(np.float64)
    return np.where(np.isfinite(numbers), numbers, 0.0)


def _rolling(steps: NDArray[np.int64]) -> NDArray[np.uint64]:
    """Hash every stretch of `RUN` steps, shape (time - RUN + 1,): a polynomial in its mixed steps, modulo 2^64.

    Sums from the beginning give all of them at once; that the factor is odd makes its powers divide (Karp and Rabin
    1987, doi:10.1147/rd.312.0249).
    """
    powers, inverses = _powers(1 << (len(steps) - 1).bit_length())
    terms = steps.astype(np.uint64)
    terms += _ODD
    _mix(terms)
    terms *= powers[: len(terms)]
    sums = np.empty(len(terms) + 1, dtype=np.uint64)
    sums[0] = 0
    np.cumsum(terms, out=sums[1:])
    hashes = sums[RUN:] - sums[:-RUN]
    hashes *= inverses[: len(hashes)]
    _mix(hashes)
    return hashes


@functools.lru_cache(maxsize=4)
def _powers(count: int) -> tuple[NDArray[np.uint64], NDArray[np.uint64]]:
    """Return the powers of the factor and of its inverse modulo 2^64, from the zeroth on."""
    found = []
    for factor in (int(_ODD), pow(int(_ODD), -1, 1 << 64)):
        factors = np.full(count, factor, dtype=np.uint64)
        factors[0] = 1
        found.append(np.multiply.accumulate(factors))
    return found[0], found[1]


def _mix(values: NDArray[np.uint64]) -> None:
    """Mix the bits in place (the finaliser of SplitMix64: Steele et al. 2014, doi:10.1145/2714064.2660195)."""
    shifted = np.empty_like(values)
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB), (31, 1)):
        np.right_shift(values, np.uint64(shift), out=shifted)
        values ^= shifted
        if factor != 1:
            values *= np.uint64(factor)
