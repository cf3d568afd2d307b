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


class Sketch:
    """The smallest runs of so many numbers among all that were given; their hash knows no signs."""

    def __init__(self, run: int) -> None:
        self._run = run
        self._hashes = np.empty(0, dtype=np.uint64)
        self._runs = np.empty((0, run), dtype=np.int64)

    def take(self, numbers: NDArray[np.int64]) -> None:
        """Take in a stretch of the sequence, shape (number,), with what a run across two of them needs."""
        if len(numbers) < self._run:
            return
        hashes = rolling(np.abs(numbers), self._run)
        full = len(self._hashes) == _CANDIDATES
        near = np.flatnonzero(hashes < self._hashes[-1]) if full else np.arange(len(hashes))
        if len(near) > _CANDIDATES:
            near = near[np.argpartition(hashes[near], _CANDIDATES - 1)[:_CANDIDATES]]
        if len(near):
            joined = np.concatenate([self._hashes, hashes[near]])
            runs = np.concatenate([self._runs, numbers[near[:, None] + np.arange(self._run)]])
            order = np.argsort(joined, kind="stable")[:_CANDIDATES]
            self._hashes, self._runs = joined[order], runs[order]

    def digests(self, *, kept: int, least_different: int, kind: bytes = b"") -> tuple[str, ...]:
        """Return digests of at most `kept` runs, sorted, passing over those with few different numbers but 0.

        `kind` is put before what is hashed, so that sketches of different kinds share nothing.
        """
        found: list[str] = []
        for _, alike in groupby(zip(self._hashes.tolist(), self._runs, strict=True), key=itemgetter(0)):
            # By hash and then by what they hold, so that where a channel was cut does not matter.
            for data in sorted({run.tobytes() for _, run in alike}):
                numbers = np.frombuffer(data, dtype=np.int64)
                if len(set(numbers.tolist()) - {0}) < least_different:
                    continue
                upright = numbers * np.sign(numbers[np.flatnonzero(numbers)[0]])
                digest = hashlib.sha256(kind + upright.astype("<i8").tobytes()).hexdigest()
                if digest not in found:
                    found.append(digest)
                if len(found) == kept:
                    return tuple(sorted(found))
        return tuple(sorted(found))


def rolling(numbers: NDArray[np.int64], run: int) -> NDArray[np.uint64]:
    """Hash every run, shape (number - run + 1,): a polynomial in its mixed numbers, modulo 2^64.

    Sums from the beginning give all of them at once; that the factor is odd makes its powers divide (Karp and Rabin
    1987, doi:10.1147/rd.312.0249).
    """
    powers, inverses = _powers(1 << (len(numbers) - 1).bit_length())
    terms = numbers.astype(np.uint64)
    terms += _ODD
    _mix(terms)
    terms *= powers[: len(terms)]
    sums = np.empty(len(terms) + 1, dtype=np.uint64)
    sums[0] = 0
    np.cumsum(terms, out=sums[1:])
    hashes = sums[run:] - sums[:-run]
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
