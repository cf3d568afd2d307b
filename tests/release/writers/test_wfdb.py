"""Released WFDB records, read back by the strict reader and by WFDB's own library."""

import hashlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedsynth.errors import RefusedError
from fedsynth.recordings.readers.wfdb_annotations import parse_annotations
from fedsynth.recordings.readers.wfdb_header import parse_wfdb_header
from fedsynth.recordings.readers.wfdb_signal import digital, microvolts, samples_per_signal
from fedsynth.release.writers.wfdb import LARGEST_WFDB_DIGITAL, gain_per_millivolt, write_wfdb

CHANNELS = ("I", "MLII")


def windows(seed: int = 0, *, spread: float = 800.0) -> np.ndarray:
    return np.random.default_rng(seed).normal(0, spread, size=(3, 2, 50)).clip(-5000, 5000).astype(np.float32)


def read(folder: Path, name: str, channels: tuple[str, ...] = CHANNELS) -> np.ndarray:
    """Return microvolts, shape (channel, time)."""
    header = parse_wfdb_header((folder / f"{name}.hea").read_bytes())
    data = (folder / f"{name}.dat").read_bytes()
    n_times = samples_per_signal(header, sizes=(len(data),))
    chosen = tuple(range(len(channels)))
    steps, remarks = digital(header, n_times=n_times, data=(data,), unpack=NotImplemented)
    signal = microvolts(header, steps, chosen=chosen, channels=channels)
    assert remarks == ()
    assert tuple(item.label for item in header.signals) == channels
    return signal


@pytest.mark.parametrize("range_uv", [5000.0, 1234.5, 500.0, 100_000.0])
def test_windows_read_back_one_after_another_within_half_a_step(tmp_path: Path, range_uv: float) -> None:
    signal = windows(spread=range_uv / 4).clip(-range_uv, range_uv)
    signal[0, 0, :2] = range_uv, -range_uv

    write_wfdb(tmp_path, "sub-syn0001", signal, label="N", channels=CHANNELS, sfreq=173.61, range_uv=range_uv)

    # Float32 holds a value of the range within its last bit, which is far below half a step.
    half = 500 / gain_per_millivolt(range_uv) + range_uv * 2**-22
    found = read(tmp_path, "sub-syn0001")
    assert np.abs(found - np.concatenate(list(signal), axis=1)).max() <= half
    assert parse_wfdb_header((tmp_path / "sub-syn0001.hea").read_bytes()).sfreq == 173.61


@given(st.floats(min_value=1e-3, max_value=1e5))
def test_every_range_fits_16_bits_and_uses_most_of_them(range_uv: float) -> None:
    largest = range_uv / 1000 * gain_per_millivolt(range_uv)

    assert 0.99 * LARGEST_WFDB_DIGITAL < largest <= LARGEST_WFDB_DIGITAL + 1e-6


def test_what_lies_beyond_the_range_is_cut_and_never_read_as_missing(tmp_path: Path) -> None:
    signal = np.full((1, 2, 4), 1e9, dtype=np.float32)
    signal[0, 1] *= -1

    write_wfdb(tmp_path, "s", signal, label="N", channels=CHANNELS, sfreq=100.0, range_uv=5000.0)

    limit = 1000 * LARGEST_WFDB_DIGITAL / 6553
    np.testing.assert_allclose(read(tmp_path, "s"), [[limit] * 4, [-limit] * 4], rtol=1e-6)


def test_the_files_are_the_same_bytes_again_and_name_nobody(tmp_path: Path) -> None:
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        write_wfdb(tmp_path / folder, "s", windows(), label="N", channels=CHANNELS, sfreq=100.0, range_uv=5000.0)

    assert (tmp_path / "a" / "s.hea").read_bytes() == (tmp_path / "b" / "s.hea").read_bytes()
    digests = [hashlib.sha256((tmp_path / name / "s.dat").read_bytes()).digest() for name in "ab"]
    assert digests[0] == digests[1]
    lines = (tmp_path / "a" / "s.hea").read_text().splitlines()
    assert lines[0] == "s 2 100 150"
    assert [line.split()[:3] for line in lines[1:3]] == [["s.dat", "16", "6553(0)/mV"]] * 2
    assert lines[3].startswith("# Synthetic: 3 windows of 50 samples")
    assert lines[4:] == ["# label: N"]


