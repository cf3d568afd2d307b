"""People: who is one person among recordings, whatever names they stand under and however they were saved."""

from collections.abc import Sequence
from typing import Protocol


class Known(Protocol):
    """What a recording is known by: whose it is, all digests, and those of what the study uses."""

    @property
    def subject(self) -> str:
        """The name of the person, or a token of it."""
        ...

    @property
    def digest(self) -> str:
        """Of all data."""
        ...

    @property
    def known_by(self) -> frozenset[str]:
        """All digests."""
        ...

    @property
    def used(self) -> frozenset[str]:
        """Fingerprints of the study's channels."""
        ...

    @property
    def covariates(self) -> tuple[int, ...]:
        """The number of its stratum and, of each statement, 0 or 1."""
        ...


def people_of(recordings: Sequence[Known]) -> list[int]:
    """Number the person of each recording from 0, in the order in which people come.

    Recordings of one name are one person's, and so are names that stand over the same samples: whoever is held
    under two names would otherwise count twice, and move a sum by twice its bound. Samples are the same where any
    channel has them (`Recording.known_by`).

    >>> import numpy as np
    >>> from fedsynth.recordings.recording import Recording
    >>> one = np.zeros((1, 2), np.float32)
    >>> held = [("a", "x"), ("b", "y"), ("c", "x"), ("b", "z")]
    >>> people_of([Recording(one, 1.0, ("C3",), subject, "", digest) for subject, digest in held])
    [0, 1, 0, 1]
    """
    parent: dict[tuple[str, str], tuple[str, str]] = {}

    def root(node: tuple[str, str]) -> tuple[str, str]:
        while parent.setdefault(node, node) != node:
            parent[node] = node = parent[parent[node]]
        return node

    for recording in recordings:
        for digest in recording.known_by:
            parent[root(("subject", recording.subject))] = root(("samples", digest))
    numbers: dict[tuple[str, str], int] = {}
    return [numbers.setdefault(root(("subject", item.subject)), len(numbers)) for item in recordings]


def is_copy(recordings: Sequence[Known]) -> list[bool]:
    """Tell of each recording whether an earlier one holds its samples; such a one counts once.

    It does where the data are exactly the same, and where at least a sixth of the fingerprints of what the study
    uses stand in one earlier recording: saved again with other channels, with other data records, cut a little, or
    rounded anew, of which half of the fingerprints know nothing.

    >>> import numpy as np
    >>> from fedsynth.recordings.recording import Recording
    >>> one = np.zeros((1, 2), np.float32)
    >>> is_copy([Recording(one, 1.0, ("C3",), "a", "", digest) for digest in "xyx"])
    [False, False, True]
    """
    digests: set[str] = set()
    holders: dict[str, list[int]] = {}
    told = []
    for number, recording in enumerate(recordings):
        shared: dict[int, int] = {}
        for fingerprint in recording.used:
            for holder in holders.setdefault(fingerprint, []):
                shared[holder] = shared.get(holder, 0) + 1
            holders[fingerprint].append(number)
        told.append(
            recording.digest in digests or 6 * max(shared.values(), default=0) >= max(1, len(recording.used))
        )
        digests.add(recording.digest)
    return told


def copies(recordings: Sequence[Known]) -> tuple[int, int]:
    """Return how many recordings hold samples of an earlier one: of the same name, and of another one.

    >>> import numpy as np
    >>> from fedsynth.recordings.recording import Recording
    >>> one = np.zeros((1, 2), np.float32)
    >>> held = [("a", "x"), ("a", "x"), ("b", "x"), ("c", "y")]
    >>> copies([Recording(one, 1.0, ("C3",), subject, "", digest) for subject, digest in held])
    (1, 1)
    """
    owners: dict[str, str] = {}
    own = others = 0
    for recording, copy in zip(recordings, is_copy(recordings), strict=True):
        names = {owners.setdefault(digest, recording.subject) for digest in recording.known_by}
        foreign = bool(names - {recording.subject})
        others += foreign
        own += copy and not foreign
    return own, others
