"""Ed25519 keys and signatures over bytes, in two formats that other software reads.

SSHSIG (OpenSSH's PROTOCOL.sshsig) is checked by `ssh-keygen -Y verify`; a DSSE envelope (github.com/
secure-systems-lab/dsse, v1.0) by securesystemslib and every in-toto tool. Ed25519 is deterministic (RFC 8032),
so the same bytes and the same key give the same files. Needs `cryptography` and nothing else.
"""

import base64
import binascii
import hashlib
import json
import math
import os
import stat
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from fedsynth.errors import RefusedError, VerificationError
from fedsynth.release.allowed_signers import parse_signers

NAMESPACE = "fedsynth-release"
"""The SSHSIG namespace, and the identity that `ssh-keygen -Y verify -I` is given."""

PAYLOAD_TYPE = "application/vnd.in-toto+json"

NOT_CANONICAL = "holds what it should, but in other bytes than its publisher's software writes"
"""Why a file is refused whose content is right: of one content there is one file, and no room for anything else."""

_KIND = b"ssh-ed25519"
_MAGIC = b"SSHSIG"
_HEAD, _TAIL = "-----BEGIN SSH SIGNATURE-----", "-----END SSH SIGNATURE-----"


@dataclass(frozen=True)
class PublicKey:
    """A public key as its 32 raw bytes.

    >>> PublicKey(bytes(32)).line[:29]
    'ssh-ed25519 AAAAC3NzaC1lZDI1N'
    """

    raw: bytes

    @property
    def blob(self) -> bytes:
        """The key in SSH's wire format (RFC 8709)."""
        return _string(_KIND) + _string(self.raw)

    @property
    def line(self) -> str:
        """The key as a line of OpenSSH, without a comment."""
        return f"ssh-ed25519 {base64.b64encode(self.blob).decode()}"

    @property
    def fingerprint(self) -> str:
        """What `ssh-keygen -l` prints."""
        return "SHA256:" + base64.b64encode(hashlib.sha256(self.blob).digest()).decode().rstrip("=")

    def verifies(self, signature: bytes, message: bytes) -> bool:
        """Whether this key made the signature over exactly these bytes."""
        try:
            Ed25519PublicKey.from_public_bytes(self.raw).verify(signature, message)
        except (InvalidSignature, ValueError):
            return False
        return True


def make_key(path: Path, *, comment: str = NAMESPACE) -> PublicKey:
    """Make a key pair: the private key at `path` (OpenSSH format, mode 0600), the public one at `path`.pub.

    Raises:
        RefusedError: one of the two files exists already.
    """
    public_path = path.with_name(path.name + ".pub")
    if path.exists() or public_path.exists():
        raise RefusedError("a key stands there already, and it was left as it is; choose another name")
    key = Ed25519PrivateKey.generate()
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.OpenSSH, serialization.NoEncryption()
    )
    public = public_of(key)
    path.parent.mkdir(parents=True, exist_ok=True)
    _write_new(path, private, mode=0o600)
    _write_new(public_path, f"{public.line} {comment}\n".encode(), mode=0o644)
    return public


