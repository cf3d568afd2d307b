"""Arrays of a .npz file: from a ZIP archive to plain arrays, each held against its size before memory is taken.

NumPy's `savez` stores arrays as they are, so that any part of one is read where it lies. What `savez_compressed`
writes is unpacked as a whole, up to a limit. Nothing is unpickled.
"""

import io
import os
import struct
import tokenize
import zipfile
import zlib
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from fedsynth.errors import RecordingError

LARGEST_PACKED = 1 << 28  # bytes, unpacked
LARGEST_BESIDE = 1 << 20  # bytes: of arrays that say something about another
_LONGEST_HEAD = 1 << 14  # bytes
_BLOCK = 1 << 16  # bytes
_LOCAL = struct.Struct("<4s22xHH")
_READERS = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}

_BROKEN: tuple[type[Exception], ...] = (ValueError, KeyError, EOFError, SyntaxError, RuntimeError)
_BROKEN += (OverflowError, TypeError, struct.error, tokenize.TokenError, zipfile.BadZipFile, zlib.error)
"""What zipfile and numpy.lib.format raise for archives and headers that are damaged."""


@dataclass(frozen=True)
class Array:
    """An array of a .npz file whose columns are read some at a time.

    `held` is where it was unpacked; otherwise it stands in `file` from byte `at` on.
    """

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    fortran: bool
    file: BinaryIO = field(repr=False)
    at: int = 0
    held: NDArray[Any] | None = field(default=None, repr=False)

    def columns(self, start: int, stop: int) -> NDArray[Any]:
        """Return some columns of an array of two axes, shape (row, stop - start).

        Raises:
            RecordingError: the file ends before them.
        """
        if self.held is not None:
            return self.held[:, start:stop]
        rows, width = self.shape
        if self.fortran:
            return self._read(start * rows, (stop - start) * rows).reshape(stop - start, rows).T
        return np.stack([self._read(row * width + start, stop - start) for row in range(rows)])

    def _read(self, first: int, count: int) -> NDArray[Any]:
        size = self.dtype.itemsize
        data = os.pread(self.file.fileno(), count * size, self.at + first * size)
        if len(data) != count * size:
            raise RecordingError("the file changed while it was read; try again when nobody writes to it")
        return np.frombuffer(data, dtype=self.dtype)


@contextmanager
def open_array(path: Path, name: str) -> Iterator[Array | None]:
    """Open an array of two axes, None where there is none of that name.

    It is gone through once, against the checksum of the archive.

    Raises:
        RecordingError: no such archive, an array of Python objects, of another size than it says, damaged, or one
            that is compressed and larger than `LARGEST_PACKED`.
        OSError: a file that cannot be opened.
    """
    with path.open("rb") as file:
        with _explained(), zipfile.ZipFile(file) as archive:
            found = _opened(archive, f"{name}.npy", file) if f"{name}.npy" in archive.namelist() else None
        yield found


def read_arrays(path: Path, names: Collection[str]) -> dict[str, NDArray[Any]]:
    """Return those of some small arrays that a .npz file holds.

    Raises:
        RecordingError: as of `open_array`, or one that is larger than `LARGEST_BESIDE`.
        OSError: a file that cannot be opened.
    """
    with path.open("rb") as file, _explained(), zipfile.ZipFile(file) as archive:
        held = set(archive.namelist())
        return {name: _whole(archive, f"{name}.npy", LARGEST_BESIDE) for name in names if f"{name}.npy" in held}


@contextmanager
def _explained() -> Iterator[None]:
    try:
        yield
    except _BROKEN as error:
        raise RecordingError(
            f"it is no .npz file of plain arrays ({type(error).__name__}); save it again"
        ) from None


def _opened(archive: zipfile.ZipFile, name: str, file: BinaryIO) -> Array:
    """Find an array, and go through it once."""
    info = archive.getinfo(name)
    if info.compress_type != zipfile.ZIP_STORED:
        held = _whole(archive, name, LARGEST_PACKED)
        return Array(held.shape, held.dtype, fortran=False, file=file, held=held)
    with archive.open(name) as member:
        shape, fortran, kind, start = _head(member.read(_LONGEST_HEAD), info.file_size)
        while member.read(_BLOCK):  # which raises in the end where the checksum is another
            pass
    file.seek(info.header_offset)
    mark, name_bytes, extra_bytes = _LOCAL.unpack(file.read(_LOCAL.size))
    at = info.header_offset + _LOCAL.size + name_bytes + extra_bytes
    if mark != b"PK\3\4" or at + info.file_size > os.fstat(file.fileno()).st_size:
        raise ValueError
    return Array(shape, kind, fortran, file, at + start)


def _whole(archive: zipfile.ZipFile, name: str, largest: int) -> NDArray[Any]:
    """Unpack an array."""
    info = archive.getinfo(name)
    if info.file_size > largest:
        raise RecordingError(
            f"a compressed array is larger than {largest >> 20} MiB, and such a one is unpacked at once; save it "
            "with numpy.savez, which does not compress, or in parts"
        )
    data, done = bytearray(info.file_size), 0
    with archive.open(info) as member:
        while block := member.read(_BLOCK):
            data[done : done + len(block)] = block
            done += len(block)
    shape, fortran, kind, start = _head(bytes(data[:_LONGEST_HEAD]), done)
    flat = np.frombuffer(data, dtype=kind, offset=start)
    return flat.reshape(shape, order="F" if fortran else "C")


def _head(data: bytes, size: int) -> tuple[tuple[int, ...], bool, np.dtype[Any], int]:
    """Return shape, whether columns stand one after another, kind of number, and where these begin."""
    body = io.BytesIO(data)
    version = np.lib.format.read_magic(body)
    if version not in _READERS:
        raise ValueError
    shape, fortran, kind = _READERS[version](body)
    total = kind.itemsize
    for length in shape:
        total *= length
    if kind.hasobject or total != size - body.tell() or min(shape, default=0) < 0:
        raise ValueError
    return shape, fortran, kind, body.tell()
