"""Waves moved onto the shape asked for: gradients are exact, shape and powers arrive, the ends are no refuge."""

import pytest
import torch

from fedsynth.modalities.eeg.anew import margin, noise_size, parameters, simulate
from fedsynth.modalities.eeg.features import N_SHAPE, shape_by_channel, waveform_shape
from fedsynth.modalities.eeg.matching import matched, shape_gradients
from fedsynth.modalities.measures import band_powers, even_powers
from fedsynth.modalities.registry import codec_of
from fedsynth.modalities.shape import Shape

SHAPE = Shape(("Cz",), 256, 128.0, (0.5, 40.0), 2, "eeg")
ROWS = 200


def waves(*, seed: int, first: int = 0) -> torch.Tensor:
    """Return waves of the simulator in microvolts, with a margin, shape (wave, 1, time)."""
    noise = torch.randn(ROWS, noise_size(SHAPE), generator=torch.Generator().manual_seed(seed))
    return 30 * simulate(parameters(2 * ROWS, SHAPE).take(torch.arange(first, first + ROWS)), noise, SHAPE)[:, None]


def inside(long: torch.Tensor) -> torch.Tensor:
    return long[..., margin(SHAPE) : margin(SHAPE) + SHAPE.n_times]


@pytest.mark.parametrize("n_times", [128, 250, 256])
@pytest.mark.parametrize("number", range(N_SHAPE))
def test_gradients_in_closed_form_are_those_of_autograd(number: int, n_times: int) -> None:
    shape = Shape(("a",), n_times, 128.0, (0.5, 40.0), 2, "eeg")
    generator = torch.Generator().manual_seed(number)
    signal = torch.randn(5, 1, n_times, dtype=torch.float64, generator=generator).cumsum(dim=-1) * 6
    signal.requires_grad_()

    shape_by_channel(signal, shape)[..., number].sum().backward()

    assert signal.grad is not None
    expected = signal.grad - signal.grad.mean(dim=-1, keepdim=True)  # the mean is no part of a wave
    assert torch.allclose(shape_gradients(signal.detach(), shape)[:, :, number], expected, rtol=1e-9, atol=1e-15)


def test_shape_and_powers_of_other_waves_arrive() -> None:
    source, wanted = waves(seed=0), inside(waves(seed=1, first=ROWS))
    powers, form = band_powers(wanted, SHAPE), waveform_shape(wanted, SHAPE)
    spread = form.std(dim=0)

    before = inside(matched(source, powers, form, SHAPE, turns=0))
    after = inside(matched(source, powers, form, SHAPE, turns=4))

    misses = [((waveform_shape(one, SHAPE) - form) / spread).abs().median(dim=0).values for one in (before, after)]
    assert float(misses[0].min()) > 0.3
    assert float(misses[1].max()) < 0.3
    assert float((even_powers(after, SHAPE) - powers).abs().median()) < 0.05


def test_nothing_is_put_where_recordings_have_nothing() -> None:
    source, wanted = waves(seed=0), inside(waves(seed=1, first=ROWS))

    after = inside(matched(source, band_powers(wanted, SHAPE), waveform_shape(wanted, SHAPE), SHAPE, turns=4))

    spectrum = torch.fft.rfft(after * torch.hann_window(SHAPE.n_times)).abs().square()
    beyond = torch.fft.rfftfreq(SHAPE.n_times, 1 / SHAPE.sfreq) > 50
    assert float((spectrum[..., beyond].sum(dim=-1) / spectrum.sum(dim=-1)).median()) < 1e-4


def test_decoded_windows_are_as_loud_at_their_ends_as_in_the_middle() -> None:
    codec = codec_of(SHAPE)
    # Recordings of few kinds: what the taper sees of each is partly chance.
    noise = torch.randn(640, noise_size(SHAPE), generator=torch.Generator().manual_seed(3))
    real = inside(30 * simulate(parameters(16, SHAPE).take(torch.arange(640) % 16), noise, SHAPE)[:, None])
    noise = torch.randn(640, codec.noise_width, generator=torch.Generator().manual_seed(4))
    with torch.no_grad():
        drawn = codec.decoder()(codec.features(real), noise)

    assert abs(middle_to_ends(drawn) - middle_to_ends(real)) < 0.08  # with one gain for a whole window .15


def middle_to_ends(signal: torch.Tensor) -> float:
    """Return the mean power of windows' middle half over that of their ends, loud windows like others."""
    power = (signal.square() / signal.square().mean(dim=-1, keepdim=True)).mean(dim=(0, 1))
    quarter = len(power) // 4
    return float(power[quarter:-quarter].mean() / torch.cat([power[:quarter], power[-quarter:]]).mean())
