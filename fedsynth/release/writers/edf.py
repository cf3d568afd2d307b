"""From synthetic windows to EDF, one file at a time and one data record at a time.

A window is one data record, and an annotation of EDF+ from its first sample to its last names its label. Headers
come from edfio once; what differs between subjects is the patient's code, the number of records and the room for
annotations. No clock, fixed dates: the same windows give the same bytes.
"""

import datetime
import math
from collections.abc import Iterable
from decimal import Decimal
from functools import lru_cache
from pathlib import Path

import numpy as np
from edfio import Edf, EdfAnnotation, EdfSignal, Patient, Recording
from numpy.typing import NDArray

from fedsynth.study import SignalPlan

LARGEST_EDF_DIGITAL = 32767
"""The files use -32767 to 32767, so that 0 uV is digital 0 and one step is range / 32767."""

_PATIENT = slice(8, 88)
_RECORDS = slice(236, 244)


def write_edf(
    path: Path,
    *,
    code: str,
    label: str,
    blocks: Iterable[NDArray[np.float32]],
    n_windows: int,
    n_times: int,
    plan: SignalPlan,
) -> None:
    """Write one subject's windows.

    Args:
        path: of the file.
        code: the made-up patient's code, letters and digits.
        label: of all windows; it becomes an annotation over each of them.
        blocks: microvolts, shape (window, channel, time), `n_windows` in all.
        n_windows: number of data records.
        n_times: samples in a window.
        plan: gives channels, rate and physical range.
    """
    header = bytearray(_header(plan, n_times))
    header[_PATIENT] = f"{code} X X X".ljust(80).encode("ascii")
    header[_RECORDS] = str(n_windows).ljust(8).encode("ascii")
    bound = physical_bound(plan.range_uv)
    duration = record_duration(n_times=n_times, sfreq=plan.sfreq)
    room = max(len(_annotation(number, duration, label)) for number in range(n_windows))
    room += room % 2
    last = len(plan.channels)  # annotations are the last of the signals
    header[_samples_per_record(last, n_signals=last + 1)] = str(room // 2).ljust(8).encode("ascii")
    number = 0
    with path.open("wb") as stream:
        stream.write(header)
        for block in blocks:
            # Clipped in float64, because 0.1 as float32 is larger than 0.1.
            exact = np.clip(block.astype(np.float64), -bound, bound)
            for record in np.rint(exact * (LARGEST_EDF_DIGITAL / bound)).astype("<i2"):
                stream.write(record.tobytes() + _annotation(number, duration, label).ljust(room, b"\0"))
                number += 1


def record_duration(*, n_times: int, sfreq: float) -> float:
    """Return the seconds of one window as EDF's eight characters hold them.

    173.61 Hz does not divide a second, so a window is one data record. The rate read back is
    n_times / duration, within one part in a hundred thousand of `sfreq`.

    >>> record_duration(n_times=512, sfreq=173.61)
    2.949139
    """
    return _eight_characters(n_times / sfreq, digits=7, up=False)


def physical_bound(range_uv: float) -> float:
    """Return the smallest bound of at least `range_uv` that fits EDF's eight characters with its sign.

    >>> physical_bound(500.0)
    500.0
    >>> physical_bound(1234.56789)
    1234.57
    """
    return _eight_characters(range_uv, digits=6, up=True)


def _eight_characters(value: float, *, digits: int, up: bool) -> float:
    decimals = max(0, digits - len(str(int(value))))
    scaled = value * 10**decimals
    # A value that is already a short decimal must not be pushed up by the last bit of the product.
    whole: int = math.ceil(scaled - 1e-6) if up else round(scaled)
    return float(round(whole / 10**decimals, decimals))


@lru_cache(maxsize=4)
def _header(plan: SignalPlan, n_times: int) -> bytes:
    """Return the header of a file of one silent window."""
    bound, duration = physical_bound(plan.range_uv), record_duration(n_times=n_times, sfreq=plan.sfreq)
    channels = [
        EdfSignal(
            np.zeros(n_times),
            n_times / duration,
            label=channel,
            physical_dimension="uV",
            physical_range=(-bound, bound),
            digital_range=(-LARGEST_EDF_DIGITAL, LARGEST_EDF_DIGITAL),
        )
        for channel in plan.channels
    ]
    silent = Edf(
        channels,
        patient=Patient(code="X"),
        recording=Recording(startdate=datetime.date(1985, 1, 1), equipment_code="fedsynth"),
        starttime=datetime.time(0, 0, 0),
        data_record_duration=duration,
        annotations=[EdfAnnotation(0, duration, "X")],
    )
    return bytes(silent.to_bytes()[: 256 * (len(channels) + 2)])


def _samples_per_record(signal: int, *, n_signals: int) -> slice:
    """Return where a header says how many samples of a signal one data record holds (Kemp 1992, EDF's header)."""
    start = 256 + n_signals * (16 + 80 + 8 + 8 + 8 + 8 + 8 + 80) + 8 * signal
    return slice(start, start + 8)


def _annotation(number: int, duration: float, label: str) -> bytes:
    """Return a record's time and its window's label as EDF+ lists (Kemp and Olivan 2003, section 2.2)."""
    exact = Decimal(str(duration))
    start = _plain(number * exact)
    return f"+{start}\x14\x14\x00+{start}\x15{_plain(exact)}\x14{label}\x14\x00".encode("ascii")


def _plain(value: Decimal) -> str:
    """Write a decimal in full, without zeros at its end."""
    text = f"{value:f}"
    return text.rstrip("0").rstrip(".") if "." in text else text
