"""WFDB headers: from the text of a .hea file to a frozen header, judged before any sample is read.

The format is that of the WaveForm DataBase library (Moody, Mark and Goldberger 2001, doi:10.1109/51.932728;
header(5) of the WFDB Applications Guide). WFDB-Python 4.3.1 reads a gain that is missing or 0 as 200, and reads on
through a wrong checksum and a file longer than announced; each of them is refused, here or in `wfdb_signal`, and
whatever else would leave a sample or its unit in doubt. Messages name channels as the study does; nothing from the
header's free text, in which ages and diagnoses may stand, is kept or repeated.
"""

import math
import re
from collections.abc import Callable
from dataclasses import dataclass, field

from fedsynth.errors import RecordingError
from fedsynth.montage import canonical_channel
from fedsynth.recordings.gate import MissingChannelError
from fedsynth.recordings.readers.samples import RATE_TOLERANCE, find_channel
from fedsynth.recordings.units import MICROVOLTS, VOLTS, Unit

LARGEST_HEADER = 1 << 20  # bytes
COMPRESSED = (508, 516, 524)
FORMATS = (8, 16, 24, 32, 61, 80, 160, 212, 310, 311, *COMPRESSED)
_MOST_SIGNALS = 1000
_MOST_PER_FRAME = 100_000
_UNSPECIFIED = 0

_WHOLE = r"[+-]?\d{1,10}"
_DECIMAL = r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?"
_RECORD = re.compile(r"(?P<name>[A-Za-z0-9_-]+)(?P<segments>/\d+)?\s+(?P<signals>\d{1,4})(?:\s+(?P<rest>.*))?")
_RATE = re.compile(rf"(?P<rate>{_DECIMAL})(?:/{_DECIMAL}(?:\({_DECIMAL}\))?)?")
_FORMAT = re.compile(r"(?P<format>\d{1,4})(?:x(?P<frame>\d+))?(?::(?P<skew>\d+))?(?:\+(?P<offset>\d{1,9}))?")
_GAIN = re.compile(rf"(?P<gain>{_DECIMAL})(?:\((?P<baseline>{_WHOLE})\))?(?:/(?P<unit>\S+))?")
_SEGMENT = re.compile(r"[A-Za-z0-9_-]{1,64}")
_FILE_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*")


@dataclass(frozen=True)
class WfdbSignal:
    """One signal of a header. Gain and unit are judged only on channels the study needs.

    `gain` is in digital steps per `unit`, None where the header gives none; `baseline` is the digital value of
    0 `unit`. `checksum` is None where the header gives none. There are `per_frame` samples in every frame of the
    record; `initial` is what format 8 counts its differences from.
    """

    file: str = field(repr=False)
    format: int
    offset: int
    gain: float | None
    baseline: int
    unit: bytes
    checksum: int | None
    label: str = field(repr=False)
    per_frame: int = 1
    initial: int = 0


@dataclass(frozen=True)
class WfdbHeader:
    """What a header says that a reader needs.

    `sfreq` is the number of frames a second, `n_times` that of frames, None where the header leaves it open.
    `segments` are the names and lengths of the records that this one is made of, in order; then there are no
    signals. A name of None is a gap.
    """

    sfreq: float
    n_times: int | None
    signals: tuple[WfdbSignal, ...]
    segments: tuple[tuple[str | None, int], ...] = ()

    @property
    def files(self) -> dict[str, tuple[int, ...]]:
        """The signal files by name, in order, and which signals take turns in each."""
        places: dict[str, list[int]] = {}
        for index, signal in enumerate(self.signals):
            places.setdefault(signal.file, []).append(index)
        return {name: tuple(indices) for name, indices in places.items()}


