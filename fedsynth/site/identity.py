"""A site's identity: the long-term key that signs its word on its ledger, and its part in secure aggregation."""

import os
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from fedsynth.errors import StudyError

_NAME = "identity.key"


def make_identity(folder: Path) -> bytes:
    """Write a site's long-term signing key to `identity.key`, unless there is one; return the public 32 bytes."""
    path = folder / _NAME
    if not path.exists():
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(Ed25519PrivateKey.generate().private_bytes_raw())
    return Ed25519PrivateKey.from_private_bytes(path.read_bytes()).public_key().public_bytes_raw()


def load_identity(folder: Path) -> bytes:
    """Read a site's long-term signing key, Ed25519, 32 raw bytes.

    Raises:
        StudyError: the site has none.
    """
    try:
        return (folder / _NAME).read_bytes()
    except OSError as error:
        raise StudyError(f"this site has no {_NAME} to sign with; provision it first") from error
