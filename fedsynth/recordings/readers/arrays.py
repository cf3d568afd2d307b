"""Arrays of a .npz file: from a ZIP archive to plain arrays, each held against its size before memory is taken."""

import io
import struct
import tokenize
import zipfile
import zlib
from collections.abc import Collection
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fedsynth.errors import RecordingError

LARGEST_ARRAY = 1 << 28  # bytes
_READERS = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}

_BROKEN: tuple[type[Exception], ...] = (ValueError, KeyError, EOFError, SyntaxError, RuntimeError)
_BROKEN += (OverflowError, TypeError, struct.error, tokenize.TokenError, zipfile.BadZipFile, zlib.error)
"""What zipfile and numpy.lib.format raise for archives and headers that are damaged."""


def read_arrays(path: Path, names: Collection[str]) -> dict[str, NDArray[Any]]:
    """Return those of some arrays that a .npz file holds; nothing in it is unpickled.

    Raises:
        RecordingError: no such archive, an array of Python objects, one that is larger than `LARGEST_ARRAY` or of
            another size than it says.
        OSError: a file that cannot be opened.
    """
    with path.open("rb") as file:
        try:
            with zipfile.ZipFile(file) as archive:
                held = set(archive.namelist())
                return {name: _array(archive, f"{name}.npy") for name in names if f"{name}.npy" in held}
        except _BROKEN as error:
            raise RecordingError(
                f"it is no .npz file of plain arrays ({type(error).__name__}); save it again"
            ) from None


def _array(archive: zipfile.ZipFile, name: str) -> NDArray[Any]:
    with archive.open(name) as member:
        data = member.read(LARGEST_ARRAY + 1)
    if len(data) > LARGEST_ARRAY:
        raise RecordingError(
            f"an array is larger than {LARGEST_ARRAY >> 20} MiB, and a .npz file is read at once; save it as EDF, "
            "or in parts"
        )
    body = io.BytesIO(data)
    version = np.lib.format.read_magic(body)
    if version not in _READERS:
        raise ValueError
    shape, fortran, kind = _READERS[version](body)
    size = kind.itemsize
    for length in shape:
        size *= length
    if kind.hasobject or size != len(data) - body.tell():
        raise ValueError
    flat = np.frombuffer(data, dtype=kind, offset=body.tell())
    return flat.reshape(shape, order="F" if fortran else "C")
