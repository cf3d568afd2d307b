"""WFDB signal files, held against a decoder that goes byte by byte."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedsynth.errors import RecordingError
from fedsynth.recordings.readers.wfdb_header import WfdbHeader, WfdbSignal, parse_wfdb_header
from fedsynth.recordings.readers.wfdb_signal import (
    NO_CHECKSUM,
    NO_LENGTH,
    microvolts,
    samples_of,
    samples_per_signal,
)


def slowly(data: bytes, total: int) -> list[int]:
    """Decode format 212 as signal(5) words it, by nibbles."""
    nibbles = [n for octet in data for n in (octet % 16, octet // 16)] + [0] * 6
    out = []
    for pair in range((total + 1) // 2):
        a, b, c, d, e, f = nibbles[6 * pair : 6 * pair + 6]
        out += [a + 16 * b + 256 * c, e + 16 * f + 256 * d]
    return [value - 4096 if value >= 2048 else value for value in out[:total]]


def header(*checksums: int | None, form: int = 16, n_times: int | None = 3, offset: int = 0) -> WfdbHeader:
    signals = tuple(WfdbSignal("x.dat", form, offset, 100.0, 10, b"mV", checksum, "I") for checksum in checksums)
    return WfdbHeader(250.0, n_times, signals)


@given(total=st.integers(1, 40), seed=st.integers(0, 1000))
def test_format_212_is_decoded_as_the_guide_words_it(total: int, seed: int) -> None:
    data = np.random.default_rng(seed).bytes((3 * total + 1) // 2)

    assert samples_of(data, form=212, total=total).tolist() == slowly(data, total)


@given(st.lists(st.integers(-32768, 32767), min_size=1, max_size=40))
def test_format_16_is_twos_complement_with_the_low_byte_first(samples: list[int]) -> None:
    data = b"".join(sample.to_bytes(2, "little", signed=True) for sample in samples)

    assert samples_of(data, form=16, total=len(samples)).tolist() == samples


def test_signals_take_turns_and_become_microvolts() -> None:
    data = b"".join(value.to_bytes(2, "little", signed=True) for value in (10, 110, -90, 20, 11, 0))

    signal, remarks = microvolts(
        header(10 - 90 + 11, 130), chosen=(1, 0), channels=("II", "I"), n_times=3, data=(data,)
    )

    # (value - baseline) / gain in mV, times 1000
    assert signal.tolist() == [[1000.0, 100.0, -100.0], [0.0, -1000.0, 10.0]]
    assert (signal.dtype, remarks) == (np.float32, ())


@pytest.mark.parametrize(("form", "missing"), [(16, -32768), (212, -2048)])
def test_a_sample_that_is_marked_as_missing_becomes_nan(form: int, missing: int) -> None:
    low = missing % 65536 if form == 16 else missing % 4096
    data = low.to_bytes(2, "little")

    signal, _ = microvolts(
        header(missing, form=form, n_times=1), chosen=(0,), channels=("I",), n_times=1, data=(data,)
    )

    assert np.isnan(signal).all()


@pytest.mark.parametrize(
    ("checksum", "remarks"),
    [
        pytest.param(6, (), id="held"),
        pytest.param(6 - 65536, (), id="with a sign"),
        pytest.param(0, (NO_CHECKSUM,), id="0"),
        pytest.param(None, (NO_CHECKSUM,), id="none"),
    ],
)
def test_a_checksum_is_held_or_its_absence_remarked(checksum: int | None, remarks: tuple[str, ...]) -> None:
    data = b"\1\0\2\0\3\0"

    assert microvolts(header(checksum), chosen=(0,), channels=("I",), n_times=3, data=(data,))[1] == remarks


@pytest.mark.parametrize("bit", range(96))
def test_every_flipped_bit_breaks_the_checksum_even_of_a_channel_that_is_not_chosen(bit: int) -> None:
    data = bytearray(b"\1\0\2\0\3\0" * 2)
    data[bit // 8] ^= 1 << bit % 8

    with pytest.raises(RecordingError, match="do not add up to the checksum"):
        microvolts(header(1 + 3 + 2, 2 + 1 + 3), chosen=(0,), channels=("I",), n_times=3, data=(bytes(data),))


@pytest.mark.parametrize(
    ("form", "signals", "n_times", "size"),
    [
        (16, 2, 3, 12),
        (212, 2, 3, 9),
        (212, 1, 3, 5),
        (212, 1, 3, 6),
        (212, 1, 2, 3),
        (16, 1, None, 6),
        (16, 2, None, 8),
    ],
)
def test_the_size_must_be_that_of_the_samples(form: int, signals: int, n_times: int | None, size: int) -> None:
    record = header(*[0] * signals, form=form, n_times=n_times, offset=24)
    expected = n_times or size // 2 // signals

    assert samples_per_signal(record, sizes=(24 + size,)) == expected
    for other in (size - 1, size - 2, size + 2, size + 3):
        if {other, size} == {5, 6}:
            continue  # an odd number of samples of 12 bits, with and without a byte that pads
        if n_times is None and other % (2 * signals) == 0:
            continue  # a length that is left open fits every whole number
        state = "is truncated" if other < size and n_times else "longer than its header"
        with pytest.raises(RecordingError, match=state):
            samples_per_signal(record, sizes=(24 + other,))


def test_a_length_that_is_left_open_is_remarked_and_in_format_212_refused() -> None:
    open_length = header(6, n_times=None)

    assert microvolts(open_length, chosen=(0,), channels=("I",), n_times=3, data=(b"\1\0\2\0\3\0",))[1] == (
        NO_LENGTH,
    )
    with pytest.raises(RecordingError, match="the size of the file does not tell it"):
        samples_per_signal(header(6, form=212, n_times=None), sizes=(6,))
    with pytest.raises(RecordingError, match="holds no samples"):
        samples_per_signal(open_length, sizes=(0,))


def test_records_agree_with_wfdb(tmp_path: Path, put_record: Callable[..., Path]) -> None:
    wfdb = pytest.importorskip("wfdb")
    rng = np.random.default_rng(0)
    for form, spread in ((16, 20_000), (212, 2000)):
        rows = rng.integers(-spread, spread, size=(3, 101)).tolist()
        path = put_record(tmp_path, f"r{form}", rows, labels=("I", "II", "V1"), form=form, gain="160(-7)/mV")
        theirs = wfdb.rdrecord(str(path.with_suffix("")))

        record = parse_wfdb_header(path.read_bytes())
        data = path.with_suffix(".dat").read_bytes()
        ours, _ = microvolts(record, chosen=(0, 1, 2), channels=("I", "II", "V1"), n_times=101, data=(data,))
        np.testing.assert_allclose(ours.T, 1000 * theirs.p_signal, rtol=1e-6)
