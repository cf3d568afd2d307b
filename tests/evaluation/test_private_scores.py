"""Scores read off tallies, held against scikit-learn on the same answers."""

import numpy as np
import pytest
import torch
from sklearn.metrics import f1_score, roc_auc_score

from fedsynth.evaluation.private_scores import edges_for, scores_of, tallies, tally_size
from fedsynth.evaluation.tally_plan import EVERYTHING, TallyPlan


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
    assert float(rows.mean(dim=0).norm()) <= EVERYTHING.bound
    assert float(rows.norm(dim=1).max()) == pytest.approx(EVERYTHING.bound)


def test_few_bins_that_synthetic_windows_fill_equally_blunt_an_auroc_little() -> None:
    probabilities, labels = answers(6000)
    exact = roc_auc_score(labels == 2, probabilities[:, 2])
    edges = edges_for(probabilities[:, 2], labels, positive=2, bins=4)
    tally = TallyPlan(bins=4, confusion=False)

    rows = tallies(probabilities, labels, positive=2, edges=edges, confusion=False)
    (auroc,) = scores_of(
        rows.sum(dim=0), label_names=("a", "b", "c"), positive=2, noise_std=0.0, source="private sum", tally=tally
    )

    assert edges[3:].tolist() == [2.0] * 12
    assert exact - 0.03 < auroc.value < exact
    assert "read in 4 bins, which blunt 0.85 to 0.83" in auroc.about
    assert float(rows.norm(dim=1).max()) == tally.bound == 1.0
    assert float(rows[:, :9].abs().sum()) == 0


def test_bins_are_equally_full_of_both_kinds_together() -> None:
    """Two of eight are positive, and weigh as much as the six others: half of all weight is below .5."""
    probabilities = np.array([0.1, 0.2, 0.3, 0.4, 0.6, 0.7, 0.45, 0.9])
    labels = np.array([0, 0, 0, 0, 0, 0, 1, 1])

    edges = edges_for(probabilities, labels, positive=1, bins=2)

    # .1 to .4 weigh 4/12, .45 another 1/4: there half is passed.
    assert edges[0] == pytest.approx(0.45)


@pytest.mark.parametrize("edges", [[0.5] * 15, [2.0] * 15, [-1.0] * 15, list(np.linspace(1, 0, 15)), [np.nan] * 15])
def test_whatever_edges_the_coordinator_sends_a_window_says_no_more(edges: list[float]) -> None:
    probabilities, labels = answers(50)

    rows = tallies(probabilities, labels, positive=2, edges=edges)

    assert float(rows.norm(dim=1).max()) <= EVERYTHING.bound * (1 + 1e-12)
    assert rows[:, 9:].sum(dim=1).tolist() == [1.0] * 50
