"""Layers of generators and critics: starts at zero, and the study's pass band."""

import math

import pytest
import torch

from fedsynth.families.adversarial.layers import band_limited, dense, same_length
from fedsynth.modalities.shape import Shape


def test_a_stack_that_starts_at_zero_adds_nothing_and_can_learn() -> None:
    for stack, given in ((dense((3, 5, 2), zero_last=True), (4, 3)), (same_length((3, 5, 2)), (4, 3, 20))):
        out = stack(torch.randn(given))
        assert float(out.detach().abs().max()) == 0
        out.sum().backward()
        last = list(stack.parameters())[-2]
        assert last.grad is not None
        assert float(last.grad.abs().max()) > 0


@pytest.mark.parametrize(
    ("hertz", "gain"),
    [
        pytest.param(0, 0.0, id="nothing constant passes"),
        pytest.param(2, math.sqrt(0.5), id="half the power at the lower edge"),
        pytest.param(8, 1.0, id="the middle passes"),
        pytest.param(32, math.sqrt(0.5), id="half the power at the upper edge"),
        pytest.param(60, (1 + (60 / 32) ** 8) ** -0.5, id="a Butterworth filter of order 4 above"),
    ],
)
def test_signals_are_filtered_to_the_pass_band(hertz: int, gain: float) -> None:
    shape = Shape(channels=("C3",), n_times=128, sfreq=128.0, bandpass=(2.0, 32.0), n_labels=2, modality="eeg")
    wave = torch.cos(2 * math.pi * hertz * torch.arange(128) / 128)[None, None]

    assert torch.allclose(band_limited(wave, shape), gain * wave, atol=1e-4)
