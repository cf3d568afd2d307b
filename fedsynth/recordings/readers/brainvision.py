"""BrainVision: a .vhdr header, the .eeg file and the .vmrk file that it names, to microvolts and marks, in pieces.

The format is that of the BrainVision Core Data Format 1.0 (Brain Products). Read are binary files, multiplexed or
vectorised, of 16-bit whole numbers or 32-bit floating-point numbers.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fedsynth.errors import RecordingError
from fedsynth.recordings.decimals import decimal
from fedsynth.recordings.folder import check_beside
from fedsynth.recordings.lines import lines_of
from fedsynth.recordings.readers.samples import Notes, Piece, Request
from fedsynth.recordings.readers.tracks import Track, check_rate, choose_tracks
from fedsynth.recordings.recording import Gap, Mark
from fedsynth.recordings.units import VOLTS

SEGMENT = "\0segment"
"""The text of a mark where a segment of the recording begins."""
LARGEST_TEXT = 1 << 24  # bytes of a header or of markers
PIECE_SAMPLES = 1 << 20  # in all channels together
_FORMATS = {"INT_16": "i2", "IEEE_FLOAT_32": "f4"}
_NEW_SEGMENT = "new segment"
_MOST_CHANNELS = 10_000
_PLAIN = re.compile(r"[^/\\\0]{1,255}")


@dataclass(frozen=True)
class BrainVisionHeader:
    """What a header says that a reader needs."""

    sfreq: float
    data_file: str = field(repr=False)
    marker_file: str | None = field(repr=False)
    multiplexed: bool
    number: str
    tracks: tuple[Track, ...]
    n_times: int | None = None


def looks_like_brainvision(path: Path, head: bytes) -> bool:
    """Tell a header by its name and its first line."""
    return path.suffix.lower() == ".vhdr" or head.lstrip(b"\xef\xbb\xbf").startswith(
        (b"Brain Vision", b"BrainVision")
    )


def read_brainvision(path: Path, request: Request, notes: Notes) -> Iterator[Piece]:
    """Read the study's channels of a recording.

    Raises:
        MissingChannelError: a channel of the study is missing.
        RecordingError: whatever else the header, the size or the markers leave in doubt.
        OSError: a header that cannot be opened.
    """
    header = parse_vhdr(_text(path), stem=path.stem)
    notes.sfreq = header.sfreq
    check_rate(header.sfreq, request)
    chosen = choose_tracks(header.tracks, request)
    units = [request.unit or VOLTS[header.tracks[index].unit] for index in chosen]
    notes.units = dict(zip((header.tracks[index].label for index in chosen), units, strict=True))
    data = path.with_name(header.data_file)
    check_beside(data, root=request.root)
    if header.marker_file is not None:
        markers = path.with_name(header.marker_file)
        check_beside(markers, root=request.root)
        marks = parse_vmrk(_text(markers))
        notes.marks += [mark for mark in marks if mark.text != SEGMENT]
        # What stands between two segments was not recorded, and how long that was is not told.
        starts = sorted({mark.start for mark in marks if mark.text == SEGMENT and mark.start > 0})
        notes.gaps += [Gap(start, 0) for start in starts]
    kind = np.dtype(header.number)
    frame = kind.itemsize * len(header.tracks)
    size = data.stat().st_size
    if size == 0 or size % frame:
        raise RecordingError(
            f"the data file is cut short: {len(header.tracks)} channels take {frame} bytes a sample, and its "
            f"{size} bytes are no whole number of them; copy or export it again"
        )
    n_times = size // frame
    if header.n_times not in (None, n_times):
        raise RecordingError(
            f"the header announces {header.n_times} samples and the data file holds {n_times}; copy or export it "
            "again"
        )
    if any(gap.start >= n_times for gap in notes.gaps):
        raise RecordingError("a segment begins after the end of the data; export the markers again")
    for values in _stretches(data, header, kind, n_times):
        notes.content.update(np.ascontiguousarray(values).tobytes())
        signal = np.empty((len(chosen), values.shape[1]), dtype=np.float32)
        for row, index in zip(signal, chosen, strict=True):
            scale = header.tracks[index].microvolts(request.unit)
            with np.errstate(over="ignore"):  # the gate refuses what becomes infinite
                row[:] = values[index].astype(np.float64) * scale
        others = [values[i] for i, track in enumerate(header.tracks) if i not in chosen and track.unit in VOLTS]
        yield Piece(signal, (*(values[index] for index in chosen), *others))


def parse_vhdr(text: str, *, stem: str = "") -> BrainVisionHeader:
    """Read the text of a header; `stem` stands for `$b` in the names of files.

    Raises:
        RecordingError: not a header, another format of data, a field that is not a number, or a file that is not
            beside it.
    """
    first, _, rest = text.lstrip("\ufeff").partition("\n")
    if not re.match(r"Brain ?Vision Data Exchange Header File", first, flags=re.IGNORECASE):
        raise RecordingError("this is not a BrainVision header: its first line does not say so; export it again")
    sections = _sections(rest)
    common, binary = sections.get("common infos", {}), sections.get("binary infos", {})
    if common.get("dataformat", "BINARY").upper() != "BINARY":
        raise RecordingError("the data are not binary; export them as binary data")
    if common.get("datatype", "TIMEDOMAIN").upper() != "TIMEDOMAIN":
        raise RecordingError("the data are no samples in the order of time; export the recording itself")
    number = binary.get("binaryformat", "").upper()
    if number not in _FORMATS:
        raise RecordingError("the binary format is neither INT_16 nor IEEE_FLOAT_32; export it as one of these")
    orientation = common.get("dataorientation", "MULTIPLEXED").upper()
    if orientation not in ("MULTIPLEXED", "VECTORIZED"):
        raise RecordingError("the data are neither multiplexed nor vectorised; export the recording again")
    interval = _number(common.get("samplinginterval", ""), "the sampling interval")
    count = common.get("numberofchannels", "")
    if interval <= 0 or not re.fullmatch(r"\d{1,5}", count) or not 1 <= int(count) <= _MOST_CHANNELS:
        raise RecordingError("the sampling interval or the number of channels is not usable; export it again")
    channels = sections.get("channel infos", {})
    described = sum(re.fullmatch(r"ch\d+", key) is not None for key in channels)
    if described != int(count):
        raise RecordingError(
            f"the header announces {int(count)} channels and describes {described}; export it again"
        )
    tracks = [_track(channels.get(f"ch{i}"), i) for i in range(1, int(count) + 1)]
    length = common.get("datapoints", "")
    if not re.fullmatch(r"\d{0,15}", length):
        raise RecordingError("the number of samples in the header is not a whole number; export it again")
    data = common.get("datafile", "").replace("$b", stem)
    markers = common.get("markerfile", "").replace("$b", stem) or None
    for name in (data, markers):
        if name is not None and (not _PLAIN.fullmatch(name) or name in (".", "..")):
            raise RecordingError(
                "a file that the header names is not a plain name beside it, and no other file is opened; put it "
                "there and its name into the header"
            )
    order = ">" if binary.get("usebigendianorder", "NO").upper() == "YES" else "<"
    turns = orientation == "MULTIPLEXED"
    return BrainVisionHeader(
        1e6 / interval, data, markers, turns, order + _FORMATS[number], tuple(tracks), int(length or 0) or None
    )


def parse_vmrk(text: str) -> list[Mark]:
    """Read markers: a mark for each, under its description, or its type where it has none, or `SEGMENT`.

    Raises:
        RecordingError: a marker whose place is not a whole number, or before the recording.

    >>> parse_vmrk("x\\n[Marker Infos]\\nMk1=New Segment,,1,1,0,2003\\nMk2=Stimulus,S  1,101,5,0")[1].start
    100
    """
    marks = []
    for key, value in _sections(text).get("marker infos", {}).items():
        cells = [cell.replace("\\1", ",").strip() for cell in value.split(",")]
        if not re.fullmatch(r"mk\d+", key):
            continue
        if len(cells) < 4 or not re.fullmatch(r"\d{1,12}", cells[2]) or not re.fullmatch(r"\d{0,12}", cells[3]):
            raise RecordingError("a marker has no usable place or length; export the markers again")
        # A marker of one sample is a point in time.
        length = int(cells[3] or 0)
        text = SEGMENT if cells[0].lower() == _NEW_SEGMENT else cells[1] or cells[0]
        marks.append(Mark(int(cells[2]) - 1, length if length > 1 else 0, text))
    if any(mark.start < 0 for mark in marks):
        raise RecordingError("a marker stands before the recording begins; export the markers again")
    return marks


def _stretches(
    path: Path, header: BrainVisionHeader, kind: "np.dtype[np.generic]", n_times: int
) -> Iterator[NDArray[np.generic]]:
    """Yield the samples of all channels, shape (channel, time), a stretch at a time."""
    count = len(header.tracks)
    shape = (n_times, count) if header.multiplexed else (count, n_times)
    held = np.memmap(path, dtype=kind, mode="r", shape=shape)
    at_once = max(1, PIECE_SAMPLES // count)
    for start in range(0, n_times, at_once):
        part = held[start : start + at_once].T if header.multiplexed else held[:, start : start + at_once]
        yield np.array(part)


def _track(value: str | None, number: int) -> Track:
    if value is None:
        raise RecordingError(f"channel {number} of the header is not described; export it again")
    cells = [cell.replace("\\1", ",").strip() for cell in value.split(",")]
    resolution = _number(cells[2], f"the resolution of channel {number}") if len(cells) > 2 and cells[2] else 1.0
    if resolution == 0:
        raise RecordingError(f"the resolution of channel {number} is 0; export it again")
    unit = cells[3] if len(cells) > 3 and cells[3] else "uV"
    known = next((one for one in (unit.encode(), _latin(unit)) if one in VOLTS), unit.encode())
    return Track(cells[0], known, resolution)


def _latin(text: str) -> bytes:
    """Return a text in Latin-1, as which files in other encodings are read."""
    return text.encode("latin-1", errors="replace")


def _sections(text: str) -> dict[str, dict[str, str]]:
    found: dict[str, dict[str, str]] = {}
    section: dict[str, str] = {}
    for line in lines_of(text):
        line = line.strip()
        if line.startswith("[") and line.endswith("]"):
            section = found.setdefault(line[1:-1].strip().lower(), {})
        elif line and not line.startswith(";") and "=" in line:
            key, _, value = line.partition("=")
            if section.setdefault(key.strip().lower(), value.strip()) != value.strip():
                raise RecordingError("a key of the header or of the markers is there twice; export it again")
    return found


def _number(text: str, what: str) -> float:
    value = decimal(text)
    if value is None:
        raise RecordingError(f"{what} is not a finite number; export it again")
    return value


def _text(path: Path) -> str:
    with path.open("rb") as file:
        data = file.read(LARGEST_TEXT + 1)
    if len(data) > LARGEST_TEXT or b"\0" in data:
        raise RecordingError("the header or the markers are binary or too long; export the recording again")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError:
        return data.decode("latin-1")
