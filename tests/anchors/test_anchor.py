"""The anchor: recovers what it is shown, stays bounded, and falls back to the prior under noise."""

import pytest
import torch

from fedsynth.anchors.anchor import Anchor, FeatureDraw
from fedsynth.anchors.moments.estimator import Moments
from fedsynth.anchors.moments.means import CountsAndMeans
from fedsynth.anchors.moments.second_moments import SecondMoments
from fedsynth.modalities.eeg.decoder import SimulatingDecoder
from fedsynth.modalities.eeg.features import N_SHAPE, features, n_features, spatial_basis
from fedsynth.modalities.eeg.simulator import waveforms
from fedsynth.modalities.equaliser import equalise
from fedsynth.modalities.measures import band_bins, band_powers
from fedsynth.modalities.registry import natural, scale_of, standardise
from fedsynth.modalities.shape import Shape

ONE = Shape(channels=("EEG",), n_times=256, sfreq=128.0, bandpass=(0.5, 40.0), n_labels=2, modality="eeg")
EIGHT = Shape(
    channels=("Fp1", "Fp2", "C3", "C4", "T7", "T8", "O1", "O2"),
    n_times=256,
    sfreq=128.0,
    bandpass=(0.5, 40.0),
    n_labels=2,
    modality="eeg",
)


def two_kinds(shape: Shape, count: int) -> tuple[torch.Tensor, torch.Tensor]:
    waves = waveforms(shape, count=2000)[: count * len(shape.channels)].view(count, len(shape.channels), -1)
    labels = torch.arange(count) % 2
    return waves * torch.where(labels == 0, 15.0, 60.0)[:, None, None], labels


def learned(shape: Shape, *, count: int, noise: float) -> Anchor:
    """Return the anchor of `count` units of one window each, with `noise` on every coordinate of the sums."""
    signal, labels = two_kinds(shape, count)
    generator = torch.Generator().manual_seed(0)
    moments = Moments((CountsAndMeans(radius=4.0), SecondMoments(radius=4.0)))  # so that nobody is clipped
    anchor = moments.prior(shape)
    for step in range(len(moments.requests(shape))):
        rows = torch.stack(
            [
                moments.statistics(anchor, shape, signal=signal[i : i + 1], labels=labels[i : i + 1])
                for i in range(count)
            ]
        )
        assert rows.shape[1] == moments.statistic_size(shape, step=step)
        total = rows.sum(dim=0)
        total = total + noise * torch.randn(total.shape, generator=generator, dtype=total.dtype)
        anchor = moments.advance(anchor, shape, total=total, noise_std=noise)
    return anchor


def run(shape: Shape, *, noise: float) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return the anchor's means, the true means, and the counts, with `noise` on every coordinate."""
    anchor, (signal, labels) = learned(shape, count=200, noise=noise), two_kinds(shape, 200)
    vector = standardise(features(signal, shape), shape)
    true = torch.stack([vector[labels == label].mean(dim=0) for label in (0, 1)])
    return anchor.means[:, 0], true, anchor.counts


def test_without_noise_the_means_are_exact() -> None:
    means, true, counts = run(ONE, noise=0.0)

    assert torch.allclose(means, true, atol=1e-3)
    assert counts.tolist() == pytest.approx([100.0, 100.0])


def test_without_noise_several_channels_are_exact_too() -> None:
    means, true, _ = run(EIGHT, noise=0.0)

    assert torch.allclose(means, true, atol=1e-3)


def test_under_overwhelming_noise_the_prior_remains() -> None:
    means, _, _ = run(ONE, noise=1e5)

    assert float(means.abs().max()) < 0.6


def test_covariances_have_factors_even_under_noise() -> None:
    drawn = FeatureDraw(learned(EIGHT, count=60, noise=50.0), EIGHT)

    assert bool(torch.isfinite(drawn(torch.tensor([0, 1]), torch.randn(2, drawn.width))).all())


def test_without_noise_the_covariance_of_one_channel_is_the_samples_own() -> None:
    anchor, (signal, labels) = learned(ONE, count=400, noise=0.0), two_kinds(ONE, 400)
    vector = standardise(features(signal, ONE), ONE)[labels == 1]

    own = torch.cov(vector.T, correction=0)

    assert torch.allclose(anchor.covariances[1], own, atol=0.05)


def test_bounds_are_public_constants_of_the_shape() -> None:
    one, eight = Moments().requests(ONE), Moments().requests(EIGHT)

    assert [request.clipping_norm for request in one] == [
        request.clipping_norm for request in Moments().requests(ONE)
    ]
    assert all(0 < request.clipping_norm < 100 for request in eight)


def test_standardising_is_undone_by_natural() -> None:
    vector = scale_of(ONE).centre.repeat(3, 1) + 0.1

    assert torch.allclose(natural(standardise(vector, ONE), ONE), vector, atol=1e-5)


def test_a_sine_of_one_microvolt_has_half_a_square_microvolt() -> None:
    time = torch.arange(256) / 128.0
    powers = band_powers(torch.sin(2 * torch.pi * 10.0 * time)[None, None], ONE)
    total = (10 ** powers[0, 0]).sum()

    assert abs(float(total) - 0.5) < 0.02


def test_every_band_has_a_bin_at_any_length() -> None:
    short = Shape(channels=("EEG",), n_times=64, sfreq=512.0, bandpass=(0.5, 100.0), n_labels=2, modality="eeg")

    assert all(last > first for first, last in band_bins(short))
    assert n_features(short) == len(band_bins(short)) + N_SHAPE


def test_spatial_maps_are_orthogonal_and_begin_with_the_constant() -> None:
    basis = spatial_basis(EIGHT)

    assert torch.allclose(basis @ basis.T / 8, torch.eye(len(basis)), atol=1e-5)
    assert torch.allclose(basis[0], torch.ones(8))


def test_unknown_electrodes_get_the_constant_alone() -> None:
    odd = Shape(channels=("A", "B"), n_times=256, sfreq=128.0, bandpass=(0.5, 40.0), n_labels=2, modality="eeg")

    assert spatial_basis(odd).tolist() == [[1.0, 1.0]]


def test_the_decoder_delivers_the_powers_asked_for() -> None:
    source = waveforms(ONE, count=2000)[:40, None]
    asked = band_powers(waveforms(ONE, count=2000)[100:140, None] * 25.0, ONE)

    found = band_powers(equalise(source, asked, ONE), ONE)

    assert float((found - asked).abs().median()) < 0.05


def test_the_decoder_is_differentiable_in_its_features() -> None:
    vector = scale_of(ONE).centre.repeat(2, 1).requires_grad_()
    decoder = SimulatingDecoder(ONE)
    decoder(vector, torch.randn(2, decoder.noise_width)).square().mean().backward()

    assert vector.grad is not None
    assert float(vector.grad[:, : len(band_bins(ONE))].abs().min()) > 0
