"""What a publisher signs: an in-toto statement that binds files, promise, study, code and ledgers together.

The statement (in-toto attestation framework v1, github.com/in-toto/attestation) has every file of the manifest
as a subject; its predicate is ours. Written and read here, so that both sides agree on every name.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from fedsynth.errors import PrivacyError, VerificationError
from fedsynth.privacy.statement import PrivacyStatement
from fedsynth.release.manifest import ENVELOPE, SUMS, SUMS_SIGNATURE, build_manifest, format_manifest, read_bounded
from fedsynth.release.signature import (
    NOT_CANONICAL,
    Envelope,
    PublicKey,
    load_private_key,
    parse_public_key,
    public_of,
    sign_ssh,
    strict_json,
)
from fedsynth.source_code import Code

STATEMENT_TYPE = "https://in-toto.io/Statement/v1"
PREDICATE_TYPE = "urn:fedsynth:release:1"


@dataclass(frozen=True)
class LedgerPoint:
    """Where one site's ledger stood when the release was signed: its newest entry and how many it had."""

    site: str
    head: str
    length: int


@dataclass(frozen=True)
class Attestation:
    """The signed statement. `files` are the manifest's digests; `required` are the countersigners' keys."""

    files: dict[str, str]
    study: str
    study_digest: str
    code: Code
    epsilon: float
    delta: float
    unit: str
    adjacency: str
    trust: str
    ledgers: tuple[LedgerPoint, ...]
    publisher: str
    public_key: PublicKey
    required: tuple[PublicKey, ...] = ()

    def to_payload(self) -> bytes:
        """Write the attestation in one way only: sorted keys, no spaces."""
        predicate = {
            "study": {"name": self.study, "digest": {"sha256": self.study_digest}},
            "code": {"version": self.code.version, "digest": {"sha256": self.code.digest}},
            "promise": {
                "epsilon": float(self.epsilon),
                "delta": float(self.delta),
                "unit": self.unit,
                "adjacency": self.adjacency,
                "trust": self.trust,
            },
            "ledgers": [
                {"site": point.site, "ledger_head": point.head, "ledger_length": point.length}
                for point in self.ledgers
            ],
            "publisher": {"name": self.publisher, "public_key": self.public_key.line},
            "countersignatures": {
                "required": [{"keyid": key.fingerprint, "public_key": key.line} for key in self.required]
            },
        }
        body = {
            "_type": STATEMENT_TYPE,
            "subject": [{"name": path, "digest": {"sha256": self.files[path]}} for path in sorted(self.files)],
            "predicateType": PREDICATE_TYPE,
            "predicate": predicate,
        }
        return json.dumps(body, sort_keys=True, separators=(",", ":"), allow_nan=False).encode("ascii")

    @classmethod
    def from_payload(cls, payload: bytes) -> "Attestation":
        """Read a payload whose signature was verified before.

        Raises:
            VerificationError: not an in-toto statement of this predicate, a field is missing, wrong or unknown, or
                the payload is not what `to_payload` writes.
        """
        raw = strict_json(payload, what="the signed statement")
        attestation = cls._from_raw(raw)
        try:
            written = attestation.to_payload()
        except ValueError as error:
            raise VerificationError("malformed: a number of the signed statement is not finite") from error
        # A field that nobody reads, or a number in another form, is refused with everything else that differs.
        if written != payload:
            raise VerificationError(f"malformed: the signed statement {NOT_CANONICAL}")
        return attestation

    @classmethod
    def _from_raw(cls, raw: Any) -> "Attestation":
        try:
            if raw["_type"] != STATEMENT_TYPE or raw["predicateType"] != PREDICATE_TYPE:
                raise VerificationError("malformed: the signed statement is not about a fedsynth release (v1)")
            said = raw["predicate"]
            promise = said["promise"]
            return cls(
                files=_files(raw["subject"]),
                study=str(said["study"]["name"]),
                study_digest=str(said["study"]["digest"]["sha256"]),
                code=Code(str(said["code"]["version"]), str(said["code"]["digest"]["sha256"])),
                epsilon=float(promise["epsilon"]),
                delta=float(promise["delta"]),
                unit=str(promise["unit"]),
                adjacency=str(promise["adjacency"]),
                trust=str(promise["trust"]),
                ledgers=tuple(_ledger_point(point) for point in said["ledgers"]),
                publisher=str(said["publisher"]["name"]),
                public_key=parse_public_key(said["publisher"]["public_key"]),
                required=tuple(
                    parse_public_key(entry["public_key"]) for entry in said["countersignatures"]["required"]
                ),
            )
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            raise VerificationError(f"malformed: the signed statement lacks a field ({error!r:.80})") from error


