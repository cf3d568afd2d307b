"""Verify a release: from a folder nobody vouches for to what its publisher signed, or the cause why not.

Needs the standard library and `cryptography`; works offline, on a machine that never saw the project. Everything
in the folder is treated as hostile: no link is followed, nothing outside is opened, names are made safe before
they are printed, and files are hashed in pieces. The folder must not change while it is verified; verify a copy
that is yours.

Empty folders count as additions: the manifest lists files, so whoever unpacks a release never gets one. Hard links
count as links: another name outside could change the content after it was verified; a plain copy has none.
"""

import math
import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from fedsynth.errors import ReaderFileError, RunError, StatementError, VerificationError
from fedsynth.privacy.making import Making
from fedsynth.privacy.statement import PrivacyStatement, Repriced
from fedsynth.release.allowed_signers import Signer, parse_signers
from fedsynth.release.attestation import Attestation, LedgerPoint
from fedsynth.release.binding import check_binding
from fedsynth.release.manifest import (
    ENVELOPE,
    SUMS,
    SUMS_SIGNATURE,
    UNCOVERED,
    Tree,
    parse_manifest,
    read_bounded,
    scan,
    sha256_of,
    shown,
)
from fedsynth.release.reader_files import read_reader_file
from fedsynth.release.rollback import load_state, remember
from fedsynth.release.signature import NAMESPACE, Envelope, PublicKey, parse_ssh, strict_json, verify_ssh

STATEMENT = "privacy/statement.json"
METRICS = "report/metrics.json"

Reprice = Callable[[PrivacyStatement], Repriced]
"""Prices a statement's events again; raises StatementError where one is below what they cost."""

_NAMED = 5
_LARGEST_KEY_FILE = 1024**2
"""Bytes; some ten thousand keys."""


@dataclass(frozen=True)
class Verified:
    """What a release that verifies says, and who says it.

    `fingerprint` is the signing key's, as OpenSSH prints it. `pinned` tells whether the reader brought that key;
    without it the files are as somebody signed them, and who that was is not known. `promise` is the privacy
    promise as a sentence, `made` how the windows were made. `repriced` is what the promise's events cost by
    accountants that are installed here, None where closed forms alone bounded it from below.
    """

    fingerprint: str
    pinned: bool
    files: int
    publisher: str
    study: str
    study_digest: str
    code_version: str
    epsilon: float
    delta: float
    unit: str
    adjacency: str
    trust: str
    promise: str
    made: Making
    ledgers: tuple[LedgerPoint, ...]
    repriced: Repriced | None = None

    @property
    def priced(self) -> str:
        """Say how epsilon was held against its events."""
        return "lower bound only: no accountant is installed here" if self.repriced is None else str(self.repriced)


def verify_release(
    folder: Path, *, key: Path | None = None, seen: Path | None = None, reprice: Reprice | None = None
) -> Verified:
    """Check that a release is, file by file, what its publisher signed.

    (0) Read what the reader brings: who may sign, and what was seen.
    (1) List the folder; the three files that sign are regular files of its own.
    (2) Read the signatures; whoever signed may sign, by the key file, now.
    (3) The signatures over `SHA256SUMS` and over the envelope are by that key.
    (4) The envelope is written as it would be written again, so that no byte of it is free.
    (5) The signed statement is, too; it names that key, and whoever must countersign did.
    (6) `SHA256SUMS` and the signed statement name the same files and digests.
    (7) The folder holds those files with those digests, and nothing else.
    (8) The readable privacy statement is the signed promise, and not less than what its events cost: at least, by
    closed forms, or all together, by `reprice`.
    (9) No ledger is older than one seen before; what this release shows is remembered.

    Args:
        folder: the release.
        key: who may sign, from somewhere else than the release: the publisher's `.pub`, or an `allowed_signers`
            file as OpenSSH defines it, in which the identity is `fedsynth-release`, and so is the namespace.
            Without it the key in the release is used, and the answer is not `pinned`.
        seen: a JSON file, outside the release, in which the ledgers of verified releases are remembered.
        reprice: adds events up by an accountant, where one is installed (`fedsynth.privacy.repricing`).

    Raises:
        VerificationError: with the cause: a folder or integrity file that is missing or malformed; a wrong key;
            a bad signature; a missing countersignature; files changed, added, removed, renamed or linked; a
            statement other than the promise that was signed; a ledger older than one already seen.
        ReaderFileError: the key file or the file of seen ledgers is none, or cannot be used.
    """
    # (0)
    allowed = None if key is None else _load_signers(key)
    if seen is not None:
        if _inside(seen, folder):
            raise ReaderFileError("the file of seen ledgers stands inside the release; put it somewhere else")
        load_state(seen)
    # (1)
    tree = scan(folder)
    _check_integrity_files(tree)
    # (2) to (6)
    attestation = _signed_attestation(folder, allowed=allowed)
    # (7)
    differences = _differences(folder, tree=tree, signed=attestation.files)
    if differences:
        rest = f"; and {len(differences) - _NAMED} more" if len(differences) > _NAMED else ""
        raise VerificationError(
            f"not what was signed by {attestation.public_key.fingerprint}: "
            f"{'; '.join(differences[:_NAMED])}{rest}. "
            "Do not use this copy; fetch the release again from its publisher"
        )
    # (8)
    statement = _check_statement(folder, attestation=attestation)
    repriced = None if reprice is None else _reprice(statement, reprice)
    check_binding(statement, metrics=_metrics(folder, attestation), files=attestation.files)
    # (9)
    if seen is not None:
        remember(attestation, seen)
    return Verified(
        fingerprint=attestation.public_key.fingerprint,
        pinned=allowed is not None,
        files=len(attestation.files),
        publisher=attestation.publisher,
        study=attestation.study,
        study_digest=attestation.study_digest,
        code_version=attestation.code.version,
        epsilon=attestation.epsilon,
        delta=attestation.delta,
        unit=attestation.unit,
        adjacency=attestation.adjacency,
        trust=attestation.trust,
        promise=statement.sentence(),
        made=statement.made,
        ledgers=attestation.ledgers,
        repriced=repriced,
    )


