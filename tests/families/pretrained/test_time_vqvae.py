"""Time-VQVAE: two bands that add up, codebooks that only gradients move, and priors that draw every code once."""

import pytest
import torch

from fedsynth.families.pretrained.codebook import Codebook
from fedsynth.families.pretrained.stft import HOP, bands_of, wave_of
from fedsynth.families.pretrained.time_vqvae import TimeVqvae, TimeVqvaeSource
from fedsynth.families.pretrained.weights import load
from fedsynth.modalities.registry import codec_of, frame_of
from fedsynth.modalities.shape import Shape

SHAPE = Shape(
    channels=("C3",), n_times=192, sfreq=120.0, bandpass=(0.5, 42.0), n_labels=2, modality="eeg"
)  # of no pretraining


@pytest.fixture(scope="module")
def source() -> TimeVqvaeSource:
    source = TimeVqvae().source(frame_of(SHAPE).raw_width)
    load(source, name="time-vqvae", modality="eeg")
    return source.requires_grad_(False)


def test_both_bands_together_are_the_waveform() -> None:
    waves = torch.randn(3, 96, generator=torch.Generator().manual_seed(0), dtype=torch.float64)

    assert torch.allclose(wave_of(*bands_of(waves)), waves)


def test_a_slow_wave_lies_in_the_low_band_and_a_fast_one_in_the_high_band() -> None:
    at = torch.arange(160, dtype=torch.float64)
    slow, fast = torch.sin(2 * torch.pi * at / 40)[None], torch.sin(2 * torch.pi * at / 4)[None]
    for wave, near, far in ((slow, 0, 1), (fast, 1, 0)):
        power = [band[..., 2:-2].square().sum() for band in bands_of(wave)]

        assert float(power[near]) > 20 * float(power[far])


def test_a_codebook_has_no_buffer_and_the_nearest_code_by_brute_force() -> None:
    """Moving averages and k-means would write what they read of windows into the codes."""
    torch.manual_seed(0)
    book, flow = Codebook(64, 8), torch.randn(2, 7, 8)
    normal = torch.nn.functional.layer_norm(flow, (8,))

    assert not list(book.buffers())
    assert torch.equal(book.nearest(flow), torch.cdist(normal, book.codes).argmin(dim=-1))


def test_gradients_go_straight_through_the_codes() -> None:
    torch.manual_seed(1)
    book, flow = Codebook(64, 8), torch.randn(1, 3, 8, requires_grad=True)
    weight = torch.randn(1, 3, 8)
    codes, pull = book(flow)
    (through,) = torch.autograd.grad((codes * weight).sum(), flow, retain_graph=True)
    plain = torch.nn.functional.layer_norm(flow, (8,))
    (expected,) = torch.autograd.grad((plain * weight).sum(), flow)

    assert torch.allclose(through, expected, atol=1e-6)
    assert torch.autograd.grad(pull.sum(), book.codes)[0].abs().sum() > 0


def test_no_codebook_has_collapsed(source: TimeVqvaeSource) -> None:
    """Codes that nobody uses are what moving averages and restarts are meant to prevent."""
    waves, condition = frame_of(SHAPE).read(codec_of(SHAPE).simulate(400), torch.zeros(400))
    for band, frames in zip(("low", "high"), bands_of(waves), strict=True):
        codes = source.coder(band).encode(frames, condition)
        for head in codes.chunk(2, dim=1):
            share = torch.bincount(head.flatten(), minlength=64) / head.numel()
            assert float(torch.exp(-(share * torch.log(share + 1e-12)).sum())) > 16  # perplexity, of 64


def test_waveforms_are_drawn_from_their_own_noise(source: TimeVqvaeSource) -> None:
    length = 96
    condition = frame_of(SHAPE).condition(codec_of(SHAPE).features(codec_of(SHAPE).simulate(3)))
    noise = torch.randn(3, source.noise_width(length), generator=torch.Generator().manual_seed(2))
    nothing = source.zero_shifts(3)
    together = source.draw(condition, noise, nothing)
    alone = source.draw(condition[1:2], noise[1:2], source.zero_shifts(1))

    assert together.shape == (3, length)
    assert source.noise_width(length) == 2 * 2 * 2 * (length // HOP + 1)
    assert torch.allclose(together[1:2], alone, atol=1e-4)
