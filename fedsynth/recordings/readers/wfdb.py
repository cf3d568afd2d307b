"""WFDB records: from a .hea file and what lies beside it to microvolts and beats.

Nothing is opened but the header, the signal files that it names in its own folder, and the .atr file of its name.
"""

from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fedsynth.errors import RecordingError
from fedsynth.recordings.folder import check_beside, leads_out
from fedsynth.recordings.gate import MissingChannelError
from fedsynth.recordings.participants import name_of
from fedsynth.recordings.readers.samples import Notes, Piece, Request
from fedsynth.recordings.readers.wfdb_annotations import LARGEST_ANNOTATIONS, Annotations, parse_annotations
from fedsynth.recordings.readers.wfdb_flac import unpack_flac
from fedsynth.recordings.readers.wfdb_header import (
    LARGEST_HEADER,
    WfdbHeader,
    choose_leads,
    parse_wfdb_header,
)
from fedsynth.recordings.readers.wfdb_signal import (
    check_sums,
    decoded,
    frames_together,
    microvolts,
    samples_per_signal,
)
from fedsynth.recordings.recording import Beats, Gap, Mark
from fedsynth.recordings.units import VOLTS
from fedsynth.study import LabelPlan

_HASHED_BYTES = 1 << 23


def looks_like_wfdb(path: Path, head: bytes) -> bool:
    """Tell a WFDB header by its name and its first line."""
    return path.suffix.lower() == ".hea" and b"\0" not in head


def read_wfdb(path: Path, request: Request, notes: Notes) -> Iterator[Piece]:
    """Read the study's channels of a record, a segment at a time.

    Args:
        path: of the .hea file.
        request: names the channels and the rate as recorded.
        notes: takes remarks and content.

    Raises:
        MissingChannelError: a channel of the study is missing.
        RecordingError: whatever else the header, the sizes or the checksums leave in doubt.
        OSError: a header that cannot be opened.
    """
    header = _header(path)
    if not header.segments:
        yield from _pieces(path, header, request, notes)
        return
    yield from _segments(path, header, request, notes)


def _segments(path: Path, header: WfdbHeader, request: Request, notes: Notes) -> Iterator[Piece]:
    """Read the segments of a record; where there is none, or none with the study's channels, there is a gap."""
    per_frame, stored, missing = round(request.sfreq / header.sfreq), 0, 0
    absent: MissingChannelError | None = None
    varies = False
    for number, (name, length) in enumerate(header.segments, start=1):
        if name is None:
            missing += length
            continue
        beside = path.with_name(f"{name}.hea")
        if leads_out(beside, root=request.root):
            check_beside(beside, root=request.root)
        segment = _header(beside)
        if length == 0 and number == 1:
            varies = True  # the layout of a record of variable layout, which holds no samples
            continue
        if segment.segments or segment.sfreq != header.sfreq or segment.n_times not in (None, length):
            raise RecordingError(
                f"segment {number} of {len(header.segments)} does not fit the record: it has segments itself, or "
                "another rate or length; export it again"
            )
        try:
            begun = stored
            for piece in _pieces(path, segment, request, notes):
                if missing:
                    notes.gaps.append(Gap(stored, missing * per_frame))
                stored, missing = stored + piece.in_microvolts().shape[1], 0
                yield piece
        except MissingChannelError as error:
            if not varies:
                raise
            absent, missing = error, missing + length
            continue
        if stored - begun != length * per_frame:
            raise RecordingError(
                f"segment {number} of {len(header.segments)} holds another number of samples than announced; "
                "export the record again"
            )
    if stored == 0:
        raise absent or RecordingError("its segments hold no samples; copy or export the record again")
    if missing:
        notes.gaps.append(Gap(stored, missing * per_frame))


def _header(path: Path) -> WfdbHeader:
    if not path.is_file():
        raise RecordingError("a segment that its header names is missing beside it; copy it there")
    with path.open("rb") as file:
        return parse_wfdb_header(file.read(LARGEST_HEADER + 1))


