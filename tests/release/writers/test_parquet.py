"""The table is the archive in rows, in the same bytes however the stream was cut, one group of rows in memory."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from fedsynth.release.writers import parquet as module_under_test
from fedsynth.release.writers.parquet import write_parquet
from fedsynth.synthesis.windows import SyntheticWindows, stream_of

NAMES = tuple(f"sub-syn{number:04d}" for number in range(1, 7))


@pytest.mark.parametrize("group", [1, 3, 10, 64])
def test_groups_of_rows_are_of_one_size_however_the_stream_was_cut(
    tmp_path: Path, windows: SyntheticWindows, monkeypatch: pytest.MonkeyPatch, group: int
) -> None:
    monkeypatch.setattr(module_under_test, "_GROUP", group * 2 * 64 * 4)
    whole = stream_of(windows)
    for cut in (1, 4, 10):
        pieces = [windows.signal[start : start + cut] for start in range(0, 10, cut)]
        stream = replace(whole, pieces=lambda pieces=pieces: iter(pieces))
        write_parquet(tmp_path / f"{cut}.parquet", windows=stream, names=NAMES)

    first, *others = ((tmp_path / f"{cut}.parquet").read_bytes() for cut in (1, 4, 10))
    assert all(other == first for other in others)
    found = pq.ParquetFile(tmp_path / "1.parquet")
    sizes = [found.metadata.row_group(number).num_rows for number in range(found.num_row_groups)]
    assert sizes == [min(group, 10 - start) for start in range(0, 10, group)]
    table = found.read()
    assert np.array_equal(np.array(table["X"].to_pylist(), np.float32), windows.signal)
    assert table["subject"].to_pylist() == windows.subjects.tolist()
    assert table["y"].to_pylist() == windows.labels.tolist()
    assert table["window"].to_pylist() == list(range(10))


def test_the_file_carries_no_clock_no_path_and_no_compression(tmp_path: Path, windows: SyntheticWindows) -> None:
    write_parquet(tmp_path / "a.parquet", windows=stream_of(windows), names=NAMES)

    found = pq.ParquetFile(tmp_path / "a.parquet").metadata
    group = found.row_group(0)
    assert {group.column(number).compression for number in range(group.num_columns)} == {"UNCOMPRESSED"}
    assert set(found.metadata) == {b"channels", b"label_names", b"sfreq", b"unit", b"ARROW:schema"}
    assert str(tmp_path).encode() not in (tmp_path / "a.parquet").read_bytes()
