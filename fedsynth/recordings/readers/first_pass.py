"""The first pass: from the pieces of a recording to what must be known of the whole before windows are cut.

A recording is gone through twice. This is the first time: how long it is, what the gate asks of each channel,
digests and annotations, in memory that does not grow with the signal but for one number a second. A recording that
is small is kept meanwhile, and not read again.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from fedsynth.errors import RecordingError
from fedsynth.recordings.facts import ChannelFacts, FactsGatherer
from fedsynth.recordings.fingerprints import Fingerprinter
from fedsynth.recordings.readers.samples import Notes, Piece
from fedsynth.recordings.recording import Gap, Mark
from fedsynth.recordings.units import Unit

HELD_BYTES = 1 << 25
"""A recording up to this size is read once and kept; pieces of a larger one are read again."""

Read = Callable[[Notes], Iterator[Piece]]
"""Goes through the pieces of one recording, from its beginning, as often as it is called."""


@dataclass(frozen=True)
class FirstPass:
    """What is known of a whole recording.

    Digests and notes are as of `fedsynth.recordings.readers.samples`. `read` goes through it once more.
    """

    n_times: int
    channels: tuple[ChannelFacts, ...]
    digest: str = field(repr=False)
    fingerprints: tuple[tuple[str, ...], ...] = field(repr=False)
    remarks: tuple[str, ...] = ()
    marks: tuple[Mark, ...] = field(default=(), repr=False)
    gaps: tuple[Gap, ...] = ()
    sfreq: float | None = None
    units: dict[str, Unit] = field(default_factory=dict)
    read: Read = field(default=lambda _: iter(()), repr=False)


def first_pass(read: Read, *, sfreq: float) -> FirstPass:
    """Go through a recording.

    Args:
        read: goes through its pieces.
        sfreq: in Hz.

    Raises:
        RecordingError: whatever the reader refuses, or a file that changes meanwhile.
    """
    notes, facts, held = Notes(), FactsGatherer(sfreq), _Held()
    prints: list[Fingerprinter] = []
    for piece in read(notes):
        rows = piece.values[: len(piece.scales)] if piece.scales else list(piece.in_microvolts())
        facts.take(rows, piece.scales)
        prints = prints or [Fingerprinter() for _ in piece.values]
        for one, values in zip(prints, piece.values, strict=False):
            one.take(values)
        held.take(piece)
    if not facts.n_times:
        raise RecordingError("the recording holds no samples; leave it out")
    digest = notes.content.hexdigest()
    again = held.read if held.complete else _unchanged(read, digest)
    for one in prints:
        one.end_pass()
    while any(one.wanting for one in prints):
        for piece in again(Notes()):
            for one, values in zip(prints, piece.values, strict=False):
                if one.wanting:
                    one.take(values)
        for one in prints:
            if one.wanting:
                one.end_pass()
    return FirstPass(
        n_times=facts.n_times,
        channels=facts.found(),
        digest=digest,
        fingerprints=tuple(one.found() for one in prints),
        remarks=tuple(notes.remarks),
        marks=tuple(sorted(notes.marks, key=lambda mark: mark.start)),
        gaps=tuple(notes.gaps),
        sfreq=notes.sfreq,
        units=dict(notes.units),
        read=again,
    )


class _Held:
    """Keeps the pieces of a small recording."""

    def __init__(self) -> None:
        self.complete = True
        self._pieces: list[Piece] = []
        self._bytes = 0

    def take(self, piece: Piece) -> None:
        self._bytes += sum(values.nbytes for values in piece.values)
        self._bytes += 0 if piece.signal is None else piece.signal.nbytes
        if self._bytes > HELD_BYTES:
            self.complete = False
            self._pieces.clear()
        elif self.complete:
            self._pieces.append(piece)

    def read(self, _: Notes) -> Iterator[Piece]:
        return iter(self._pieces)


def _unchanged(read: Read, digest: str) -> Read:
    """Go through a recording again, and refuse in the end what is not the same as before."""

    def again(notes: Notes) -> Iterator[Piece]:
        yield from read(notes)
        if notes.content.hexdigest() != digest:
            raise RecordingError("the file changed while it was read; try again when nobody writes to it")

    return again