def sign_release(
    folder: Path,
    *,
    key: Path,
    statement: PrivacyStatement,
    ledger_lengths: Mapping[str, int],
    study: str,
    study_digest: str,
    code: Code,
    publisher: str,
    required: tuple[PublicKey, ...] = (),
) -> Attestation:
    """Write the manifest and both signatures into a finished release.

    Args:
        folder: the release; every file but the three written here must be in its final state.
        key: an OpenSSH Ed25519 private key.
        statement: the promise, as it stands in `privacy/statement.json`.
        ledger_lengths: how many entries each site's ledger holds.
        study: the study's name.
        study_digest: SHA-256 of the effective study.
        code: what made the release.
        publisher: who signs, in words.
        required: who must countersign (`countersign`) before the release verifies.

    Raises:
        PrivacyError: a site's ledger length is missing, or a ledger is named that the statement does not know.
        RefusedError: the key cannot be used.
        VerificationError: the folder holds something that cannot be signed.
    """
    _check_ledgers(statement, ledger_lengths)
    private = load_private_key(key)
    attestation = Attestation(
        files=build_manifest(folder),
        study=study,
        study_digest=study_digest,
        code=code,
        epsilon=statement.epsilon,
        delta=statement.delta,
        unit=statement.unit,
        adjacency=statement.adjacency,
        trust=statement.trust,
        ledgers=tuple(
            LedgerPoint(site.site, site.ledger_head, ledger_lengths[site.site]) for site in statement.sites
        ),
        publisher=publisher,
        public_key=public_of(private),
        required=required,
    )
    write_signed(folder, attestation=attestation, key=private)
    return attestation


def write_signed(folder: Path, *, attestation: Attestation, key: Ed25519PrivateKey) -> None:
    """Write `integrity/`'s manifest, SSH signature and envelope for a attestation."""
    sums = format_manifest(attestation.files)
    (folder / SUMS).parent.mkdir(exist_ok=True)
    (folder / SUMS).write_bytes(sums)
    (folder / SUMS_SIGNATURE).write_bytes(sign_ssh(sums, key=key).encode("ascii"))
    envelope = Envelope(attestation.to_payload(), {}).with_signature(key)
    (folder / ENVELOPE).write_bytes(envelope.to_json().encode("ascii"))


def countersign(folder: Path, *, key: Path) -> PublicKey:
    """Add a signature to a release's envelope; the files and the first signature stay as they are.

    Raises:
        RefusedError: the key cannot be used.
        VerificationError: the envelope is malformed, or does not ask for this key.
    """
    private = load_private_key(key)
    data = read_bounded(folder, ENVELOPE)
    envelope = Envelope.from_json(data)
    envelope.check_bytes(data)
    public = public_of(private)
    if public not in Attestation.from_payload(envelope.payload).required:
        raise VerificationError(f"the release asks for no countersignature by {public.fingerprint}")
    (folder / ENVELOPE).write_bytes(envelope.with_signature(private).to_json().encode("ascii"))
    return public


def _check_ledgers(statement: PrivacyStatement, ledger_lengths: Mapping[str, int]) -> None:
    sites = [site.site for site in statement.sites]
    if set(sites) != set(ledger_lengths) or len(set(sites)) != len(sites):
        raise PrivacyError(
            f"the statement names {len(sites)} sites, ledger lengths are known of {len(ledger_lengths)}, "
            "and they must be the same sites. Nothing was signed"
        )
    if not all(length > 0 for length in ledger_lengths.values()):
        raise PrivacyError("a site's ledger holds no entry, so nothing was charged there. Nothing was signed")


def _files(subjects: Any) -> dict[str, str]:
    files = {str(subject["name"]): str(subject["digest"]["sha256"]) for subject in subjects}
    if len(files) != len(subjects):
        raise VerificationError("malformed: the signed statement names a file twice")
    return files


def _ledger_point(raw: Any) -> LedgerPoint:
    if type(raw["ledger_length"]) is not int:
        raise VerificationError("malformed: a ledger length is not a whole number")
    return LedgerPoint(str(raw["site"]), str(raw["ledger_head"]), raw["ledger_length"])
