"""WFDB signal files, held against a decoder that goes byte by byte."""

import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedsynth.errors import RecordingError
from fedsynth.recordings.readers import wfdb_flac
from fedsynth.recordings.readers.samples import Notes, Request, Samples, gather
from fedsynth.recordings.readers.wfdb import read_wfdb
from fedsynth.recordings.readers.wfdb_header import WfdbHeader, WfdbSignal, parse_wfdb_header
from fedsynth.recordings.readers.wfdb_signal import (
    NO_CHECKSUM,
    NO_LENGTH,
    digital,
    samples_of,
    samples_per_signal,
)
from fedsynth.recordings.readers.wfdb_signal import microvolts as scaled
from fedsynth.recordings.recording import Gap


def microvolts(
    header: WfdbHeader, *, chosen: tuple[int, ...], channels: tuple[str, ...], n_times: int, data: tuple[bytes, ...]
) -> tuple[np.ndarray, tuple[str, ...]]:
    """Decode a record of plain formats."""
    steps, remarks = digital(header, n_times=n_times, data=data, unpack=NotImplemented)
    return scaled(header, steps, chosen=chosen, channels=channels), remarks


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


@given(st.lists(st.integers(-32768, 32767), min_size=1, max_size=40))
def test_format_61_is_twos_complement_with_the_high_byte_first(samples: list[int]) -> None:
    data = b"".join(sample.to_bytes(2, "big", signed=True) for sample in samples)

    assert samples_of(data, form=61, total=len(samples)).tolist() == samples


@given(st.lists(st.integers(-512, 511), min_size=1, max_size=40))
def test_format_311_is_three_signed_numbers_of_ten_bits_in_four_bytes(samples: list[int]) -> None:
    groups = [[*samples[i : i + 3], 0, 0][:3] for i in range(0, len(samples), 3)]
    words = [sum(value % 1024 << 10 * place for place, value in enumerate(group)) for group in groups]

    assert (
        samples_of(b"".join(w.to_bytes(4, "little") for w in words), form=311, total=len(samples)).tolist()
        == samples
    )


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


WRITTEN = {16: 20_000, 24: 4_000_000, 32: 1_000_000, 80: 100, 508: 100, 516: 20_000, 524: 4_000_000}
"""What WFDB-Python writes, and how large numbers may be."""
BYTES = {8: 1, 160: 2, 212: 3 / 2, 310: 4 / 3, 311: 4 / 3}
"""What it only reads, and bytes for a sample."""


def one(path: Path, *channels: str, sfreq: float = 250.0) -> Samples:
    notes = Notes()
    return gather(read_wfdb(path, Request(channels, sfreq), notes), notes)


@pytest.mark.parametrize("form", WRITTEN)
@pytest.mark.parametrize("n_times", [1000, 1001])
def test_formats_read_as_wfdb_wrote_them(tmp_path: Path, form: int, n_times: int) -> None:
    wfdb = pytest.importorskip("wfdb")
    rows = np.random.default_rng(n_times).integers(-WRITTEN[form], WRITTEN[form], size=(n_times, 2))
    wfdb.wrsamp(
        "r", fs=250, units=["mV", "mV"], sig_name=["I", "II"], d_signal=rows, fmt=[str(form)] * 2,
        adc_gain=[200.0, 100.0], baseline=[3, -4], write_dir=str(tmp_path),
    )  # fmt: skip

    ours = one(tmp_path / "r.hea", "II", "I")

    np.testing.assert_allclose(ours.signal, [10.0 * (rows[:, 1] + 4), 5.0 * (rows[:, 0] - 3)], rtol=1e-6)
    assert ours.remarks == ()


@pytest.mark.parametrize("form", BYTES)
@pytest.mark.parametrize("n_times", [999, 1000, 1001])
@pytest.mark.parametrize("signals", [1, 2])
def test_formats_read_as_wfdb_reads_them(tmp_path: Path, form: int, n_times: int, signals: int) -> None:
    wfdb = pytest.importorskip("wfdb")
    size = (
        math.ceil(n_times * signals / 3) * 4 if form in (310, 311) else math.ceil(n_times * signals * BYTES[form])
    )
    data = np.random.default_rng(n_times).bytes(size)
    lines = [f"r {signals} 250 {n_times}", *[f"r.dat {form} 200(7)/mV 12 0 {5 * (form == 8)} 0 0 C"] * signals]
    (tmp_path / "r.hea").write_text("\n".join(lines))
    (tmp_path / "r.dat").write_bytes(data)
    header = parse_wfdb_header((tmp_path / "r.hea").read_bytes())

    assert samples_per_signal(header, sizes=(size,)) == n_times
    ours, _ = digital(header, n_times=n_times, data=(data,), unpack=NotImplemented)

    theirs = wfdb.rdrecord(str(tmp_path / "r"), physical=False, smooth_frames=False)
    for index in range(signals):
        # WFDB-Python 4.3.1 takes the sign of a number in format 311 off in some places only.
        np.testing.assert_array_equal(
            (ours[index] - theirs.e_d_signal[index]) % (1024 if form == 311 else 1 << 40), 0
        )
    with pytest.raises(RecordingError, match="is truncated"):
        samples_per_signal(header, sizes=(size - 5,))
    with pytest.raises(RecordingError, match="is longer"):
        samples_per_signal(header, sizes=(size + 4,))


