"""EDF and BDF headers: from bytes to a frozen header, judged strictly before any other reader sees the file.

MNE-Python 1.13 reads truncated files, a record duration of 0, equal digital limits, unsigned limits, an unknown
unit (as volts) and the gap of a discontinuous file without an error; each of them is refused here or in `edf`. The
format is Kemp et al. 1992 (doi:10.1016/0013-4694(92)90009-7), EDF+ is Kemp and Olivan 2003
(doi:10.1016/S1388-2457(03)00123-8). Messages name channels as the study does; nothing from the file's free text is
repeated.
"""

import math
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal

from fedsynth.errors import RecordingError
from fedsynth.montage import canonical_channel
from fedsynth.recordings.gate import MissingChannelError
from fedsynth.recordings.readers.samples import RATE_TOLERANCE, find_channel
from fedsynth.recordings.units import MICROVOLTS, VOLTS, Unit

LONGEST_HEADER = 256 * 10_000  # bytes: the number of signals has four digits

VERSIONS: dict[bytes, Literal["EDF", "BDF"]] = {b"0": "EDF", b"\xffBIOSEMI": "BDF"}
_WIDTHS = (16, 80, 8, 8, 8, 8, 8, 80, 8, 32)  # of the fields of one signal, in bytes
_DECIMAL = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")


@dataclass(frozen=True)
class EdfSignal:
    """One signal of a header. Limits are kept as written; they are judged only on channels the study needs."""

    label: str = field(repr=False)
    unit: bytes
    physical: tuple[bytes, bytes]
    digital: tuple[bytes, bytes]
    samples_per_record: int

    @property
    def is_annotations(self) -> bool:
        """Whether the signal holds time stamps and texts instead of samples."""
        return " ".join(self.label.split()).lower() in ("edf annotations", "bdf annotations")

    @property
    def voltage(self) -> Unit | None:
        """Return "uV", "mV" or "V", or None for any other unit."""
        return VOLTS.get(self.unit)


@dataclass(frozen=True)
class EdfHeader:
    """What a header says that a reader needs; the free text about the person is not kept.

    `record_seconds` is the duration of a data record. `remarks` says what was put right while reading.
    """

    format: Literal["EDF", "BDF"]
    discontinuous: bool
    n_records: int
    record_seconds: float
    signals: tuple[EdfSignal, ...]
    remarks: tuple[str, ...] = ()

    @property
    def n_bytes(self) -> int:
        """Length of the header in bytes."""
        return 256 * (len(self.signals) + 1)

    @property
    def bytes_per_sample(self) -> int:
        """Two bytes in EDF, three in BDF."""
        return 2 if self.format == "EDF" else 3

    @property
    def record_bytes(self) -> int:
        """Length of a data record in bytes."""
        return self.bytes_per_sample * sum(signal.samples_per_record for signal in self.signals)

    def place(self, index: int) -> tuple[int, int]:
        """Return where a signal begins and ends in every data record, in bytes."""
        width = self.bytes_per_sample
        start = width * sum(signal.samples_per_record for signal in self.signals[:index])
        return start, start + width * self.signals[index].samples_per_record

    def limits(self, signal: EdfSignal) -> tuple[int, int]:
        """Return the digital limits of a signal that `choose_signals` chose."""
        low, high = (_whole(value, "a digital limit") for value in signal.digital)
        return low, high

    def rate(self, signal: EdfSignal) -> float:
        """Return a signal's sampling frequency in Hz."""
        return signal.samples_per_record / self.record_seconds


