"""Several channels of EEG: what is mixed at random, and what must not move."""

import pytest
import torch
from torch import Tensor

from fedsynth.modalities.eeg.features import spatial_basis
from fedsynth.modalities.eeg.mixing import SOURCES, mix, mixing_width, uneven
from fedsynth.modalities.measures import band_bins, band_powers
from fedsynth.modalities.registry import codec_of, natural, standardise
from fedsynth.modalities.shape import Shape
from fedsynth.rng import torch_generator

EIGHT = Shape(("Fp1", "Fp2", "C3", "C4", "P3", "P4", "O1", "O2"), 256, 128.0, (0.5, 45.0), 2, modality="eeg")


def normal(*size: int, seed: str) -> Tensor:
    return torch.randn(size, generator=torch_generator("test", seed))


def correlation(windows: Tensor) -> Tensor:
    """Return the mean correlation between different channels, shape (window,)."""
    centred = windows - windows.mean(dim=2, keepdim=True)
    unit = centred / centred.norm(dim=2, keepdim=True)
    off = 1 - torch.eye(windows.shape[1])
    return ((unit @ unit.mT) * off).sum(dim=(1, 2)) / off.sum()


def test_one_channel_is_not_mixed() -> None:
    assert mixing_width(Shape(("Cz",), 256, 128.0, (0.5, 45.0), 2, modality="eeg")) == 0


def test_electrodes_differ_beyond_the_maps_and_the_maps_stay() -> None:
    powers = normal(50, 8, len(band_bins(EIGHT)), seed="powers")
    changed = uneven(powers, normal(50, mixing_width(EIGHT), seed="noise"), EIGHT)
    basis = spatial_basis(EIGHT)
    torch.testing.assert_close(
        torch.einsum("mc,wcb->wmb", basis, changed), torch.einsum("mc,wcb->wmb", basis, powers), rtol=0, atol=1e-4
    )
    # Four of eight directions are left to differ in.
    spread = (changed - powers).std(dim=(0, 1))
    assert spread[-1] == pytest.approx(((0.19**2 + 0.16**2) * len(basis) / 8) ** 0.5, rel=0.15)
    assert spread[0] > 1.1 * spread[-1]


def test_a_mixture_has_unit_variance_and_windows_differ_in_how_much_channels_share() -> None:
    sources, own = normal(400, SOURCES, 2000, seed="sources"), normal(400, 8, 2000, seed="own")
    mixed = mix(sources, own, normal(400, mixing_width(EIGHT), seed="noise"), EIGHT)
    torch.testing.assert_close(mixed.std(dim=2), torch.ones(400, 8), rtol=0, atol=0.12)
    shared = correlation(mixed)
    assert shared.quantile(0.1) < 0.12
    assert shared.quantile(0.9) > 0.35


def test_decoded_windows_keep_their_features_however_they_are_mixed() -> None:
    codec = codec_of(EIGHT)
    decoder = codec.decoder()
    # Two makes of one vector: all that differs is what the features leave open.
    asked = standardise(codec.features(codec.simulate(40)), EIGHT).float().clamp(-2, 2)
    made = [
        decoder(natural(asked, EIGHT), normal(40, codec.noise_width, seed=seed)).float() for seed in ("one", "two")
    ]
    basis = spatial_basis(EIGHT)
    first, second = (torch.einsum("mc,wcb->wmb", basis, band_powers(windows, EIGHT)) / 8 for windows in made)
    assert (first - second).abs().median() < 0.03
    assert (correlation(made[0]) - correlation(made[1])).abs().mean() > 0.05
