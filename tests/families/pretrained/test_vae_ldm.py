"""Latent diffusion: the flaws of its source are absent, and what is asked for comes out."""

from collections.abc import Iterator

import pytest
import torch
from torch import Tensor

from fedsynth.anchors.anchor import prior_anchor
from fedsynth.families.pretrained.base import Body
from fedsynth.families.pretrained.spectral_loss import multi_domain_loss
from fedsynth.families.pretrained.vae_ldm import VaeLdm, VaeLdmSource
from fedsynth.families.pretrained.weights import load
from fedsynth.modalities.measures import band_bins, band_powers
from fedsynth.modalities.registry import codec_of, frame_of
from fedsynth.modalities.shape import Shape

SHAPE = Shape(
    channels=("C3",), n_times=192, sfreq=120.0, bandpass=(0.5, 42.0), n_labels=2, modality="eeg"
)  # of no pretraining


@pytest.fixture(scope="module", autouse=True)
def _without_gradients() -> Iterator[None]:
    with torch.no_grad():
        yield


@pytest.fixture(scope="module")
def source() -> VaeLdmSource:
    source = VaeLdm().source(frame_of(SHAPE).raw_width)
    load(source, name="vae-ldm", modality="eeg")
    return source


@pytest.fixture(scope="module")
def simulated() -> tuple[Tensor, Tensor]:
    """Return waveforms in the frame and raw conditions of a shape that pretraining did not use."""
    windows = codec_of(SHAPE).simulate(200)
    return frame_of(SHAPE).read(windows, torch.zeros(200))


def test_decoding_needs_no_encoder() -> None:
    """GenEEG trains its decoder with skips from the encoder and then decodes without them."""
    family, anchor = VaeLdm(), prior_anchor(SHAPE)
    parts, labels = family.build(SHAPE, anchor), torch.tensor([0, 1])
    noise = torch.randn(2, family.noise_width(SHAPE), generator=torch.Generator().manual_seed(0))
    before = family.sample(parts, labels, noise)
    body = parts["body"]
    assert isinstance(body, Body)
    assert isinstance(body.source, VaeLdmSource)
    for buffer in body.source.encoder.buffers():
        buffer.fill_(torch.nan)

    assert torch.equal(before, family.sample(parts, labels, noise))


def test_the_scale_is_that_of_the_trained_encoder(source: VaeLdmSource, simulated: tuple[Tensor, Tensor]) -> None:
    """GenEEG measures it before the VAE is trained."""
    waves, condition = simulated
    latents = source.encoder(waves[:, None], condition)[0] / source.get_buffer("scale")[:, None]
    spread = latents.std(dim=(0, 2))

    assert bool(((spread > 0.6) & (spread < 1.6)).all())


def test_the_autoencoder_gives_a_waveform_back(source: VaeLdmSource, simulated: tuple[Tensor, Tensor]) -> None:
    waves, condition = simulated
    latents, _ = source.encoder(waves[:, None], condition)
    again = source.decoder(latents, source.decoder.steer(condition))[:, 0]

    assert float(torch.cosine_similarity(again, waves).mean()) > 0.9


def test_windows_come_out_once_in_microvolts_with_the_powers_asked_for() -> None:
    """GenEEG undoes its normalisation twice."""
    family, codec = VaeLdm(), codec_of(SHAPE)
    body = family.build(SHAPE, prior_anchor(SHAPE))["body"]
    assert isinstance(body, Body)
    asked = codec.features(codec.simulate(64))
    noise = torch.randn(64, family.noise_width(SHAPE) - body.draw.width, generator=torch.Generator().manual_seed(1))
    windows = body.decode(asked, noise, {stage: torch.zeros(64, 64) for stage in family.source_type.private_stages})
    missed = band_powers(windows, SHAPE)[:, 0] - asked[:, : len(band_bins(SHAPE))]

    assert float(missed.abs().mean()) < 0.06  # of a decade


def test_the_multi_domain_loss_is_zero_for_the_same_waveform_and_sees_phase_and_spectrum() -> None:
    waves = torch.randn(3, 128, generator=torch.Generator().manual_seed(2))
    smooth = torch.nn.functional.avg_pool1d(waves[:, None], 3, stride=1, padding=1)[:, 0]

    assert multi_domain_loss(waves, waves).tolist() == [0, 0, 0]
    assert bool((multi_domain_loss(waves.flip(1), waves) > 0.5).all())
    assert bool((multi_domain_loss(smooth, waves) > 0.2).all())


def test_there_are_two_phases_hence_two_charges() -> None:
    assert [(phase.name, phase.private_part) for phase in VaeLdm().phases] == [
        ("vae", "vae_adapter"),
        ("ldm", "ldm_adapter"),
    ]


def test_guidance_of_one_is_the_conditional_model_and_more_changes_it() -> None:
    noise = torch.randn(4, VaeLdm().noise_width(SHAPE), generator=torch.Generator().manual_seed(3))
    plain, guided = (
        family.sample(family.build(SHAPE, prior_anchor(SHAPE)), torch.tensor([0, 0, 1, 1]), noise)
        for family in (VaeLdm(), VaeLdm(guidance=2.0))
    )

    assert not torch.allclose(plain, guided, atol=0.1)
