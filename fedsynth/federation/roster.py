"""The roster: who takes part, with which keys and until when, signed by the authority; and who is revoked.

Both are TOML that a person can read; the last line of each, a comment, is the authority's signature over the lines
before it. `edition` counts up with every change, so that an older file is never taken for a newer one.
"""

import base64
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from fedsynth.errors import FederationError, FederationFileError
from fedsynth.federation import keys
from fedsynth.federation.files import moment_of, read, read_toml, text_of, unbase64
from fedsynth.federation.membership import Role
from fedsynth.federation.names import check_name
from fedsynth.federation.words import fingerprint
from fedsynth.toml import dumps

ROSTER, REVOKED, AUTHORITY = "federation.toml", "revoked.toml", "authority.pem"
_SIGNATURE = b"# signature: "


@dataclass(frozen=True)
class Member:
    """One participant: its certificate's serial, its Ed25519 key of 32 bytes, its node key as OpenSSH writes it."""

    name: str
    role: Role
    serial: str
    identity: bytes
    node: str
    not_before: datetime
    not_after: datetime

    def to_plain(self) -> dict[str, Any]:
        """Return the member as it stands in TOML."""
        return {
            "certificate_serial": self.serial,
            "identity": self.identity.hex(),
            "node_key": self.node or None,
            "not_before": text_of(self.not_before),
            "not_after": text_of(self.not_after),
        }

    @classmethod
    def from_plain(cls, name: str, role: Role, raw: Mapping[str, Any]) -> "Member":
        """Read what `to_plain` wrote.

        Raises:
            FederationFileError: a field is missing or wrong.
        """
        what = f"the roster's entry of {name}"
        try:
            return cls(
                name=check_name(name),
                role=role,
                serial=str(raw["certificate_serial"]),
                identity=keys.from_hex(raw["identity"], size=32, what=what),
                node=str(raw.get("node_key", "")),
                not_before=moment_of(raw["not_before"], what=what),
                not_after=moment_of(raw["not_after"], what=what),
            )
        except KeyError as error:
            raise FederationFileError(f"{what} lacks {error}") from error


@dataclass(frozen=True)
class Roster:
    """A federation as its authority signed it. `addresses` are the coordinator's, the first one to be used."""

    name: str
    edition: int
    issued: datetime
    addresses: tuple[str, ...]
    coordinator: Member | None
    sites: Mapping[str, Member] = field(hash=False)
    lock_sha256: str = ""

    @property
    def members(self) -> dict[str, Member]:
        """Return every member by name."""
        first = {self.coordinator.name: self.coordinator} if self.coordinator else {}
        return {**first, **self.sites}

    def to_toml(self) -> str:
        """Write the roster."""
        coordinator: dict[str, Any] = {"address": self.addresses[0], "addresses": list(self.addresses)}
        if self.coordinator:
            coordinator |= {"name": self.coordinator.name, **self.coordinator.to_plain()}
        return dumps(
            {
                "name": self.name,
                "edition": self.edition,
                "issued": text_of(self.issued),
                "lock_sha256": self.lock_sha256 or None,
                "coordinator": coordinator,
                "sites": {name: member.to_plain() for name, member in sorted(self.sites.items())},
            }
        )

    @classmethod
    def from_toml(cls, data: bytes) -> "Roster":
        """Read a roster whose signature was verified before.

        Raises:
            FederationFileError: a field is missing or wrong.
        """
        raw = read_toml(data, what=ROSTER)
        try:
            coordinator = raw["coordinator"]
            return cls(
                name=check_name(raw["name"]),
                edition=int(raw["edition"]),
                issued=moment_of(raw["issued"], what=ROSTER),
                addresses=tuple(str(one) for one in coordinator["addresses"]),
                coordinator=(
                    Member.from_plain(coordinator["name"], "coordinator", coordinator)
                    if "name" in coordinator
                    else None
                ),
                sites={name: Member.from_plain(name, "site", one) for name, one in raw.get("sites", {}).items()},
                lock_sha256=str(raw.get("lock_sha256", "")),
            )
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise FederationFileError(
                f"{ROSTER} lacks a field, or holds one of another kind ({error!r:.60})"
            ) from error


@dataclass(frozen=True)
class Revocation:
    """A certificate, with its member's keys, that holds no more since `since`."""

    name: str
    serial: str
    identity: bytes
    node: str
    since: datetime
    reason: str

    def to_plain(self) -> dict[str, Any]:
        """Return the entry as it stands in TOML."""
        return {
            "name": self.name,
            "identity": self.identity.hex(),
            "node_key": self.node or None,
            "since": text_of(self.since),
            "reason": self.reason,
        }


