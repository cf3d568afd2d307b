"""Remarks: from a verified release's numbers to what a reader has to know before any of its windows is used."""

import json
from pathlib import Path

_COUNT = "private count"


def remarks(release: Path) -> tuple[str, ...]:
    """Return a line for each label that, by its private count, may be nobody's.

    Args:
        release: verified; so `report/metrics.json` is what was signed, a list of numbers.
    """
    rows = json.loads((release / "report" / "metrics.json").read_text(encoding="utf-8"))
    return tuple(
        f"No evidence of anybody: {row.get('name')}, {_figure(row.get('value'))} with an interval of "
        f"{_figure(row.get('low'))} to {_figure(row.get('high'))}. Windows under that label may be the public "
        "prior's alone."
        for row in rows
        if row.get("source") == _COUNT and row.get("says_nothing")
    )


def _figure(value: object) -> str:
    return f"{value:.1f}" if isinstance(value, int | float) else "?"
