"""Keys that a party makes for itself: one for Flower's node authentication, one for TLS, one to sign with.

A private key is written once, for its owner alone, and stays in its maker's folder; what others get is a public key
and a signature that proves possession.
"""

from pathlib import Path

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from fedsynth.errors import FederationFileError
from fedsynth.federation.files import read_private, write_new

_HASH = ec.ECDSA(hashes.SHA384())


def new_node_key(path: Path) -> None:
    """Make an EC P-384 key in OpenSSH's format, as Flower reads it for node authentication."""
    key = ec.generate_private_key(ec.SECP384R1())
    write_new(path, _pem(key, serialization.PrivateFormat.OpenSSH), private=True)


def new_tls_key(path: Path) -> None:
    """Make an EC P-384 key in PKCS 8, as nginx and every TLS library reads it."""
    key = ec.generate_private_key(ec.SECP384R1())
    write_new(path, _pem(key, serialization.PrivateFormat.PKCS8), private=True)


def new_signing_key(path: Path) -> None:
    """Make an Ed25519 key as its 32 raw bytes."""
    write_new(path, Ed25519PrivateKey.generate().private_bytes_raw(), private=True)


def load_ec(path: Path, *, what: str) -> ec.EllipticCurvePrivateKey:
    """Read an EC P-384 private key in either format.

    Raises:
        FederationFileError: missing or none.
        FederationError: readable by others.
    """
    data = read_private(path, what=what)
    try:
        load = serialization.load_ssh_private_key if b"OPENSSH" in data[:64] else serialization.load_pem_private_key
        key = load(data, None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise FederationFileError(f"{what} is no private key without a passphrase") from error
    if not isinstance(key, ec.EllipticCurvePrivateKey) or not isinstance(key.curve, ec.SECP384R1):
        raise FederationFileError(f"{what} is not a key on the curve P-384")
    return key


def load_signing_key(path: Path, *, what: str) -> Ed25519PrivateKey:
    """Read an Ed25519 private key of 32 raw bytes.

    Raises:
        FederationFileError: missing or none.
        FederationError: readable by others.
    """
    data = read_private(path, what=what)
    if len(data) != 32:
        raise FederationFileError(f"{what} has {len(data)} bytes; an Ed25519 private key has 32")
    return Ed25519PrivateKey.from_private_bytes(data)


def openssh_line(key: ec.EllipticCurvePublicKey) -> str:
    """Return a node's public key as Flower registers it."""
    form = serialization.PublicFormat.OpenSSH
    return key.public_bytes(serialization.Encoding.OpenSSH, form).decode("ascii")


def pem_of(key: ec.EllipticCurvePublicKey) -> str:
    """Return a public key in PEM."""
    form = serialization.PublicFormat.SubjectPublicKeyInfo
    return key.public_bytes(serialization.Encoding.PEM, form).decode("ascii")


def public_ec(text: str, *, what: str) -> ec.EllipticCurvePublicKey:
    """Read a public key on P-384, in PEM or as a line of OpenSSH.

    Raises:
        FederationFileError: it is none.
    """
    data = text.encode("ascii", errors="replace")
    try:
        pem = text.startswith("-----")
        key = serialization.load_pem_public_key(data) if pem else serialization.load_ssh_public_key(data)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise FederationFileError(f"{what} holds no public key") from error
    if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP384R1):
        raise FederationFileError(f"{what} holds a key that is not on the curve P-384")
    return key


def sign_ec(key: ec.EllipticCurvePrivateKey, message: bytes) -> bytes:
    """Sign by ECDSA with SHA-384."""
    return key.sign(message, _HASH)


def made_by_ec(key: ec.EllipticCurvePublicKey, signature: bytes, message: bytes) -> bool:
    """Whether the holder of `key` signed the message."""
    try:
        key.verify(signature, message, _HASH)
    except InvalidSignature:
        return False
    return True


def made_by(identity: bytes, signature: bytes, message: bytes) -> bool:
    """Whether the holder of an Ed25519 public key, 32 raw bytes, signed the message."""
    try:
        Ed25519PublicKey.from_public_bytes(identity).verify(signature, message)
    except (InvalidSignature, ValueError):
        return False
    return True


def from_hex(text: object, *, size: int, what: str) -> bytes:
    """Read bytes written as hexadecimal digits.

    Raises:
        FederationFileError: other characters, or another number of bytes.
    """
    try:
        data = bytes.fromhex(str(text))
    except ValueError as error:
        raise FederationFileError(f"{what} is not written in hexadecimal digits") from error
    if len(data) != size:
        raise FederationFileError(f"{what} has {len(data)} bytes and should have {size}")
    return data


def _pem(key: ec.EllipticCurvePrivateKey, form: serialization.PrivateFormat) -> bytes:
    return key.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption())