def parse_wfdb_header(data: bytes) -> WfdbHeader:
    """Read the text of a header.

    Raises:
        RecordingError: empty, not a header, a field that is not a number, an unknown format, a skew, or a signal
            file or segment that is not a plain name beside it.

    >>> header = parse_wfdb_header(b"x 1 300 6000\\nx.dat 16 1000/mV 16 0 5 1234 0 ECG\\n")
    >>> header.sfreq, header.n_times, header.signals[0].gain, header.signals[0].baseline
    (300.0, 6000, 1000.0, 0)
    """
    if not data:
        raise RecordingError("the WFDB header is empty; copy or export it again")
    if len(data) > LARGEST_HEADER:
        raise RecordingError("this is not a WFDB header: it is binary or too long; export it again")
    # A line ends at CR LF, LF or CR and nowhere else; a comment may hold any other byte, and none of it is read.
    lines = [line.strip(b" \t") for line in data.removeprefix(b"\xef\xbb\xbf").splitlines()]
    lines = [line for line in lines if line and not line.startswith(b"#")]
    if any(b"\0" in line for line in lines):
        raise RecordingError("this is not a WFDB header: it is binary or too long; export it again")
    found = _RECORD.fullmatch(lines[0].decode("latin-1")) if lines else None
    if found is None:
        raise RecordingError(
            "this is not a WFDB header: its first line is not a record's name and its number of signals"
        )
    if found["segments"]:
        return _segments(found, lines[1:])
    n_signals = int(found["signals"])
    if not 1 <= n_signals <= _MOST_SIGNALS:
        raise RecordingError(f"the header names {n_signals} signals, and 1 to {_MOST_SIGNALS} can be read")
    if len(lines) != n_signals + 1:
        raise RecordingError(
            f"the header names {n_signals} signals and describes {len(lines) - 1}; export it again"
        )
    sfreq, n_times = _rate_and_length((found["rest"] or "").split())
    signals = tuple(_signal(line.decode("latin-1"), i) for i, line in enumerate(lines[1:], start=1))
    header = WfdbHeader(sfreq, n_times, signals)
    _check_files(header)
    return header


def choose_leads(
    header: WfdbHeader,
    *,
    channels: tuple[str, ...],
    sfreq: float,
    unit: Unit | None = None,
    name_of: Callable[[str], str] = str,
    once: Callable[[list[int]], list[int]] = list,
) -> tuple[int, ...]:
    """Return where the study's channels stand in a record, in the study's order.

    Labels match whatever their case, and with "ECG " before them where they do not match without. Only these
    channels are judged.

    Args:
        header: of the record.
        channels: as the study names them.
        sfreq: in Hz; met within 0.01 %.
        unit: the site's word for the unit of all of them, or None for the header's.
        name_of: gives labels of the header the study's names.
        once: of the places of one channel, those that count.

    Raises:
        MissingChannelError: a channel is missing.
        RecordingError: another rate, a channel that is there or named twice, an unknown unit, or no gain.
    """
    places: dict[str, list[int]] = {}
    for index, signal in enumerate(header.signals):
        places.setdefault(canonical_channel(name_of(signal.label)), []).append(index)
    chosen: list[int] = []
    for channel in channels:
        found = once(find_channel(places, channel))
        if not found:
            raise MissingChannelError(
                f"channel {channel!r} of the study is missing: none of the record's {len(header.signals)} signals "
                "has that description; correct signal.channels, or leave such recordings out (signal.missing)"
            )
        if len(found) > 1:
            raise RecordingError(
                f"channel {channel!r} of the study is there {len(found)} times; keep one of them in the record"
            )
        if found[0] in chosen:
            twin = channels[chosen.index(found[0])]
            raise RecordingError(f"channels {twin!r} and {channel!r} of the study are one; correct signal.channels")
        rate = header.sfreq * header.signals[found[0]].per_frame
        if not math.isclose(rate, sfreq, rel_tol=RATE_TOLERANCE):
            raise RecordingError(
                f"the sampling rate of channel {channel!r} is {rate:g} Hz, and the study asks for recordings at "
                f"{sfreq:g} Hz; correct signal.recorded_sfreq, or leave the recording out"
            )
        microvolts_per_step(header.signals[found[0]], channel=channel, unit=unit)
        chosen.append(found[0])
    return tuple(chosen)


def microvolts_per_step(signal: WfdbSignal, *, channel: str, unit: Unit | None = None) -> float:
    """Return the size of one digital step in microvolts, with the sign of the gain; `unit` is the site's word.

    Raises:
        RecordingError: a gain that is missing or 0, or a unit that is not known.
    """
    if signal.gain is None or signal.gain == 0 or not math.isfinite(signal.gain):
        raise RecordingError(
            f"channel {channel!r} has no gain, so its unit is undefined; export the record with its calibration"
        )
    found = unit or VOLTS.get(signal.unit)
    if found is None:
        raise RecordingError(f"channel {channel!r} has a unit that is not known here; export it in uV, mV or V")
    return MICROVOLTS[found] / signal.gain


