"""The offline authority: a key on a machine that is not on the network, and a register of what it certified.

It signs X.509 certificates (EC P-384, RFC 5280) for TLS, a revocation list for nginx, and the roster. Its folder
holds `authority.key`, `authority.pem` and `register.json`, and nothing in it is ever part of a kit but the
certificate.
"""

import json
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from fedsynth.errors import FederationError, FederationFileError, RefusedError
from fedsynth.federation import keys
from fedsynth.federation.files import make_folder, moment_of, read, read_json, replace, text_of, write_new
from fedsynth.federation.membership import MembershipRequest, Role
from fedsynth.federation.names import subject_name
from fedsynth.federation.roster import AUTHORITY, Member, Revocation, authority_words, load_authority

_KEY, _REGISTER = "authority.key", "register.json"
_BEFORE = timedelta(hours=1)  # clocks differ
_AUTHORITY_LIVES = timedelta(days=3653)


@dataclass(frozen=True)
class Certified:
    """A member with its TLS certificate in PEM and the public key that this certificate is for."""

    member: Member
    certificate: str
    tls: str


@dataclass(frozen=True)
class Register:
    """Everything that an authority certified and has not replaced, and everything it revoked."""

    edition: int
    certified: dict[str, Certified]
    revoked: tuple[Revocation, ...]


@dataclass(frozen=True)
class Authority:
    """The authority of one federation, in its folder."""

    folder: Path
    key: ec.EllipticCurvePrivateKey
    certificate: x509.Certificate

    @property
    def words(self) -> str:
        """Return the fingerprint that every participant compares."""
        return authority_words(self.certificate)

    def certify(self, request: MembershipRequest, *, hosts: tuple[str, ...], now: datetime, days: int) -> Certified:
        """Make a certificate for a request whose fingerprint was confirmed.

        Args:
            request: with proven possession of its keys.
            hosts: names and addresses for a server's certificate; a site's is for its name.
            now: its beginning, but for an hour.
            days: how long it is valid; never longer than the authority's own.
        """
        end = min(now + timedelta(days=days), self.certificate.not_valid_after_utc)
        public = keys.public_ec(request.tls, what=f"the TLS key of {request.name}")
        usage = (
            ExtendedKeyUsageOID.SERVER_AUTH if request.role == "coordinator" else ExtendedKeyUsageOID.CLIENT_AUTH
        )
        names = [subject_name(host) for host in hosts] or [x509.DNSName(request.name)]
        certificate = (
            _builder(request.name, self.certificate.subject, public, begin=now - _BEFORE, end=end)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_usage(authority=False), critical=True)
            .add_extension(x509.ExtendedKeyUsage([usage]), critical=False)
            .add_extension(x509.SubjectAlternativeName(names), critical=False)
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(self.key.public_key()), critical=False
            )
            .sign(self.key, hashes.SHA384())
        )
        member = Member(
            name=request.name,
            role=request.role,
            serial=f"{certificate.serial_number:x}",
            identity=request.identity,
            node=request.node,
            not_before=certificate.not_valid_before_utc,
            not_after=certificate.not_valid_after_utc,
        )
        pem = certificate.public_bytes(serialization.Encoding.PEM).decode("ascii")
        return Certified(member, pem, request.tls)

    def revocation_list(self, revoked: tuple[Revocation, ...], *, now: datetime) -> bytes:
        """Return the X.509 revocation list, in PEM, for nginx's `ssl_crl`.

        It is valid as long as the authority: nginx refuses everybody once its list has run out.
        """
        builder = (
            x509.CertificateRevocationListBuilder()
            .issuer_name(self.certificate.subject)
            .last_update(now - _BEFORE)
            .next_update(self.certificate.not_valid_after_utc)
        )
        for entry in revoked:
            builder = builder.add_revoked_certificate(
                x509.RevokedCertificateBuilder()
                .serial_number(int(entry.serial, 16))
                .revocation_date(entry.since)
                .build()
            )
        return builder.sign(self.key, hashes.SHA384()).public_bytes(serialization.Encoding.PEM)

    def load_register(self) -> Register:
        """Read what was certified.

        Raises:
            FederationFileError: unreadable.
        """
        path = self.folder / _REGISTER
        if not path.exists():
            return Register(0, {}, ())
        raw = read_json(read(path, what="the authority's register"), what="the authority's register")
        try:
            return Register(
                edition=int(raw["edition"]),
                certified={name: _certified(name, one) for name, one in raw["certified"].items()},
                revoked=tuple(_revocation(one) for one in raw["revoked"]),
            )
        except (KeyError, TypeError, AttributeError) as error:
            raise FederationFileError("the authority's register lacks a field; restore it from a backup") from error

    def save_register(self, register: Register) -> None:
        """Keep what was certified; to be called before anything of it is handed out."""
        body = {
            "edition": register.edition,
            "certified": {
                name: {
                    "role": one.member.role,
                    "certificate": one.certificate,
                    "tls": one.tls,
                    **one.member.to_plain(),
                }
                for name, one in register.certified.items()
            },
            "revoked": [{"serial": one.serial, **one.to_plain()} for one in register.revoked],
        }
        replace(self.folder / _REGISTER, json.dumps(body, indent=1).encode("ascii") + b"\n", private=True)


