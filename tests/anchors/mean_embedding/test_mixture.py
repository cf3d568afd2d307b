"""The mixture behind a mean embedding: its closed form and its prior scale against second ways to know them."""

import math

import torch

from fedsynth.anchors.coordinates import coordinates_of
from fedsynth.anchors.mean_embedding.estimator import MeanEmbedding
from fedsynth.anchors.mean_embedding.mixture import Fitted, NoisySums, embedding_of, likeliest_scale
from fedsynth.modalities.shape import Shape

SHAPE = Shape(channels=("EEG",), n_times=128, sfreq=100.0, bandpass=(1.0, 30.0), n_labels=2, modality="eeg")


def test_the_closed_form_is_the_mean_over_many_draws() -> None:
    generator = torch.Generator().manual_seed(0)
    root = torch.tensor([[1.0, 0.0], [0.6, 0.4]], dtype=torch.float64)
    means = torch.tensor([[[0.5, -1.0], [2.0, 0.0]]], dtype=torch.float64)
    weights = torch.tensor([[0.25, 0.75]], dtype=torch.float64)
    directions = torch.randn(16, 2, generator=generator, dtype=torch.float64)
    fitted = Fitted(torch.ones(1), weights, means, (root @ root.T)[None])

    component = (torch.rand(200_000, generator=generator) < 0.75).long()
    draws = means[0, component] + torch.randn(200_000, 2, generator=generator, dtype=torch.float64) @ root.T
    angle = draws @ directions.T
    counted = torch.cat([angle.cos().mean(dim=0), angle.sin().mean(dim=0)]) / math.sqrt(16)

    assert torch.allclose(embedding_of(fitted, directions)[0], counted, atol=0.002)


def test_the_prior_scale_of_means_is_read_off_the_sum() -> None:
    """Labels drawn far apart, or all at one place, straight from the prior's covariance."""
    prior, generator = coordinates_of(SHAPE).covariance, torch.Generator().manual_seed(1)
    directions = MeanEmbedding(frequencies=256)._directions(SHAPE)
    root, labels = torch.linalg.cholesky(prior + 1e-9 * torch.eye(len(prior))), 6
    normal = torch.randn(labels, 1, len(prior), generator=generator, dtype=torch.float64)
    own_scales = []
    for own in (1.0, 0.001):
        fitted = Fitted(
            torch.full((labels,), 500.0, dtype=torch.float64),
            torch.ones(labels, 1, dtype=torch.float64),
            math.sqrt(own) * normal @ root.T,
            0.2 * prior.repeat(labels, 1, 1),
        )
        sums = NoisySums(
            500 * embedding_of(fitted, directions), fitted.counts, directions, noise=1.0, count_noise=1.0
        )
        own_scales.append(likeliest_scale(fitted, sums, prior).own)

    assert own_scales == [1.0, 0.03]
