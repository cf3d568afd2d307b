"""Beats: found where they were put, cut, and drawn again."""

import math

import pytest
import torch

from fedsynth.modalities.ecg.beats import (
    DetectedBeats,
    beat_samples,
    beat_seconds,
    convolve,
    cut_beats,
    find_beats,
    impulses,
    outside_qrs,
)


def bells(
    at: list[float], *, n_times: int, sfreq: float, size: float = 1000.0, width: float = 0.012
) -> torch.Tensor:
    """Return Gaussian QRS complexes with T waves at these seconds, shape (1, 1, time)."""
    time = torch.arange(n_times) / sfreq
    total = torch.zeros(n_times)
    for second in at:
        total += size * torch.exp(-0.5 * ((time - second) / width) ** 2)
        total += 0.25 * size * torch.exp(-0.5 * ((time - second - 0.28) / 0.05) ** 2)
    return total[None, None]


@pytest.mark.parametrize("sfreq", [100.0, 250.0, 500.0])
@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_beats_are_found_within_a_few_milliseconds(sfreq: float, sign: float) -> None:
    at = [0.413, 1.207, 1.9, 3.1, 3.55, 4.6]
    noise = 20 * torch.randn(1, 1, int(5 * sfreq), generator=torch.Generator().manual_seed(0))

    beats = find_beats(sign * bells(at, n_times=int(5 * sfreq), sfreq=sfreq) + noise, sfreq=sfreq)

    found = (beats.at[beats.found] / sfreq).tolist()
    assert len(found) == len(at)
    assert max(abs(one - other) for one, other in zip(found, at, strict=True)) < 0.008


def test_a_flat_signal_has_no_beats() -> None:
    assert not find_beats(torch.zeros(2, 1, 300), sfreq=100.0).found.any()


@pytest.mark.parametrize("n_times", [50, 64, 100])
def test_windows_shorter_than_a_beat_are_read(n_times: int) -> None:
    signal = bells([0.25], n_times=n_times, sfreq=100.0)

    beats = find_beats(signal, sfreq=100.0)

    assert beats.found.sum() == 1
    assert abs(float(beats.at[beats.found]) - 25) < 1


def test_a_cut_beat_is_the_signal_round_it_and_nothing_outside() -> None:
    ramp = torch.arange(100.0)[None, None]
    beats = DetectedBeats(torch.tensor([[10.0, 60.0, 0.0]]), torch.tensor([[True, True, False]]))
    before, size = beat_samples(100.0)

    cut = cut_beats(ramp, beats, sfreq=100.0)[0, 0]

    assert cut[1, before] == 60
    assert cut[1, 0] == 60 - before
    assert cut[1].isnan().sum() == max(0, 60 + size - before - 100)
    assert cut[0].isnan().sum() == before - 10
    assert cut[2].isnan().all()


def test_impulses_keep_their_place_between_samples() -> None:
    """The phase of a narrow band-limited impulse at a low frequency gives its delay."""
    train = impulses(torch.tensor([[1.2345]]), torch.ones(1, 1), n_times=300, sfreq=100.0, margin=0)
    spectrum = torch.fft.rfft(train)[0, 3]

    delay = -math.atan2(float(spectrum.imag), float(spectrum.real)) / (2 * math.pi * 3 / 300) % 100
    assert abs(delay - 123.45 % 100) < 0.02
    assert abs(float(train.sum()) - 1) < 0.02


def test_drawing_puts_the_centre_of_a_beat_at_its_time() -> None:
    template = torch.exp(-0.5 * (beat_seconds(100.0) / 0.03) ** 2)[None, None]
    _, size = beat_samples(100.0)
    train = impulses(torch.tensor([[1.0, 2.5]]), torch.ones(1, 2), n_times=400, sfreq=100.0, margin=size)

    drawn = convolve(train, template, n_times=400, sfreq=100.0)[0, 0]

    time = torch.arange(400) / 100.0
    expected = sum(torch.exp(-0.5 * ((time - second) / 0.03) ** 2) for second in (1.0, 2.5))
    assert torch.allclose(drawn, torch.as_tensor(expected), atol=2e-2)


def test_the_mask_is_closed_at_beats_and_open_between() -> None:
    beats = DetectedBeats(torch.tensor([[100.0, 200.0]]), torch.tensor([[True, True]]))

    mask = outside_qrs(beats, n_times=300, sfreq=100.0)[0]

    assert mask[100] == 0
    assert mask[200] == 0
    assert mask[150] > 0.98
    assert mask[20] > 0.98