def open_authority(folder: Path, *, federation: str = "", now: datetime | None = None) -> Authority:
    """Open an authority, or make one for the federation that is named.

    Raises:
        FederationFileError: not there and not to be made, or damaged.
        FederationError: its key can be read by others, it is another federation's, or it has expired.
    """
    now = now or datetime.now(UTC)
    if federation and not (folder / _KEY).exists():
        _make(folder, federation=federation, now=now)
    key = keys.load_ec(folder / _KEY, what="the authority's key")
    certificate = load_authority(folder)
    if certificate.public_key() != key.public_key():
        raise FederationError("authority.pem is not the certificate of authority.key; restore both from one backup")
    if now >= certificate.not_valid_after_utc:
        raise FederationError(
            f"the authority expired on {text_of(certificate.not_valid_after_utc)}; begin a new one in another "
            "folder"
        )
    owner = certificate.subject.get_attributes_for_oid(NameOID.ORGANIZATION_NAME)[0].value
    if federation and owner != federation:
        raise FederationError(
            f"this is the authority of federation {owner!s}, not of {federation}; nothing was signed"
        )
    return Authority(folder, key, certificate)


def _make(folder: Path, *, federation: str, now: datetime) -> None:
    if (folder / AUTHORITY).exists() or (folder / _REGISTER).exists():
        raise RefusedError(
            "the authority's folder has lost its key; nothing was written. Restore authority.key, or begin in an "
            "empty folder and certify everybody anew"
        )
    make_folder(folder)
    keys.new_tls_key(folder / _KEY)
    key = keys.load_ec(folder / _KEY, what="the authority's key")
    name = x509.Name(
        [
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, federation),
            x509.NameAttribute(NameOID.COMMON_NAME, "fedsynth authority"),
        ]
    )
    certificate = (
        _builder(name, name, key.public_key(), begin=now - _BEFORE, end=now + _AUTHORITY_LIVES)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(authority=True), critical=True)
        .sign(key, hashes.SHA384())
    )
    write_new(folder / AUTHORITY, certificate.public_bytes(serialization.Encoding.PEM))


def _builder(
    subject: str | x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey, *, begin: datetime, end: datetime
) -> x509.CertificateBuilder:
    if isinstance(subject, str):
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, subject)])
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(begin)
        .not_valid_after(end)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
    )


def _usage(*, authority: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not authority,
        key_cert_sign=authority,
        crl_sign=authority,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _certified(name: str, raw: dict[str, Any]) -> Certified:
    role: Role = "coordinator" if raw["role"] == "coordinator" else "site"
    plain = {key: value for key, value in raw.items() if value is not None}
    return Certified(Member.from_plain(name, role, plain), str(raw["certificate"]), str(raw["tls"]))


def _revocation(raw: dict[str, Any]) -> Revocation:
    what = "the authority's register"
    return Revocation(
        name=str(raw["name"]),
        serial=str(raw["serial"]),
        identity=keys.from_hex(raw["identity"], size=32, what=what),
        node=str(raw["node_key"] or ""),
        since=moment_of(raw["since"], what=what),
        reason=str(raw["reason"]),
    )
