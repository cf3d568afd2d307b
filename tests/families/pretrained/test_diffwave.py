"""DiffWave: what it estimates, what it knows of the noise level, and what it makes of an untold length."""

import pytest
import torch

from fedsynth.anchors.anchor import prior_anchor
from fedsynth.families.pretrained.diffwave import DiffWave, DiffWaveSource
from fedsynth.families.pretrained.weights import load
from fedsynth.modalities.registry import codec_of, frame_of
from fedsynth.modalities.shape import Shape

SHAPE = Shape(
    channels=("C3",), n_times=192, sfreq=120.0, bandpass=(0.5, 42.0), n_labels=2, modality="eeg"
)  # of no pretraining


@pytest.fixture(scope="module")
def source() -> DiffWaveSource:
    source = DiffWave().source(frame_of(SHAPE).raw_width)
    load(source, name="diffwave", modality="eeg")
    return source.requires_grad_(False)


def test_the_loss_is_that_of_the_estimated_noise(source: DiffWaveSource) -> None:
    """Knowing nothing, the best estimate is 0, whose loss is the noise's mean square, 1."""
    waves, condition = frame_of(SHAPE).read(codec_of(SHAPE).simulate(100), torch.zeros(100))
    noise = torch.randn(100, 1 + waves.shape[1], generator=torch.Generator().manual_seed(0))
    loss = source.loss("denoiser", waves, condition, noise)
    for parameter in source.denoiser.last.parameters():
        parameter.data.zero_()
    nothing = source.loss("denoiser", waves, condition, noise)
    load(source, name="diffwave", modality="eeg")

    assert torch.allclose(nothing, noise[:, 1:].square().mean(dim=1))
    assert float(loss.mean()) < 0.4


def test_the_estimate_depends_on_the_noise_level(source: DiffWaveSource) -> None:
    state, steer = torch.randn(2, 1, 96), torch.zeros(2, 64)
    low, high = (source.denoiser(state, torch.full((2,), sigma), steer) for sigma in (0.1, 0.99))

    assert float((low - high).abs().mean()) > 0.05


@pytest.mark.parametrize("seconds", [0.5, 1.0, 10.0])
def test_windows_of_any_length_come_from_one_set_of_weights(seconds: float) -> None:
    shape = Shape(("C3",), round(seconds * 100), 100.0, (0.5, 40.0), 1, modality="eeg")
    family = DiffWave(steps=2)
    noise = torch.randn(2, family.noise_width(shape), generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        windows = family.sample(family.build(shape, prior_anchor(shape)), torch.tensor([0, 0]), noise)

    assert windows.shape == (2, 1, round(seconds * 100))
    assert bool(torch.isfinite(windows).all())
