"""Seals: how the bytes of a store are closed. In clear with checksums, or with AES-GCM under the site's key.

Every append has a key of its own, derived from the site's by HKDF-SHA256 (RFC 5869) with a fresh salt of 32 bytes,
and under it nonces count from 0 (NIST SP 800-38D, 8.2.1). An append that was broken off and is done again has
another salt: no nonce is ever used twice with one key.
"""

import hashlib
import hmac
import secrets

from fedsynth.errors import RecordingError

KEY_BYTES = SALT_BYTES = 32
TAG_BYTES = 16
_NONCE_BYTES = 12
WRONG = "a store of windows is damaged, or this is not its key; bring it back from a backup, or ingest again"


class Seal:
    """Closes and opens the blocks of one append; without a key they stay as they are."""

    def __init__(self, key: bytes | None, salt: bytes) -> None:
        self.salt = salt
        self.overhead = 0 if key is None else TAG_BYTES
        self._count = 0
        self._cipher = None
        if key is not None:
            from cryptography.hazmat.primitives.ciphers.aead import AESGCM

            self._cipher = AESGCM(derived(key, salt, b"fedsynth windows"))

    @classmethod
    def fresh(cls, key: bytes | None) -> "Seal":
        """Return a seal that was never used."""
        return cls(key, secrets.token_bytes(SALT_BYTES))

    @property
    def count(self) -> int:
        """The number of the next block."""
        return self._count

    def close(self, block: bytes | memoryview, *, bound: bytes) -> bytes | memoryview:
        """Close the next block, bound to what `bound` says; a number is given once."""
        number, self._count = self._count, self._count + 1
        if self._cipher is None:
            return block
        return self._cipher.encrypt(number.to_bytes(_NONCE_BYTES, "big"), block, bound)

    def open(self, block: bytes, *, number: int, bound: bytes) -> bytes:
        """Open a block by its number.

        Raises:
            RecordingError: another key, or bytes that are not those that were closed.
        """
        if self._cipher is None:
            return block
        from cryptography.exceptions import InvalidTag

        try:
            return self._cipher.decrypt(number.to_bytes(_NONCE_BYTES, "big"), block, bound)
        except InvalidTag:
            raise RecordingError(WRONG) from None


def checksum(key: bytes | None, *parts: bytes) -> bytes:
    """Return SHA-256 of some bytes, or with a key their HMAC-SHA256 (RFC 2104), which nobody else can write."""
    joined = b"".join(len(part).to_bytes(8, "big") + part for part in parts)
    if key is None:
        return hashlib.sha256(joined).digest()
    return hmac.new(derived(key, b"", b"fedsynth index"), joined, hashlib.sha256).digest()


def derived(key: bytes, salt: bytes, what: bytes) -> bytes:
    """Return a key for one use (HKDF-SHA256)."""
    from cryptography.hazmat.primitives.hashes import SHA256
    from cryptography.hazmat.primitives.kdf.hkdf import HKDF

    return HKDF(algorithm=SHA256(), length=KEY_BYTES, salt=salt or None, info=what).derive(key)