def parse_header(head: bytes, *, file_size: int) -> EdfHeader:
    """Read a header and hold it against the size of its file.

    Args:
        head: the file's first bytes; `LONGEST_HEADER` of them are always enough.
        file_size: in bytes.

    Raises:
        RecordingError: empty, not EDF or BDF, a field that is not a number, no record duration, or a size that is
            not the header plus its data records. A record count of -1 is taken from the size where that divides.
    """
    if file_size == 0:
        raise RecordingError("the EDF file is empty; copy or export it again")
    if len(head) < 256:
        raise RecordingError(f"the EDF file is cut short within its header, after {file_size} bytes; copy it again")
    form = VERSIONS.get(head[:8].rstrip(b" \0"))
    if form is None:
        raise RecordingError(
            "this is not an EDF or BDF file: its version field is neither '0' nor BIOSEMI; export it again"
        )
    n_signals = _whole(head[252:256], "the number of signals", least=1)
    n_bytes = _whole(head[184:192], "its own length", least=256)
    if n_bytes != 256 * (n_signals + 1):
        raise RecordingError(
            f"the header says it is {n_bytes} bytes long, but {n_signals} signals take {256 * (n_signals + 1)}; "
            "export the file again"
        )
    if len(head) < n_bytes:
        raise RecordingError(f"the EDF file is cut short within its header, after {file_size} bytes; copy it again")
    signals = _signals(head[256:n_bytes], n_signals)
    seconds = _decimal(head[244:252], "the duration of a data record")
    if seconds < 0 or (seconds == 0 and not all(signal.is_annotations for signal in signals)):
        raise RecordingError(
            f"the duration of a data record is {seconds:g} seconds, so the sampling rate is unknown; "
            "export the file again"
        )
    declared = _whole(head[236:244], "the number of data records", least=-1)
    remarks = [] if _is_date(head[168:184]) else ["a start that is no date (no date is kept in any case)"]
    header = EdfHeader(form, head[192:197] in (b"EDF+D", b"BDF+D"), declared, seconds, signals)
    n_records = _records(header, file_size)
    if declared == -1:
        remarks.append("a record count of -1, as while recording; the count was taken from the file's size")
    return EdfHeader(form, header.discontinuous, n_records, seconds, signals, tuple(remarks))


def choose_signals(
    header: EdfHeader,
    *,
    channels: tuple[str, ...],
    sfreq: float,
    unit: Unit | None = None,
    name_of: Callable[[str], str] = str,
    once: Callable[[list[int]], list[int]] = list,
) -> tuple[int, ...]:
    """Return where the study's channels stand in a file, in the study's order.

    Only these channels are judged.

    Args:
        header: of the file.
        channels: as the study names them.
        sfreq: of the recordings in Hz, as the study says; met within 0.01 %.
        unit: the site's word for the unit of all of them, or None for the header's.
        name_of: gives labels of the file the study's names.
        once: of the places of one channel, those that count.

    Raises:
        MissingChannelError: a channel is missing.
        RecordingError: a channel is there twice, named twice, in an unknown unit, without a gain, with limits
            outside the format's whole numbers, or at another rate.
    """
    places: dict[str, list[int]] = {}
    for index, signal in enumerate(header.signals):
        if not signal.is_annotations:
            places.setdefault(canonical_channel(name_of(signal.label)), []).append(index)
    chosen: list[int] = []
    for channel in channels:
        found = once(find_channel(places, channel))
        if not found:
            raise MissingChannelError(
                f"channel {channel!r} of the study is missing: none of the file's {len(header.signals)} signals "
                "has that label; export it with the file, or correct signal.channels"
            )
        if len(found) > 1:
            raise RecordingError(
                f"channel {channel!r} of the study is there {len(found)} times; keep one of them in the file"
            )
        if found[0] in chosen:
            twin = channels[chosen.index(found[0])]
            raise RecordingError(f"channels {twin!r} and {channel!r} of the study are one; correct signal.channels")
        _judge(header, header.signals[found[0]], channel=channel, sfreq=sfreq, unit=unit)
        chosen.append(found[0])
    if len({header.signals[index].samples_per_record for index in chosen}) > 1:
        raise RecordingError("the study's channels have different sampling rates; resample them to one rate first")
    return tuple(chosen)


def microvolts_per_step(signal: EdfSignal, *, unit: Unit | None) -> tuple[float, float]:
    """Return the size of one digital step of a signal that was judged, and the value of 0, in microvolts.

    Args:
        signal: one that `choose_signals` chose.
        unit: the site's word, or None for the header's.
    """
    low, high = (_whole(value, "a digital limit") for value in signal.digital)
    start, end = (_decimal(value, "a physical limit") for value in signal.physical)
    scale = MICROVOLTS[unit or signal.voltage or "uV"]
    gain = (end - start) / (high - low)
    return scale * gain, scale * (start - low * gain)


