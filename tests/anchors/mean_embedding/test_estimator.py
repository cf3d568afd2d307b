"""Mean embedding: its rows, its bound and its share between subjects against second ways to know them."""

import pytest
import torch

from fedsynth.anchors.coordinates import coordinates_of
from fedsynth.anchors.mean_embedding import estimator as embedding
from fedsynth.anchors.mean_embedding.estimator import MeanEmbedding
from fedsynth.modalities.eeg.simulator import waveforms
from fedsynth.modalities.registry import codec_of, standardise
from fedsynth.modalities.shape import Shape

SHAPE = Shape(channels=("EEG",), n_times=128, sfreq=100.0, bandpass=(1.0, 30.0), n_labels=2, modality="eeg")
ESTIMATOR = MeanEmbedding(frequencies=64)


def test_a_contribution_holds_shares_and_the_mean_kernel_of_different_windows() -> None:
    """Three windows of one label, one of the other; the kernel is taken pair by pair."""
    signal, labels = 30 * waveforms(SHAPE, count=2000)[:4, None], torch.tensor([0, 1, 0, 0])
    rows = ESTIMATOR.statistics(ESTIMATOR.prior(SHAPE), SHAPE, signal=signal, labels=labels).view(2, -1)
    vector = standardise(codec_of(SHAPE).features(signal), SHAPE) @ coordinates_of(SHAPE).there
    directions = ESTIMATOR._directions(SHAPE)
    pairs = [float(((vector[i] - vector[j]) @ directions.T).cos().mean()) for i, j in ((0, 2), (0, 3), (2, 3))]

    assert rows[:, 0].tolist() == pytest.approx([0.4 * 0.75, 0.4 * 0.25])
    assert rows[:, 1].tolist() == pytest.approx([0.25 * 0.75, 0.0])  # one window has no other
    assert rows[:, 2].tolist() == pytest.approx([0.25 * 0.75 * sum(pairs) / 3, 0.0])
    assert rows[:, 3:].square().sum(dim=1)[1] == pytest.approx(0.25**2)


def test_equal_windows_of_one_label_reach_the_bound_exactly() -> None:
    signal = 30 * waveforms(SHAPE, count=2000)[:1, None].expand(3, -1, -1)
    row = ESTIMATOR.statistics(
        ESTIMATOR.prior(SHAPE), SHAPE, signal=signal, labels=torch.zeros(3, dtype=torch.long)
    )

    assert float(row.norm()) == pytest.approx(ESTIMATOR.requests(SHAPE)[0].clipping_norm)


def test_the_share_between_subjects_is_found_from_exact_likeness() -> None:
    """Two windows of one subject differ by N(0, 2 (1 - share) S): with S = 1 and w = 1, exp(-(1 - share))."""
    directions, covariances = torch.ones(1, 1, dtype=torch.float64), torch.ones(2, 1, 1, dtype=torch.float64)
    likeness = torch.exp(-torch.tensor([0.3, 0.5], dtype=torch.float64))
    pairs = torch.stack([torch.full((2,), 1e5, dtype=torch.float64), 1e5 * likeness], dim=1)

    found = embedding._between(pairs, covariances, directions, noise=0.0)

    assert found.tolist() == pytest.approx([0.7, 0.5], abs=0.011)


def test_pure_noise_about_likeness_leaves_shares_near_one_half() -> None:
    directions, covariances = torch.ones(1, 1, dtype=torch.float64), torch.ones(2, 1, 1, dtype=torch.float64)
    pairs = torch.tensor([[900.0, -700.0], [-400.0, 1000.0]], dtype=torch.float64)

    found = embedding._between(pairs, covariances, directions, noise=1e6)

    assert found.tolist() == pytest.approx([0.5, 0.5], abs=0.02)
