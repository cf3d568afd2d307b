"""What the gate lets through and what it refuses, on signals small enough to see."""

import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedsynth.errors import RecordingError
from fedsynth.recordings.gate import check_recording, check_site
from fedsynth.recordings.people import copies
from fedsynth.recordings.readers.text import samples_of_text
from fedsynth.recordings.recording import Recording
from fedsynth.study import Modality

CANARY = "Canarywolf"


def recording(*rows: object, subject: str = CANARY, digest: str = CANARY) -> Recording:
    signal = np.array(rows, dtype=np.float32)
    names = ("C3", "C4", "Cz")[: len(rows)]
    return Recording(signal, 128.0, names, subject=subject, label=CANARY, digest=digest)


GOOD = [3.0, -4.0, 5.0, -6.0]


@pytest.mark.parametrize(
    ("rows", "n_times", "fragment"),
    [
        pytest.param([GOOD, [1, np.nan, 2, 3]], 4, "channel 'C4' is not finite", id="nan"),
        pytest.param([[1, 2, np.inf, 3], GOOD], 4, "channel 'C3' is not finite", id="inf"),
        pytest.param([GOOD, [4200] * 4], 4, "channel 'C4' is flat", id="flat, off zero"),
        pytest.param([GOOD, [0] * 4], 4, "channel 'C4' is flat", id="flat, zero"),
        pytest.param(
            [[0, 1e-3, 0, -1e-3]],
            4,
            "channel 'C3' is not plausible: within a second it spans below 2 uV",
            id="too small",
        ),
        pytest.param(
            [[0, 4e5, 0, -4e5]],
            4,
            "channel 'C3' is not plausible: within a second it spans above 5000 uV",
            id="too large",
        ),
        pytest.param([GOOD], 5, "too short: 4 samples, and one window takes 5", id="too short"),
        pytest.param([[]], 1, "too short: 0 samples", id="no samples"),
    ],
)
def test_a_recording_that_cannot_be_used_is_refused(rows: list[object], n_times: int, fragment: str) -> None:
    with pytest.raises(RecordingError) as refusal:
        check_recording(recording(*rows), n_times=n_times, modality="eeg")

    assert fragment in str(refusal.value)
    assert CANARY not in str(refusal.value)


@pytest.mark.parametrize(
    "row",
    [
        pytest.param(GOOD, id="about zero"),
        pytest.param([4200.0, 4201.0, 4199.0, 4200.0], id="far off zero"),
        pytest.param([0.0, 0.0, 0.0, 2.0], id="almost flat"),
        pytest.param([0.0, 2500.0, 0.0, -2500.0], id="very large"),
    ],
)
def test_an_unusual_recording_passes(row: list[float]) -> None:
    check_recording(recording(row), n_times=4, modality="eeg")


def test_a_site_needs_recordings_and_enough_different_people() -> None:
    three_of_two = [recording(GOOD, subject=name) for name in ("a", "b", "b")]

    check_site(three_of_two, site="north", least_subjects=2)
    with pytest.raises(
        RecordingError, match="site 'north' has too few subjects: 2, and the study asks for at least 3"
    ):
        check_site(three_of_two, site="north", least_subjects=3)
    with pytest.raises(RecordingError, match="site 'north' holds no recordings"):
        check_site([], site="north", least_subjects=1)


def test_a_recording_counts_as_a_copy_when_another_person_has_it() -> None:
    held = [
        recording(GOOD, subject=who, digest=what) for who, what in [("a", "1"), ("a", "1"), ("b", "1"), ("c", "2")]
    ]

    assert copies(held) == (1, 1)


