"""Parquet files to columns of numbers; recordings' only door to pyarrow."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fedsynth.errors import RecordingError
from fedsynth.extras import explained


def parquet_columns(path: Path) -> tuple[list[str], NDArray[np.float64]]:
    """Return the names and values of all columns of numbers, shape (column, row).

    Raises:
        MissingPackageError: pyarrow is not installed.
        RecordingError: a file that cannot be read, or without a column of numbers.
        OSError: a file that cannot be opened.
    """
    with path.open("rb"):
        pass
    with explained():
        import pyarrow
        import pyarrow.parquet
    try:
        table = pyarrow.parquet.read_table(path)
    except (pyarrow.ArrowException, OSError) as error:
        raise RecordingError(f"it cannot be read as Parquet ({type(error).__name__}); write it again") from None
    kept = [(str(f.name), i) for i, f in enumerate(table.schema) if _is_number(f.type, pyarrow.types)]
    if not kept:
        raise RecordingError("it has no column of numbers; write a column for each channel")
    columns = [np.asarray(table.column(index).to_numpy(), dtype=np.float64) for _, index in kept]
    return [name for name, _ in kept], np.stack(columns)


def parquet_heading(path: Path) -> tuple[str, ...]:
    """Return the names of all columns of numbers, without reading any.

    Raises:
        As `parquet_columns`.
    """
    with path.open("rb"):
        pass
    with explained():
        import pyarrow
        import pyarrow.parquet
    try:
        schema = pyarrow.parquet.read_schema(path)
    except (pyarrow.ArrowException, OSError) as error:
        raise RecordingError(f"it cannot be read as Parquet ({type(error).__name__}); write it again") from None
    return tuple(str(f.name) for f in schema if _is_number(f.type, pyarrow.types))


def _is_number(kind: object, types: object) -> bool:
    return bool(types.is_floating(kind) or types.is_integer(kind))  # type: ignore[attr-defined]
