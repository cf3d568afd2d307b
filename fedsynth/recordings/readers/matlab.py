"""MATLAB files of version 5, as `save -v6` and `-v7` write them, to plain values; no length is taken at its word.

The format is that of "MATLAB MAT-File Format" (The MathWorks). Read are numbers, text, cells and structs; whatever
else a variable holds (sparse arrays, objects, functions) becomes None. SciPy 1.17.1 ends the process on some
damaged files, and takes memory for lengths that the file does not have.
"""

import struct
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fedsynth.errors import RecordingError

LARGEST_ELEMENT = 1 << 28  # bytes of one variable, which is read at once
_HEADER = 128
_COMPRESSED, _MATRIX = 15, 14
_KINDS = {1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 9: "f8", 12: "i8", 13: "u8", 16: "u1"}
_KINDS |= {17: "u2", 18: "u4"}
_CELL, _STRUCT, _CHAR = 1, 2, 4
_NUMBERS = range(6, 16)
_COMPLEX = 0x0800
_DEEPEST = 20
_CUT = "its parts do not fit together, so it was cut short or damaged; copy or export it again"
Value = Any
"""An array of numbers (column-major), a str, a list (of a cell), a list of dictionaries (of a struct), or None."""


def read_variables(path: Path) -> dict[str, Value]:
    """Return the variables of a file by name.

    Raises:
        RecordingError: another version, a variable larger than `LARGEST_ELEMENT`, or lengths that do not fit.
        OSError: a file that cannot be opened.
    """
    found: dict[str, Value] = {}
    size = path.stat().st_size
    with path.open("rb") as file:
        head = file.read(_HEADER)
        order = {b"IM": "<", b"MI": ">"}.get(head[126:128])
        if order is None or not head.startswith(b"MATLAB 5.0"):
            raise RecordingError("it is no MATLAB file of version 5; save it with -v7, or export it as EDF")
        place = _HEADER
        while place + 8 <= size:
            file.seek(place)
            kind, length = struct.unpack(f"{order}II", file.read(8))
            if place + 8 + length > size:
                raise RecordingError(_CUT)
            _check_length(length)
            data = file.read(length)
            if kind == _COMPRESSED:
                kind, data = _inflated(data, order)
            if kind == _MATRIX:
                name, value = _Parser(order).matrix(memoryview(data))
                found[name] = value
            place += 8 + length
    if place != size:
        raise RecordingError(_CUT)
    return found


def _check_length(length: int) -> None:
    if length > LARGEST_ELEMENT:
        raise RecordingError(
            f"it holds more than {LARGEST_ELEMENT >> 20} MiB in one piece, which is read at once; save its data in "
            "a .fdt file beside it, or export it as EDF"
        )


def _inflated(data: bytes, order: str) -> tuple[int, bytes]:
    unpacker = zlib.decompressobj()
    try:
        head = unpacker.decompress(data, 8)
        if len(head) < 8:
            raise RecordingError(_CUT)
        kind, length = struct.unpack(f"{order}II", head)
        _check_length(length)
        body = unpacker.decompress(unpacker.unconsumed_tail, length) if length else b""
    except zlib.error:
        raise RecordingError(_CUT) from None
    if len(body) != length:
        raise RecordingError(_CUT)
    return kind, body


@dataclass(frozen=True)
class _Parser:
    order: str

    def matrix(self, data: memoryview, depth: int = 0) -> tuple[str, Value]:
        """Return the name and the value of a matrix from what its element holds."""
        if depth > _DEEPEST:
            raise RecordingError(_CUT)
        if not len(data):
            return "", None
        flags, data = self._numbers(data)
        dims, data = self._numbers(data)
        name, data = self._numbers(data)
        if len(flags) < 1 or not 1 <= len(dims) <= 8 or (dims.astype(np.int64) < 0).any():
            raise RecordingError(_CUT)
        shape = tuple(int(one) for one in dims)
        count = 1
        for one in shape:
            count *= one
        said, kind = name.astype(np.uint8).tobytes().decode("latin-1"), int(flags[0]) & 0xFF
        if kind in _NUMBERS and not int(flags[0]) & _COMPLEX:
            values, _ = self._numbers(data)
            if len(values) != count:
                raise RecordingError(_CUT)
            return said, values.reshape(shape, order="F")
        if kind == _CHAR:
            return said, self._text(data, count)
        if kind == _CELL:
            return said, self._members(data, count, depth)
        return said, self._struct(data, count, depth) if kind == _STRUCT else None

    def _text(self, data: memoryview, count: int) -> str:
        values, _ = self._numbers(data) if len(data) else (np.zeros(0, np.uint8), data)
        if values.dtype.kind not in "iu" or len(values) > max(count * 4, 0):
            raise RecordingError(_CUT)
        if values.itemsize == 1:
            return values.tobytes().decode("utf-8", errors="replace")
        kept = values.astype(np.int64)
        return "".join(chr(one) if 0 <= one < 0x110000 else "?" for one in kept.tolist())

    def _members(self, data: memoryview, count: int, depth: int) -> list[Value]:
        if count * 8 > len(data):
            raise RecordingError(_CUT)
        found = []
        for _ in range(count):
            kind, body, data = self._element(data)
            if kind != _MATRIX:
                raise RecordingError(_CUT)
            found.append(self.matrix(body, depth + 1)[1])
        return found

    def _struct(self, data: memoryview, count: int, depth: int) -> list[dict[str, Value]]:
        width, data = self._numbers(data)
        names, data = self._numbers(data)
        length = int(width[0]) if len(width) == 1 else 0
        if not 0 < length <= 64 or len(names) % length:
            raise RecordingError(_CUT)
        octets = names.astype(np.uint8).tobytes()
        fields = [octets[i : i + length].split(b"\0")[0].decode("latin-1") for i in range(0, len(octets), length)]
        values = self._members(data, count * len(fields), depth)
        return [
            dict(zip(fields, values[i * len(fields) : (i + 1) * len(fields)], strict=True)) for i in range(count)
        ]

    def _numbers(self, data: memoryview) -> tuple[NDArray[Any], memoryview]:
        """Return the numbers of the first element, and what follows it."""
        kind, body, rest = self._element(data)
        if kind not in _KINDS:
            raise RecordingError(_CUT)
        dtype = np.dtype(self.order + _KINDS[kind])
        if len(body) % dtype.itemsize:
            raise RecordingError(_CUT)
        return np.frombuffer(body, dtype=dtype), rest

    def _element(self, data: memoryview) -> tuple[int, memoryview, memoryview]:
        """Return type, content and rest of the first element; small ones hold their content within their tag."""
        if len(data) < 8:
            raise RecordingError(_CUT)
        kind, length = struct.unpack(f"{self.order}II", data[:8])
        if kind >> 16:
            kind, length = kind & 0xFFFF, kind >> 16
            if length > 4:
                raise RecordingError(_CUT)
            return kind, data[4 : 4 + length], data[8:]
        if 8 + length > len(data):
            raise RecordingError(_CUT)
        return kind, data[8 : 8 + length], data[8 + length + -length % 8 :]