def _segments(found: "re.Match[str]", lines: list[bytes]) -> WfdbHeader:
    """Read the rest of a header of several segments: a name and a number of samples a line, ~ for a gap."""
    sfreq, n_times = _rate_and_length((found["rest"] or "").split())
    segments: list[tuple[str | None, int]] = []
    for line in lines:
        words = line.decode("latin-1").split()
        gap = len(words) == 2 and words[0] == "~"
        if len(words) != 2 or not re.fullmatch(r"\d{1,12}", words[1]) or not (gap or _SEGMENT.fullmatch(words[0])):
            raise RecordingError(
                "a segment of the record is not a plain name beside the header and a number of samples; export it "
                "again"
            )
        segments.append((None if gap else words[0], int(words[1])))
    if len(segments) != int(found["segments"][1:]) or not segments:
        raise RecordingError(
            f"the header announces {found['segments'][1:]} segments and names {len(segments)}; export it again"
        )
    if n_times not in (None, sum(length for _, length in segments)):
        raise RecordingError("the lengths of the segments do not add up to that of the record; export it again")
    return WfdbHeader(sfreq, n_times, (), tuple(segments))


def _rate_and_length(words: list[str]) -> tuple[float, int | None]:
    rate = _RATE.fullmatch(words[0]) if words else None
    if rate is None or not 0 < float(rate["rate"]) < math.inf:
        raise RecordingError("the header gives no usable sampling rate; export it again")
    if len(words) < 2:
        return float(rate["rate"]), None
    if not re.fullmatch(r"\d{1,12}", words[1]):
        raise RecordingError("the number of samples in the header is not a usable whole number; export it again")
    n_times = int(words[1])
    return float(rate["rate"]), None if n_times == _UNSPECIFIED else n_times


def _signal(line: str, number: int) -> WfdbSignal:
    where = f"signal {number} of the header"
    words = line.split(maxsplit=8)
    if len(words) < 2 or not _FILE_NAME.fullmatch(words[0]) or ".." in words[0]:
        raise RecordingError(
            f"{where} does not lie in a plain file beside the header, and no other file is opened; put the signal "
            "file there and its name into the header"
        )
    form = _FORMAT.fullmatch(words[1])
    if form is None:
        raise RecordingError(f"{where} has a format that is not a number; export it again")
    if int(form["format"]) not in FORMATS:
        raise RecordingError(
            f"{where} is in format {form['format']}, which is not one of {', '.join(map(str, FORMATS))}; "
            "convert it (xform -O 16)"
        )
    if form["skew"] not in (None, "0") or not 1 <= int(form["frame"] or 1) <= _MOST_PER_FRAME:
        raise RecordingError(f"{where} is skewed in time, or has no usable samples a frame; export it again")
    gain = _GAIN.fullmatch(words[2]) if len(words) > 2 else None
    if len(words) > 2 and gain is None:
        raise RecordingError(f"the gain of {where} is not a number; export it again")
    # Of the five whole numbers that follow, the resolution and the block size are not needed.
    numbers = [_whole(word, where) for word in words[3:8]]
    zero = numbers[1] if len(numbers) > 1 else 0
    return WfdbSignal(
        file=words[0],
        format=int(form["format"]),
        offset=int(form["offset"] or 0),
        gain=float(gain["gain"]) if gain else None,
        baseline=int(gain["baseline"]) if gain and gain["baseline"] else zero,
        unit=(gain["unit"] or "mV").encode("latin-1") if gain else b"mV",
        checksum=numbers[3] if len(numbers) > 3 else None,
        label=words[8] if len(words) > 8 else "",
        per_frame=int(form["frame"] or 1),
        initial=numbers[2] if len(numbers) > 2 else 0,
    )


def _check_files(header: WfdbHeader) -> None:
    for indices in header.files.values():
        first = header.signals[indices[0]]
        contiguous = indices == tuple(range(indices[0], indices[0] + len(indices)))
        alike = {(header.signals[i].format, header.signals[i].offset) for i in indices}
        if not contiguous or alike != {(first.format, first.offset)}:
            raise RecordingError(
                f"the {len(indices)} signals of one signal file stand apart in the header, or differ in format; "
                "export it again"
            )


def _whole(word: str, where: str) -> int:
    if not re.fullmatch(_WHOLE, word):
        raise RecordingError(f"{where} has a field that is not a whole number; export it again")
    return int(word)