@pytest.mark.parametrize(
    ("signal", "name", "channels", "range_uv", "fragment"),
    [
        pytest.param(np.zeros((0, 2, 5)), "s", CHANNELS, 5e3, "do not fit 2 channels", id="no window"),
        pytest.param(np.zeros((1, 3, 5)), "s", CHANNELS, 5e3, "do not fit 2 channels", id="other channels"),
        pytest.param(np.zeros((2, 5)), "s", CHANNELS, 5e3, "do not fit 2 channels", id="no axis of windows"),
        pytest.param(np.full((1, 2, 5), np.nan), "s", CHANNELS, 5e3, "not finite", id="nan"),
        pytest.param(np.zeros((1, 2, 5)), "../s", CHANNELS, 5e3, "named by letters", id="name of a path"),
        pytest.param(np.zeros((1, 2, 5)), "s", ("I", "lead II"), 5e3, "no space in it", id="space in a channel"),
        pytest.param(np.zeros((1, 2, 5)), "s", CHANNELS, 1e9, "too wide", id="range too wide"),
    ],
)
def test_what_cannot_be_written_is_refused_before_a_file_is_made(
    tmp_path: Path, signal: np.ndarray, name: str, channels: tuple[str, ...], range_uv: float, fragment: str
) -> None:
    with pytest.raises(RefusedError, match=fragment):
        write_wfdb(
            tmp_path, name, signal.astype(np.float32), label="N", channels=channels, sfreq=100.0, range_uv=range_uv
        )

    assert list(tmp_path.iterdir()) == []


def test_wfdb_reads_what_was_written(tmp_path: Path) -> None:
    wfdb = pytest.importorskip("wfdb")
    signal = windows()

    write_wfdb(tmp_path, "sub-syn0001", signal, label="N", channels=CHANNELS, sfreq=180.0, range_uv=5000.0)

    record = wfdb.rdrecord(str(tmp_path / "sub-syn0001"))
    assert (record.fs, record.sig_name, record.units) == (180, list(CHANNELS), ["mV", "mV"])
    assert np.abs(1000 * record.p_signal.T - np.concatenate(list(signal), axis=1)).max() <= 500 / 6553 + 1e-6
    digital = wfdb.rdrecord(str(tmp_path / "sub-syn0001"), physical=False)
    assert [value % 65536 for value in digital.calc_checksum()] == digital.checksum


@pytest.mark.parametrize("n_times", [50, 1023, 1024, 8192, 70_000])
@pytest.mark.parametrize("label", ["N", "AF", "left-bundle.branch_block"])
def test_annotations_are_byte_for_byte_what_wfdb_writes(tmp_path: Path, n_times: int, label: str) -> None:
    wfdb = pytest.importorskip("wfdb")
    signal = np.zeros((3, 1, n_times), np.float32)
    (tmp_path / "ours").mkdir()

    write_wfdb(tmp_path / "ours", "s", signal, label=label, channels=("I",), sfreq=180.0, range_uv=5000.0)
    samples = np.arange(3) * n_times
    wfdb.wrann("s", "atr", samples, symbol=["+"] * 3, aux_note=[label] * 3, write_dir=str(tmp_path))

    assert (tmp_path / "ours/s.atr").read_bytes() == (tmp_path / "s.atr").read_bytes()


def test_annotations_hold_no_beat_for_the_strict_reader(tmp_path: Path) -> None:
    write_wfdb(tmp_path, "s", windows(), label="AF", channels=CHANNELS, sfreq=100.0, range_uv=5000.0)

    found = parse_annotations((tmp_path / "s.atr").read_bytes(), n_times=150, sfreq=100.0)

    assert found.symbols == ()


@pytest.mark.parametrize("label", ["", "a\nb", "é", "x" * 256])
def test_a_label_that_no_annotation_can_hold_is_refused(tmp_path: Path, label: str) -> None:
    with pytest.raises(RefusedError, match="printable ASCII"):
        write_wfdb(tmp_path, "s", windows(), label=label, channels=CHANNELS, sfreq=100.0, range_uv=5000.0)

    assert list(tmp_path.iterdir()) == []
