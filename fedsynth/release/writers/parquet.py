"""From synthetic windows to one Parquet table, a row for each window: what data loaders ask for.

The bytes follow from the windows and the version of pyarrow alone: no clock, no compression, groups of rows of one
size however the stream was cut. Memory holds one group.
"""

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from fedsynth.release.writers.subjects import subjects
from fedsynth.synthesis.windows import SyntheticStream

_GROUP = 2**22  # bytes of windows in a group of rows


def write_parquet(path: Path, *, windows: SyntheticStream, names: tuple[str, ...]) -> None:
    """Write one row for each window, in the order drawn.

    Columns: `window` and `subject` int64 from 0, `participant_id`, `y` int64, `label`, the value of each condition
    under its name, `statements` parted by semicolons, and `X`, a list of channels
    that are lists of float32 in microvolts. The schema's metadata hold `channels`, `label_names`, `sfreq` and
    `unit`.

    Args:
        path: of the file; its folder is made.
        windows: what is written.
        names: of the made-up subjects, in the order drawn.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    schema = _schema(windows)
    ends = np.cumsum(windows.subject_windows)
    label_names, people = pa.array(windows.label_names, pa.string()), pa.array(names, pa.string())
    values, start = windows.subject_values, 0
    told = [person.borne for person in subjects(windows)]
    borne = {"statements": pa.array(told, pa.string())} if windows.statements else {}
    with pq.ParquetWriter(
        path,
        schema,
        version="2.6",
        data_page_version="1.0",
        compression="none",
        use_dictionary=["label", "participant_id", *windows.conditions, *borne],
        write_statistics=["window", "subject", "y"],
        store_schema=True,
    ) as writer:
        for group in _groups(windows):
            rows = np.arange(start, start + len(group))
            mine = np.searchsorted(ends, rows, side="right")
            y = windows.subject_labels[mine]
            columns = {
                "window": pa.array(rows, pa.int64()),
                "subject": pa.array(mine, pa.int64()),
                "participant_id": people.take(pa.array(mine)),
                "y": pa.array(y, pa.int64()),
                "label": label_names.take(pa.array(y)),
                **{
                    name: pa.array(known, pa.string()).take(pa.array(values[mine, place]))
                    for place, (name, known) in enumerate(windows.conditions.items())
                },
                **{name: cells.take(pa.array(mine)) for name, cells in borne.items()},
                "X": _lists(group),
            }
            writer.write_table(pa.table(columns, schema=schema), row_group_size=len(group))
            start += len(group)


def _schema(windows: SyntheticStream) -> pa.Schema:
    facts = {
        "channels": json.dumps(windows.channels),
        "label_names": json.dumps(windows.label_names),
        "sfreq": json.dumps(float(windows.sfreq)),
        "unit": json.dumps("uV"),
    }
    return pa.schema(
        [
            pa.field("window", pa.int64(), nullable=False),
            pa.field("subject", pa.int64(), nullable=False),
            pa.field("participant_id", pa.string(), nullable=False),
            pa.field("y", pa.int64(), nullable=False),
            pa.field("label", pa.string(), nullable=False),
            *(pa.field(name, pa.string(), nullable=False) for name in windows.conditions),
            *([pa.field("statements", pa.string(), nullable=False)] if windows.statements else []),
            pa.field("X", pa.list_(pa.list_(pa.float32()))),
        ],
        metadata=facts,
    )


def _groups(windows: SyntheticStream) -> Iterator[NDArray[np.float32]]:
    """Yield windows in groups of one size; the last may be smaller."""
    size = max(1, _GROUP // (4 * len(windows.channels) * windows.n_times))
    group = np.empty((size, len(windows.channels), windows.n_times), np.float32)
    filled = 0
    for _, block in windows.blocks():
        while len(block):
            fits = block[: size - filled]
            group[filled : filled + len(fits)] = fits
            filled, block = filled + len(fits), block[len(fits) :]
            if filled == size:
                yield group
                filled = 0
    if filled:
        yield group[:filled]


def _lists(group: NDArray[np.float32]) -> pa.Array:
    """Return windows as lists of channels that are lists of samples."""
    n_windows, n_channels, n_times = group.shape
    channels = pa.ListArray.from_arrays(
        pa.array(np.arange(n_windows * n_channels + 1) * n_times, pa.int32()),
        pa.array(group.reshape(-1), pa.float32()),
    )
    return pa.ListArray.from_arrays(pa.array(np.arange(n_windows + 1) * n_channels, pa.int32()), channels)
