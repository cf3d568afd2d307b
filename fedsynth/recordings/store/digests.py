"""Digests: by which windows that are read are held against those that were written.

What a site keeps has SHA-256. A part of an ingestion, which lives until it is joined and is read from the recording
again where it is damaged, has CRC-32 (ISO 3309), a third of the work: it finds every burst of errors up to 32 bits
and all but one in 2^32 of others. Neither stops somebody who may write the file, and could write the digest too.
"""

import hashlib
import zlib
from typing import Protocol

_SHA256_LETTERS = 64


class Digest(Protocol):
    """Takes bytes in, in stretches, and writes in hexadecimal what stands for all of them."""

    def update(self, data: bytes | memoryview, /) -> None:
        """Take in a stretch."""

    def hexdigest(self) -> str:
        """Return what stands for all that was taken in."""


class Crc32:
    """The checksum of gzip and PNG.

    >>> check = Crc32()
    >>> check.update(b"1234")
    >>> check.update(b"56789")
    >>> check.hexdigest()
    'cbf43926'
    """

    def __init__(self) -> None:
        self._value = 0

    def update(self, data: bytes | memoryview, /) -> None:
        """Take in a stretch."""
        self._value = zlib.crc32(data, self._value)

    def hexdigest(self) -> str:
        """Return the checksum of all that was taken in, eight letters."""
        return f"{self._value:08x}"


def of_kind(written: str) -> Digest:
    """Return a new digest of the kind of one that was written, which its length tells."""
    return hashlib.sha256() if len(written) == _SHA256_LETTERS else Crc32()
