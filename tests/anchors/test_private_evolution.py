"""Private evolution: votes go to the nearest vector, noise decides nothing, children keep what parents knew."""

import pytest
import torch

from fedsynth.anchors import private_evolution as evolution
from fedsynth.anchors.coordinates import coordinates_of
from fedsynth.anchors.private_evolution import PrivateEvolution
from fedsynth.modalities.eeg.simulator import waveforms
from fedsynth.modalities.registry import codec_of, standardise
from fedsynth.modalities.shape import Shape

SHAPE = Shape(channels=("EEG",), n_times=128, sfreq=100.0, bandpass=(1.0, 30.0), n_labels=2, modality="eeg")


def test_windows_vote_for_the_nearest_vector_of_their_label() -> None:
    estimator = PrivateEvolution(population=8)
    anchor, labels = estimator.prior(SHAPE), torch.tensor([0, 1, 1, 0])
    signal = 40 * waveforms(SHAPE, count=2000)[:4, None]
    vector = standardise(codec_of(SHAPE).features(signal), SHAPE)
    expected = torch.zeros(2, 8, dtype=torch.float64)
    for one, label in zip(vector, labels.tolist(), strict=True):
        distances = [float(((one - mean) @ coordinates_of(SHAPE).there).norm()) for mean in anchor.means[label]]
        expected[label, distances.index(min(distances))] += 0.25

    votes = estimator.statistics(anchor, SHAPE, signal=signal, labels=labels)

    assert votes.view(2, 8).tolist() == expected.tolist()


def test_without_noise_weights_are_the_votes() -> None:
    votes = torch.tensor([[6.0, 3.0, 1.0, 0.0]], dtype=torch.float64)

    assert evolution._weights(votes, 0.0)[0].tolist() == pytest.approx([0.6, 0.3, 0.1, 0.0], abs=1e-9)


def test_noise_alone_leaves_weights_alike_as_a_rule() -> None:
    generator = torch.Generator().manual_seed(0)
    votes = 5 + 100 * torch.randn(400, 48, generator=generator, dtype=torch.float64)

    weights = evolution._weights(votes, 100.0)

    assert float((weights.std(dim=1) < 1e-9).double().mean()) > 0.9


def test_children_are_as_many_as_weights_say() -> None:
    vectors = torch.arange(8, dtype=torch.float64)[None, :, None]
    weights = torch.tensor([[0.5, 0.25, 0.0, 0.25, 0.0, 0.0, 0.0, 0.0]], dtype=torch.float64)

    children = evolution._children(vectors, weights, public=1)

    assert children.flatten().tolist() == [0, 0, 0, 0, 1, 1, 3, 3]


def test_a_round_without_information_keeps_mean_and_variance() -> None:
    """Liu and West's kernel: what children vary by is taken off their parents' variance."""
    estimator = PrivateEvolution(population=400, rounds=2)
    before = estimator.prior(SHAPE)
    alike = torch.full((2 * 400,), 0.5, dtype=torch.float64)

    after = estimator.advance(before, SHAPE, total=alike, noise_std=0.0)

    variance = before.means[0].var(dim=0).sum()
    assert float((after.means.mean(dim=1) - before.means.mean(dim=1)).norm()) < 0.1 * float(variance.sqrt())
    assert float(after.means[0].var(dim=0).sum() / variance) == pytest.approx(1.0, abs=0.1)
    assert after.counts.tolist() == pytest.approx([200.0, 200.0])
    assert after.done == 1
