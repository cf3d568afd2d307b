"""People: who is one person among recordings, whatever names they stand under."""

from fedsynth.recordings.recording import Recording


def people_of(recordings: list[Recording]) -> list[int]:
    """Number the person of each recording from 0, in the order in which people come.

    Recordings of one name are one person's, and so are names that stand over exactly the same samples: whoever is
    held under two names would otherwise count twice, and move a sum by twice its bound.

    >>> import numpy as np
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
        parent[root(("subject", recording.subject))] = root(("samples", recording.digest))
    numbers: dict[tuple[str, str], int] = {}
    return [numbers.setdefault(root(("subject", item.subject)), len(numbers)) for item in recordings]


def is_copy(recordings: list[Recording]) -> list[bool]:
    """Tell of each recording whether an earlier one holds exactly its samples; such a one counts once.

    >>> import numpy as np
    >>> one = np.zeros((1, 2), np.float32)
    >>> is_copy([Recording(one, 1.0, ("C3",), "a", "", digest) for digest in "xyx"])
    [False, False, True]
    """
    seen: set[str] = set()
    told = []
    for recording in recordings:
        told.append(recording.digest in seen)
        seen.add(recording.digest)
    return told
