"""Identity: by what a recording and its person are known, in clear or as tokens that say nothing without a key."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

Token = Callable[[str, str], str]
"""`token(kind, what)`: what stands for a digest ("recording") or a name ("subject"); the same for the same."""


def in_clear(kind: str, what: str) -> str:  # noqa: ARG001
    """Return what there is, for what is not kept."""
    return what


@dataclass(frozen=True)
class Identity:
    """What a recording is known by (`fedsynth.recordings.people.Known`); all of it tokens where a site keeps it."""

    subject: str = field(repr=False)
    digest: str = field(repr=False)
    known_by: frozenset[str] = field(repr=False)
    used: frozenset[str] = field(repr=False)


def identity(
    subject: str, digest: str, fingerprints: Sequence[Sequence[str]], *, n_used: int, token: Token
) -> Identity:
    """Make an identity.

    Args:
        subject: the person's name.
        digest: of all data of the recording.
        fingerprints: by channel of the file, those that a study uses first.
        n_used: how many these are.
        token: stands for digests and names.

    >>> identity("a", "d", (("p",), ("q",)), n_used=1, token=in_clear).used
    frozenset({'p'})
    """
    known = {one: token("recording", one) for channel in fingerprints for one in channel}
    whole = token("recording", digest)
    return Identity(
        subject=token("subject", subject),
        digest=whole,
        known_by=frozenset((whole, *known.values())),
        used=frozenset(known[one] for channel in fingerprints[:n_used] for one in channel),
    )
