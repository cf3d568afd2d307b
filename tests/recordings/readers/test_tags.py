"""A FIF file whose tags say that they hold more than there is, is refused before a library believes it."""

import struct
from pathlib import Path

import mne
import numpy as np
import pytest

from fedsynth.errors import RecordingError
from fedsynth.recordings.readers.tags import check_fif

DENSE, COLUMNS, ROWS = 0x40000000, 0x40100000, 0x40200000
FLOAT, DOUBLE, STRINGS, DIRECTORY = 4, 5, 36, 32


def tag(type_: int, body: bytes, *, kind: int = 200, following: int = 0) -> bytes:
    return struct.pack(">iIii", kind, type_, len(body), following) + body


def numbers(*values: int) -> bytes:
    return struct.pack(f">{len(values)}i", *values)


def check(tmp_path: Path, *tags: bytes) -> None:
    path = tmp_path / "a.fif"
    path.write_bytes(b"".join(tags))
    check_fif(path)


@pytest.mark.parametrize(
    "whole",
    [
        tag(DENSE | FLOAT, bytes(4 * 6) + numbers(3, 2, 2)),
        tag(DENSE | DOUBLE, bytes(8 * 24) + numbers(4, 3, 2, 3)),
        tag(COLUMNS | FLOAT, bytes(8 * 5 + 4 * 4) + numbers(5, 2, 3, 2)),
        tag(ROWS | FLOAT, bytes(8 * 5 + 4 * 3) + numbers(5, 2, 3, 2)),
        tag(STRINGS, numbers(1, 1, 2) + bytes(24)),
        tag(STRINGS, numbers(1, 1, 0)),
        tag(DIRECTORY, struct.pack(">iIii", 200, 0, 0, 0) + struct.pack(">iIii", -1, 0, 0, -1)),
    ],
    ids=["matrix", "cube", "sparse by column", "sparse by row", "strings", "no strings", "directory"],
)
def test_tags_that_hold_what_they_say_are_taken(tmp_path: Path, whole: bytes) -> None:
    check(tmp_path, whole)


@pytest.mark.parametrize(
    "broken",
    [
        tag(DENSE | FLOAT, bytes(4 * 6) + numbers(3, 3, 2)),
        tag(DENSE | FLOAT, bytes(4 * 6) + numbers(2**31 - 1, 2**31 - 1, 2)),
        tag(DENSE | FLOAT, bytes(4 * 6) + numbers(-3, -2, 2)),
        tag(DENSE | FLOAT, bytes(4 * 6) + numbers(3, 2, 2**31 - 1)),
        tag(DENSE | FLOAT, bytes(4 * 6) + numbers(3, 2, -1)),
        tag(COLUMNS | FLOAT, bytes(8 * 5 + 4 * 4) + numbers(6, 2, 3, 2)),
        tag(COLUMNS | FLOAT, bytes(8 * 5 + 4 * 4) + numbers(5, 2, 4, 2)),
        tag(ROWS | FLOAT, bytes(8 * 5 + 4 * 3) + numbers(5, 3, 3, 2)),
        tag(STRINGS, numbers(1, 1, 1_000_000) + bytes(24)),
        tag(STRINGS, numbers(1, 1, 3) + bytes(24)),
    ],
)
def test_a_tag_that_says_it_holds_more_than_its_size_is_refused(tmp_path: Path, broken: bytes) -> None:
    with pytest.raises(RecordingError, match="more than its own size"):
        check(tmp_path, broken)


def test_what_only_the_directory_leads_to_is_held_against_the_file_too(tmp_path: Path) -> None:
    beside = tag(STRINGS, numbers(1, 1, 1_000_000))
    outside = struct.pack(">iIii", 200, FLOAT, 2**30, 0)
    first = 2 * 16 + 4
    for hidden, said in ((beside, "more than its own size"), (outside, "longer than the file")):
        entries = tag(DIRECTORY, struct.pack(">iIii", 200, FLOAT, 0, first))
        # The chain ends before both: the second tag alone says where the directory is.
        pointer = tag(3, numbers(first + len(hidden)), kind=101, following=-1)
        with pytest.raises(RecordingError, match=said):
            check(tmp_path, tag(31, b""), pointer, hidden, entries)


def test_directories_in_a_ring_are_walked_once(tmp_path: Path) -> None:
    check(tmp_path, tag(DIRECTORY, struct.pack(">iIii", 0, DIRECTORY, 16, 0)))


@pytest.mark.parametrize("tags", [[tag(0, b"")] * 6, [tag(DIRECTORY, struct.pack(">iIii", 0, 0, 0, 0) * 6)]])
def test_more_tags_than_any_recording_has_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tags: list[bytes]
) -> None:
    monkeypatch.setattr("fedsynth.recordings.readers.tags._MOST_TAGS", 5)

    with pytest.raises(RecordingError, match="more parts than any recording"):
        check(tmp_path, *tags)


def test_what_mne_writes_with_places_and_projections_is_taken(tmp_path: Path) -> None:
    info = mne.create_info(["Fp1", "Fp2", "C3", "C4", "O1", "O2"], 128.0, "eeg")
    raw = mne.io.RawArray(np.random.default_rng(1).normal(0, 3e-5, (6, 1280)), info, verbose="ERROR")
    raw.set_montage("standard_1020", verbose="ERROR")
    raw.set_eeg_reference(projection=True, verbose="ERROR")
    raw.set_annotations(mne.Annotations([1.0, 2.0], [0.5, 0.5], ["rest", "task"]), verbose="ERROR")
    raw.save(tmp_path / "a_raw.fif", verbose="ERROR")

    check_fif(tmp_path / "a_raw.fif")
