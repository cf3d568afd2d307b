"""Fingerprints: from the samples of a channel to a few digests by which the same signal is known again.

A recording that was saved again differs in its bytes: other data records, padded at its end, annotations stripped,
channels dropped or in another order, other gains, another format. What stays is the sequence of steps from each
sample to the next. Of all stretches of `RUN` such steps, the few whose hash is smallest are kept (a bottom-k
sketch: Broder 1997, doi:10.1109/SEQUEN.1997.666900); which they are depends on what they hold and not on where they
stand, so that a recording that was lengthened or cut shares nearly all of them.

Stretches with few different steps are passed over: zeros, rails, counters, triggers and square waves are alike in
people who are not.
"""

import hashlib
import math

import numpy as np
from numpy.typing import NDArray

RUN = 64
KEPT = 4
LEAST_DIFFERENT = 12
"""A stretch has at least this many different steps, other than 0."""

_CANDIDATES = 64
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
    steps = _steps(values)
    if len(steps) < RUN:
        return ()
    hashes = _rolling(np.abs(steps))
    count = min(_CANDIDATES, len(hashes))
    nearest = np.argpartition(hashes, count - 1)[:count]
    found: list[str] = []
    for start in nearest[np.lexsort((nearest, hashes[nearest]))]:
        run = steps[start : start + RUN]
        if len(np.unique(run[run != 0])) >= LEAST_DIFFERENT:
            upright = run * np.sign(run[np.flatnonzero(run)[0]])
            digest = hashlib.sha256(upright.astype("<i8").tobytes()).hexdigest()
            if digest not in found:
                found.append(digest)
        if len(found) == KEPT:
            break
    return tuple(sorted(found))


def _steps(values: NDArray[np.generic]) -> NDArray[np.int64]:
    """Return the steps between neighbouring samples in units of the finest one, shape (time - 1,)."""
    if np.issubdtype(values.dtype, np.integer):
        whole = np.diff(values.astype(np.int64))
        factor = int(np.gcd.reduce(whole)) if len(whole) else 0
        return np.asarray(whole // factor if factor else whole, dtype=np.int64)
    numbers = values.astype(np.float64)
    numbers = np.where(np.isfinite(numbers), numbers, 0.0)
    steps = np.diff(numbers)
    sizes = np.abs(steps)
    noise = _FLOAT_NOISE * float(np.abs(numbers).max(initial=0.0))
    seen = sizes[sizes > noise]
    if not len(seen):
        return np.zeros(len(steps), dtype=np.int64)
    finest = float(seen.min())
    if not math.isfinite(finest) or float(seen.max()) / finest > 2**52:
        return np.zeros(len(steps), dtype=np.int64)
    return np.rint(np.where(sizes > noise, steps, 0.0) / finest).astype(np.int64)


def _rolling(steps: NDArray[np.int64]) -> NDArray[np.uint64]:
    """Hash every stretch of `RUN` steps, shape (time - RUN,), by doubling: from 1 step to 2, 4, …"""
    with np.errstate(over="ignore"):
        hashes = _mixed(steps.astype(np.uint64) + _ODD)
        width = 1
        while width < RUN:
            hashes = _mixed(hashes[:-width] * _ODD + hashes[width:])
            width *= 2
        return hashes


def _mixed(values: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Mix the bits (the finaliser of SplitMix64: Steele et al. 2014, doi:10.1145/2714064.2660195)."""
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))
