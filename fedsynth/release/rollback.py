"""What a reader has verified before: from claims to a small JSON file, and a refusal when a ledger ran backwards.

A site's ledger only grows. A release that shows a shorter ledger than one verified before, or another entry at
the same length, was made before it, or from a ledger that was rolled back: its promise then forgets a charge.
Sites are remembered under their publisher's key, so that one publisher's "north" is not another's.
"""

import json
import os
import tempfile
from dataclasses import dataclass
from pathlib import Path

from fedsynth.errors import VerificationError
from fedsynth.release.attestation import Attestation, LedgerPoint
from fedsynth.release.manifest import shown
from fedsynth.release.signature import strict_json


@dataclass(frozen=True)
class RollbackState:
    """The newest ledger point of each site, by publisher's fingerprint and site."""

    points: dict[str, dict[str, LedgerPoint]]

    def check(self, attestation: Attestation) -> None:
        """Refuse a attestation whose ledgers are older than, or fork from, what was seen.

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
        """Remember a attestation that was verified."""
        publisher = attestation.public_key.fingerprint
        site_points = self.points.get(publisher, {}) | {point.site: point for point in attestation.ledgers}
        return RollbackState(self.points | {publisher: site_points})


def load_state(path: Path) -> RollbackState:
    """Read what was seen; a file that does not exist yet has seen nothing.

    Raises:
        VerificationError: the file cannot be read as one that `save_state` wrote.
    """
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return RollbackState({})
    except OSError as error:
        raise VerificationError(f"the file of seen ledgers cannot be read ({type(error).__name__})") from error
    raw = strict_json(data, what="the file of seen ledgers")
    try:
        return RollbackState(
            {
                str(publisher): {
                    str(site): LedgerPoint(str(site), str(point["ledger_head"]), int(point["ledger_length"]))
                    for site, point in sites.items()
                }
                for publisher, sites in raw["publishers"].items()
            }
        )
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise VerificationError("malformed: the file of seen ledgers was not written by verify") from error


def save_state(seen: RollbackState, path: Path) -> None:
    """Write what was seen, all of it or nothing.

    Raises:
        VerificationError: it cannot be written, so that the next release could not be compared.
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
    try:
        descriptor, name = tempfile.mkstemp(prefix=path.name, dir=path.parent)
        with os.fdopen(descriptor, "w", encoding="utf-8") as stream:
            stream.write(json.dumps(body, indent=2) + "\n")
        Path(name).replace(path)
    except OSError as error:
        raise VerificationError(f"the file of seen ledgers cannot be written ({type(error).__name__})") from error
