"""Parquet files to columns of numbers; recordings' only door to pyarrow."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fedsynth.errors import RecordingError
from fedsynth.extras import explained


def parquet_batches(path: Path, *, rows: int) -> Iterator[NDArray[np.float64]]:
    """Yield the values of all columns of numbers, shape (column, row), some rows at a time.

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
        with pyarrow.parquet.ParquetFile(path) as file:
            kept = [i for i, f in enumerate(file.schema_arrow) if _is_number(f.type, pyarrow.types)]
            if not kept:
                raise RecordingError("it has no column of numbers; write a column for each channel")
            for batch in file.iter_batches(batch_size=rows):
                columns = [batch.column(index).to_numpy(zero_copy_only=False) for index in kept]
                yield np.stack([np.asarray(column, dtype=np.float64) for column in columns])
    except MemoryError:
        raise RecordingError("it needs more memory than there is, so it is damaged; write it again") from None
    except (pyarrow.ArrowException, OSError, ValueError) as error:
        raise RecordingError(f"it cannot be read as Parquet ({type(error).__name__}); write it again") from None


def parquet_heading(path: Path) -> tuple[str, ...]:
    """Return the names of all columns of numbers, without reading any.

    Raises:
        As `parquet_batches`.
    """
    with path.open("rb"):
        pass
    with explained():
        import pyarrow
        import pyarrow.parquet
    try:
        schema = pyarrow.parquet.read_schema(path)
    except (pyarrow.ArrowException, OSError, ValueError) as error:
        raise RecordingError(f"it cannot be read as Parquet ({type(error).__name__}); write it again") from None
    return tuple(str(f.name) for f in schema if _is_number(f.type, pyarrow.types))


def _is_number(kind: object, types: object) -> bool:
    return bool(types.is_floating(kind) or types.is_integer(kind))  # type: ignore[attr-defined]