def _pieces(path: Path, header: WfdbHeader, request: Request, notes: Notes) -> Iterator[Piece]:
    """Read a record without segments, some frames at a time where its format lets them be told apart."""
    chosen = choose_leads(
        header,
        channels=request.channels,
        sfreq=request.sfreq,
        unit=request.unit,
        name_of=request.name_of,
        once=request.once,
    )
    files = [path.parent / name for name in header.files]
    for file_path in files:
        check_beside(file_path, root=request.root)
    sizes = tuple(file_path.stat().st_size for file_path in files)
    n_times = samples_per_signal(header, sizes=sizes)
    offsets = [header.signals[indices[0]].offset for indices in header.files.values()]
    for file_path, offset, size in zip(files, offsets, sizes, strict=True):
        for start in range(offset, size, _HASHED_BYTES):
            notes.content.update(_read(file_path, start, min(_HASHED_BYTES, size - start)))
    notes.sfreq = header.sfreq * header.signals[chosen[0]].per_frame
    sums = dict.fromkeys(range(len(header.signals)), 0)
    before: dict[int, int] = {}
    for first, count, places in frames_together(header, n_times=n_times, sizes=sizes):
        data = tuple(_read(file_path, *place) for file_path, place in zip(files, places, strict=True))
        steps = decoded(
            header,
            n_times=count,
            data=data,
            unpack=partial(_unpack, header, n_times=n_times, data=data),
            before=before,
        )
        before = {index: int(values[-1]) for index, values in steps.items()}
        for index, values in steps.items():
            sums[index] += int(values.sum(dtype=np.int64))
        if first + count == n_times:
            notes.remarks += [one for one in check_sums(header, sums) if one not in notes.remarks]
        signal = microvolts(header, steps, chosen=chosen, channels=request.channels, unit=request.unit)
        others = [steps[i] for i, lead in enumerate(header.signals) if i not in chosen and lead.unit in VOLTS]
        yield Piece(signal, (*(steps[index] for index in chosen), *others))


def _unpack(header: WfdbHeader, place: int, *, n_times: int, data: tuple[bytes, ...]) -> NDArray[np.int32]:
    return unpack_flac(header, n_times=n_times, place=place, content=data[place])


def read_beats(path: Path, plan: LabelPlan, *, n_times: int, sfreq: float, root: Path | None) -> Beats:
    """Read the beats of a record and name them as the study does.

    Args:
        path: of the .hea file.
        plan: names the labels of beats; a symbol that gives none is refused, or left out where it says so.
        n_times: samples of a channel of the recording, with those that are missing in gaps.
        sfreq: of the recording, in Hz.
        root: the folder that links may not lead out of; None where they may.

    Raises:
        RecordingError: no annotations beside the header, or annotations that are damaged or of another recording.
        OSError: annotations that cannot be opened.
    """
    found = _annotations(path, n_times=n_times, sfreq=sfreq, root=root)
    names = {symbol: name_of(symbol, plan) for symbol in set(found.symbols)}
    labels = [names[symbol] for symbol in found.symbols]
    keep = np.array([label is not None for label in labels], dtype=bool)
    numbers = [plan.names.index(label) for label in labels if label is not None]
    return Beats(found.samples[keep], np.array(numbers, dtype=np.int64))


def read_rhythms(path: Path, *, n_times: int, sfreq: float, root: Path | None) -> list[Mark]:
    """Read the rhythms of a record, each of which lasts until the next.

    Raises:
        As `read_beats`.
    """
    return list(_annotations(path, n_times=n_times, sfreq=sfreq, root=root).rhythms)


def _annotations(path: Path, *, n_times: int, sfreq: float, root: Path | None) -> Annotations:
    beside = [file for file in (path.with_suffix(".atr"), path.with_suffix(".ATR")) if file.is_file()]
    if beside:
        check_beside(beside[0], root=root)
    if not beside:
        raise RecordingError("its annotations (.atr) are missing, and they bear the labels; put them beside it")
    # Annotations count frames, of which each may hold several samples of a channel.
    frames = _header(path).sfreq
    per_frame = max(1, round(sfreq / frames))
    with beside[0].open("rb") as file:
        found = parse_annotations(file.read(LARGEST_ANNOTATIONS), n_times=n_times // per_frame, sfreq=frames)
    if per_frame == 1:
        return found
    rhythms = tuple(replace(one, start=one.start * per_frame) for one in found.rhythms)
    return Annotations(found.samples * per_frame, found.symbols, rhythms)


def _read(path: Path, start: int, count: int) -> bytes:
    with path.open("rb") as file:
        file.seek(start)
        data = file.read(count)
    if len(data) != count:
        raise RecordingError("the signal file changed while it was read; try again when nobody writes to it")
    return data
