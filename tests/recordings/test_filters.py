"""The band-pass and the change of rate on sines, impulses and offsets, whose answers are known."""

import numpy as np
import pytest
from scipy.signal import butter, iirnotch, sosfiltfilt, tf2sos

from fedsynth.recordings.filters import band_pass, band_passed, resample
from fedsynth.recordings.recording import Beats, Recording

SFREQ = 128.0
BAND = (0.5, 40.0)


def recording(*rows: np.ndarray) -> Recording:
    signal = np.array(rows, dtype=np.float32)
    return Recording(signal, SFREQ, tuple(f"C{i}" for i in range(len(rows))), subject="a", label="b", digest="c")


def sine(hertz: float, *, seconds: float = 20) -> np.ndarray:
    return 50 * np.sin(2 * np.pi * hertz * np.arange(int(seconds * SFREQ)) / SFREQ)


def test_a_wave_within_the_band_passes_without_delay() -> None:
    passed = band_pass(recording(sine(10)), bandpass=BAND).signal[0]

    np.testing.assert_allclose(passed[640:-640], sine(10)[640:-640], atol=0.5)


@pytest.mark.parametrize("hertz", [0.1, 55.0])
def test_a_wave_outside_the_band_is_removed(hertz: float) -> None:
    passed = band_pass(recording(sine(hertz)), bandpass=BAND).signal[0]

    assert np.abs(passed[256:-256]).max() < 1


@pytest.mark.parametrize("hertz", [2.0, 40.0])
def test_an_edge_of_the_band_is_halved(hertz: float) -> None:
    # Each direction of a Butterworth filter passes 1/sqrt(2) of the amplitude at its edge.
    passed = band_pass(recording(sine(hertz)), bandpass=(2.0, 40.0)).signal[0]

    assert passed[512:-512].std() / sine(hertz)[512:-512].std() == pytest.approx(0.5, rel=0.02)


def test_an_impulse_stays_where_it_was_and_is_answered_symmetrically() -> None:
    impulse = np.zeros(2049)
    impulse[1024] = 1000

    passed = band_pass(recording(impulse), bandpass=BAND).signal[0]

    assert int(np.argmax(passed)) == 1024
    np.testing.assert_allclose(passed[:1024], passed[:1024:-1], atol=1e-2)


def test_an_offset_of_the_amplifier_leaves_no_trace_at_the_ends() -> None:
    with_offset = band_pass(recording(sine(10) + 4200), bandpass=BAND).signal

    np.testing.assert_allclose(with_offset, band_pass(recording(sine(10)), bandpass=BAND).signal, atol=0.01)


@pytest.mark.parametrize("n_times", [1, 2, 10, 64, 200])
def test_a_recording_shorter_than_the_extension_is_filtered(n_times: int) -> None:
    passed = band_pass(recording(sine(10)[:n_times]), bandpass=BAND).signal

    assert passed.shape == (1, n_times)
    assert np.isfinite(passed).all()


def test_channels_do_not_mix_and_the_facts_of_the_recording_stay() -> None:
    both = band_pass(recording(sine(10), sine(5)), bandpass=BAND)

    np.testing.assert_array_equal(both.signal[1:], band_pass(recording(sine(5)), bandpass=BAND).signal)
    assert (both.signal.dtype, both.sfreq, both.channels) == (np.float32, SFREQ, ("C0", "C1"))
    assert (both.subject, both.label, both.digest) == ("a", "b", "c")


@pytest.mark.parametrize(
    ("before", "after"), [(300.0, 100.0), (360.0, 180.0), (173.61, 128.0), (100.0, 256.0), (128.0, 100.0)]
)
def test_a_wave_below_half_of_both_rates_keeps_its_samples_at_the_new_times(before: float, after: float) -> None:
    seconds, hertz = 20, 9.0
    signal = 50 * np.sin(2 * np.pi * hertz * np.arange(int(seconds * before)) / before)[None].astype(np.float32)

    found = resample(Recording(signal, before, ("I",), "a", "b", "c"), sfreq=after)

    times = np.arange(found.signal.shape[1]) / after
    assert found.sfreq == after
    assert times[-1] <= signal.shape[1] / before < times[-1] + 2 / after
    middle = slice(int(after), -int(after))
    np.testing.assert_allclose(found.signal[0, middle], 50 * np.sin(2 * np.pi * hertz * times)[middle], atol=0.25)


def test_what_half_of_the_new_rate_cannot_hold_is_removed() -> None:
    signal = 50 * np.sin(2 * np.pi * 70 * np.arange(6000) / 300)[None].astype(np.float32)

    found = resample(Recording(signal, 300.0, ("I",), "a", "b", "c"), sfreq=100.0)

    assert np.abs(found.signal[0, 50:-50]).max() < 1


def test_the_ends_do_not_ring() -> None:
    slope = np.linspace(-900, 4000, 900, dtype=np.float32)[None]

    found = resample(Recording(slope, 300.0, ("I",), "a", "b", "c"), sfreq=100.0)

    np.testing.assert_allclose(found.signal[0], slope[0, ::3], atol=0.5)


def test_beats_move_with_the_samples_and_the_same_rate_changes_nothing() -> None:
    marks = Beats(np.array([0, 1, 2, 3, 300, 599]), np.array([0, 1, 0, 1, 0, 1]))
    one = Recording(np.zeros((1, 600), np.float32), 300.0, ("I",), "a", "", "c", marks)

    beats = resample(one, sfreq=100.0).beats

    assert beats is not None
    assert beats.samples.tolist() == [0, 0, 1, 1, 100, 200]  # thirds, to the nearest sample
    assert beats.labels.tolist() == marks.labels.tolist()
    assert resample(one, sfreq=300.0) is one


@pytest.mark.parametrize("n_times", [1, 2, 40, 300, 5000])
@pytest.mark.parametrize("notch", [None, 50.0])
def test_the_band_pass_is_scipys_for_every_channel_and_length(n_times: int, notch: float | None) -> None:
    signal = (4000 + np.random.default_rng(n_times).normal(0, 30, (3, n_times))).astype(np.float32)
    sections = butter(4, (0.5, 40.0), btype="bandpass", fs=256.0, output="sos")
    if notch is not None:
        sections = np.concatenate([sections, tf2sos(*iirnotch(notch, 30.0, fs=256.0))])
    centred = signal.astype(np.float64) - np.median(signal.astype(np.float64), axis=1, keepdims=True)

    found = band_passed(signal, sfreq=256.0, bandpass=(0.5, 40.0), notch=notch)

    theirs = sosfiltfilt(sections, centred, axis=1, padtype="odd", padlen=min(n_times - 1, 512))
    np.testing.assert_array_equal(found, theirs.astype(np.float32))
