"""Text: bytes with one number a line to samples in microvolts."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fedsynth.errors import RecordingError
from fedsynth.recordings.readers.samples import Notes, Piece, Request
from fedsynth.recordings.readers.tables import blocks_of
from fedsynth.recordings.units import MICROVOLTS

_LONGEST_NUMBER = 40  # characters
_MARK = b"\xef\xbb\xbf"
"""What may stand before UTF-8."""


def looks_like_text(path: Path, head: bytes) -> bool:  # noqa: ARG001
    """Tell a file of numbers by its first bytes: one a line."""
    lines = head.removeprefix(b"\xef\xbb\xbf").splitlines()[:-1]
    try:
        return bool(lines) and all(len(line.split()) == 1 for line in lines) and bool([float(x) for x in lines])
    except ValueError:
        return False


def read_text(path: Path, request: Request, notes: Notes) -> Iterator[Piece]:
    """Read a file with one number a line, of one channel, in microvolts unless the site says otherwise.

    Raises:
        RecordingError: as `samples_of_text`.
        OSError: a file that cannot be opened.
    """
    empty = True
    for block in blocks_of(path):
        if not block.removeprefix(_MARK).strip():
            continue
        samples = samples_of_text(block)[None]
        empty = False
        notes.content.update(samples.tobytes())
        scaled = (samples.astype(np.float64) * MICROVOLTS[request.unit or "uV"]).astype(np.float32)
        yield Piece(scaled, tuple(samples))
    if empty:
        samples_of_text(b"")


def samples_of_text(data: bytes) -> NDArray[np.float32]:
    """Read one number a line, in microvolts, shape (time,); lines end in LF or CRLF.

    Raises:
        RecordingError: empty, binary, a line that is not one number, or a number that is not finite.

    >>> samples_of_text(b"12\\r\\n-3.5\\r\\n").tolist()
    [12.0, -3.5]
    """
    tokens = data.removeprefix(_MARK).split()
    if not tokens:
        raise RecordingError("the text file is empty; export it again")
    if b"\0" in data:
        raise RecordingError("the file is binary, and a text file with one number a line was asked for")
    if max(map(len, tokens)) > _LONGEST_NUMBER or b"_" in data:
        raise RecordingError("a line of the text file is not a number; write one integer or decimal a line")
    if len(tokens) != sum(1 for line in data.splitlines() if line.strip()):
        raise RecordingError(
            "a line of the text file holds more than one number; write one channel, one number a line"
        )
    try:
        samples = np.array(tokens).astype(np.float64)
    except ValueError:
        raise RecordingError(
            "a line of the text file is not a number; write one integer or decimal a line, with a decimal point"
        ) from None  # the cause repeats the line
    with np.errstate(over="ignore"):
        single = samples.astype(np.float32)
    if not np.isfinite(single).all():
        raise RecordingError("a line of the text file is not finite (nan or inf); remove or repair that recording")
    return single
