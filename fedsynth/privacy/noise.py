"""Secret randomness: from the operating system's entropy to discrete Gaussian noise and Poisson draws.

torch's CPU generator keeps 32 bits of a seed (mt19937, 2.13.0), so that 2^32 trials would subtract the noise,
and two sites with one seed add the same. Here every call takes a fresh 256-bit key from the operating system
and expands it by AES in counter mode; there is no seed, and nothing to fork or resume.

Noise is an integer: a discrete Gaussian (Canonne, Kamath and Steinke 2020) of the fixed width `LATTICE_STD`.
A floating-point Gaussian betrays in its low bits what it was added to (Mironov 2012); an integer added to an
integer does not. Four narrow samples are combined into a wide one (Micciancio and Walter 2017):

    z = z_0 + 64 z_1 + 64^2 z_2 + 64^3 z_3,      z_j ~ N_Z(0, 256^2)

whose law is N_Z(0, LATTICE_STD^2) up to a factor of 1 +- 10^-130 (docs/privacy.md).
"""

import math
import os
from collections.abc import Callable
from decimal import Decimal, localcontext
from functools import lru_cache

import numpy as np
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from numpy.typing import NDArray

_BASE_STD = 256
_RATIO = 64
_LEVELS = 4
LATTICE_STD = _BASE_STD * math.sqrt(sum(_RATIO ** (2 * level) for level in range(_LEVELS)))
"""The standard deviation of the noise in steps of the lattice, about 2^26."""

_TAIL = 20 * _BASE_STD  # beyond it lies 10^-87 of the narrow law
_BITS = 192  # of a probability
_BUCKET_BITS = 14  # of an alias table's index; 2^14 buckets hold 2 * _TAIL + 1 values
_FRACTION_BITS = 64 - _BUCKET_BITS  # of a threshold, in the word that picks the bucket
_REST_BITS = _BITS - _BUCKET_BITS - _FRACTION_BITS

NoiseSource = Callable[[int], NDArray[np.int64]]
"""Takes a count, returns that many independent integers of standard deviation `LATTICE_STD`."""


def system_noise(count: int) -> NDArray[np.int64]:
    """Return `count` discrete Gaussian integers, shape (count,), that nobody can replay."""
    noise = np.zeros(count, dtype=np.int64)
    for level in range(_LEVELS):
        noise += _RATIO**level * _narrow(count)
    return noise


def poisson_draw(count: int, *, probability: float) -> NDArray[np.int64]:
    """Draw each of `count` units independently with `probability`; return the indices drawn, in order.

    The draw is as secret as the noise: amplification by sampling holds only against those who do not know it.
    """
    uniform = (_words(count) >> np.uint64(11)).astype(np.float64) * 2.0**-53
    return np.flatnonzero(uniform < probability)


def _narrow(count: int) -> NDArray[np.int64]:
    """Return N_Z(0, _BASE_STD^2) by the alias method (Walker 1977), exact to 2^-192."""
    words, table = _words(count), _alias_table()
    bucket = (words >> np.uint64(_FRACTION_BITS)).astype(np.int64)
    fraction = words & np.uint64(2**_FRACTION_BITS - 1)
    threshold = table.threshold[bucket]
    own = fraction < threshold
    for tie in np.flatnonzero(fraction == threshold):
        own[tie] = int.from_bytes(os.urandom(_REST_BITS // 8), "big") < table.rest[int(bucket[tie])]
    chosen: NDArray[np.int64] = np.where(own, bucket, table.other[bucket]) - _TAIL
    return chosen


class _AliasTable:
    """Buckets of equal probability: below its threshold a bucket stands for itself, above it for another one."""

    def __init__(self, probabilities: list[int]) -> None:
        """Build from integers that add up to 2^_BITS, one for each bucket."""
        buckets, full = 2**_BUCKET_BITS, 2 ** (_BITS - _BUCKET_BITS)
        left = [*probabilities, *[0] * (buckets - len(probabilities))]
        other = list(range(buckets))
        small = [bucket for bucket, have in enumerate(left) if have < full]
        large = [bucket for bucket, have in enumerate(left) if have > full]
        while small:
            poor, rich = small.pop(), large[-1]
            other[poor] = rich
            left[rich] -= full - left[poor]
            if left[rich] <= full:
                large.pop()
                if left[rich] < full:
                    small.append(rich)
        self.threshold = np.array([min(have >> _REST_BITS, 2**_FRACTION_BITS) for have in left], dtype=np.uint64)
        self.rest = [have % 2**_REST_BITS for have in left]
        self.other = np.array(other, dtype=np.int64)


@lru_cache(maxsize=1)
def _alias_table() -> _AliasTable:
    """Return the table of the narrow law, computed with 80 decimal digits."""
    with localcontext() as context:
        context.prec = 80
        step = (Decimal(-1) / (_BASE_STD * _BASE_STD)).exp()
        weights, ratio = [Decimal(1)], (Decimal(-1) / (2 * _BASE_STD * _BASE_STD)).exp()
        for _ in range(_TAIL):
            weights.append(weights[-1] * ratio)
            ratio *= step
        total = weights[0] + 2 * sum(weights[1:])
        half = [int(weight / total * 2**_BITS) for weight in weights]
    probabilities = [*half[:0:-1], *half]
    probabilities[_TAIL] += 2**_BITS - sum(probabilities)  # what rounding down left over: under 2^-178
    return _AliasTable(probabilities)


def _words(count: int) -> NDArray[np.uint64]:
    encryptor = Cipher(algorithms.AES(os.urandom(32)), modes.CTR(os.urandom(16))).encryptor()
    return np.frombuffer(encryptor.update(bytes(8 * count)), dtype=np.uint64)