def _load_signers(path: Path) -> tuple[Signer, ...]:
    data = read_reader_file(path, what="the key given", most=_LARGEST_KEY_FILE)
    if data is None:
        raise ReaderFileError("the key given cannot be read (there is no such file)")
    signers = parse_signers(data)
    if not signers:
        raise ReaderFileError(
            "the key given is not an OpenSSH public key (one line: ssh-ed25519 AAAA...), nor an allowed_signers "
            f"file with one ({NAMESPACE} ssh-ed25519 AAAA...)"
        )
    return signers


def _inside(path: Path, folder: Path) -> bool:
    return Path(os.path.realpath(path)).is_relative_to(os.path.realpath(folder))


def _check_integrity_files(tree: Tree) -> None:
    linked = dict(tree.odd)
    for path in sorted(UNCOVERED):
        if path in linked:
            raise VerificationError(f"{linked[path]}: {path} must be a file of its own")
        if path not in tree.files:
            raise VerificationError(f"not a signed release: {path} is missing; name the folder of a release")


def _signed_attestation(folder: Path, *, allowed: tuple[Signer, ...] | None) -> Attestation:
    """Read and verify what is in `integrity/`; no other file is opened."""
    # (2)
    sums, enveloped = read_bounded(folder, SUMS), read_bounded(folder, ENVELOPE)
    signer, ssh_signature = parse_ssh(read_bounded(folder, SUMS_SIGNATURE))
    envelope = Envelope.from_json(enveloped)
    if allowed is not None:
        _check_allowed(signer, allowed=allowed, now=time.time())
    # (3)
    if not verify_ssh(sums, signature=ssh_signature, key=signer):
        raise VerificationError(f"bad signature: {SUMS} is not what {signer.fingerprint} signed")
    if not envelope.signed_by(signer):
        raise VerificationError(f"bad signature: {ENVELOPE} is not what {signer.fingerprint} signed")
    # (4)
    envelope.check_bytes(enveloped)
    # (5)
    attestation = Attestation.from_payload(envelope.payload)
    if attestation.public_key != signer:
        raise VerificationError("wrong key: the signed statement names another publisher's key")
    _check_countersignatures(envelope, attestation=attestation)
    # (6)
    if parse_manifest(sums) != attestation.files:
        raise VerificationError(f"malformed: {SUMS} and the signed statement name different files or digests")
    return attestation


def _check_allowed(signer: PublicKey, *, allowed: tuple[Signer, ...], now: float) -> None:
    """Refuse a key that no line of the reader's file lets sign; of several lines one is enough."""
    objections = [
        line.objection(identity=NAMESPACE, namespace=NAMESPACE, now=now)
        for line in allowed
        if line.key == signer.raw
    ]
    if None in objections:
        return
    if objections:
        raise VerificationError(
            f"wrong key: the release was signed by {signer.fingerprint}, which the key file names and does not "
            f"allow: {objections[0]}"
        )
    given = sorted({PublicKey(line.key).fingerprint for line in allowed})
    rest = f" and {len(given) - _NAMED} more" if len(given) > _NAMED else ""
    raise VerificationError(
        f"wrong key: the release was signed by {signer.fingerprint}, the key given is "
        f"{', '.join(given[:_NAMED])}{rest}"
    )