@pytest.mark.parametrize(
    ("data", "samples"),
    [
        pytest.param(b"12\n-3\n", [12, -3], id="LF"),
        pytest.param(b"12\r\n-3\r\n", [12, -3], id="CRLF"),
        pytest.param(b"12\n-3", [12, -3], id="no line end at the end"),
        pytest.param(b"  12 \n\n\t-3\n\n", [12, -3], id="blanks and empty lines"),
        pytest.param(b"0.5\n.25\n1e2\n+4\n", [0.5, 0.25, 100, 4], id="decimals"),
        pytest.param(b"\xef\xbb\xbf7\n8\n", [7, 8], id="byte order mark"),
    ],
)
def test_text_is_one_number_a_line(data: bytes, samples: list[float]) -> None:
    read = samples_of_text(data)

    assert read.dtype == np.float32
    assert read.tolist() == samples


@pytest.mark.parametrize(
    ("data", "fragment"),
    [
        pytest.param(b"", "is empty", id="empty"),
        pytest.param(b" \r\n\n", "is empty", id="blank"),
        pytest.param(b"1\0\n2\n", "is binary", id="binary"),
        pytest.param("1\n2\n".encode("utf-16"), "is binary", id="UTF-16"),
        pytest.param(b"\x80\x81\n", "not a number", id="not ASCII"),
        pytest.param(b"1\nCanarywolf\n", "not a number", id="word"),
        pytest.param(b"1" * 41 + b"\n", "not a number", id="a very long line"),
        pytest.param(b"1_000\n", "not a number", id="underscore"),
        pytest.param(b"0x10\n", "not a number", id="hexadecimal"),
        pytest.param(b"1,5\n", "not a number", id="decimal comma"),
        pytest.param(b"1;2\n", "not a number", id="semicolons"),
        pytest.param(b"1 2\n3 4\n", "more than one number", id="two columns"),
        pytest.param(b"1\nNaN\n", "not finite", id="nan"),
        pytest.param(b"1\n-Infinity\n", "not finite", id="infinity"),
        pytest.param(b"1\n1e39\n", "not finite", id="beyond float32"),
        pytest.param(b"1\n1e999\n", "not finite", id="beyond float64"),
    ],
)
def test_other_text_is_refused_without_repeating_it(data: bytes, fragment: str) -> None:
    with pytest.raises(RecordingError, match=fragment) as refusal:
        samples_of_text(data)

    assert CANARY not in str(refusal.value)


@given(st.binary(max_size=60))
def test_any_bytes_are_samples_or_refused(data: bytes) -> None:
    try:
        samples = samples_of_text(data)
    except RecordingError:
        return
    assert np.isfinite(samples).all()


@pytest.mark.parametrize(
    ("factor", "said"),
    [
        pytest.param(1e-3, "1000 times too small: millivolts that are called microvolts", id="mV as uV"),
        pytest.param(1e3, "1000 times too large: microvolts that are called millivolts", id="uV as mV"),
        pytest.param(1e-6, "1000000 times too small: volts", id="V as uV"),
        pytest.param(1e6, "1000000 times too large: microvolts that are called volts", id="uV as V"),
    ],
)
@pytest.mark.parametrize(
    ("modality", "spread"), [("eeg", 3.0), ("eeg", 10.0), ("eeg", 150.0), ("ecg", 100), ("ecg", 900)]
)
def test_a_wrong_unit_is_refused_with_the_likely_factor(
    modality: Modality, spread: float, factor: float, said: str
) -> None:
    """From a low-voltage EEG to a loud one, and both ends of ECG: about 17 to 870 and 560 to 5000 uV a second."""
    wave = np.random.default_rng(1).normal(4200 * (modality == "eeg"), spread, 1280).astype(np.float32)
    check_recording(recording(wave), n_times=4, modality=modality)

    with pytest.raises(RecordingError, match=re.escape(said)) as refusal:
        check_recording(recording(wave * np.float32(factor)), n_times=4, modality=modality)

    assert "--unit" in str(refusal.value)


def test_a_few_artefacts_and_a_slow_drift_do_not_make_an_amplitude_implausible() -> None:
    wave = np.random.default_rng(1).normal(0, 20, 128 * 60)
    wave[:2560:128] = 1e6
    wave += np.linspace(0, 1e5, len(wave))

    check_recording(recording(wave), n_times=4, modality="eeg")
