"""Countersignatures: a site's word, under the key in the roster, that it looked at a release and knows its head.

Each is a file of its own beside the release, so that sites can sign in any order and no byte of what was published
changes. It names the release by the digests of manifest and signed statement, and the site's ledger twice: where it
stood when the release was made, as the release says, and where it stands now. Standard library and `cryptography`.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from fedsynth.errors import FederationError, FederationFileError, VerificationError
from fedsynth.federation.files import canonical, read, read_json
from fedsynth.federation.keys import from_hex, made_by
from fedsynth.federation.names import check_name
from fedsynth.federation.roster import Member, Roster
from fedsynth.release.attestation import Attestation, LedgerPoint
from fedsynth.release.manifest import ENVELOPE, SUMS, read_bounded
from fedsynth.release.signature import Envelope

SUFFIX = ".countersignature.json"
_TYPE = "fedsynth countersignature v1"
_TEXTS = ("federation", "site", "manifest_sha256", "statement_sha256", "ledger_head", "ledger_head_now")
_NUMBERS = ("ledger_length", "ledger_length_now")


@dataclass(frozen=True)
class Countersignature:
    """What a site signs. Digests and heads are 64 hexadecimal digits; lengths count a ledger's lines."""

    federation: str
    site: str
    manifest_sha256: str
    statement_sha256: str
    ledger_head: str
    ledger_length: int
    ledger_head_now: str
    ledger_length_now: int

    @property
    def statement(self) -> bytes:
        """Return the bytes that are signed."""
        return _TYPE.encode() + b"\n" + canonical(asdict(self))

    def signed(self, key: Ed25519PrivateKey) -> bytes:
        """Return the file to hand to the coordinator."""
        return canonical({"type": _TYPE, **asdict(self), "signature": key.sign(self.statement).hex()}) + b"\n"


@dataclass(frozen=True)
class Countersigned:
    """Who signed, who is missing and why, of the sites that a roster names."""

    signed: tuple[str, ...]
    missing: Mapping[str, str]
    sites: int


def digests_of(folder: Path) -> tuple[str, str]:
    """Return the SHA-256 of a release's manifest and of its signed statement.

    Raises:
        VerificationError: they are not there, or malformed.
    """
    sums, envelope = read_bounded(folder, SUMS), Envelope.from_json(read_bounded(folder, ENVELOPE))
    return hashlib.sha256(sums).hexdigest(), hashlib.sha256(envelope.payload).hexdigest()


def point_of(folder: Path, site: str) -> LedgerPoint:
    """Return where a site's ledger stood, as a release says.

    Raises:
        VerificationError: the release does not name the site.
    """
    attestation = Attestation.from_payload(Envelope.from_json(read_bounded(folder, ENVELOPE)).payload)
    for point in attestation.ledgers:
        if point.site == site:
            return point
    raise VerificationError(f"the release names no ledger of {site}, so that there is nothing for it to sign")


def read_countersignature(data: bytes) -> tuple[Countersignature, bytes]:
    """Read a countersignature and its signature; nothing is verified yet.

    Raises:
        FederationFileError: malformed.
    """
    raw = read_json(data, what="the countersignature")
    if raw.get("type") != _TYPE or set(raw) != {"type", *_TEXTS, *_NUMBERS, "signature"}:
        raise FederationFileError("this is no countersignature, or one of another version of fedsynth")
    if not all(isinstance(raw[name], str) for name in _TEXTS) or not all(
        type(raw[name]) is int for name in _NUMBERS
    ):
        raise FederationFileError("a field of the countersignature is of another kind")
    said = Countersignature(**{name: raw[name] for name in (*_TEXTS, *_NUMBERS)})
    return said, from_hex(raw["signature"], size=64, what="the countersignature")


def check_countersignatures(release: Path, *, roster: Roster, place: Path, threshold: int) -> Countersigned:
    """Demand that enough sites of a roster signed a release, and say who did not.

    Args:
        release: that was verified before; only its manifest and its signed statement are read here.
        roster: of the federation, verified against its authority.
        place: the folder with the sites' files, `NAME.countersignature.json`.
        threshold: how many there must be.

    Raises:
        VerificationError: fewer, naming who is missing and why; or a ledger in the release of a site that is not on
            the roster.
    """
    digests = digests_of(release)
    attestation = Attestation.from_payload(Envelope.from_json(read_bounded(release, ENVELOPE)).payload)
    points = {point.site: point for point in attestation.ledgers}
    strangers = sorted(set(points) - set(roster.sites))
    if strangers:
        raise VerificationError(f"the release shows a ledger of {strangers[0][:64]}, whom the roster does not name")
    if not 1 <= threshold <= len(roster.sites):
        raise VerificationError(
            f"{threshold} countersignatures were asked for; the roster names {len(roster.sites)} sites"
        )
    missing: dict[str, str] = {}
    for name, member in sorted(roster.sites.items()):
        why = _objection(place / f"{name}{SUFFIX}", member, roster, digests=digests, point=points.get(name))
        if why:
            missing[name] = why
    signed = tuple(name for name in sorted(roster.sites) if name not in missing)
    if len(signed) < threshold:
        reasons = "; ".join(f"{name} ({why})" for name, why in missing.items())
        raise VerificationError(
            f"missing countersignature: {len(signed)} of {len(roster.sites)} sites signed, and {threshold} must. "
            f"Missing: {reasons}"
        )
    return Countersigned(signed, missing, len(roster.sites))


def _objection(
    path: Path, member: Member, roster: Roster, *, digests: tuple[str, str], point: LedgerPoint | None
) -> str:
    """Return why a site's countersignature does not count, or nothing."""
    if not path.exists():
        return "it has not signed"
    try:
        said, signature = read_countersignature(read(path, what="the countersignature"))
        check_name(said.site)
    except (FederationError, FederationFileError) as error:
        return str(error)
    if not made_by(member.identity, signature, said.statement):
        return "the signature is not by the key that the roster has"
    if (said.site, said.federation) != (member.name, roster.name):
        return "it signed for another site or federation"
    if (said.manifest_sha256, said.statement_sha256) != digests:
        return "it signed another release"
    if point is None or (said.ledger_head, said.ledger_length) != (point.head, point.length):
        return "it signed another state of its ledger than the release shows"
    return ""
