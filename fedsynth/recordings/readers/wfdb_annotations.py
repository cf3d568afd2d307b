"""Annotations of beats: from the bytes of a .atr file to where each beat is and what it was called.

The format is MIT's (annot(5) of the WFDB Applications Guide): words of 16 bits, least significant byte first, with
six bits of code and ten bits of samples since the annotation before. Symbols are those of the MIT-BIH Arrhythmia
Database (Moody and Mark 2001, doi:10.1109/51.932724). A rhythm lasts until the next one, and its name is the text
beside it. Comments and signal quality are passed over.
"""

import re
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fedsynth.errors import RecordingError
from fedsynth.recordings.recording import Mark

LARGEST_ANNOTATIONS = 1 << 26  # bytes
BEATS = dict(zip((*range(1, 14), 25, 30, 34, 35, 38, 41), "NLRaVFJASEj/QB?enfr", strict=True))
"""The codes that mark a beat, and the symbol of each."""

_LAST_CODE = 49
_RHYTHM = 28
_SKIP, _NUMBER, _SUBTYPE, _CHANNEL, _TEXT = 59, 60, 61, 62, 63
_RESOLUTION = re.compile(rb"## time resolution: ([0-9.]{1,20})\s*")
_CUT_SHORT = "its annotations end without an end mark, so the file was cut short; copy it again"


@dataclass(frozen=True)
class Annotations:
    """Beats in the order of time. `samples` (beat,) int64 count from 0; `symbols` name each beat's kind.

    `rhythms` are marks without an end, in the order of time.
    """

    samples: NDArray[np.int64]
    symbols: tuple[str, ...]
    rhythms: tuple[Mark, ...] = ()


def parse_annotations(data: bytes, *, n_times: int, sfreq: float) -> Annotations:
    """Read every annotation and keep the beats.

    Args:
        data: the whole file.
        n_times: samples in the recording.
        sfreq: of the recording, in Hz; a file that counts time otherwise is refused.

    Raises:
        RecordingError: empty, cut short, an unknown code, a beat before the one before it or outside the
            recording, or another time resolution.

    >>> beats = parse_annotations(bytes([18, 4, 77, 21, 0, 0]), n_times=1000, sfreq=360)
    >>> beats.samples.tolist(), beats.symbols
    ([18, 351], ('N', 'V'))
    """
    if len(data) % 2 or not data:
        raise RecordingError("its annotations are empty or of an odd number of bytes; copy the file again")
    words = np.frombuffer(data, dtype="<u2").astype(np.int64)
    samples, symbols, now, place = list[int](), list[str](), 0, 0
    rhythms, last = list[Mark](), 0
    while True:
        if place >= len(words):
            raise RecordingError(_CUT_SHORT)
        code, step = divmod(int(words[place]), 1 << 10)
        place += 1
        if code == step == 0:
            break
        if code == _SKIP:
            # A long step: 32 bits, the more significant word first.
            if place + 2 > len(words):
                raise RecordingError(_CUT_SHORT)
            long = int(words[place]) << 16 | int(words[place + 1])
            now += long - (1 << 32 if long >> 31 else 0)
            place += 2
        elif code == _TEXT:
            text = data[2 * place : 2 * place + step]
            place += (step + 1) // 2
            _check_resolution(text, sfreq)
            if last == _RHYTHM and text.startswith(b"("):
                rhythms.append(Mark(now, None, text.rstrip(b"\0").decode("latin-1")))
        elif code in (_NUMBER, _SUBTYPE, _CHANNEL):
            continue
        elif code > _LAST_CODE:
            raise RecordingError("its annotations hold a code that is not known; export them in MIT format")
        else:
            now += step
            last = code
            if code in BEATS:
                samples.append(now)
                symbols.append(BEATS[code])
    if words[place:].any():
        raise RecordingError("its annotations go on after their end mark; copy the file again")
    where = np.array(samples, dtype=np.int64)
    if len(where) and (where[0] < 0 or where[-1] >= n_times or (np.diff(where) < 0).any()):
        raise RecordingError(
            "its annotations go backwards in time, or beyond the recording, so they belong to another one; put the "
            "right file beside it"
        )
    if any(not 0 <= one.start < n_times for one in rhythms):
        raise RecordingError(
            "its rhythms stand beyond the recording, so they belong to another one; put the right file beside it"
        )
    return Annotations(where, tuple(symbols), tuple(rhythms))


def _check_resolution(text: bytes, sfreq: float) -> None:
    found = _RESOLUTION.fullmatch(text.rstrip(b"\0"))
    if found and float(found[1]) != sfreq:
        raise RecordingError(
            "its annotations count time at another rate than its samples; write them again at the recording's rate"
        )
