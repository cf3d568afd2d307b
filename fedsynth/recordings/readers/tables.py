"""Delimited text: a file to the names of its first line and blocks of numbers, a few megabytes at a time."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fedsynth.errors import RecordingError
from fedsynth.recordings.decimals import decimal
from fedsynth.recordings.lines import lines_of

BLOCK_BYTES = 1 << 22
LONGEST_LINE = 1 << 24  # bytes
_DELIMITERS = ("\t", ";", ",", None)
_LONGEST_NUMBER = 40  # characters


def blocks_of(path: Path) -> Iterator[bytes]:
    """Yield a text file in blocks of whole lines.

    Raises:
        RecordingError: a line longer than `LONGEST_LINE`.
        OSError: a file that cannot be opened.
    """
    rest = b""
    with path.open("rb") as file:
        while data := file.read(BLOCK_BYTES):
            data = rest + data
            # The last byte may be the first half of CR LF.
            end = 1 + max(data.rfind(b"\n"), data.rfind(b"\r", 0, -1))
            rest = data[end:]
            if len(rest) > LONGEST_LINE:
                raise RecordingError(
                    f"a line is longer than {LONGEST_LINE >> 20} MiB, so it is no table; export it again"
                )
            if end:
                yield data[:end]
    if rest:
        yield rest


@dataclass
class TableParser:
    """Parses blocks of delimited text in turn.

    `names` are those of the first line, None where that holds numbers, and `width` is the number of its cells; both
    are known after the first block that has a line.

    >>> parser = TableParser()
    >>> parser.take(b"C3;C4\\n1,5;2\\n").tolist(), parser.take(b"3;4\\n").tolist(), parser.names
    ([[1.5, 2.0]], [[3.0, 4.0]], ['C3', 'C4'])
    """

    names: list[str] | None = None
    width: int = 0
    _lines: int = 0
    _delimiter: str | None = None
    _comma: bool = False

    def take(self, block: bytes) -> NDArray[np.float64]:
        """Return the numbers of a block, shape (line, cell).

        Raises:
            RecordingError: binary, not UTF-8, or lines that are not as many finite numbers as the first has cells.
        """
        if b"\0" in block:
            raise RecordingError("the table is binary; export it again")
        try:
            text = block.decode("utf-8-sig" if self.width == 0 else "utf-8")
        except UnicodeDecodeError:
            raise RecordingError("it is not text in UTF-8; export it again") from None
        lines = [line for line in lines_of(text) if line.strip()]
        if lines and self.width == 0:
            lines = lines[self._begin(lines[0]) :]
        rows = [line.split(self._delimiter) for line in lines]
        plain = '"' not in text and "_" not in text and all(len(row) == self.width for row in rows)
        numbers = _at_once(rows, self._comma) if plain else None
        if numbers is None:
            numbers = np.array([self._row(row, i) for i, row in enumerate(rows, start=1)], dtype=np.float64)
        self._lines += len(rows)
        return numbers.reshape(len(rows), self.width)

    def _begin(self, first: str) -> int:
        """Take in the first line; return 1 where it holds names."""
        self._delimiter = next((one for one in _DELIMITERS if one is None or one in first), None)
        self._comma = self._delimiter in (";", "\t")  # a decimal comma is one only where commas do not part cells
        head = [cell.strip().strip('"') for cell in first.split(self._delimiter)]
        named = any(number_of(cell, comma=self._comma) is None for cell in head)
        self.names, self.width, self._lines = head if named else None, len(head), int(named)
        return int(named)

    def _row(self, cells: list[str], number: int) -> list[float]:
        found = [number_of(cell, comma=self._comma) for cell in cells]
        if len(found) != self.width or None in found:
            raise RecordingError(
                f"line {self._lines + number} of the table is not {self.width} finite numbers, as the first line "
                "has cells; export it again"
            )
        return [one for one in found if one is not None]


def number_of(cell: str, *, comma: bool) -> float | None:
    """Return the finite number that a cell holds, None where it holds anything else."""
    text = cell.strip().strip('"')
    return None if len(text) > _LONGEST_NUMBER else decimal(text.replace(",", ".") if comma else text)


def _at_once(rows: list[list[str]], comma: bool) -> NDArray[np.float64] | None:
    """Return all numbers, or None where a cell is none, which is then looked for cell by cell."""
    flat = [cell.replace(",", ".") if comma else cell for row in rows for cell in row]
    together = "".join(flat)
    if not flat or max(map(len, flat)) > _LONGEST_NUMBER or "_" in together or not together.isascii():
        return None
    try:
        numbers = np.array(flat).astype(np.float64)
    except ValueError:
        return None
    return numbers if np.isfinite(numbers).all() else None
