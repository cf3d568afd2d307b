"""EDF and BDF: data records to samples in microvolts and annotations, a few records at a time."""

import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fedsynth.errors import RecordingError
from fedsynth.recordings.readers.edf_annotations import marks_of, onset_of
from fedsynth.recordings.readers.edf_header import (
    LONGEST_HEADER,
    VERSIONS,
    EdfHeader,
    EdfSignal,
    choose_signals,
    microvolts_per_step,
    parse_header,
)
from fedsynth.recordings.readers.samples import Notes, Piece, Request
from fedsynth.recordings.recording import Gap

PIECE_BYTES = 1 << 23
BEYOND = "samples beyond the digital limits in their header; they were taken along the same line"
JUMPING = "time stamps that jump although the file calls itself continuous; they were taken for gaps"


def looks_like_edf(path: Path, head: bytes) -> bool:
    """Tell an EDF or BDF file by its first eight bytes."""
    return path.suffix.lower() in (".edf", ".bdf", ".rec") or head[:8].rstrip(b" \0") in VERSIONS


def read_edf(path: Path, request: Request, notes: Notes) -> Iterator[Piece]:
    """Read the study's channels of an EDF or BDF file.

    Raises:
        MissingChannelError: a channel of the study is missing.
        RecordingError: whatever else the header, the sizes or the time stamps leave in doubt.
        OSError: a file that cannot be opened.
    """
    with path.open("rb") as file:
        header = parse_header(file.read(LONGEST_HEADER), file_size=os.fstat(file.fileno()).st_size)
        chosen = choose_signals(
            header,
            channels=request.channels,
            sfreq=request.sfreq,
            unit=request.unit,
            name_of=request.name_of,
            once=request.once,
        )
        notes.remarks += header.remarks
        file.seek(header.n_bytes)
        signals = [header.signals[index] for index in chosen]
        notes.units = {one.label.strip(): request.unit or one.voltage or "uV" for one in signals}
        notes.sfreq = header.rate(header.signals[chosen[0]])
        clock = _Clock(header, header.signals[chosen[0]], notes)
        at_once = max(1, PIECE_BYTES // header.record_bytes)
        for first in range(0, header.n_records, at_once):
            count = min(at_once, header.n_records - first)
            data = file.read(count * header.record_bytes)
            if len(data) != count * header.record_bytes:
                raise RecordingError("the file changed while it was read; try again when nobody writes to it")
            notes.content.update(data)
            records = np.frombuffer(data, dtype=np.uint8).reshape(count, header.record_bytes)
            clock.take(records, first)
            yield _piece(header, records, chosen, request, notes)


def _piece(
    header: EdfHeader, records: NDArray[np.uint8], chosen: tuple[int, ...], request: Request, notes: Notes
) -> Piece:
    steps = {
        index: _steps(header, records, index)
        for index, signal in enumerate(header.signals)
        if index in chosen or (signal.voltage and not signal.is_annotations and signal.samples_per_record)
    }
    for index in chosen:
        if BEYOND not in notes.remarks and _is_beyond(steps[index], *header.limits(header.signals[index])):
            notes.remarks.append(BEYOND)
    scales = tuple(microvolts_per_step(header.signals[index], unit=request.unit) for index in chosen)
    others = tuple(values for index, values in steps.items() if index not in chosen)
    return Piece(None, (*(steps[index] for index in chosen), *others), scales)


def _steps(header: EdfHeader, records: NDArray[np.uint8], index: int) -> NDArray[np.signedinteger]:
    """Return the samples of one signal as they are stored, shape (time,)."""
    start, end = header.place(index)
    octets = np.ascontiguousarray(records[:, start:end])
    if header.format == "EDF":
        return octets.view("<i2").reshape(-1)
    three = octets.reshape(-1, 3).astype(np.int32)
    steps = three[:, 0] | three[:, 1] << 8 | three[:, 2] << 16
    return np.asarray((steps ^ 0x800000) - 0x800000, dtype=np.int32)


def _is_beyond(steps: NDArray[np.signedinteger], low: int, high: int) -> bool:
    """Tell whether a sample is beyond limits; those that no whole number of its kind passes are not looked at."""
    kind = np.iinfo(steps.dtype)
    return bool((low > kind.min and steps.min() < low) or (high < kind.max and steps.max() > high))


class _Clock:
    """Holds the time stamps of data records against their duration, and gathers the annotations and the gaps.

    A record of a discontinuous file (EDF+D) that begins more than half a sample late begins after a gap, and one
    that begins as much too early is refused. In a file that calls itself continuous, stamps count only where they
    jump ahead by a whole record and a second, which no rounding does.
    """

    def __init__(self, header: EdfHeader, signal: EdfSignal, notes: Notes) -> None:
        self._header, self._sfreq, self._notes = header, header.rate(signal), notes
        self._places = [header.place(i) for i, signal in enumerate(header.signals) if signal.is_annotations]
        self._per_record = signal.samples_per_record
        self._first: float | None = None
        self._last: float | None = None

    def take(self, records: NDArray[np.uint8], first: int) -> None:
        """Take in some records, of which `first` is the number of the first.

        Raises:
            RecordingError: an overlap, or a record without a time stamp, in a discontinuous file.
        """
        if not self._places:
            if self._header.discontinuous:
                raise RecordingError(self._without_stamp(first))
            return
        for row, record in enumerate(records):
            texts = [record[start:end].tobytes() for start, end in self._places]
            onset = onset_of(texts[0])
            if self._first is None:
                self._first = onset or 0.0
            self._check(onset, first + row)
            for text in texts:
                self._notes.marks += marks_of(text, origin=self._first, sfreq=self._sfreq)

    def _check(self, onset: float | None, record: int) -> None:
        strict, seconds = self._header.discontinuous, self._header.record_seconds
        if onset is None:
            if strict:
                raise RecordingError(self._without_stamp(record))
            self._last = None if self._last is None else self._last + seconds
            return
        late = 0.0 if self._last is None else onset - self._last - seconds
        if strict and late * self._sfreq < -0.5:
            raise RecordingError(
                f"the file is discontinuous (EDF+D) and data record {record + 1} of {self._header.n_records} "
                "begins before the one before it ends, so nobody knows when its samples were taken; export it again"
            )
        if late * self._sfreq > 0.5 and (strict or late >= max(1.0, seconds)):
            self._begin_after_gap(onset, record)
            if not strict and JUMPING not in self._notes.remarks:
                self._notes.remarks.append(JUMPING)
        self._last = onset if strict or self._last is None or late >= 0 else self._last + seconds

    def _begin_after_gap(self, onset: float, record: int) -> None:
        stored = record * self._per_record
        missing = round((onset - (self._first or 0.0)) * self._sfreq) - stored
        missing -= sum(gap.n_times for gap in self._notes.gaps)
        self._notes.gaps.append(Gap(stored, max(0, missing)))

    def _without_stamp(self, record: int) -> str:
        return (
            f"the file is discontinuous (EDF+D) and data record {record + 1} of {self._header.n_records} has no "
            "time stamp, so gaps cannot be found; export it as continuous EDF+C"
        )
