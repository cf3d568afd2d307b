"""Tables and text in blocks: the same samples wherever they are cut, and memory that does not grow with them."""

import os
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fedsynth.errors import RecordingError
from fedsynth.recordings.readers import tables
from fedsynth.recordings.readers.registry import READERS
from fedsynth.recordings.readers.samples import Notes, Request, Samples, gather


def read(path: Path, form: str, *channels: str) -> Samples:
    notes = Notes()
    return gather(READERS[form].read(path, Request(channels, 100.0, unit="uV"), notes), notes)


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("form", ["delimited", "text"])
def test_blocks_of_any_size_give_the_same_samples(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, form: str, end: str
) -> None:
    values = np.random.default_rng(3).normal(0, 30, (500, 2)).round(1)
    lines = (
        [f"{a};{b}".replace(".", ",") for a, b in values] if form == "delimited" else [f"{a}" for a, _ in values]
    )
    head = ["C3;C4"] if form == "delimited" else []
    path = tmp_path / "x.csv"
    path.write_bytes(b"\xef\xbb\xbf" + end.join([*head, *lines[:100], "", *lines[100:]]).encode())
    channels = ("C4", "C3") if form == "delimited" else ("C3",)
    whole = read(path, form, *channels)
    expected = values.T[[1, 0]] if form == "delimited" else values.T[:1]
    np.testing.assert_allclose(whole.signal, expected, rtol=1e-6)
    for size in (7, 64, 1000):
        monkeypatch.setattr(tables, "BLOCK_BYTES", size)

        parted = read(path, form, *channels)

        np.testing.assert_array_equal(parted.signal, whole.signal)
        assert parted.digest == whole.digest
        assert parted.fingerprints == whole.fingerprints


@pytest.mark.parametrize(
    ("line", "fragment"),
    [
        ("1;2;3", "line 303 of the table is not 2 finite numbers"),
        ("1;x", "line 303 of the table"),
        ("1;nan", "line 303 of the table"),
        ("1;1_0", "line 303 of the table"),
        ("1;\0", "binary"),
        ("1;" + "0" * 41, "line 303 of the table"),
    ],
)
def test_a_line_that_cannot_be_read_is_named_in_whatever_block_it_stands(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, line: str, fragment: str
) -> None:
    (tmp_path / "x.csv").write_text("\n".join(["C3;C4", *["1;2"] * 301, line, "3;4"]))
    for size in (1 << 20, 50):
        monkeypatch.setattr(tables, "BLOCK_BYTES", size)

        with pytest.raises(RecordingError, match=fragment):
            read(tmp_path / "x.csv", "delimited", "C3")


def test_a_line_without_end_is_not_read_into_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tables, "BLOCK_BYTES", 1000)
    monkeypatch.setattr(tables, "LONGEST_LINE", 5000)
    (tmp_path / "x.csv").write_text("1" * 50_000)

    with pytest.raises(RecordingError, match="a line is longer"):
        read(tmp_path / "x.csv", "delimited", "C3")


@pytest.mark.parametrize("form", ["delimited", "text", "npz", "parquet"])
def test_memory_of_the_pieces_does_not_grow_with_a_table(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, form: str
) -> None:
    monkeypatch.setattr(tables, "BLOCK_BYTES", 1 << 14)
    monkeypatch.setattr("fedsynth.recordings.readers.delimited.AT_ONCE", 1 << 10)
    values = np.random.default_rng(3).normal(0, 30, 120_000).round(1)

    def peak(n_times: int) -> int:
        path = tmp_path / f"{n_times}.{ {'npz': 'npz', 'parquet': 'parquet'}.get(form, 'csv') }"
        if form == "npz":
            np.savez(path, signal=values[None, :n_times], channels=["C3"])
        elif form == "parquet":
            pyarrow = pytest.importorskip("pyarrow")
            import pyarrow.parquet as store

            store.write_table(pyarrow.table({"C3": values[:n_times]}), path, row_group_size=1 << 12)
        else:
            path.write_text("\n".join((["C3"] if form == "delimited" else []) + [f"{x}" for x in values[:n_times]]))
        tracemalloc.start()
        count = sum(
            piece.signal.shape[1] for piece in READERS[form].read(path, Request(("C3",), 100.0, unit="uV"), Notes())
        )
        found = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert count == n_times
        return found

    peak(1000)  # what imports take
    small, large = peak(20_000), peak(120_000)

    assert large <= small + 300_000


WAVE = np.random.default_rng(7).normal(0, 30, (3, 4000))


@pytest.mark.parametrize("compressed", [False, True])
@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("kind", ["<f8", ">f4", "<i2", "u1"])
@pytest.mark.parametrize("n_times", [4000, 129, 1])
def test_an_array_is_the_same_however_it_was_saved(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, compressed: bool, order: Any, kind: str, n_times: int
) -> None:
    monkeypatch.setattr("fedsynth.recordings.readers.delimited.AT_ONCE", 128)
    values = np.array(np.abs(WAVE[:, :n_times]).astype(kind), order=order)
    save = np.savez_compressed if compressed else np.savez
    save(tmp_path / "a.npz", other=np.arange(9), signal=values, channels=["C3", "C4", "Cz"], sfreq=100.0, unit="uV")

    pieces = list(READERS["npz"].read(tmp_path / "a.npz", Request(("Cz", "C3"), 100.0), Notes()))

    assert [piece.signal.shape[1] for piece in pieces[:-1]] == [128] * (len(pieces) - 1)
    found = np.concatenate([piece.signal for piece in pieces], axis=1)
    np.testing.assert_array_equal(found, values[[2, 0]].astype(np.float32))


def test_a_large_array_is_read_where_it_is_stored_and_refused_where_it_is_packed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fedsynth.recordings.readers.arrays.LARGEST_PACKED", 50_000)
    request, said = Request(("C3",), 100.0), {"channels": ["C3", "C4", "Cz"], "unit": "uV"}
    np.savez(tmp_path / "a.npz", signal=WAVE, **said)
    np.savez_compressed(tmp_path / "b.npz", signal=WAVE, **said)

    assert sum(piece.signal.shape[1] for piece in READERS["npz"].read(tmp_path / "a.npz", request, Notes())) == 4000
    with pytest.raises(RecordingError, match=r"numpy\.savez, which does not compress"):
        list(READERS["npz"].read(tmp_path / "b.npz", request, Notes()))


@pytest.mark.parametrize("compressed", [False, True])
def test_one_byte_that_is_another_is_seen_by_the_checksum(tmp_path: Path, compressed: bool) -> None:
    save = np.savez_compressed if compressed else np.savez
    save(tmp_path / "a.npz", signal=WAVE, channels=["C3", "C4", "Cz"], unit="uV")
    data = bytearray((tmp_path / "a.npz").read_bytes())
    data[40_000] ^= 1
    (tmp_path / "a.npz").write_bytes(data)

    with pytest.raises(RecordingError, match="save it again"):
        list(READERS["npz"].read(tmp_path / "a.npz", Request(("C3",), 100.0), Notes()))


def test_a_stored_array_that_is_cut_while_it_is_read_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fedsynth.recordings.readers.delimited.AT_ONCE", 128)
    np.savez(tmp_path / "a.npz", signal=WAVE, channels=["C3", "C4", "Cz"], unit="uV")
    pieces = READERS["npz"].read(tmp_path / "a.npz", Request(("C3",), 100.0), Notes())
    next(pieces)
    os.truncate(tmp_path / "a.npz", 70_000)

    with pytest.raises(RecordingError, match="changed while it was read"):
        list(pieces)
