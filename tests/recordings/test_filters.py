"""The band-pass and the change of rate on sines and impulses, whose answers are known, and beside scipy's."""

import numpy as np
import pytest
from scipy.signal import butter, firwin, iirnotch, resample_poly, sosfiltfilt, tf2sos

from fedsynth.recordings import filters
from fedsynth.recordings.filters import SINGLE_UP_TO_UV, at_rate, in_band, margin
from fedsynth.recordings.recording import Beats

SFREQ = 128.0
BAND = (0.5, 40.0)


def passed(*rows: np.ndarray, sfreq: float = SFREQ, band: tuple[float, float] = BAND) -> np.ndarray:
    return in_band(np.array(rows, dtype=np.float32), sfreq=sfreq, bandpass=band)


def sine(hertz: float, *, seconds: float = 20) -> np.ndarray:
    return 50 * np.sin(2 * np.pi * hertz * np.arange(int(seconds * SFREQ)) / SFREQ)


def by_scipy(
    signal: np.ndarray, *, sfreq: float, band: tuple[float, float], notch: float | None, ratio: tuple[int, int]
) -> np.ndarray:
    """The second way: the recording with what is beyond its ends, filtered sample by sample."""
    sections = butter(4, band, btype="bandpass", fs=sfreq, output="sos")
    if notch is not None:
        sections = np.concatenate([sections, tf2sos(*iirnotch(notch, 30.0, fs=sfreq))])
    up, down = ratio
    constant = -(-int(20 / band[0] * sfreq) // down) * down
    period = min(signal.shape[1] - 1, int(np.ceil(sfreq / band[0])))
    longer = np.pad(signal.astype(np.float64), ((0, 0), (period, period)), mode="reflect", reflect_type="odd")
    longer = np.pad(longer, ((0, 0), (constant - period, constant)), mode="edge")
    filtered = sosfiltfilt(sections, longer, axis=1, padlen=0)
    if up != down:
        kernel = firwin(20 * max(ratio) + 1, 1 / max(ratio), window=("kaiser", 5.0))
        filtered = resample_poly(filtered, up, down, axis=1, window=kernel)
    return filtered[:, constant * up // down :][:, : -(-signal.shape[1] * up // down)]


def test_a_wave_within_the_band_passes_without_delay() -> None:
    np.testing.assert_allclose(passed(sine(10))[0, 640:-640], sine(10)[640:-640], atol=0.5)


@pytest.mark.parametrize("hertz", [0.1, 55.0])
def test_a_wave_outside_the_band_is_removed(hertz: float) -> None:
    assert np.abs(passed(sine(hertz))[0, 256:-256]).max() < 1


@pytest.mark.parametrize("hertz", [2.0, 40.0])
def test_an_edge_of_the_band_is_halved(hertz: float) -> None:
    # Each direction of a Butterworth filter passes 1/sqrt(2) of the amplitude at its edge.
    found = passed(sine(hertz), band=(2.0, 40.0))[0]

    assert found[512:-512].std() / sine(hertz)[512:-512].std() == pytest.approx(0.5, rel=0.02)


def test_an_impulse_stays_where_it_was_and_is_answered_symmetrically() -> None:
    impulse = np.zeros(2049)
    impulse[1024] = 1000

    found = passed(impulse)[0]

    assert int(np.argmax(found)) == 1024
    np.testing.assert_allclose(found[:1024], found[:1024:-1], atol=1e-2)


def test_a_recording_backwards_is_the_same_backwards() -> None:
    wave = np.cumsum(np.random.default_rng(1).normal(0, 9, 3000))

    np.testing.assert_allclose(passed(wave[::-1])[0, ::-1], passed(wave)[0], atol=1e-4)


def test_an_offset_of_the_amplifier_leaves_no_trace_at_the_ends() -> None:
    np.testing.assert_allclose(passed(sine(10) + 4200), passed(sine(10)), atol=0.01)


@pytest.mark.parametrize("n_times", [1, 2, 10, 64, 200])
def test_a_recording_shorter_than_the_extension_is_filtered(n_times: int) -> None:
    found = passed(sine(10)[:n_times])

    assert found.shape == (1, n_times)
    assert np.isfinite(found).all()


@pytest.mark.parametrize("count", [2, 8, 9, 21])
def test_channels_do_not_mix(count: int) -> None:
    rows = [sine(5 + number / 3) for number in range(count)]

    together = passed(*rows)

    assert together.dtype == np.float32
    for row, found in zip(rows, together, strict=True):
        np.testing.assert_allclose(found, passed(row)[0], atol=1e-5)


@pytest.mark.parametrize("n_times", [1, 2, 40, 300, 5001, 40_000])
@pytest.mark.parametrize("notch", [None, 50.0])
@pytest.mark.parametrize(
    ("sfreq", "ratio"),
    [(256.0, (1, 1)), (256.0, (1, 2)), (300.0, (1, 3)), (1000.0, (1, 8)), (250.0, (64, 125)), (100.0, (5, 2))],
)
def test_samples_are_scipys_for_every_channel_length_and_rate(
    n_times: int, notch: float | None, sfreq: float, ratio: tuple[int, int]
) -> None:
    rng = np.random.default_rng(n_times)
    drift = np.cumsum(rng.normal(0, 5, (3, n_times)), axis=1)
    signal = (4000 + drift + rng.normal(0, 30, (3, n_times))).astype(np.float32)
    band, line = (0.5, 0.4 * min(sfreq, sfreq * ratio[0] / ratio[1])), notch and min(notch, 0.45 * sfreq)

    found = in_band(signal, sfreq=sfreq, bandpass=band, notch=line, ratio=ratio)

    theirs = by_scipy(signal, sfreq=sfreq, band=band, notch=line, ratio=ratio)
    np.testing.assert_allclose(found, theirs, rtol=1e-6, atol=1e-4)


@pytest.mark.parametrize("count", [1, 2, 3, 4, 6, 7])
def test_single_precision_costs_no_more_than_is_said(count: int) -> None:
    rng = np.random.default_rng(count)
    signal = rng.normal(0, 0.99 * SINGLE_UP_TO_UV, (count, 150_000)).astype(np.float32) + np.float32(4200)

    found = in_band(signal, sfreq=256.0, bandpass=BAND, ratio=(1, 2))

    theirs = by_scipy(signal, sfreq=256.0, band=BAND, notch=None, ratio=(1, 2))
    assert 1e-6 < np.abs(found - theirs).max() < 1e-4


def test_single_precision_would_show_where_a_recording_drifts(monkeypatch: pytest.MonkeyPatch) -> None:
    drift = np.cumsum(np.random.default_rng(1).normal(0, 30, (4, 150_000)), axis=1).astype(np.float32)
    theirs = by_scipy(drift, sfreq=256.0, band=BAND, notch=None, ratio=(1, 2))

    exact = in_band(drift, sfreq=256.0, bandpass=BAND, ratio=(1, 2))
    monkeypatch.setattr(filters, "SINGLE_UP_TO_UV", 1e9)
    rough = in_band(drift, sfreq=256.0, bandpass=BAND, ratio=(1, 2))

    assert np.abs(exact - theirs).max() < 1e-4
    assert np.abs(rough - theirs).max() > 1e-3


def test_one_burst_between_the_samples_that_are_looked_at_first_is_seen() -> None:
    signal = np.random.default_rng(2).normal(0, 20, (4, 60_000)).astype(np.float32)
    signal[1, 30_001::16] += 5000

    found = in_band(signal, sfreq=256.0, bandpass=BAND)

    np.testing.assert_allclose(
        found, by_scipy(signal, sfreq=256.0, band=BAND, notch=None, ratio=(1, 1)), rtol=1e-6, atol=1e-4
    )


@pytest.mark.parametrize("n_times", range(1320, 1336))
def test_lengths_that_are_odd_fold_as_others_do(n_times: int) -> None:
    signal = np.cumsum(np.random.default_rng(1).normal(0, 5, (2, n_times)), axis=1).astype(np.float32)

    found = in_band(signal, sfreq=300.0, bandpass=(20.0, 40.0), ratio=(1, 3))

    theirs = by_scipy(signal, sfreq=300.0, band=(20.0, 40.0), notch=None, ratio=(1, 3))
    np.testing.assert_allclose(found, theirs, atol=1e-4)


@pytest.mark.parametrize("band", [(11.0, 16.0), (8.0, 12.0), (39.0, 41.0)])
def test_a_narrow_band_rings_for_longer_than_its_lower_edge_says(band: tuple[float, float]) -> None:
    signal = np.cumsum(np.random.default_rng(1).normal(0, 5, (2, 20_000)), axis=1).astype(np.float32)
    beside = margin(SFREQ, bandpass=band, notch=None, ratio=(1, 1))

    whole = in_band(signal, sfreq=SFREQ, bandpass=band)
    found = in_band(signal[:, 5000:12_000], sfreq=SFREQ, bandpass=band, begins=False, ends=False)

    np.testing.assert_allclose(found[:, beside:-beside], whole[:, 5000 + beside : 12_000 - beside], atol=1e-4)


@pytest.mark.parametrize("ratio", [(1, 1), (1, 2), (64, 125)])
@pytest.mark.parametrize(("begins", "ends"), [(True, False), (False, True), (False, False)])
def test_a_stretch_is_that_of_the_whole_but_for_the_margin(
    ratio: tuple[int, int], begins: bool, ends: bool
) -> None:
    signal = np.cumsum(np.random.default_rng(1).normal(0, 5, (2, 20_000)), axis=1).astype(np.float32)
    up, down = ratio
    first, last = 0 if begins else 3000, 20_000 if ends else 15_000

    whole = in_band(signal, sfreq=SFREQ, bandpass=(1.0, 40.0), ratio=ratio)
    found = in_band(signal[:, first:last], sfreq=SFREQ, bandpass=(1.0, 40.0), ratio=ratio, begins=begins, ends=ends)

    beside = margin(SFREQ, bandpass=(1.0, 40.0), notch=None, ratio=ratio) * up // down + 1
    low, high = 0 if begins else beside, found.shape[1] - (0 if ends else beside)
    np.testing.assert_allclose(found[:, low:high], whole[:, first * up // down :][:, low:high], atol=1e-4)
    assert begins or np.abs(found[:, :5] - whole[:, first * up // down :][:, :5]).max() > 1


@pytest.mark.parametrize(
    ("before", "ratio"),
    [(300.0, (1, 3)), (360.0, (1, 2)), (173.61, (12800, 17361)), (100.0, (64, 25)), (128.0, (25, 32))],
)
def test_a_wave_keeps_its_samples_at_the_new_times(before: float, ratio: tuple[int, int]) -> None:
    seconds, hertz, after = 20, 9.0, before * ratio[0] / ratio[1]
    signal = 50 * np.sin(2 * np.pi * hertz * np.arange(int(seconds * before)) / before)[None].astype(np.float32)

    found = in_band(signal, sfreq=before, bandpass=(0.5, 40.0), ratio=ratio)

    times = np.arange(found.shape[1]) / after
    assert times[-1] <= signal.shape[1] / before < times[-1] + 2 / after
    middle = slice(int(5 * after), -int(5 * after))
    np.testing.assert_allclose(found[0, middle], 50 * np.sin(2 * np.pi * hertz * times)[middle], atol=0.25)


def test_what_half_of_the_new_rate_cannot_hold_is_removed() -> None:
    signal = 50 * np.sin(2 * np.pi * 70 * np.arange(6000) / 300)[None].astype(np.float32)

    found = in_band(signal, sfreq=300.0, bandpass=(0.5, 49.0), ratio=(1, 3))

    assert np.abs(found[0, 500:-500]).max() < 1


def test_the_ends_do_not_ring() -> None:
    slope = np.linspace(-900, 4000, 9000, dtype=np.float32)[None]

    assert np.abs(in_band(slope, sfreq=300.0, bandpass=(0.5, 40.0), ratio=(1, 3))).max() < 5


def test_beats_move_with_the_samples_and_the_same_rate_changes_nothing() -> None:
    marks = Beats(np.array([0, 1, 2, 3, 300, 599]), np.array([0, 1, 0, 1, 0, 1]))

    beats, _ = at_rate(marks, None, ratio=(1, 3))

    assert beats is not None
    assert beats.samples.tolist() == [0, 0, 1, 1, 100, 200]  # thirds, to the nearest sample
    assert beats.labels.tolist() == marks.labels.tolist()
    assert at_rate(marks, None, ratio=(1, 1)) == (marks, None)
