"""From synthetic windows to WFDB: a text header, samples in format 16 and annotations for each made-up subject.

The bytes are the same on every machine and every day: no clock, no compression. The gain follows from the study's
`range_uv`, a public constant, so it tells nothing about the data. The format is header(5), signal(5) and annot(5)
of the WFDB Applications Guide (Moody, Mark and Goldberger 2001, doi:10.1109/51.932728).
"""

import re
import struct
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fedsynth.errors import RefusedError

LARGEST_WFDB_DIGITAL = 32767
"""Samples lie within -32767 to 32767; -32768 would stand for a missing sample."""

_LABEL = re.compile(r"[ -~]{1,255}")
# annot(5): a change of rhythm, a long step in time, the words of the annotation before. A comment would say it as
# well, but WFDB's Python library drops comments at the first sample.
_RHYTHM, _SKIP, _TEXT = 28, 59, 63
_RECORD_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")


def write_wfdb(
    folder: Path,
    name: str,
    signal: NDArray[np.float32],
    *,
    label: str,
    channels: tuple[str, ...],
    sfreq: float,
    range_uv: float,
) -> None:
    """Write `folder/<name>.hea`, `.dat` and `.atr`: windows of one made-up subject, one after another.

    The label stands in the header, and in an annotation, as rhythms do, at the first sample of every window.

    Args:
        folder: an existing folder.
        name: of the record: letters, digits, "_" and "-".
        signal: in microvolts, shape (window, channel, time); what lies beyond the range is cut to it.
        label: of all windows: at most 255 printable ASCII characters.
        channels: one name for each channel, without spaces.
        sfreq: in Hz.
        range_uv: the study's range in microvolts, at most 1e6.

    Raises:
        RefusedError: no window, a shape that does not fit the channels, a value that is not finite, or a name that
            a header cannot hold.
    """
    if signal.ndim != 3 or 0 in signal.shape or signal.shape[1] != len(channels):
        raise RefusedError(
            f"windows of shape {signal.shape} do not fit {len(channels)} channels; no record was written"
        )
    if not np.isfinite(signal).all():
        raise RefusedError("a synthetic window holds a value that is not finite; no record was written")
    if not _RECORD_NAME.fullmatch(name) or any(not channel or re.search(r"\s", channel) for channel in channels):
        raise RefusedError("a WFDB record is named by letters, digits, _ and -, and a channel has no space in it")
    if not _LABEL.fullmatch(label):
        raise RefusedError("a label in a WFDB record is 1 to 255 printable ASCII characters; no record was written")
    gain = gain_per_millivolt(range_uv)
    steps = np.rint(signal.astype(np.float64) * gain / 1000).clip(-LARGEST_WFDB_DIGITAL, LARGEST_WFDB_DIGITAL)
    # (window, channel, time) to (window and time, channel): in format 16 channels take turns.
    digital = steps.transpose(0, 2, 1).reshape(-1, len(channels)).astype("<i2")
    lines = [f"{name} {len(channels)} {_decimal(sfreq)} {len(digital)}"]
    for channel, row in zip(channels, digital.T, strict=True):
        checksum = int(row.sum(dtype=np.int64)) % (1 << 16)
        lines.append(f"{name}.dat 16 {gain}(0)/mV 16 0 {row[0]} {checksum} 0 {channel}")
    lines.append(
        f"# Synthetic: {len(signal)} windows of {signal.shape[2]} samples drawn from a generator, one after "
        "another; they are not continuous and stand for no person."
    )
    lines.append(f"# label: {label}")
    (folder / f"{name}.dat").write_bytes(digital.tobytes())
    (folder / f"{name}.atr").write_bytes(_annotations(label, n_windows=len(signal), n_times=signal.shape[2]))
    (folder / f"{name}.hea").write_bytes(("\n".join(lines) + "\n").encode("ascii"))


def gain_per_millivolt(range_uv: float) -> int:
    """Return the largest whole number of digital steps per millivolt at which the range still fits 16 bits.

    >>> gain_per_millivolt(5000.0)
    6553

    Raises:
        RefusedError: a range of which not even one step per millivolt fits.
    """
    gain = int(LARGEST_WFDB_DIGITAL * 1000 / range_uv)
    if gain < 1:
        raise RefusedError(f"a range of {range_uv:g} uV is too wide for 16 bits in steps of a millivolt")
    return gain


def _annotations(label: str, *, n_windows: int, n_times: int) -> bytes:
    """Return one annotation for each window, at its first sample, in MIT's format."""
    text = struct.pack("<H", _TEXT << 10 | len(label)) + label.encode("ascii") + b"\0" * (len(label) % 2)
    first = struct.pack("<H", _RHYTHM << 10) + text
    # A step of more than ten bits stands before its annotation, the more significant word first.
    long = struct.pack("<HHH", _SKIP << 10, n_times >> 16, n_times & 0xFFFF)
    step = long + struct.pack("<H", _RHYTHM << 10) if n_times > 1023 else struct.pack("<H", _RHYTHM << 10 | n_times)
    return first + (n_windows - 1) * (step + text) + b"\0\0"


def _decimal(value: float) -> str:
    """Write a number so that it reads back as itself, and a whole one without a point."""
    return repr(float(value)).removesuffix(".0")
