"""Scores read off tallies, held against scikit-learn on the same answers."""

import numpy as np
import pytest
import torch
from sklearn.metrics import f1_score, roc_auc_score

from fedsynth.evaluation.private_scores import scores_of, tallies, tally_bound, tally_size


def answers(count: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(3)
    labels = rng.integers(0, 3, count)
    logits = rng.normal(size=(count, 3)) + 1.5 * np.eye(3)[labels]
    probabilities = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    return probabilities, labels


def test_scores_without_noise_agree_with_scikit_learn() -> None:
    probabilities, labels = answers(3000)

    auroc, f1 = scores_of(
        tallies(probabilities, labels, positive=2).sum(dim=0),
        label_names=("a", "b", "c"),
        positive=2,
        noise_std=0.0,
        source="private sum",
    )

    # 16 bins blunt AUROC a little.
    assert auroc.value == pytest.approx(roc_auc_score(labels == 2, probabilities[:, 2]), abs=0.01)
    assert f1.value == pytest.approx(f1_score(labels, probabilities.argmax(axis=1), average="macro"))
    assert auroc.low < auroc.value < auroc.high


def test_noise_widens_the_interval() -> None:
    probabilities, labels = answers(300)
    total = tallies(probabilities, labels, positive=2).sum(dim=0)

    def width(noise_std: float) -> float:
        score = scores_of(
            total, label_names=("a", "b", "c"), positive=2, noise_std=noise_std, source="private sum"
        )[0]
        return score.high - score.low

    assert width(8.0) > 1.5 * width(0.0)


def test_the_interval_covers_the_exact_score_most_of_the_time() -> None:
    probabilities, labels = answers(400)
    total = tallies(probabilities, labels, positive=2).sum(dim=0)
    exact = roc_auc_score(labels == 2, probabilities[:, 2])
    generator = torch.Generator().manual_seed(0)
    hits = 0
    for _ in range(40):
        noisy = total + 3.0 * torch.randn(total.shape, generator=generator, dtype=total.dtype)
        score = scores_of(noisy, label_names=("a", "b", "c"), positive=2, noise_std=3.0, source="private sum")[0]
        hits += score.low <= exact <= score.high

    assert hits >= 32


def test_a_unit_says_at_most_the_bound_however_many_windows_it_has() -> None:
    probabilities, labels = answers(50)

    rows = tallies(probabilities, labels, positive=2)

    assert rows.shape == (50, tally_size(3))
    assert float(rows.mean(dim=0).norm()) <= tally_bound()
    assert float(rows.norm(dim=1).max()) == pytest.approx(tally_bound())
