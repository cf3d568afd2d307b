"""Secret randomness: from the operating system's entropy to Gaussian noise and Poisson draws.

torch's CPU generator keeps 32 bits of a seed (mt19937, 2.13.0), so that 2^32 trials would subtract the noise,
and two sites with one seed add the same. Here every call takes a fresh 256-bit key from the operating system
and expands it by AES in counter mode; there is no seed, and nothing to fork or resume.
"""

import os
from collections.abc import Callable

import numpy as np
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from numpy.typing import NDArray
from scipy.special import ndtri

NoiseSource = Callable[[int], NDArray[np.float64]]
"""Takes a count, returns that many independent standard normal numbers."""


def system_normal(count: int) -> NDArray[np.float64]:
    """Return `count` standard normal numbers, shape (count,), that nobody can replay.

    53-bit uniforms through the inverse normal distribution function; the largest magnitude is 8.2, which
    changes no tail above 1e-16. Floating-point limits are stated in docs/privacy.md.
    """
    return np.asarray(ndtri(_uniform(count)), dtype=np.float64)


def poisson_draw(count: int, *, probability: float) -> NDArray[np.int64]:
    """Draw each of `count` units independently with `probability`; return the indices drawn, in order.

    The draw is as secret as the noise: amplification by sampling holds only against those who do not know it.
    """
    return np.flatnonzero(_uniform(count) < probability)


def _uniform(count: int) -> NDArray[np.float64]:
    """Return uniforms strictly inside (0, 1), on the grid (k + 1/2) / 2^53."""
    encryptor = Cipher(algorithms.AES(os.urandom(32)), modes.CTR(os.urandom(16))).encryptor()
    words = np.frombuffer(encryptor.update(bytes(8 * count)), dtype=np.uint64) >> np.uint64(11)
    # The largest k would round to 1.0, whose normal quantile is infinite.
    steps: NDArray[np.float64] = np.minimum(words, np.uint64(2**53 - 2)).astype(np.float64)
    return (steps + 0.5) * 2.0**-53
