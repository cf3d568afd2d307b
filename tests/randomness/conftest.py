"""A tape in the place of the operating system's entropy: every byte has a place, every call and cipher is recorded.

What it replaces: `os.urandom`, what `secrets` and `random.SystemRandom` draw from, and the ciphers of the noise and
of the masks. What it cannot: entropy that OpenSSL draws for itself, which here makes long-term identities and
probes of public keys and nothing that hides anybody (`Ed25519PrivateKey.generate`, `KeySet.is_usable`).
"""

import importlib
import os
import random
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
import torch
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.ciphers.modes import CTR, ECB
from numpy.typing import NDArray

from fedsynth.privacy import noise
from fedsynth.secure_aggregation import messages

Words = NDArray[np.uint64]


@dataclass
class Stream:
    """One keystream: its key, its first counter, where it was used, and how many bytes were taken of it in turn."""

    key: bytes
    nonce: bytes
    where: str
    taken: int = 0


@dataclass
class Tape:
    """Recorded entropy. `calls` are the bytes handed out, call by call; no two places of the tape are alike."""

    seed: bytes = b"a fixed stream of entropy"
    calls: list[bytes] = field(default_factory=list)
    streams: list[Stream] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._source = Cipher(AES(self.seed.ljust(32)), CTR(bytes(16))).encryptor()

    def read(self, count: int) -> bytes:
        """Hand out the next bytes, as `os.urandom` does."""
        self.calls.append(self._source.update(bytes(count)))
        return self.calls[-1]

    @property
    def lengths(self) -> list[int]:
        return [len(call) for call in self.calls]

    def rewind(self) -> None:
        """Begin the same tape again, with nothing recorded."""
        self.calls, self.streams = [], []
        self.__post_init__()

    def words(self, number: int, count: int) -> Words:
        """Return what the pair of calls `number` (a key, then a counter) expands to, by AES one block at a time."""
        key, nonce = self.calls[2 * number : 2 * number + 2]
        return keystream(key, nonce, count)


def keystream(key: bytes, nonce: bytes, count: int) -> Words:
    """Write AES-256 in counter mode a second way: count the blocks, and encrypt each for itself."""
    first = int.from_bytes(nonce, "big")
    blocks = b"".join(((first + place) % 2**128).to_bytes(16, "big") for place in range((count + 1) // 2))
    return np.frombuffer(Cipher(AES(key), ECB()).encryptor().update(blocks), "<u8")[:count]


class _Recorded:
    """`cryptography`'s Cipher, with what is taken of each keystream written down."""

    def __init__(self, tape: Tape, where: str, algorithm: Any, mode: Any) -> None:
        self._cipher = Cipher(algorithm, mode).encryptor()
        self._stream = Stream(bytes(algorithm.key), bytes(mode.nonce), where)
        tape.streams.append(self._stream)

    def encryptor(self) -> "_Recorded":
        return self

    def update(self, data: bytes) -> bytes:
        self._stream.taken += len(data)
        return self._cipher.update(data)

    def update_into(self, data: bytes, buffer: Any) -> int:
        self._stream.taken += len(data)
        return self._cipher.update_into(data, buffer)


@pytest.fixture
def tape(monkeypatch: pytest.MonkeyPatch) -> Tape:
    """Put a tape in the place of entropy."""
    noise._alias_table()  # a constant, not to be computed under observation
    importlib.import_module("fedsynth.privacy.lattice_optimizer")  # Opacus asks for entropy while it loads
    recorded = Tape()
    monkeypatch.setattr(os, "urandom", recorded.read)
    monkeypatch.setattr(random, "_urandom", recorded.read)
    monkeypatch.setattr(noise, "Cipher", lambda *how: _Recorded(recorded, "noise", *how))
    monkeypatch.setattr(messages, "Cipher", lambda *how: _Recorded(recorded, "mask", *how))
    return recorded


def _seeded_state() -> tuple[Any, ...]:
    old = np.random.get_state(legacy=False)["state"]  # noqa: NPY002  # the very global state that must not move
    return random.getstate(), bytes(old["key"]), old["pos"], bytes(torch.get_rng_state().numpy())


@pytest.fixture
def no_seeded_generator() -> Iterator[None]:
    """Nothing that happens inside may ask a generator that somebody could have seeded."""
    before = _seeded_state()
    yield
    assert _seeded_state() == before


class Helpers:
    """What the files of this folder share."""

    keystream = staticmethod(keystream)
    Tape = Tape

    @staticmethod
    def fields(drawn: NDArray[np.int64]) -> list[NDArray[np.int64]]:
        """Part noise into five numbers below 64, each of them uniform and independent of all others.

        Four are the six-bit digits below bit 24, over which the law is flat up to exp(-2 pi^2 4^2) < 1e-137; the
        last says in which 64th of the law the value lies (of one number, it is not independent of bits 12 to 23).
        """
        from scipy import stats

        edges = stats.norm.ppf(np.arange(1, 64) / 64) * noise.LATTICE_STD
        return [*((drawn >> shift) & 63 for shift in (0, 6, 12, 18)), np.searchsorted(edges, drawn)]

    @staticmethod
    def uniform(counts: NDArray[np.int64], *, comparisons: int = 1) -> None:
        """Refuse counts that a uniform law gives with a chance below 1e-6, over so many comparisons."""
        from scipy import stats

        expected = counts.sum() / counts.size
        assert expected > 20
        found = float(((counts - expected) ** 2).sum() / expected)
        assert found < stats.chi2.isf(1e-6 / comparisons, counts.size - 1)
        # Too even is as wrong as too uneven: halves that repeat, or numbers dealt out without replacement.
        assert found > stats.chi2.ppf(1e-6 / comparisons, counts.size - 1)

    @classmethod
    def independent(cls, first: NDArray[np.int64], second: NDArray[np.int64], *, comparisons: int = 1) -> None:
        """Refuse two rows of uniform numbers below 64 that are not uniform as pairs."""
        cls.uniform(np.bincount(first * 64 + second, minlength=64 * 64), comparisons=comparisons)


@pytest.fixture(scope="session")
def law() -> type[Helpers]:
    return Helpers
