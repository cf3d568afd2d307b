"""BIDS events beside a recording, to marks (Brain Imaging Data Structure)."""

import re
from pathlib import Path

from fedsynth.errors import RecordingError
from fedsynth.recordings.decimals import decimal
from fedsynth.recordings.folder import check_beside
from fedsynth.recordings.lines import lines_of
from fedsynth.recordings.recording import Mark

LARGEST_TABLE = 1 << 26  # bytes
_LONGEST = 1e9  # seconds
_NAMES = ("trial_type", "value", "event", "eventType")


def events_file(path: Path) -> Path:
    """Return where a recording's events stand: its name with `_events.tsv` for the last entity.

    >>> events_file(Path("sub-1/eeg/sub-1_task-rest_eeg.edf")).name
    'sub-1_task-rest_events.tsv'
    """
    stem = re.sub(r"_(eeg|ieeg|meg|ecg|beh|physio)$", "", path.stem)
    return path.with_name(f"{stem}_events.tsv")


def bids_marks(path: Path, *, sfreq: float, root: Path | None) -> list[Mark] | None:
    """Read the events beside a recording, or None where there are none.

    The text of a mark is the event's `trial_type`, or else `value`, `event` or `eventType`. A duration that is not
    known (n/a) is that of a point in time.

    Raises:
        RecordingError: a table without onsets and names, a ragged row, or an onset that is no number.
    """
    table = events_file(path)
    if not (table.exists() or table.is_symlink()):
        return None
    check_beside(table, root=root)
    try:
        text = table.read_bytes()[:LARGEST_TABLE].decode("utf-8-sig")
    except UnicodeDecodeError:
        raise RecordingError("its events.tsv is not UTF-8 text; save it again") from None
    rows = [[cell.strip().strip('"') for cell in line.split("\t")] for line in lines_of(text) if line.strip()]
    heads = rows[0] if rows else []
    named = next((name for name in _NAMES if name in heads), None)
    if named is None or "onset" not in heads:
        raise RecordingError("its events.tsv has no column onset, or none of trial_type and value; correct it")
    marks = []
    for number, row in enumerate(rows[1:], start=2):
        if len(row) != len(heads):
            raise RecordingError(f"row {number} of its events.tsv has {len(row)} cells of {len(heads)}; correct it")
        cells = dict(zip(heads, row, strict=True))
        onset, seconds = _seconds(cells["onset"]), _seconds(cells.get("duration", "n/a"))
        if onset is None or (seconds is not None and seconds < 0):
            raise RecordingError(f"row {number} of its events.tsv has no usable onset or duration; correct it")
        marks.append(Mark(round(onset * sfreq), round((seconds or 0.0) * sfreq), cells[named]))
    return sorted(marks, key=lambda mark: mark.start)


def _seconds(cell: str) -> float | None:
    value = decimal(cell)
    return value if value is not None and abs(value) < _LONGEST else None
