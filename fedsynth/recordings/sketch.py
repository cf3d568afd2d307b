"""A bottom-k sketch of a sequence: the few runs whose hash is smallest.

Which runs they are depends on what they hold and not on where they stand, so that a sequence that was lengthened or
cut shares nearly all of them (Broder 1997, doi:10.1109/SEQUEN.1997.666900).
"""

import functools
import hashlib
from itertools import groupby
from operator import itemgetter

import numpy as np
from numpy.typing import NDArray

_CANDIDATES = 64
_ODD = np.uint64(0x9E3779B97F4A7C15)
_KNOWN = 1 << 16
"""Numbers below this one are mixed by looking them up: steps of 16 bits are no larger."""
_AT_ONCE = 1 << 15
"""Numbers that are hashed together: a processor keeps them near."""
_LARGEST = np.uint64((1 << 64) - 1)
_LOW = np.uint64((1 << 33) - 1)


class Sketch:
    """The smallest runs of so many numbers among all that were given; their hash knows no signs."""

    def __init__(self, run: int) -> None:
        self._run = run
        self._hashes = np.empty(0, dtype=np.uint64)
        self._runs = np.empty((0, run), dtype=np.int64)

    def take(self, numbers: NDArray[np.signedinteger]) -> None:
        """Take in a stretch of the sequence, shape (number,), with what a run across two of them needs."""
        if len(numbers) < self._run:
            return
        full = len(self._hashes) == _CANDIDATES
        n_runs = len(numbers) - self._run + 1
        # Nobody knows how many are below a bound beforehand, but four times as many as are needed are likely.
        bound = self._hashes[-1] | _LOW if full else _bound(n_runs, 4 * _CANDIDATES)
        near, small = self._below(numbers, bound)
        if not full and len(near) < _CANDIDATES:
            near, small = self._below(numbers, _LARGEST)
        if len(near) > _CANDIDATES:
            order = np.argpartition(small, _CANDIDATES - 1)[:_CANDIDATES]
            near, small = near[order], small[order]
        if len(near):
            joined = np.concatenate([self._hashes, small])
            runs = np.concatenate([self._runs, numbers[near[:, None] + np.arange(self._run)]])
            order = np.argsort(joined, kind="stable")[:_CANDIDATES]
            self._hashes, self._runs = joined[order], runs[order]

    def _below(
        self, numbers: NDArray[np.signedinteger], bound: np.uint64
    ) -> tuple[NDArray[np.int64], NDArray[np.uint64]]:
        """Return where runs begin whose hashes are at most a bound, but for its lower bits, and these hashes."""
        near, small = [], []
        for start in range(0, len(numbers) - self._run + 1, _AT_ONCE):
            hashes = rolling(numbers[start : start + _AT_ONCE + self._run - 1], self._run)
            found = np.flatnonzero(hashes <= bound)
            near.append(found + start)
            small.append(finished(hashes[found]))
        return np.concatenate(near), np.concatenate(small)

    def digests(self, *, kept: int, least_different: int, kind: bytes = b"") -> tuple[str, ...]:
        """Return digests of at most `kept` runs, sorted, passing over those with few different numbers but 0.

        `kind` is put before what is hashed, so that sketches of different kinds share nothing.
        """
        found: list[str] = []
        for _, alike in groupby(zip(self._hashes.tolist(), self._runs, strict=True), key=itemgetter(0)):
            # By hash and then by what they hold, so that where a channel was cut does not matter.
            for data in sorted({run.tobytes() for _, run in alike}):
                numbers = np.frombuffer(data, dtype=np.int64)
                different = dict.fromkeys(numbers.tolist())
                different.pop(0, None)
                if len(different) < least_different:
                    continue
                upright = numbers if next(iter(different)) > 0 else -numbers
                digest = hashlib.sha256(kind + upright.astype("<i8", copy=False).tobytes()).hexdigest()
                if digest not in found:
                    found.append(digest)
                if len(found) == kept:
                    return tuple(sorted(found))
        return tuple(sorted(found))


def _bound(count: int, below: int) -> np.uint64:
    """Return a bound below which so many of `count` hashes are expected."""
    return np.uint64(min((below << 64) // count, (1 << 64) - 1))


def rolling(numbers: NDArray[np.signedinteger], run: int) -> NDArray[np.uint64]:
    """Hash every run, shape (number - run + 1,): a polynomial in its numbers without signs, mixed, modulo 2^64.

    Sums from the beginning give all of them at once; that the factor is odd makes its powers divide (Karp and Rabin
    1987, doi:10.1147/rd.312.0249). What is returned is not `finished`, which leaves the upper 31 bits as they are.
    """
    powers, inverses = _powers(1 << (len(numbers) - 1).bit_length())
    terms = _terms(numbers)
    terms *= powers[: len(terms)]
    sums = np.empty(len(terms) + 1, dtype=np.uint64)
    sums[0] = 0
    np.add.accumulate(terms, out=sums[1:])
    count = len(sums) - run
    hashes = np.subtract(sums[run:], sums[:-run], out=terms[:count])
    hashes *= inverses[:count]
    _mix(hashes, sums[:count])
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


def finished(hashes: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Return mixed numbers after the last step of mixing."""
    return hashes ^ (hashes >> np.uint64(31))


def _terms(numbers: NDArray[np.signedinteger]) -> NDArray[np.uint64]:
    """Return numbers without their signs, mixed."""
    sizes = np.abs(numbers)
    if sizes.dtype == np.int16:
        sizes = sizes.view(np.uint16)  # -2^15 has no counterpart among 16 bits with a sign
    elif sizes.max(initial=0) >= _KNOWN:
        return _mixed_anew(sizes)
    terms: NDArray[np.uint64] = np.take(_mixed(), sizes)
    return terms


def _mixed_anew(sizes: NDArray[np.integer]) -> NDArray[np.uint64]:
    terms = sizes.astype(np.uint64)
    terms += _ODD
    _mix(terms, np.empty_like(terms))
    return finished(terms)


@functools.lru_cache(maxsize=1)
def _mixed() -> NDArray[np.uint64]:
    """Return the smallest numbers, mixed."""
    return _mixed_anew(np.arange(_KNOWN))


def _mix(values: NDArray[np.uint64], shifted: NDArray[np.uint64]) -> None:
    """Mix the bits in place, but for the last step (SplitMix64: Steele et al. 2014, doi:10.1145/2714064.2660195).

    What is in `shifted`, of the same shape, is lost.
    """
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        np.right_shift(values, np.uint64(shift), out=shifted)
        values ^= shifted
        values *= np.uint64(factor)
