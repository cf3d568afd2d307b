"""Shelves: the stores of a site's windows, one for each group, in which everybody's windows stand together."""

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO, Protocol

import numpy as np
from numpy.typing import NDArray

from fedsynth.recordings.recording import Windows
from fedsynth.recordings.store.file import Store, StoreWriter
from fedsynth.recordings.store.index import StoreShape
from fedsynth.study import Study

SUFFIX = ".windows"
Rows = Callable[[int], NDArray[np.float32]]
"""The windows of a recording by its number, shape (window, channel, time)."""


class Labelled(Protocol):
    """What labels windows bear, and of which recording each is."""

    @property
    def labels(self) -> NDArray[np.int64]:
        """Indices of the names, shape (window,)."""
        ...

    @property
    def recordings(self) -> NDArray[np.int64]:
        """Numbers of recordings, shape (window,)."""
        ...

    @property
    def label_names(self) -> tuple[str, ...]:
        """The study's names."""
        ...


@dataclass(frozen=True)
class Shelved:
    """A recording on a shelf: its number and its person's, the labels of its windows, facts of the site's own.

    `covariates` are its stratum and its statements.
    """

    number: int
    person: int
    labels: NDArray[np.int64] = field(repr=False)
    facts: bytes = field(default=b"", repr=False)
    covariates: tuple[int, ...] = field(default=(0,), repr=False)


def write_shelf(
    path: Path,
    shelf: Sequence[Shelved],
    *,
    shape: StoreShape,
    rows: Rows,
    seal: bytes | None,
    after: tuple[Store, Sequence[int]] | None = None,
) -> int:
    """Write a shelf, or append to one; people stand in the order of their numbers.

    Args:
        path: of the file; it must be new, or end with `after`.
        shelf: what to write.
        shape: of windows.
        rows: gives the windows of a recording.
        seal: the site's key, or None.
        after: what is there already, and the number of the person of each of its entries.

    Returns:
        How many bytes the file has.

    Raises:
        OSError: the disk is full, say; what was there is as it was.
    """
    before = list(after[1]) if after else []
    ordered = sorted(shelf, key=lambda one: (one.person, one.number))
    writer = StoreWriter(path, shape=shape, key=seal, after=after[0] if after else None)
    try:
        for one in ordered:
            for window in rows(one.number):
                writer.keep(window)
            writer.end_recording(person=one.person, labels=one.labels, facts=one.facts, covariates=one.covariates)
        counts = [len(entry.labels) for entry in after[0].index.entries] if after else []
        people = [*before, *(one.person for one in ordered)]
        return writer.finish(people=renumbered(people, [*counts, *(len(one.labels) for one in ordered)]))
    except BaseException:
        writer.abandon()
        raise


def renumbered(people: Sequence[int], counts: Sequence[int]) -> list[int]:
    """Number people from 0 in the order of their numbers, those without any window last.

    >>> renumbered([4, 7, 9, 7], [0, 2, 1, 0])
    [2, 0, 1, 0]
    """
    there = sorted({person for person, count in zip(people, counts, strict=True) if count})
    others = sorted(set(people) - set(there))
    numbers = {person: number for number, person in enumerate([*there, *others])}
    return [numbers[person] for person in people]


def rows_of(windows: Labelled) -> Rows:
    """Return what gives the windows of a recording, where they are in memory."""
    assert isinstance(windows, Windows)  # others say themselves where their rows are
    return lambda number: windows.signal[windows.recordings == number]


def shape_of_windows(study: Study) -> StoreShape:
    """Return what all windows of a study have in common."""
    return StoreShape(study.signal.channels, study.windows.n_times, study.signal.sfreq, study.labels.names)


def unsealed(store: Store) -> BinaryIO:
    """Copy a sealed store in the clear into memory that has no name, and open it for reading only.

    Raises:
        RecordingError: it is damaged.
    """
    file = os.fdopen(os.memfd_create("windows", os.MFD_CLOEXEC), "r+b")
    place = Path(f"/proc/self/fd/{file.fileno()}")
    with file:
        writer = StoreWriter(place, shape=store.index.shape, file=file)
        for entry in store.index.entries:
            for window in store.rows(entry) if entry.labels else ():
                writer.keep(window)
            labels = np.array(entry.labels, dtype=np.int64)
            writer.end_recording(person=entry.person, labels=labels, covariates=entry.covariates)
        writer.finish(close=False)
        return os.fdopen(os.open(place, os.O_RDONLY | os.O_CLOEXEC), "rb")
