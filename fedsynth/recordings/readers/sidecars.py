"""BIDS sidecars of a recording: what they say of its channels and its rate, held against what the file says itself.

Doubt is not settled by choosing a side: another rate is refused. Units of channels are often written as another
program thought of them, so the file's own go before them, and the site is told.
"""

import json
from dataclasses import dataclass, field
from pathlib import Path

from fedsynth.errors import RecordingError
from fedsynth.recordings.folder import check_beside
from fedsynth.recordings.lines import lines_of
from fedsynth.recordings.readers.events import LARGEST_TABLE, events_file
from fedsynth.recordings.units import VOLTS, Unit

RATE_DIFFERS = 0.01
"""Relative; sidecars round rates."""
OTHER_UNIT = "another unit in their channels.tsv than in themselves; their own was taken"


@dataclass(frozen=True)
class Sidecar:
    """What stands beside a recording: labels of bad channels, units by label, and the rate in Hz."""

    bad: frozenset[str] = frozenset()
    units: dict[str, Unit] = field(default_factory=dict)
    sfreq: float | None = None


def read_sidecar(path: Path, *, root: Path | None) -> Sidecar:
    """Read the `_channels.tsv` beside a recording, and the `.json` of its own name, where there are any.

    Raises:
        RecordingError: a table that is not UTF-8 text, a ragged row, or a JSON file that cannot be read.
    """
    table = events_file(path).with_name(events_file(path).name.replace("_events.tsv", "_channels.tsv"))
    bad, units = _channels(table, root) if table.exists() or table.is_symlink() else (frozenset(), {})
    return Sidecar(bad, units, _rate(path.with_suffix(".json"), root))


def check_sidecar(sidecar: Sidecar, *, sfreq: float) -> None:
    """Refuse a sidecar that gives another rate than the file.

    Raises:
        RecordingError: they differ by more than `RATE_DIFFERS`.
    """
    if sidecar.sfreq is not None and abs(sidecar.sfreq - sfreq) > RATE_DIFFERS * sfreq:
        raise RecordingError(
            f"its .json sidecar gives {sidecar.sfreq:g} Hz, and the file itself {sfreq:g} Hz; correct the wrong one"
        )


def _channels(table: Path, root: Path | None) -> tuple[frozenset[str], dict[str, Unit]]:
    check_beside(table, root=root)
    try:
        text = table.read_bytes()[:LARGEST_TABLE].decode("utf-8-sig")
    except UnicodeDecodeError:
        raise RecordingError("its channels.tsv is not UTF-8 text; save it again") from None
    rows = [[cell.strip() for cell in line.split("\t")] for line in lines_of(text) if line.strip()]
    if not rows or "name" not in rows[0]:
        return frozenset(), {}
    if any(len(row) != len(rows[0]) for row in rows):
        raise RecordingError("a row of its channels.tsv has too few or too many cells; correct it")
    cells = [dict(zip(rows[0], row, strict=True)) for row in rows[1:]]
    bad = frozenset(row["name"] for row in cells if row.get("status", "").lower() == "bad")
    said = {row["name"]: VOLTS.get(row.get("units", "").encode()) for row in cells}
    return bad, {name: unit for name, unit in said.items() if unit is not None}


def _rate(beside: Path, root: Path | None) -> float | None:
    if not (beside.exists() or beside.is_symlink()):
        return None
    check_beside(beside, root=root)
    try:
        body = json.loads(beside.read_bytes()[:LARGEST_TABLE])
    except (ValueError, RecursionError):
        raise RecordingError("its .json sidecar cannot be read as JSON; write it again") from None
    rate = body.get("SamplingFrequency") if isinstance(body, dict) else None
    known = isinstance(rate, int | float) and not isinstance(rate, bool) and 0 < rate < 1e9
    return float(rate) if known and rate is not None else None
