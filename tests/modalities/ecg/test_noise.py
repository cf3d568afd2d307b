"""Noise of leads: electrodes are heard where they belong, and what is slow has the beat's pattern."""

import torch

from fedsynth.modalities.ecg.beats import beat_samples
from fedsynth.modalities.ecg.leads import axes_of, keep_identities
from fedsynth.modalities.ecg.noise import electrodes_of, lead_noise, loudness, mixed_places, n_own, pattern_of
from fedsynth.modalities.shape import Shape

TWELVE = ("I", "II", "III", "aVR", "aVL", "aVF", "V1", "V2", "V3", "V4", "V5", "V6")
LEADS = Shape(TWELVE, 500, 100.0, (0.5, 40.0), 2, "ecg", every_lead=True)
UNKNOWN = Shape(("a", "b"), 500, 100.0, (0.5, 40.0), 2, "ecg")


def white(*size: int) -> torch.Tensor:
    """Return white noise of unit variance."""
    return torch.randn(*size, generator=torch.Generator().manual_seed(3))


def t_wave(heights: list[float], shape: Shape) -> torch.Tensor:
    """Return a beat that is a T wave alone, with these heights on the axes, shape (1, axis, beat time)."""
    before, size = beat_samples(shape.sfreq)
    at = (torch.arange(size) - before) / shape.sfreq
    return torch.tensor(heights)[None, :, None] * torch.exp(-0.5 * ((at - 0.27) / 0.04) ** 2)


def fast(signal: torch.Tensor) -> torch.Tensor:
    """Return what is above 25 Hz."""
    spectrum = torch.fft.rfft(signal)
    spectrum[..., : 25 * 5] = 0
    return torch.fft.irfft(spectrum, signal.shape[-1])


def test_one_arm_is_heard_by_every_lead_it_is_part_of() -> None:
    """Fast noise of the right arm alone: I and II hear it whole, III not at all, chest leads a third of it."""
    electrodes = electrodes_of(TWELVE)
    assert electrodes is not None

    heard = electrodes[:, 0] / electrodes[0, 0].abs()

    assert torch.allclose(heard[:3], torch.tensor([-1.0, -1.0, 0.0]), atol=1e-6)
    assert torch.allclose(heard[6:], torch.full((6,), -1 / 3), atol=1e-6)
    assert n_own(LEADS) == 9


def test_fast_noise_obeys_einthoven_and_is_of_unit_variance() -> None:
    own = white(40, 9, 500)
    noise = lead_noise(white(40, 500), own, t_wave([100.0] * 8, LEADS).expand(40, -1, -1), LEADS)

    high = fast(noise)

    assert torch.allclose(keep_identities(high, TWELVE), high, atol=1e-4)
    assert 0.85 < float(high.square().mean() / fast(white(40, 12, 500)).square().mean()) < 1.15
    together = torch.corrcoef(high[:, [0, 1, 7, 8]].transpose(0, 1).flatten(1))
    assert 0.4 < float(together[0, 1]) < 0.6
    assert 0.1 < float(together[2, 3]) < 0.4
    assert abs(float(together[0, 3])) < 0.15


def test_slow_noise_has_the_pattern_of_the_beat() -> None:
    """A T wave in V2 and, upside down, in V5: what is slow moves there, together and against each other."""
    shape = LEADS
    heights = [0.0, 0.0, 0.0, 300.0, 0.0, 0.0, -300.0, 0.0]
    template = t_wave(heights, shape).expand(40, -1, -1)
    assert axes_of(TWELVE, every_lead=True).number == len(heights)

    noise = lead_noise(white(40, 500), white(40, 9, 500), template, shape)
    slow = noise - fast(noise)
    spectrum = torch.fft.rfft(slow)
    spectrum[..., 4 * 5 :] = 0
    slow = torch.fft.irfft(spectrum, 500)

    between = torch.corrcoef(torch.stack([slow[:, 7].flatten(), slow[:, 10].flatten()]))[0, 1]
    assert float(between) < -0.8
    assert float(pattern_of(template, shape).square().mean()) > 0.99


def test_places_are_as_loud_as_they_are_and_one_channel_has_one_noise() -> None:
    one = Shape(("ECG",), 500, 100.0, (0.5, 40.0), 4, "ecg")
    shared = white(3, 500)

    assert torch.equal(lead_noise(shared, shared[:, None], torch.zeros(3, 1, 76), one), shared[:, None])
    assert electrodes_of(UNKNOWN.channels) is None
    assert abs(float(loudness(white(20_000)).square().mean()) - 1) < 0.05
    mixed = mixed_places(white(200, 3, 500), torch.randn(200, 6, generator=torch.Generator().manual_seed(1)))
    assert mixed.shape == (200, 2, 500)
    assert 0.8 < float(mixed.square().mean()) < 1.2
