"""Windows of ramps, whose samples say where they were cut."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedsynth.errors import RecordingError
from fedsynth.recordings.filters import in_band
from fedsynth.recordings.recording import Beats, Recording
from fedsynth.recordings.windows import around_beats, cut, windows_of
from fedsynth.study import parse_study

STUDY = parse_study("""
name = "small"
[signal]
modality = "eeg"
format = "edf"
channels = ["C3", "C4"]
sfreq = 128.0
range_uv = 50.0
[windows]
n_times = 64
per_recording = 3
[labels]
names = ["healthy", "ill"]
source = "participants.tsv"
positive = "ill"
[privacy]
unit = "subject"
epsilon = 1.0
delta = 1e-5
[family]
name = "cwgan"
""")


def ramp(n_times: int) -> Recording:
    signal = np.stack([np.arange(n_times), -np.arange(n_times)]).astype(np.float32)
    return Recording(signal, 128.0, ("C3", "C4"), subject="a", label="ill", digest="")


def noise(*, subject: str, label: str, seconds: int = 4, seed: int = 0) -> Recording:
    signal = np.random.default_rng(seed).normal(0, 60, size=(2, 128 * seconds)).astype(np.float32)
    return Recording(
        signal, 128.0, ("C3", "C4"), subject=subject, label=label, digest=f"{subject} {seed} {seconds}"
    )


@pytest.mark.parametrize(
    ("n_times", "at_most", "starts"),
    [
        pytest.param(4, 10, [0, 4, 8], id="all that fit exactly"),
        pytest.param(4, 2, [1, 7], id="the middle of each half"),
        pytest.param(4, 1, [4], id="the middle"),
        pytest.param(5, 10, [0, 6], id="what is left over is spread"),
        pytest.param(12, 3, [0], id="the whole recording"),
    ],
)
def test_windows_are_spread_evenly(n_times: int, at_most: int, starts: list[int]) -> None:
    windows = cut(ramp(12), n_times=n_times, at_most=at_most)

    assert windows[:, 0, 0].tolist() == starts
    assert windows[:, 1, -1].tolist() == [-(start + n_times - 1) for start in starts]
    assert (windows.dtype, windows.shape) == (np.float32, (len(starts), 2, n_times))


@given(total=st.integers(1, 300), n_times=st.integers(1, 50), at_most=st.integers(1, 20))
def test_windows_never_overlap_and_never_leave_the_recording(total: int, n_times: int, at_most: int) -> None:
    if total < n_times:
        return
    starts = cut(ramp(total), n_times=n_times, at_most=at_most)[:, 0, 0]

    assert len(starts) == min(at_most, total // n_times)
    assert (np.diff(starts) >= n_times).all()
    assert starts[0] >= 0
    assert starts[-1] + n_times <= total


def test_a_recording_shorter_than_a_window_is_refused() -> None:
    with pytest.raises(RecordingError, match="11 samples, and one window takes 12"):
        cut(ramp(11), n_times=12, at_most=1)


def beats(samples: list[int], labels: list[int]) -> Beats:
    return Beats(np.array(samples, dtype=np.int64), np.array(labels, dtype=np.int64))


@pytest.mark.parametrize(
    ("at_most", "kept", "labels"),
    [
        pytest.param(9, [2, 5, 8, 9, 10, 12, 14, 18], [0, 0, 1, 0, 0, 0, 0, 1], id="all that stay inside"),
        pytest.param(3, [5, 8, 10, 14, 18], [0, 1, 0, 0, 1], id="of six, those in the middle of each third"),
        pytest.param(1, [10, 18], [0, 1], id="the middle one of each label"),
    ],
)
def test_beats_of_each_label_are_spread_evenly_and_stand_in_the_middle(
    at_most: int, kept: list[int], labels: list[int]
) -> None:
    marks = beats([0, 2, 5, 8, 9, 10, 12, 14, 18, 19], [0, 0, 0, 1, 0, 0, 0, 0, 1, 1])

    windows, found = around_beats(ramp(20), marks, n_times=4, at_most=at_most)

    assert windows[:, 0, 2].tolist() == kept
    assert windows[:, 1, 0].tolist() == [2 - sample for sample in kept]
    assert found.tolist() == labels
    assert (windows.dtype, found.dtype) == (np.float32, np.int64)


def test_a_recording_whose_beats_all_stand_too_near_its_ends_has_no_windows() -> None:
    windows, found = around_beats(ramp(20), beats([1, 19], [0, 1]), n_times=6, at_most=3)

    assert (windows.shape, found.shape) == ((0, 2, 6), (0,))


def test_windows_are_resampled_after_the_filter_and_before_they_are_cut() -> None:
    impulse = np.random.default_rng(0).normal(0, 0.01, (2, 512)).astype(np.float32)  # flat is an artefact
    impulse[:, 256] = 1000
    recording = Recording(impulse, 256.0, ("C3", "C4"), "a", "ill", "")

    windows = windows_of([recording], study=STUDY)

    passed = in_band(impulse, sfreq=256.0, bandpass=STUDY.signal.bandpass, ratio=(1, 2))
    assert passed.shape == (2, 256)
    assert int(np.abs(passed[0]).argmax()) == 128
    whole = replace(recording, signal=passed, sfreq=128.0)
    np.testing.assert_array_equal(windows.signal, np.clip(cut(whole, n_times=64, at_most=3), -50, 50))


def test_subjects_and_recordings_are_numbered_in_the_order_in_which_they_come() -> None:
    calls: list[tuple[int, int]] = []
    recordings = [
        noise(subject="d", label="ill"),
        noise(subject="a", label="healthy"),
        noise(subject="d", label="healthy", seconds=1),
    ]

    windows = windows_of(recordings, study=STUDY, progress=lambda *call: calls.append(call))

    assert windows.subjects.tolist() == [0, 0, 0, 1, 1, 1, 0, 0]
    assert windows.recordings.tolist() == [0, 0, 0, 1, 1, 1, 2, 2]
    assert windows.labels.tolist() == [1, 1, 1, 0, 0, 0, 0, 0]
    assert (windows.label_names, windows.channels, windows.sfreq) == (("healthy", "ill"), ("C3", "C4"), 128.0)
    assert {array.dtype for array in (windows.labels, windows.subjects, windows.recordings)} == {np.dtype(np.int64)}
    assert calls == [(1, 3), (2, 3), (3, 3)]


def test_windows_are_filtered_before_they_are_cut_and_clipped_last() -> None:
    one = noise(subject="a", label="ill")

    windows = windows_of([one], study=STUDY)

    filtered = replace(one, signal=in_band(one.signal, sfreq=one.sfreq, bandpass=STUDY.signal.bandpass))
    assert np.abs(filtered.signal).max() > 50
    np.testing.assert_array_equal(windows.signal, np.clip(cut(filtered, n_times=64, at_most=3), -50, 50))
    assert windows.signal.dtype == np.float32


def test_a_site_without_recordings_has_no_windows() -> None:
    windows = windows_of([], study=STUDY)

    assert windows.signal.shape == (0, 2, 64)
    assert windows.subjects.shape == (0,)


def test_a_label_of_another_study_is_refused_without_repeating_it() -> None:
    with pytest.raises(RecordingError, match="not one of the study's names") as refusal:
        windows_of([noise(subject="a", label="Canarywolf")], study=STUDY)

    assert "Canarywolf" not in str(refusal.value)
