"""Tables beside recordings: from a file parted by commas, semicolons or tabs to the wanted cells of its rows.

Messages give row numbers and never a cell.
"""

import csv
import io
import re
from pathlib import Path, PurePosixPath

from fedsynth.errors import RecordingError
from fedsynth.recordings.folder import check_beside

LARGEST_TABLE = 1 << 28  # bytes
_SUFFIX = re.compile(r"\.(edf|bdf|hea|dat|mat|csv|txt|vhdr|fif|set)$", re.IGNORECASE)


def key_of(cell: str) -> str:
    """Return what a cell names recordings by: a path without its suffix.

    >>> key_of("records100/00000/00001_lr.hea"), key_of("sub-001")
    ('records100/00000/00001_lr', 'sub-001')
    """
    return _SUFFIX.sub("", PurePosixPath(cell).as_posix())


def table_rows(
    path: Path, wanted: list[str], columns: tuple[str, ...], root: Path | None
) -> list[tuple[int, dict[str, str]]]:
    """Return the number and the wanted cells of every row.

    Args:
        path: of the table.
        wanted: the columns.
        columns: names of all of them, where the table has no first line of names.
        root: the folder that links may not lead out of; None where they may.

    Raises:
        RecordingError: it is missing, cannot be read, lacks a column, or has a ragged row.
    """
    try:
        there = path.exists()
    except OSError:  # a name that no file system can hold
        there = False
    if not there:
        raise RecordingError("a table that the layout names is missing; put it into the site's folder")
    check_beside(path, root=root)
    try:
        text = path.read_bytes()[:LARGEST_TABLE].decode("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise RecordingError(
            f"a table that the layout names cannot be read as UTF-8 text ({type(error).__name__}); save it again"
        ) from None
    first = text.split("\n", 1)[0]
    delimiter = max(("\t", ",", ";"), key=first.count)
    try:
        lines = list(csv.reader(io.StringIO(text, newline=""), delimiter=delimiter))
    except csv.Error:
        raise RecordingError("a table that the layout names cannot be read; save it again") from None
    heads = list(columns) or ([cell.strip() for cell in lines[0]] if lines else [])
    missing = [column for column in wanted if heads.count(column) != 1]
    if missing:
        raise RecordingError(
            f"a table that the layout names has {heads.count(missing[0])} columns {missing[0]!r}, and one is needed"
        )
    places = {column: heads.index(column) for column in wanted}
    start = 0 if columns else 1
    rows = []
    for number, row in enumerate(lines[start:], start=start + 1):
        if not row:
            continue
        if len(row) < len(heads):
            raise RecordingError(
                f"a table that the layout names: row {number} has {len(row)} cells of {len(heads)}"
            )
        rows.append((number, {column: row[place].strip() for column, place in places.items()}))
    return rows