def test_a_compressed_file_of_more_than_is_decoded_at_once_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    header = parse_wfdb_header(b"r 2 100 40\nr.dat 516 200/mV 12 0 0 0 0 I\nr.dat 516 200/mV 12 0 0 0 0 II\n")
    monkeypatch.setattr(wfdb_flac, "MOST_SAMPLES", 79)

    with pytest.raises(RecordingError, match=r"decoded at once.*in format 16, or in segments"):
        wfdb_flac.unpack_flac(header, n_times=40, place=0, content=b"fLaC")


@pytest.mark.parametrize("form", [508, 516, 524])
def test_a_compressed_file_that_is_damaged_is_refused(tmp_path: Path, form: int) -> None:
    wfdb = pytest.importorskip("wfdb")
    rows = np.random.default_rng(1).integers(-50, 50, size=(1000, 1))
    wfdb.wrsamp(
        "r", fs=250, units=["mV"], sig_name=["I"], d_signal=rows, fmt=[str(form)], adc_gain=[200.0], baseline=[0],
        write_dir=str(tmp_path),
    )  # fmt: skip
    good = (tmp_path / "r.dat").read_bytes()
    for bad in (good[: len(good) // 2], b"fLaC" + bytes(300), b"", good[:100] + bytes(50) + good[150:]):
        (tmp_path / "r.dat").write_bytes(bad)
        with pytest.raises(RecordingError):
            one(tmp_path / "r.hea", "I")


def test_signals_of_several_rates_in_one_file_agree_with_wfdb(tmp_path: Path) -> None:
    wfdb = pytest.importorskip("wfdb")
    rng = np.random.default_rng(2)
    frames = rng.integers(-900, 900, size=(200, 1 + 4 + 2)).astype("<i2")
    sums = [int(part.sum()) % 65536 for part in (frames[:, :1], frames[:, 1:5], frames[:, 5:])]
    lines = ["r 3 50 200"] + [
        f"r.dat 16x{width} 200 12 0 0 {total} 0 {name}"
        for width, total, name in zip((1, 4, 2), sums, ("I", "II", "V1"), strict=True)
    ]
    (tmp_path / "r.hea").write_text("\n".join(lines))
    (tmp_path / "r.dat").write_bytes(frames.tobytes())

    ours = one(tmp_path / "r.hea", "II", sfreq=200.0)

    np.testing.assert_array_equal(ours.signal[0], 5.0 * frames[:, 1:5].reshape(-1))
    theirs = wfdb.rdrecord(str(tmp_path / "r"), smooth_frames=False).e_p_signal
    np.testing.assert_allclose(ours.signal[0], 1000 * theirs[1], rtol=1e-6)


def test_segments_are_joined_as_wfdb_joins_them_and_a_gap_is_kept(
    tmp_path: Path, put_record: Callable[..., Path]
) -> None:
    wfdb = pytest.importorskip("wfdb")
    rng = np.random.default_rng(2)
    parts = [rng.integers(-900, 900, size=(2, n)).tolist() for n in (100, 150)]
    for number, part in enumerate(parts, start=1):
        put_record(tmp_path, f"r_{number}", part, labels=("I", "II"), sfreq="250", form=(16, 212)[number - 1])
    (tmp_path / "r.hea").write_text("r/2 2 250 250\nr_1 100\nr_2 150\n")

    ours = one(tmp_path / "r.hea", "II", "I")

    np.testing.assert_array_equal(ours.signal[0], 5.0 * np.array(parts[0][1] + parts[1][1]))
    np.testing.assert_allclose(
        ours.signal.T, 1000 * wfdb.rdrecord(str(tmp_path / "r")).p_signal[:, ::-1], rtol=1e-6
    )
    (tmp_path / "r.hea").write_text("r/3 2 250 300\nr_1 100\n~ 50\nr_2 150\n")
    gapped = one(tmp_path / "r.hea", "II", "I")
    np.testing.assert_array_equal(gapped.signal, ours.signal)
    assert gapped.gaps == (Gap(100, 50),)
    (tmp_path / "r.hea").write_text("r/4 2 250 330\n~ 50\nr_1 100\nr_2 150\n~ 30\n")
    assert one(tmp_path / "r.hea", "I").gaps == (Gap(0, 50), Gap(250, 30))
    (tmp_path / "r.hea").write_text("r/2 2 250 250\nr_1 100\nr_3 150\n")
    with pytest.raises(RecordingError, match="a segment that its header names is missing"):
        one(tmp_path / "r.hea", "I")
    (tmp_path / "r.hea").write_text("r/2 2 250 250\nr_1 110\nr_2 140\n")
    with pytest.raises(RecordingError, match="segment 1 of 2 does not fit"):
        one(tmp_path / "r.hea", "I")
