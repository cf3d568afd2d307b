"""Standing: whether a participant is certified, has not expired and is not revoked, now.

Link, gate and coordinator ask before every exchange. Everything is read anew, so that an answer is as old as the
files are; a few milliseconds buy that no process has to be told.
"""

from datetime import UTC, datetime, timedelta
from pathlib import Path

from fedsynth.errors import FederationError
from fedsynth.federation.files import text_of
from fedsynth.federation.roster import Member, Revoked, Roster, load_revoked, load_roster

_EARLY = timedelta(minutes=5)
"""A certificate is taken a little before it begins: two honest clocks are not equal."""


def standing(
    folder: Path,
    *,
    name: str | None = None,
    node: str | None = None,
    now: datetime | None = None,
) -> Member:
    """Return a participant in good standing.

    Args:
        folder: with roster, list of revoked and the authority's certificate, as in a kit.
        name: of the participant, or
        node: the public key of its node, as a line of OpenSSH, with or without a comment.
        now: the time; the machine's clock where not given.

    Raises:
        FederationError: not of this federation, expired, not valid yet, revoked; or one of the two files is older
            than the other, or not signed by the authority.
        FederationFileError: a file is missing or malformed.
    """
    roster, revoked = load_roster(folder), load_revoked(folder)
    return check_standing(roster, revoked, name=name, node=node, now=now or datetime.now(UTC))


def check_standing(
    roster: Roster, revoked: Revoked, *, name: str | None, node: str | None, now: datetime
) -> Member:
    """Return a participant in good standing, from files that were read; errors as `standing`."""
    if revoked.edition < roster.edition:
        raise FederationError(
            f"the list of revoked members is of edition {revoked.edition}, the roster of {roster.edition}; nobody "
            "is believed. Take both from one kit"
        )
    member = _found(roster, revoked, name=name, node=node)
    gone = [one for one in revoked.entries if _is(one.serial, one.identity, one.node, member)]
    if gone:
        raise FederationError(
            f"{member.name} was revoked on {text_of(gone[0].since)}; nothing is exchanged with it. Ask the "
            "federation's authority"
        )
    if now >= member.not_after:
        raise FederationError(
            f"the certificate of {member.name} expired on {text_of(member.not_after)}; nothing is exchanged with "
            f"it. The authority renews it: fedsynth federation renew {member.name}"
        )
    if now < member.not_before - _EARLY:
        raise FederationError(
            f"the certificate of {member.name} is valid from {text_of(member.not_before)}, and this machine's "
            "clock says that it is earlier; set the clock"
        )
    return member


def _found(roster: Roster, revoked: Revoked, *, name: str | None, node: str | None) -> Member:
    if (name is None) == (node is None):
        raise ValueError("say a name or a node's key")
    key = " ".join(node.split()[:2]) if node else None
    for member in roster.members.values():
        if member.name == name or (key and member.node == key):
            return member
    if any(entry.name == name or (key and entry.node == key) for entry in revoked.entries):
        raise FederationError(f"{name or 'this node'} was revoked; nothing is exchanged with it")
    raise FederationError(f"{name or 'this node'} is not a member of federation {roster.name}")


def _is(serial: str, identity: bytes, node: str, member: Member) -> bool:
    """Whether a revoked certificate, or a key that was revoked with it, is the member's."""
    return serial == member.serial or identity == member.identity or (bool(node) and node == member.node)
