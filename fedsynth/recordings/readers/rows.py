"""Rows: a table in which each line is a second of some recording, as UCI's copy of the Bonn EEG, to recordings.

The first column names the second and its recording (`X21.V1.791` is second 21 of V1.791), the last is the label,
and between them stand the samples. The seconds of a recording follow one another, so they are joined where all are
there.
"""

import csv
import functools
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fedsynth.errors import RecordingError
from fedsynth.recordings.readers.samples import Notes, Piece, Request, whole
from fedsynth.recordings.units import MICROVOLTS

_NAME = re.compile(r"X(\d{1,4})\.(\S{1,60})")


def looks_like_rows(path: Path, head: bytes) -> bool:
    """Tell such a table by the name in its second line."""
    lines = head.split(b"\n", 2)
    return (
        path.suffix.lower() == ".csv"
        and len(lines) > 1
        and _NAME.match(lines[1].decode("latin-1").strip('"')) is not None
    )


def parts_of_rows(path: Path) -> dict[str, str]:
    """Return the names of the recordings of a table, in the order of their names, and the label of each.

    Raises:
        RecordingError: not such a table, a second that is missing or there twice, or a recording with two labels.
        OSError: a file that cannot be opened.
    """
    return {name: label for name, (label, _) in _recordings(path).items()}


def read_rows(path: Path, request: Request, notes: Notes) -> Iterator[Piece]:
    """Read the recording that `request.part` names, of one channel, in microvolts unless the site says otherwise.

    Raises:
        As `parts_of_rows`.
    """
    samples = _recordings(path)[request.part][1][None]
    notes.content.update(np.ascontiguousarray(samples, dtype="<f4").tobytes())
    scaled = (samples.astype(np.float64) * MICROVOLTS[request.unit or "uV"]).astype(np.float32)
    return whole(scaled, tuple(samples))


def _recordings(path: Path) -> dict[str, tuple[str, NDArray[np.float32]]]:
    state = path.stat()
    return _parsed(path, state.st_size, state.st_mtime_ns)


@functools.lru_cache(maxsize=1)
def _parsed(path: Path, size: int, changed: int) -> dict[str, tuple[str, NDArray[np.float32]]]:  # noqa: ARG001
    seconds: dict[str, dict[int, NDArray[np.float32]]] = {}
    labels: dict[str, str] = {}
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            lines = csv.reader(file)
            width = len(next(lines, []))
            for number, cells in enumerate(lines, start=2):
                if not cells:
                    continue
                found = _NAME.fullmatch(cells[0].strip())
                if found is None or len(cells) != width or width < 3:
                    raise RecordingError(f"line {number} of the table does not begin with X<second>.<recording>")
                second, name = int(found[1]), found[2]
                if second in seconds.setdefault(name, {}):
                    raise RecordingError(f"line {number} of the table is of a second that has a line before it")
                if labels.setdefault(name, cells[-1].strip()) != cells[-1].strip():
                    raise RecordingError(f"line {number} of the table gives a recording another label than before")
                with np.errstate(over="ignore"):
                    row = np.array(cells[1:-1], dtype=np.float64).astype(np.float32)
                if not np.isfinite(row).all():
                    raise ValueError
                seconds[name][second] = row
    except (ValueError, UnicodeDecodeError, csv.Error):
        raise RecordingError("the table holds a cell that is not a finite number; export it again") from None
    for rows in seconds.values():
        if sorted(rows) != list(range(1, len(rows) + 1)):
            raise RecordingError(
                "a recording of the table lacks a second, and joining across it would invent signal; complete it"
            )
    return {
        name: (labels[name], np.concatenate([seconds[name][i] for i in sorted(seconds[name])]))
        for name in sorted(seconds)
    }