def load_private_key(path: Path) -> Ed25519PrivateKey:
    """Read a private key in OpenSSH format.

    Raises:
        RefusedError: missing, readable by others, behind a passphrase, damaged, or not Ed25519.
    """
    try:
        data, mode = path.read_bytes(), path.stat().st_mode
    except OSError as error:
        raise RefusedError(f"the signing key cannot be read ({type(error).__name__})") from error
    if os.name == "posix" and stat.S_IMODE(mode) & 0o077:
        raise RefusedError("the signing key can be read by others; run chmod 600 on it, as OpenSSH demands")
    try:
        key = serialization.load_ssh_private_key(data, password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise RefusedError("the signing key is not an OpenSSH private key without a passphrase") from error
    if not isinstance(key, Ed25519PrivateKey):
        raise RefusedError("the signing key is not an Ed25519 key; make one with ssh-keygen -t ed25519")
    return key


def public_of(key: Ed25519PrivateKey) -> PublicKey:
    """Return the public half."""
    return PublicKey(key.public_key().public_bytes(serialization.Encoding.Raw, serialization.PublicFormat.Raw))


def parse_public_key(text: str) -> PublicKey:
    """Read the one Ed25519 key of a `.pub` file, or of an `allowed_signers` file with one line.

    Raises:
        VerificationError: there is none, more than one, or it is damaged.
    """
    keys = {signer.key for signer in parse_signers(str(text).encode("utf-8", errors="replace"))}
    if len(keys) != 1:
        raise VerificationError(
            f"one OpenSSH public key (ssh-ed25519 AAAA...) was expected, {len(keys)} were found"
        )
    return PublicKey(keys.pop())


def sign_ssh(message: bytes, *, key: Ed25519PrivateKey) -> str:
    """Sign as `ssh-keygen -Y sign -n fedsynth-release` does, armour included."""
    return _armour(public_of(key), key.sign(_signed_part(message)))


def parse_ssh(armoured: bytes) -> tuple[PublicKey, bytes]:
    """Return the key and the raw signature that an SSHSIG carries; nothing is verified yet.

    Raises:
        VerificationError: not an SSHSIG over SHA-512 by Ed25519 in the namespace of releases, or not byte by byte
            what `sign_ssh` and `ssh-keygen` write.
    """
    what = "SHA256SUMS.sig"
    text = armoured.decode("ascii", errors="replace").strip()
    if not (text.startswith(_HEAD) and text.endswith(_TAIL)):
        raise VerificationError(f"malformed: {what} is not an SSH signature")
    body = unbase64("".join(text[len(_HEAD) : -len(_TAIL)].split()), what=what)
    if body[:6] != _MAGIC or body[6:10] != struct.pack(">I", 1):
        raise VerificationError(f"malformed: {what} is not an SSH signature of version 1")
    blob, namespace, reserved, algorithm, signature = _strings(body[10:], count=5, what=what)
    if (namespace, reserved, algorithm) != (NAMESPACE.encode(), b"", b"sha512"):
        raise VerificationError(f"bad signature: {what} was made for another purpose, not for a release")
    kind, raw = _strings(signature, count=2, what=what)
    if kind != _KIND:
        raise VerificationError(f"malformed: {what} is not an Ed25519 signature")
    signer = _public_from_blob(blob)
    if _armour(signer, raw).encode("ascii") != armoured:
        raise VerificationError(f"malformed: {what} {NOT_CANONICAL}")
    return signer, raw


def verify_ssh(message: bytes, *, signature: bytes, key: PublicKey) -> bool:
    """Whether `key` made the raw SSHSIG signature over `message`."""
    return key.verifies(signature, _signed_part(message))


@dataclass(frozen=True)
class Envelope:
    """A DSSE envelope: a payload and its signatures by key id (an SSH fingerprint)."""

    payload: bytes
    signatures: dict[str, bytes]

    def signed_by(self, key: PublicKey) -> bool:
        """Whether `key` signed the payload."""
        return key.verifies(self.signatures.get(key.fingerprint, b""), pre_authentication(self.payload))

    def with_signature(self, key: Ed25519PrivateKey) -> "Envelope":
        """Add one more signature over the same payload."""
        made = {public_of(key).fingerprint: key.sign(pre_authentication(self.payload))}
        return Envelope(self.payload, self.signatures | made)

    def to_json(self) -> str:
        """Write the envelope."""
        body = {
            "payloadType": PAYLOAD_TYPE,
            "payload": base64.b64encode(self.payload).decode(),
            "signatures": [
                {"keyid": keyid, "sig": base64.b64encode(signature).decode()}
                for keyid, signature in sorted(self.signatures.items())
            ],
        }
        return json.dumps(body, indent=2) + "\n"

    def check_bytes(self, data: bytes) -> None:
        """Refuse other bytes than `to_json` writes for this envelope; asked once its signatures hold.

        Raises:
            VerificationError: blanks, another order, base64 written otherwise, or anything else that is no content.
        """
        if self.to_json().encode("ascii") != data:
            raise VerificationError(f"malformed: release.dsse.json {NOT_CANONICAL}")

    @classmethod
    def from_json(cls, data: bytes) -> "Envelope":
        """Read an envelope; whether it is written as `to_json` writes it, `check_bytes` says.

        Raises:
            VerificationError: malformed.
        """
        what = "release.dsse.json"
        raw = strict_json(data, what=what)
        if not isinstance(raw, dict) or set(raw) != {"payloadType", "payload", "signatures"}:
            raise VerificationError(f"malformed: {what} is not a DSSE envelope")
        if raw["payloadType"] != PAYLOAD_TYPE or not isinstance(raw["signatures"], list):
            raise VerificationError(f"malformed: {what} does not carry an in-toto statement")
        signatures: dict[str, bytes] = {}
        for entry in raw["signatures"]:
            if not isinstance(entry, dict) or set(entry) != {"keyid", "sig"}:
                raise VerificationError(f"malformed: {what} holds a signature of another shape")
            keyid = str(entry["keyid"])
            if keyid in signatures:
                raise VerificationError(f"malformed: {what} holds two signatures of one key")
            signatures[keyid] = unbase64(entry["sig"], what=what)
        return cls(unbase64(raw["payload"], what=what), signatures)


def pre_authentication(payload: bytes) -> bytes:
    """Return what a DSSE signature is over: PAE(type, body) of the DSSE protocol."""
    kind = PAYLOAD_TYPE.encode()
    return b"DSSEv1 %d %b %d %b" % (len(kind), kind, len(payload), payload)


def strict_json(data: bytes, *, what: str) -> Any:
    """Read JSON in which no key stands twice and every number is finite.

    Raises:
        VerificationError: anything else.
    """

    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        if len({key for key, _ in pairs}) != len(pairs):
            raise ValueError("a key stands twice")
        return dict(pairs)

    def finite(text: str) -> float:
        if not math.isfinite(float(text)):
            raise ValueError("a number is not finite")
        return float(text)

    try:
        return json.loads(data.decode("utf-8"), object_pairs_hook=once, parse_float=finite, parse_constant=finite)
    except (ValueError, RecursionError) as error:
        raise VerificationError(f"malformed: {what} is not JSON") from error


def unbase64(text: Any, *, what: str) -> bytes:
    """Decode base64 without tolerance.

    Raises:
        VerificationError: not base64.
    """
    try:
        return base64.b64decode(str(text), validate=True)
    except (binascii.Error, ValueError) as error:
        raise VerificationError(f"malformed: {what} holds something that is not base64") from error


def _armour(signer: PublicKey, raw: bytes) -> str:
    """Write an SSHSIG: base64 in lines of 70 letters between two marks."""
    body = _MAGIC + struct.pack(">I", 1) + _string(signer.blob)
    body += _string(NAMESPACE.encode()) + _string(b"") + _string(b"sha512")
    text = base64.b64encode(body + _string(_string(_KIND) + _string(raw))).decode()
    lines = [text[start : start + 70] for start in range(0, len(text), 70)]
    return "\n".join([_HEAD, *lines, _TAIL, ""])


def _signed_part(message: bytes) -> bytes:
    digest = hashlib.sha512(message).digest()
    return _MAGIC + _string(NAMESPACE.encode()) + _string(b"") + _string(b"sha512") + _string(digest)


def _string(data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + data


def _strings(data: bytes, *, count: int, what: str) -> list[bytes]:
    """Cut `count` SSH strings that fill the data exactly."""
    found: list[bytes] = []
    for _ in range(count):
        length = int.from_bytes(data[:4], "big")
        if len(data) < 4 + length or len(data) < 4:
            raise VerificationError(f"malformed: {what} is cut short")
        found.append(data[4 : 4 + length])
        data = data[4 + length :]
    if data:
        raise VerificationError(f"malformed: {what} holds more than a signature")
    return found


def _public_from_blob(blob: bytes) -> PublicKey:
    kind, raw = _strings(blob, count=2, what="the public key")
    if kind != _KIND or len(raw) != 32:
        raise VerificationError("malformed: the public key is not an Ed25519 key")
    return PublicKey(raw)


def _write_new(path: Path, data: bytes, *, mode: int) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    with os.fdopen(descriptor, "wb") as stream:
        stream.write(data)