def _signals(head: bytes, n_signals: int) -> tuple[EdfSignal, ...]:
    columns, start = [], 0
    for width in _WIDTHS:
        columns.append([head[start + width * i : start + width * (i + 1)].strip(b" \0") for i in range(n_signals)])
        start += width * n_signals
    labels, _, units, low, high, digital_low, digital_high, _, counts, _ = columns
    return tuple(
        EdfSignal(
            label=labels[i].decode("latin-1"),
            unit=units[i],
            physical=(low[i], high[i]),
            digital=(digital_low[i], digital_high[i]),
            samples_per_record=_whole(counts[i], "the number of samples of a data record", least=0),
        )
        for i in range(n_signals)
    )


def _records(header: EdfHeader, file_size: int) -> int:
    """Return the number of data records, where the file holds exactly those."""
    if header.record_bytes == 0:
        raise RecordingError("the file's data records hold no samples; export it again")
    present = file_size - header.n_bytes
    held, rest = divmod(present, header.record_bytes)
    announced = present - rest if header.n_records == -1 else header.n_records * header.record_bytes
    if header.n_records == -1 and rest:
        raise RecordingError(
            f"the file is truncated: its header gives no record count (-1), and its data are {held} records of "
            f"{header.record_bytes} bytes and {rest} bytes of another; finish the recording and export it again"
        )
    if present != announced:
        state = "is truncated" if present < announced else "is longer than its header says"
        raise RecordingError(
            f"the file {state}: {header.n_records} data records of {header.record_bytes} bytes are announced, and "
            f"it holds {held} and {rest} bytes more; copy or export it again"
        )
    if held == 0:
        raise RecordingError("the file holds no data records; export it again")
    return held


def _judge(header: EdfHeader, signal: EdfSignal, *, channel: str, sfreq: float, unit: Unit | None) -> None:
    if signal.voltage is None and unit is None:
        state = "no unit" if not signal.unit else "a unit that is not known here"
        raise RecordingError(f"channel {channel!r} has {state}; export it in uV, mV or V")
    low, high = (_whole(value, f"a digital limit of channel {channel!r}") for value in signal.digital)
    if low >= high:
        raise RecordingError(
            f"the digital minimum of channel {channel!r} is not below its digital maximum, so its gain is "
            "undefined; export the file again"
        )
    least = -(1 << (8 * header.bytes_per_sample - 1))
    if low < least or high > -least - 1:
        raise RecordingError(
            f"the digital limits of channel {channel!r} lie outside the {8 * header.bytes_per_sample}-bit whole "
            f"numbers of {header.format} ({least} to {-least - 1}), as when unsigned numbers are written; its "
            "samples have no sure value, so export the file again"
        )
    start, end = (_decimal(value, f"a physical limit of channel {channel!r}") for value in signal.physical)
    if start == end:
        raise RecordingError(
            f"the physical minimum and maximum of channel {channel!r} are equal, so its gain is undefined; "
            "export the file again"
        )
    if header.record_seconds == 0 or not math.isclose(header.rate(signal), sfreq, rel_tol=RATE_TOLERANCE):
        found = f"{header.rate(signal):g}" if header.record_seconds else "unknown"
        raise RecordingError(
            f"the sampling rate of channel {channel!r} is {found} Hz, and the study asks for {sfreq:g} Hz; "
            "resample the recordings before they are given to a study, or correct signal.sfreq (and, where the "
            "windows' rate is another, signal.recorded_sfreq)"
        )


def _is_date(value: bytes) -> bool:
    try:
        datetime.strptime(value.decode("ascii"), "%d.%m.%y%H.%M.%S")
    except (ValueError, UnicodeDecodeError):
        return False
    return True


def _whole(value: bytes, what: str, *, least: int | None = None) -> int:
    text = value.strip(b" \0").decode("latin-1")
    if not re.fullmatch(r"[+-]?[0-9]+(\.0*)?", text) or (least is not None and int(float(text)) < least):
        raise RecordingError(f"{what} in the header is not a usable whole number; export the file again")
    return int(float(text))


def _decimal(value: bytes, what: str) -> float:
    text = value.strip(b" \0").decode("latin-1").replace(",", ".")
    if not _DECIMAL.fullmatch(text) or not math.isfinite(float(text)):
        raise RecordingError(f"{what} in the header is not a finite number; export the file again")
    return float(text)
