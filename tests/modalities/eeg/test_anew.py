"""Waves simulated anew: of unit size, within the pass band, never twice, and differing as their parameters do."""

import numpy as np
import torch

from fedsynth.modalities.eeg.anew import margin, noise_size, parameters, simulate
from fedsynth.modalities.registry import codec_of
from fedsynth.modalities.shape import Shape

SHAPE = Shape(("Cz",), 256, 128.0, (0.5, 40.0), 2, "eeg")


def waves(rows: torch.Tensor, *, seed: int = 0) -> torch.Tensor:
    noise = torch.randn(len(rows), noise_size(SHAPE), generator=torch.Generator().manual_seed(seed))
    return simulate(parameters(400, SHAPE).take(rows), noise, SHAPE)


def test_waves_have_unit_size_and_a_margin_and_nothing_far_beyond_the_band() -> None:
    drawn = waves(torch.arange(400))

    assert drawn.shape == (400, 256 + 2 * margin(SHAPE))
    assert torch.allclose(drawn.square().mean(dim=1), torch.ones(400), atol=1e-3)
    power = torch.fft.rfft(drawn).abs().square()
    hertz = torch.fft.rfftfreq(drawn.shape[1], 1 / SHAPE.sfreq)
    assert float((power[:, hertz > 60].sum(dim=1) / power.sum(dim=1)).median()) < 1e-3


def test_the_same_parameters_give_another_wave_for_other_noise() -> None:
    rows = torch.arange(400)
    one, other = waves(rows), waves(rows, seed=1)

    correlation = (one * other).mean(dim=1) / (one.std(dim=1) * other.std(dim=1))
    assert float(correlation.abs().max()) < 0.95
    assert torch.equal(one, waves(rows))


def test_discharges_make_waves_peaked() -> None:
    known = parameters(400, SHAPE)
    loud = torch.argsort(known.size, descending=True)[:60]
    none = torch.nonzero((known.size == 0) & (known.unrest == 0) & (known.harmonic == 0) & (known.steadiness == 0))[
        :60, 0
    ]

    fourth = [(waves(rows) ** 4).mean(dim=1).median() for rows in (loud, none)]
    assert float(fourth[0]) > 1.2 * float(fourth[1])


def test_the_decoder_draws_no_wave_twice_for_the_same_features() -> None:
    codec = codec_of(SHAPE)
    vector = codec.features(codec.simulate(40))[:1].expand(60, -1)
    noise = torch.randn(60, codec.noise_width, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        drawn = codec.decoder()(vector, noise)[:, 0].numpy()

    alike = np.corrcoef(drawn) - np.eye(60)
    assert np.abs(alike).max() < 0.95
    missed = codec.features(torch.from_numpy(drawn)[:, None]) - vector
    assert float(missed[:, :11].abs().mean()) < 0.04
