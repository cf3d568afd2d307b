"""Tags of FIF files: what they say of their size is held against the file before a library believes it.

A FIF file is a chain of tags: kind, type, size and place of the next, four whole numbers of 32 bits, most
significant byte first. A directory, which the second tag leads to, may name places of tags too. Some types say
within the tag how much of something it holds: matrices their dimensions, digitised strings their points.
"""

import math
import struct
from pathlib import Path
from typing import BinaryIO

from fedsynth.errors import RecordingError

_CUT = "its parts are longer than the file, so it was cut short or damaged; copy or export it again"
_INSIDE = "a part of it says that it holds more than its own size, so it is damaged; copy or export it again"
_MANY = "it has more parts than any recording, so it is damaged; export it again"
_HEAD = struct.Struct(">iIii")
_MOST_TAGS = 1_000_000  # the library keeps each in memory; a tag a second is eleven days

# After MNE-Python's mne.io.constants.FIFF.
_DIRECTORY_POINTER = 101
_DIRECTORY_ENTRIES, _DIGITISED_STRING = 32, 36
_MATRIX, _SPARSE = 0xFFFF0000, 0x00300000
_ITEM_BYTES = {3: 4, 4: 4, 5: 8, 6: 4, 20: 8, 21: 16}
"""Bytes of an item of a matrix: whole number, float, double, date, complex float, complex double."""


def check_fif(path: Path) -> None:
    """Walk the chain of tags and the directory.

    Raises:
        RecordingError: a tag that ends behind the end of the file, a chain that goes back, or a tag that says that
            it holds more than its size; or more tags than any recording has.
        OSError: a file that cannot be opened.
    """
    size, place = path.stat().st_size, 0
    with path.open("rb") as file:
        tags = _Tags(file, size)
        while place + _HEAD.size <= size:
            end, following = tags.check(place)
            if following > 0 and following < end:
                raise RecordingError(_CUT)
            if following < 0:
                return
            place = following or end
    if place != size:
        raise RecordingError(_CUT)


class _Tags:
    """The tags of one file; what directories lead to is looked at once."""

    def __init__(self, file: BinaryIO, size: int) -> None:
        self._file, self._size = file, size
        self._number, self._led_to = 0, set[int]()

    def check(self, place: int) -> tuple[int, int]:
        """Return where the tag at a place ends, and what it says of the next one's place."""
        end, following, missing = self._look(place)
        while missing:
            if (here := missing.pop()) not in self._led_to:
                self._led_to.add(here)
                missing += self._look(here)[2]
        return end, following

    def _look(self, place: int) -> tuple[int, int, list[int]]:
        """Check one tag; return its end, the next one's place, and places that it leads to beside the chain."""
        self._number += 1
        if self._number > _MOST_TAGS:
            raise RecordingError(_MANY)
        kind, type_, length, following = _HEAD.unpack(self._read(place, _HEAD.size))
        inside = place + _HEAD.size
        if length < 0 or inside + length > self._size:
            raise RecordingError(_CUT)
        places: list[int] = []
        if type_ & _MATRIX and length:
            self._check_matrix(inside, type_, length)
        elif type_ == _DIGITISED_STRING:
            count = self._numbers(inside + 8, 1)[0] if length >= 12 else 0
            if 12 * (1 + count) > length:
                raise RecordingError(_INSIDE)
        elif type_ == _DIRECTORY_ENTRIES:
            if length > _HEAD.size * _MOST_TAGS:
                raise RecordingError(_MANY)
            entries = _HEAD.iter_unpack(self._read(inside, length - length % _HEAD.size))
            places = [there for *_, there in entries if there >= 0]
        elif kind == _DIRECTORY_POINTER and length >= 4:
            places = [there for there in self._numbers(inside, 1) if there > 0]
        return inside + length, following, places

    def _check_matrix(self, inside: int, type_: int, length: int) -> None:
        """Hold a matrix's dimensions against its size; they stand at its end, their number last."""
        (rank,) = self._numbers(inside + length - 4, 1)
        kept = rank + (2 if type_ & _SPARSE else 1)
        if rank < 1 or 4 * kept > length:
            raise RecordingError(_INSIDE)
        dimensions = self._numbers(inside + length - 4 * kept, kept - 1)
        item = _ITEM_BYTES.get(type_ & ~_MATRIX, 1)
        if type_ & _SPARSE:
            filled, *shape = dimensions
            pointers = 1 + (shape[0] if type_ & _SPARSE == 0x00200000 else shape[-1])
            needed = (item + 4) * filled + 4 * pointers
        else:
            needed = item * math.prod(dimensions)
        if min(dimensions) < 0 or needed > length - 4 * kept:
            raise RecordingError(_INSIDE)

    def _numbers(self, place: int, count: int) -> tuple[int, ...]:
        return struct.unpack(f">{count}i", self._read(place, 4 * count))

    def _read(self, place: int, count: int) -> bytes:
        self._file.seek(place)
        read = self._file.read(count) if 0 <= place <= self._size - count else b""
        if len(read) != count:
            raise RecordingError(_CUT)
        return read
