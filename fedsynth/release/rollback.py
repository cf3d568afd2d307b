"""What a reader has verified before: from claims to a small JSON file, and a refusal when a ledger ran backwards.

A site's ledger only grows. A release that shows a shorter ledger than one verified before, or another entry at
the same length, was made before it, or from a ledger that was rolled back: its promise then forgets a charge.
Sites are remembered under their publisher's key, so that one publisher's "north" is not another's.
"""

import errno
import json
import os
import secrets
import stat
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fedsynth.errors import ReaderFileError, VerificationError
from fedsynth.release.attestation import Attestation, LedgerPoint
from fedsynth.release.manifest import shown
from fedsynth.release.reader_files import cause_of, read_reader_file
from fedsynth.release.signature import strict_json

if sys.platform == "win32":  # pragma: no cover
    import msvcrt
else:
    import fcntl

_WHAT = "the file of seen ledgers"
_LARGEST = 16 * 1024**2
_PATIENCE = 30.0
"""Seconds; a verification holds the lock for the time of one small write."""


@dataclass(frozen=True)
class RollbackState:
    """The newest ledger point of each site, by publisher's fingerprint and site."""

    points: dict[str, dict[str, LedgerPoint]]

    def check(self, attestation: Attestation) -> None:
        """Refuse an attestation whose ledgers are older than, or fork from, what was seen.

        Raises:
            VerificationError: with the site and both lengths.
        """
        known = self.points.get(attestation.public_key.fingerprint, {})
        for point in attestation.ledgers:
            before = known.get(point.site)
            if before is None:
                continue
            if point.length < before.length:
                raise VerificationError(
                    f"ledger older than one already seen: site {shown(point.site)} shows {point.length} entries, "
                    f"a release verified before showed {before.length}. Either this release is the older one, or "
                    "the site's ledger was rolled back and its promise forgets charges"
                )
            if point.length == before.length and point.head != before.head:
                raise VerificationError(
                    f"ledger differs from one already seen: site {shown(point.site)} shows another entry at length "
                    f"{point.length}. The site's ledger was rolled back and continued, or two ledgers (two "
                    "rehearsals, for example) go by one name"
                )

    def with_attestation(self, attestation: Attestation) -> "RollbackState":
        """Remember an attestation that was verified."""
        publisher = attestation.public_key.fingerprint
        site_points = self.points.get(publisher, {}) | {point.site: point for point in attestation.ledgers}
        return RollbackState(self.points | {publisher: site_points})


def remember(attestation: Attestation, path: Path) -> None:
    """Refuse an attestation whose ledgers ran backwards, and add it to what was seen.

    Reading, comparing and writing are one step behind a lock, so that of many verifications at once none forgets
    what another saw. A path that is a link stays one; the file that it leads to is written.

    Raises:
        VerificationError: a ledger ran backwards; what was seen stays as it was.
        ReaderFileError: the file is damaged, busy, or cannot be read or written; it stays as it was.
    """
    target = Path(os.path.realpath(path))
    seen = load_state(target)
    seen.check(attestation)
    if seen.with_attestation(attestation) == seen:
        return
    with _locked(target):
        seen = load_state(target)
        seen.check(attestation)
        save_state(seen.with_attestation(attestation), target)


def load_state(path: Path) -> RollbackState:
    """Read what was seen; a file that does not exist yet has seen nothing.

    Raises:
        ReaderFileError: the file cannot be read as one that `save_state` wrote.
    """
    data = read_reader_file(path, what=_WHAT, most=_LARGEST)
    if data is None:
        return RollbackState({})
    try:
        raw = strict_json(data, what=_WHAT)
        (publishers,) = _fields(raw, "publishers")
        return RollbackState(
            {
                publisher: {site: _point(site, point) for site, point in sites.items()}
                for publisher, sites in publishers.items()
            }
        )
    except (VerificationError, TypeError, ValueError, AttributeError) as error:
        raise ReaderFileError(
            f"malformed: {_WHAT} was not written by verify, or is damaged; it was left as it is. Restore it from a "
            "copy; a new one has seen nothing"
        ) from error


def save_state(seen: RollbackState, path: Path) -> None:
    """Write what was seen, all of it or nothing; the file keeps its mode.

    Raises:
        ReaderFileError: it cannot be written, so that the next release could not be compared.
    """
    body = {
        "publishers": {
            publisher: {
                site: {"ledger_head": point.head, "ledger_length": point.length}
                for site, point in sorted(sites.items())
            }
            for publisher, sites in sorted(seen.points.items())
        }
    }
    fresh = path.with_name(f".{path.name[:100]}.{secrets.token_hex(8)}")
    try:
        mode = _mode_of(path)
        try:
            with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as stream:
                stream.write((json.dumps(body, indent=2) + "\n").encode("ascii"))
                stream.flush()
                os.fsync(stream.fileno())
            fresh.chmod(mode)
            fresh.replace(path)
        finally:
            fresh.unlink(missing_ok=True)
    except OSError as error:
        raise ReaderFileError(
            f"the release verified, and {_WHAT} cannot be written ({cause_of(error)}): it stays as it was, and "
            "this release is not remembered"
        ) from error


def _mode_of(path: Path) -> int:
    try:
        facts = path.stat()
    except FileNotFoundError:
        return 0o600
    if facts.st_nlink > 1:
        raise OSError(
            errno.EMLINK, "it has a second name, a hard link, that would go on holding what was seen before"
        )
    return stat.S_IMODE(facts.st_mode)


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Hold the lock beside a file, for the time of a block.

    It is a file of its own that stays, because the file itself is exchanged for a new one at every write.
    """
    try:
        lock = path.with_name(path.name + ".lock")
        descriptor = os.open(lock, os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0), 0o666)
    except OSError as error:
        raise ReaderFileError(
            f"the release verified, and {_WHAT} cannot be locked ({cause_of(error)}): a lock file beside it is "
            "needed. This release is not remembered"
        ) from error
    try:
        until = time.monotonic() + _PATIENCE
        while not _take(descriptor):
            if time.monotonic() > until:
                raise ReaderFileError(
                    f"the release verified, and {_WHAT} is held by another verification for {_PATIENCE:g} s; this "
                    "release is not remembered"
                )
            time.sleep(0.02)
        yield
    finally:
        os.close(descriptor)


if sys.platform == "win32":  # pragma: no cover

    def _take(descriptor: int) -> bool:
        try:
            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
        except OSError:
            return False
        return True
else:

    def _take(descriptor: int) -> bool:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True


def _fields(raw: Any, *names: str) -> list[Any]:
    """Return the values of an object that has these fields and no other."""
    if not isinstance(raw, dict) or set(raw) != set(names):
        raise ValueError("another shape")
    return [raw[name] for name in names]


def _point(site: str, raw: Any) -> LedgerPoint:
    head, length = _fields(raw, "ledger_head", "ledger_length")
    if type(head) is not str or type(length) is not int:
        raise ValueError("another type")
    return LedgerPoint(site, head, length)