def _check_countersignatures(envelope: Envelope, *, attestation: Attestation) -> None:
    for required in attestation.required:
        if not envelope.signed_by(required):
            made = required.fingerprint in envelope.signatures
            cause = "bad countersignature" if made else "missing countersignature"
            raise VerificationError(f"{cause}: {required.fingerprint} must sign {ENVELOPE} too")
    asked = {attestation.public_key.fingerprint, *(required.fingerprint for required in attestation.required)}
    if set(envelope.signatures) - asked:
        raise VerificationError(f"malformed: {ENVELOPE} holds a signature that nobody asked for")


def _differences(folder: Path, *, tree: Tree, signed: Mapping[str, str]) -> list[str]:
    """Name every difference between the folder and the signed digests, links first."""
    linked = dict(tree.odd)
    there = set(tree.files) - UNCOVERED
    changed = [path for path in sorted(there & set(signed)) if sha256_of(folder, path) != signed[path]]
    gone = sorted(set(signed) - there - set(linked))
    added = sorted(there - set(signed))
    renamed = _renamed(folder, gone=gone, added=added, signed=signed)
    differences = [f"{kind}: {shown(path)}" for path, kind in tree.odd]
    differences += [f"changed: {shown(path)}" for path in changed]
    differences += [f"renamed: {shown(old)} is now {shown(new)}" for old, new in renamed.items()]
    differences += [f"removed: {shown(path)}" for path in gone if path not in renamed]
    differences += [f"added: {shown(path)}" for path in added if path not in renamed.values()]
    differences += [f"added: {shown(path)} (an empty folder)" for path in tree.empty]
    return differences


def _renamed(folder: Path, *, gone: list[str], added: list[str], signed: Mapping[str, str]) -> dict[str, str]:
    """Pair files that are gone with added ones of the same content."""
    if not gone:
        return {}
    found: dict[str, list[str]] = {}
    for path in added:
        found.setdefault(sha256_of(folder, path), []).append(path)
    renamed: dict[str, str] = {}
    for path in gone:
        candidates = found.get(signed[path])
        if candidates:
            renamed[path] = candidates.pop(0)
    return renamed


def _metrics(folder: Path, attestation: Attestation) -> str:
    if METRICS not in attestation.files:
        raise VerificationError(f"malformed: the release carries no {METRICS}")
    return read_bounded(folder, METRICS).decode("utf-8", errors="replace")


def _check_statement(folder: Path, *, attestation: Attestation) -> PrivacyStatement:
    """Hold the readable statement against the signed promise; the file itself was verified before."""
    if STATEMENT not in attestation.files:
        raise VerificationError(f"malformed: the release carries no {STATEMENT}")
    data = read_bounded(folder, STATEMENT)
    strict_json(data, what=STATEMENT)
    try:
        statement = PrivacyStatement.from_json(data.decode("utf-8"))
        heads = sorted((str(site.site), str(site.ledger_head)) for site in statement.sites)
    except StatementError as error:
        raise _contradiction(error) from error
    except (RunError, AttributeError, OverflowError) as error:
        raise VerificationError(f"malformed: {STATEMENT} is not a privacy statement: {error}") from error
    said = (statement.epsilon, statement.delta, statement.unit, statement.adjacency, statement.trust)
    signed = (attestation.epsilon, attestation.delta, attestation.unit, attestation.adjacency, attestation.trust)
    if said != signed:
        raise VerificationError(
            f"the statement is not the signed promise: {STATEMENT} says epsilon {statement.epsilon:g} per "
            f"{shown(str(statement.unit))}, signed was epsilon {attestation.epsilon:g} per "
            f"{shown(attestation.unit)}"
        )
    if heads != sorted((point.site, point.head) for point in attestation.ledgers):
        raise VerificationError(f"the statement is not the signed promise: {STATEMENT} shows other ledgers")
    if not (statement.is_private and math.isfinite(attestation.epsilon)):
        raise VerificationError("the release promises no privacy: epsilon is not finite")
    return statement


def _reprice(statement: PrivacyStatement, reprice: Reprice) -> Repriced:
    try:
        return reprice(statement)
    except StatementError as error:
        raise _contradiction(error) from error


def _contradiction(error: StatementError) -> VerificationError:
    return VerificationError(f"the statement contradicts itself: {shown(str(error))}")
