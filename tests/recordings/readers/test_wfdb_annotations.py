"""Annotations in MIT format, written one word after another."""

from collections.abc import Callable, Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedsynth.errors import RecordingError
from fedsynth.recordings.readers.wfdb_annotations import BEATS, parse_annotations

Annotated = Callable[[Sequence[tuple[int, int]]], bytes]
CANARY = "Canarywolf"


def word(code: int, step: int) -> bytes:
    return (code * 1024 + step).to_bytes(2, "little")


END = word(0, 0)


def test_the_codes_of_beats_are_those_of_the_guide() -> None:
    # The table of ecgcodes.h: codes 1 to 13 and six others mark a QRS complex.
    assert [BEATS[code] for code in (1, 2, 3, 8, 5, 6)] == ["N", "L", "R", "A", "V", "F"]
    assert [BEATS[code] for code in (4, 7, 9, 10, 11, 12, 13)] == ["a", "J", "S", "E", "j", "/", "Q"]
    assert [BEATS[code] for code in (34, 35, 25, 30, 38, 41)] == ["e", "n", "B", "?", "f", "r"]
    assert len(BEATS) == 19


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(0, 99_999), st.sampled_from([1, 5, 8, 14, 22, 28, 37])), max_size=30))
def test_beats_are_found_among_other_marks_however_far_apart(
    annotated: Annotated, pairs: list[tuple[int, int]]
) -> None:
    pairs = sorted(pairs)

    found = parse_annotations(annotated(pairs), n_times=100_000, sfreq=360)

    beats = [(sample, BEATS[code]) for sample, code in pairs if code in BEATS]
    assert list(zip(found.samples.tolist(), found.symbols, strict=True)) == beats


def test_subtypes_channels_numbers_and_texts_are_passed_over() -> None:
    text = CANARY[:9].encode()  # an odd number of bytes is padded
    data = word(28, 5) + word(63, 9) + text + b"\0" + word(1, 20) + word(61, 3) + word(62, 1) + word(60, 7)
    found = parse_annotations(data + word(5, 1000) + END, n_times=2000, sfreq=360)

    assert (found.samples.tolist(), found.symbols) == ([25, 1025], ("N", "V"))


@pytest.mark.parametrize(
    ("data", "fragment"),
    [
        pytest.param(b"", "empty", id="empty"),
        pytest.param(word(1, 5) + b"\0", "odd number of bytes", id="an odd byte"),
        pytest.param(word(1, 5), "without an end mark", id="no end"),
        pytest.param(word(59, 0) + b"\0\0", "without an end mark", id="cut within a skip"),
        pytest.param(word(1, 5) + word(63, 200) + CANARY.encode(), "without an end mark", id="cut within a text"),
        pytest.param(word(1, 5) + END + word(1, 5), "go on after their end mark", id="more after the end"),
        pytest.param(word(55, 5) + END, "a code that is not known", id="unknown code"),
        pytest.param(word(1, 100) + END, "beyond the recording", id="beyond the recording"),
        pytest.param(
            word(1, 9) + word(59, 0) + b"\xff\xff\xfe\xff" + word(1, 0) + END, "go backwards", id="backwards"
        ),
        pytest.param(
            word(59, 0) + b"\xff\xff\xfe\xff" + word(1, 0) + END, "go backwards", id="before the recording"
        ),
        pytest.param(
            word(22, 0) + word(63, 24) + b"## time resolution: 1000" + word(1, 5) + END,
            "count time at another rate",
            id="another rate",
        ),
    ],
)
def test_damaged_annotations_are_refused(data: bytes, fragment: str) -> None:
    with pytest.raises(RecordingError, match=fragment) as refusal:
        parse_annotations(data, n_times=100, sfreq=360)

    assert CANARY not in str(refusal.value)


def test_the_recordings_own_rate_may_be_written_down() -> None:
    data = word(22, 0) + word(63, 23) + b"## time resolution: 360\0" + word(1, 5) + END

    assert parse_annotations(data + bytes(10), n_times=100, sfreq=360.0).samples.tolist() == [5]


def test_random_bytes_are_read_or_refused_but_nothing_else() -> None:
    rng = np.random.default_rng(1)
    for _ in range(300):
        data = rng.bytes(2 * int(rng.integers(1, 200))) + END
        try:
            found = parse_annotations(data, n_times=100_000, sfreq=360)
        except RecordingError:
            continue
        assert (np.diff(found.samples) >= 0).all()
