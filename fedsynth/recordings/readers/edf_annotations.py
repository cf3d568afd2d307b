"""Annotations of EDF+ and BDF+: from the bytes of an annotation signal to marks.

A signal holds lists of the form `+onset[0x15 duration]0x14 text 0x14 … 0x00`; the first of a data record is its
time stamp, and bears no text (Kemp and Olivan 2003, doi:10.1016/S1388-2457(03)00123-8).
"""

import re

from fedsynth.recordings.recording import Mark

_LIST = re.compile(rb"([+-]\d{1,12}(?:\.\d{0,12})?)(?:\x15(\d{1,12}(?:\.\d{0,12})?))?\x14([^\0]*)\x14?\0")
_ONSET = re.compile(rb"[+-]\d{1,12}(\.\d{0,12})?(?=[\x14\x15])")


def onset_of(data: bytes) -> float | None:
    """Return the time stamp of a data record in seconds, None where there is none."""
    found = _ONSET.match(data)
    return float(found[0]) if found else None


def marks_of(data: bytes, *, origin: float, sfreq: float) -> list[Mark]:
    """Read the annotations of a data record.

    Args:
        data: the record's part of the annotation signal.
        origin: time stamp of the file's first record in seconds; sample 0 stands there.
        sfreq: in Hz.

    >>> marks_of(b"+2\\x14\\x14\\0+2.5\\x151\\x14T1\\x14\\0\\0", origin=2.0, sfreq=160.0)[0].start
    80
    >>> marks_of(b"+2\\x14\\x14\\0", origin=2.0, sfreq=160.0)
    []
    """
    marks = []
    for onset, seconds, texts in _LIST.findall(data):
        start = round((float(onset) - origin) * sfreq)
        n_times = round(float(seconds) * sfreq) if seconds else 0
        marks += [
            Mark(start, n_times, text.decode("utf-8", errors="replace").strip())
            for text in texts.split(b"\x14")
            if text.strip()
        ]
    return marks
