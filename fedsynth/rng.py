"""Public seeds: from names to random generators that anybody may replay.

Nothing here may ever make privacy noise; that comes from `fedsynth.privacy.noise`, which has no seed.
"""

import hashlib
import math

import numpy as np
import torch
from torch import Tensor


def public_seed(*names: str | int) -> int:
    """Turn names into a 63-bit seed, the same on every machine.

    >>> public_seed("prior", 3) == public_seed("prior", 3)
    True
    >>> public_seed("prior", 3) == public_seed("prior", 4)
    False
    """
    text = "\x1f".join(str(name) for name in names).encode()
    return int.from_bytes(hashlib.sha256(text).digest()[:8], "big") >> 1


def numpy_generator(*names: str | int) -> np.random.Generator:
    """Return a NumPy generator for public randomness: the toy cohort, the prior, splits of synthetic data."""
    return np.random.default_rng(public_seed(*names))


def torch_generator(*names: str | int, device: torch.device | str = "cpu") -> torch.Generator:
    """Return a torch generator for public randomness: a generator's input noise, initial weights."""
    return torch.Generator(device=device).manual_seed(public_seed(*names))


def uniform_of(normal: Tensor) -> Tensor:
    """Turn standard normal numbers into numbers uniform on [0, 1]."""
    return 0.5 * (1 + torch.erf(normal / math.sqrt(2)))


def normal_of(uniform: Tensor) -> Tensor:
    """Turn numbers uniform on (0, 1) into standard normal ones: what `uniform_of` undoes."""
    return math.sqrt(2) * torch.erfinv(2 * uniform - 1)