@dataclass(frozen=True)
class Revoked:
    """Everything that was revoked up to an edition of the roster."""

    edition: int
    entries: tuple[Revocation, ...]

    def to_toml(self) -> str:
        """Write the list, by certificate serial."""
        return dumps(
            {"edition": self.edition, "revoked": {entry.serial: entry.to_plain() for entry in self.entries}}
        )

    @classmethod
    def from_toml(cls, data: bytes) -> "Revoked":
        """Read a list whose signature was verified before.

        Raises:
            FederationFileError: a field is missing or wrong.
        """
        raw = read_toml(data, what=REVOKED)
        try:
            entries = tuple(
                Revocation(
                    name=str(one["name"]),
                    serial=str(serial),
                    identity=keys.from_hex(one["identity"], size=32, what=REVOKED),
                    node=str(one.get("node_key", "")),
                    since=moment_of(one["since"], what=REVOKED),
                    reason=str(one["reason"]),
                )
                for serial, one in raw.get("revoked", {}).items()
            )
            return cls(edition=int(raw["edition"]), entries=entries)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise FederationFileError(
                f"{REVOKED} lacks a field, or holds one of another kind ({error!r:.60})"
            ) from error


def signed(name: str, text: str, *, key: ec.EllipticCurvePrivateKey) -> bytes:
    """Return a file's text with the authority's signature as its last line.

    Args:
        name: of the file, which is signed too, so that neither passes for the other.
        text: that ends with a line break.
        key: the authority's.
    """
    data = text.encode("utf-8")
    return data + _SIGNATURE + base64.b64encode(keys.sign_ec(key, _signed_part(name, data))) + b"\n"


def unsigned(name: str, data: bytes, *, authority: x509.Certificate) -> bytes:
    """Return a file's text without its signature, which is verified.

    Raises:
        FederationFileError: there is no signature.
        FederationError: the authority did not make it, over these bytes.
    """
    text, mark, rest = data.rpartition(_SIGNATURE)
    if not mark or not rest.endswith(b"\n"):
        raise FederationFileError(f"{name} bears no signature of an authority; get the kit again")
    signature = unbase64(rest[:-1].decode("ascii", errors="replace"), what=f"the signature of {name}")
    key = authority.public_key()
    if not isinstance(key, ec.EllipticCurvePublicKey) or not keys.made_by_ec(
        key, signature, _signed_part(name, text)
    ):
        raise FederationError(
            f"{name} is not what the authority signed ({authority_words(authority)}); it is not used. Get the kit "
            "again, and compare the authority's words with the people who run it"
        )
    return text


def is_signed(folder: Path) -> bool:
    """Whether the roster in a folder bears a signature; if so, a list of the revoked has to stand beside it."""
    return _SIGNATURE in read(folder / ROSTER, what=ROSTER)


def load_certificate(path: Path) -> x509.Certificate:
    """Read a certificate in PEM.

    Raises:
        FederationFileError: missing or none.
    """
    data = read(path, what=path.name)
    try:
        return x509.load_pem_x509_certificate(data)
    except ValueError as error:
        raise FederationFileError(f"{path.name} is no certificate in PEM") from error


def load_authority(folder: Path) -> x509.Certificate:
    """Read the authority's certificate of a kit; errors as `load_certificate`."""
    return load_certificate(folder / AUTHORITY)


def authority_words(certificate: x509.Certificate) -> str:
    """Return an authority's fingerprint in words, to be compared on another way than the kit came."""
    return fingerprint(certificate.public_bytes(serialization.Encoding.DER))


def load_roster(folder: Path) -> Roster:
    """Read the roster of a kit and verify it against the authority that the kit's owner pinned.

    Raises:
        FederationFileError: a file is missing or malformed.
        FederationError: the authority did not sign it.
    """
    return Roster.from_toml(_verified(folder, ROSTER))


def load_revoked(folder: Path) -> Revoked:
    """Read the list of what is revoked; errors as `load_roster`."""
    return Revoked.from_toml(_verified(folder, REVOKED))


def _verified(folder: Path, name: str) -> bytes:
    return unsigned(name, read(folder / name, what=name), authority=load_authority(folder))


def _signed_part(name: str, data: bytes) -> bytes:
    return f"fedsynth federation v1: {name}\n".encode() + data
