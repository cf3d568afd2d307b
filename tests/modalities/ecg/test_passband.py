"""Gains by frequency against the very filters that a site applies to recordings."""

import numpy as np
import pytest
import torch
from scipy.signal import butter, resample_poly, sosfiltfilt

from fedsynth.modalities.ecg.passband import band_limit, pass_lower_edge, recorded_gain, simple_gain, unlimited
from fedsynth.modalities.shape import Shape
from fedsynth.study import rate_ratio

SAME_RATE = Shape(("II",), 500, 100.0, (0.5, 40.0), 2, "ecg")
RESAMPLED = Shape(("ECG",), 900, 100.0, (0.5, 40.0), 4, "ecg", recorded_sfreq=300.0)


@pytest.mark.parametrize(("shape", "below"), [(SAME_RATE, 50.0), (RESAMPLED, 42.0)])
def test_the_gain_is_that_of_the_filters_of_a_site(shape: Shape, below: float) -> None:
    """An impulse through scipy's filters; near half the rate the impulse's alias adds to it."""
    rate = shape.recorded_sfreq or shape.sfreq
    impulse = np.zeros(int(40 * rate))
    impulse[len(impulse) // 2] = 1.0
    sections = butter(4, shape.bandpass, btype="bandpass", fs=rate, output="sos")
    up, down = rate_ratio(rate, shape.sfreq)
    answer = resample_poly(sosfiltfilt(sections, impulse), up, down) * down / up

    found = np.abs(np.fft.rfft(answer))
    low = np.fft.rfftfreq(len(answer), 1 / shape.sfreq) < below

    assert np.abs(found - recorded_gain(len(answer), shape))[low].max() < 1e-3


def test_a_digital_filter_leaves_nothing_at_half_the_rate() -> None:
    at_48 = 48 * 10

    assert recorded_gain(1000, SAME_RATE)[at_48] < 1e-4 < 0.1 < simple_gain(1000, SAME_RATE)[at_48]
    assert recorded_gain(1000, RESAMPLED)[at_48] > 0.05


def test_noise_that_was_limited_before_is_limited_once() -> None:
    """Of a wave at 42 Hz as much is left as of one that met only the recordings' filter."""
    wave = torch.sin(2 * torch.pi * 42 * torch.arange(500) / 100)[None, None]
    before = simple_gain(500, SAME_RATE)[42 * 5] * wave

    twice = band_limit(unlimited(before, SAME_RATE), SAME_RATE)

    assert torch.allclose(twice, band_limit(wave, SAME_RATE), atol=0.03)


def test_beats_lose_their_baseline_and_keep_what_is_below_the_upper_edge() -> None:
    time = torch.arange(500) / 100
    slow, fast = torch.sin(2 * torch.pi * 0.2 * time), torch.sin(2 * torch.pi * 38 * time)

    passed = pass_lower_edge((slow + fast)[None, None], SAME_RATE)[0, 0]

    assert float((passed - fast)[50:-50].square().mean()) < 0.01
