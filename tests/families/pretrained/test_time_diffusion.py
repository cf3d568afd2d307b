"""Time-Diffusion: zero terminal SNR in training and in sampling, and an estimate of the clean signal."""

import pytest
import torch

from fedsynth.families.pretrained.time_diffusion import TimeDiffusion, TimeDiffusionSource, schedule
from fedsynth.families.pretrained.weights import load
from fedsynth.modalities.registry import codec_of, frame_of
from fedsynth.modalities.shape import Shape

SHAPE = Shape(
    channels=("C3",), n_times=192, sfreq=120.0, bandpass=(0.5, 42.0), n_labels=2, modality="eeg"
)  # of no pretraining


@pytest.fixture(scope="module")
def source() -> TimeDiffusionSource:
    source = TimeDiffusion().source(frame_of(SHAPE).raw_width)
    load(source, name="time-diffusion", modality="eeg")
    return source.requires_grad_(False)


def test_the_last_of_a_thousand_steps_holds_no_signal() -> None:
    assert len(schedule()) == 1000
    assert float(schedule()[-1]) == 0.0


def test_at_the_last_step_the_waveform_does_not_matter(source: TimeDiffusionSource) -> None:
    """With signal left there, the sampler would begin at a state that training never saw."""
    waves, condition = frame_of(SHAPE).read(codec_of(SHAPE).simulate(2), torch.zeros(2))
    noise = torch.randn(2, 1 + waves.shape[1], generator=torch.Generator().manual_seed(0))
    noise[:, 0] = 8.0  # uniform_of gives 1: the last step
    seen = []
    source.unet.register_forward_pre_hook(lambda _, given: seen.append(given[0].clone()))
    source.loss("denoiser", waves, condition, noise)
    source.loss("denoiser", -waves, condition, noise)

    assert torch.equal(seen[0], seen[1])
    assert torch.equal(seen[0][:, 0], noise[:, 1:])


def test_with_little_noise_the_clean_waveform_is_found(source: TimeDiffusionSource) -> None:
    waves, condition = frame_of(SHAPE).read(codec_of(SHAPE).simulate(50), torch.zeros(50))
    noise = torch.randn(50, 1 + waves.shape[1], generator=torch.Generator().manual_seed(1))
    early, late = noise.clone(), noise.clone()
    early[:, 0], late[:, 0] = -1.5, 2.0  # steps 67 and 977
    near, far = (source.loss("denoiser", waves, condition, drawn).mean() for drawn in (early, late))

    assert float(near) < 0.1
    assert float(far) > float(near)
