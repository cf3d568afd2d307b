"""What is asked of every reader and what it gives: pieces of a recording in microvolts, and notes beside them."""

import hashlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fedsynth.montage import canonical_channel
from fedsynth.recordings.facts import Scales, microvolts
from fedsynth.recordings.fingerprints import fingerprints
from fedsynth.recordings.recording import Gap, Mark
from fedsynth.recordings.units import Unit

RATE_TOLERANCE = 1e-4  # relative


@dataclass(frozen=True)
class Request:
    """What a study and a site ask of a recording: the channels, in order, at a rate in Hz.

    `unit` is the site's word for the unit of every channel; it goes before what the file says. `columns` names
    the channels of files that do not; `aliases` gives labels of files the study's names. With `twins`, of channels
    that are there twice the first is taken. Links of files beside the recording may not lead out of `root`.
    """

    channels: tuple[str, ...]
    sfreq: float
    unit: Unit | None = None
    columns: tuple[str, ...] = ()
    root: Path | None = None
    aliases: Mapping[str, str] = field(default_factory=dict)
    twins: bool = False
    part: str = ""

    def name_of(self, label: str) -> str:
        """Return the study's name of a label of a file, where the layout gives it one, or else the label."""
        return self.aliases.get(label.strip(), label)

    def once(self, found: list[int]) -> list[int]:
        """Return the places of a channel, or the first where twins are allowed."""
        return found[:1] if self.twins else found


@dataclass(frozen=True)
class Piece:
    """A stretch of a recording.

    `signal` holds the study's channels in microvolts, shape (channel, time). `values` are the samples of every
    voltage signal of the file as they are stored, the study's first: what fingerprints are taken of. A reader may
    give `scales` and no signal: they make it of the study's `values` (`fedsynth.recordings.facts.microvolts`),
    which take half of the memory or less, when somebody asks for it.
    """

    signal: NDArray[np.float32] | None
    values: tuple[NDArray[np.generic], ...]
    scales: Scales | None = None

    def in_microvolts(self) -> NDArray[np.float32]:
        """Return the study's channels in microvolts, shape (channel, time)."""
        if self.signal is not None:
            return self.signal
        assert self.scales is not None  # a reader gives one or the other
        signal = np.empty((len(self.scales), len(self.values[0])), dtype=np.float32)
        for row, values, scale in zip(signal, self.values, self.scales, strict=False):
            row[:] = microvolts(values, *scale)
        return signal


@dataclass
class Notes:
    """What a reader notes while it reads; complete once the last piece was given.

    `remarks` say what was put right, `content` takes in all the data. `marks` are the annotations, which count
    samples from the first, with those that are missing in `gaps`. `sfreq` is the rate that the file gives, in Hz,
    and `units` those of the channels that are read, by their labels, as the file or the site says.
    """

    remarks: list[str] = field(default_factory=list)
    marks: list[Mark] = field(default_factory=list)
    gaps: list[Gap] = field(default_factory=list)
    sfreq: float | None = None
    units: dict[str, Unit] = field(default_factory=dict)
    content: "hashlib._Hash" = field(default_factory=hashlib.sha256)


Read = Callable[..., Iterator[Piece]]
"""`read(path, request, notes)`: a reader. It gives pieces in the order of time, all with the same channels.

Raises MissingChannelError, RecordingError, and OSError where a file cannot be opened; before the first piece or
at any other.
"""


@dataclass(frozen=True)
class Samples:
    """A recording as read: microvolts, shape (channel, time), digests and notes.

    `digest` is of all the data; `fingerprints` are by voltage signal of the file, the study's channels first.
    """

    signal: NDArray[np.float32]
    digest: str
    remarks: tuple[str, ...]
    fingerprints: tuple[tuple[str, ...], ...] = ()
    marks: tuple[Mark, ...] = ()
    gaps: tuple[Gap, ...] = ()
    sfreq: float | None = None


def gather(pieces: Iterator[Piece], notes: Notes) -> Samples:
    """Join the pieces of a recording."""
    held = list(pieces)
    signals = [piece.in_microvolts() for piece in held]
    signal = np.concatenate(signals, axis=1) if len(signals) != 1 else signals[0]
    columns = zip(*(piece.values for piece in held), strict=False)
    known = tuple(fingerprints(np.concatenate(column)) for column in columns)
    return Samples(
        signal=np.ascontiguousarray(signal, dtype=np.float32),
        digest=notes.content.hexdigest(),
        remarks=tuple(notes.remarks),
        fingerprints=known,
        marks=tuple(sorted(notes.marks, key=lambda mark: mark.start)),
        gaps=tuple(notes.gaps),
        sfreq=notes.sfreq,
    )


def whole(
    signal: NDArray[np.float32], values: NDArray[np.generic] | tuple[NDArray[np.generic], ...]
) -> Iterator[Piece]:
    """Give a recording in one piece, for formats that are read at once."""
    yield Piece(signal, tuple(values))


def find_channel(places: dict[str, list[int]], channel: str) -> list[int]:
    """Return where the labels of a channel stand: its own spelling, or else that with "ECG " before it.

    Args:
        places: of the file's labels, by their canonical spelling.
        channel: as the study names it.

    >>> find_channel({"ECG II": [0], "C3": [1]}, "ii")
    [0]
    """
    return places.get(canonical_channel(channel)) or places.get(canonical_channel(f"ECG {channel}")) or []
