"""Exact scores: several classifiers, intervals over people, macro-AUROC."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score

from fedsynth.evaluation.exact_scores import Reference, macro_auroc, reference_scores, resampled
from fedsynth.modalities.shape import Shape, shape_of
from fedsynth.study import Study, parse_study
from fedsynth.synthesis.windows import SyntheticWindows


@pytest.fixture(scope="module")
def three(tiny_text: str) -> Study:
    text = tiny_text.replace('["rest", "task"]', '["rest", "task", "sleep"]').replace('["C3", "C4"]', '["Cz"]')
    return parse_study(text)


@dataclass(frozen=True)
class Fake:
    """Draws noise whose amplitude is the label's; keeps what it was asked for."""

    study: Study
    asked: list[tuple[str, bool, int]]

    @property
    def shape(self) -> Shape:
        return shape_of(self.study)

    def draw(
        self, *, per_label: int | Sequence[int], seed: str, windows_per_subject: int = 1, untrained: bool = False
    ) -> SyntheticWindows:
        self.asked.append((seed, untrained, per_label))
        labels = np.repeat(np.arange(3), 20)
        return SyntheticWindows(
            signal=noise(labels, seed=len(seed)),
            labels=labels,
            subjects=np.arange(60) // windows_per_subject,
            label_names=self.study.labels.names,
            channels=("Cz",),
            sfreq=100.0,
        )


def noise(labels: NDArray[np.int64], *, seed: int) -> NDArray[np.float32]:
    rng = np.random.default_rng(seed)
    return (rng.normal(0, 10, (len(labels), 1, 128)) * 3.0 ** labels[:, None, None]).astype(np.float32)


def reference() -> Reference:
    labels = np.repeat(np.arange(3), 24)
    return Reference(noise(labels, seed=90), labels, noise(labels, seed=91), labels, np.arange(72) // 8)


def test_each_kind_of_training_has_three_scores_of_three_labels(three: Study) -> None:
    fake = Fake(three, [])

    scores = reference_scores(fake, reference(), source="public simulation", progress=lambda *_: None)

    assert [score.name for score in scores] == [
        f"{what}, trained on {trained}"
        for trained in ("synthetic", "synthetic, anchor only", "real")
        for what in ("AUROC, task against the rest", "macro-AUROC, 3 labels", "macro-F1, 3 labels")
    ]
    # What a release holds is what is scored.
    asked = three.windows_by_label
    assert fake.asked == [("reference", False, asked), ("reference", True, asked)]
    assert all(0.8 < score.value <= 1.0 for score in scores if "AUROC" in score.name)


@pytest.mark.slow
def test_several_classifiers_see_draws_of_their_own_and_say_so(three: Study) -> None:
    fake = Fake(three.model_copy(update={"training": three.training.model_copy(update={"rounds": 0})}), [])

    scores = reference_scores(
        fake, reference(), source="public simulation", progress=lambda *_: None, classifiers=3
    )

    assert [name for name, _, _ in fake.asked] == ["reference", "reference 2", "reference 3"]
    assert all("mean of 3 classifiers" in score.about for score in scores)


def test_macro_auroc_is_scikit_learns_one_against_the_rest() -> None:
    rng = np.random.default_rng(4)
    labels = rng.integers(0, 4, 200)
    given = rng.dirichlet(np.ones(4), 200)
    given[np.arange(200), labels] += 0.2
    given /= given.sum(axis=1, keepdims=True)

    assert macro_auroc(labels, given) == pytest.approx(
        roc_auc_score(labels, given, multi_class="ovr", average="macro")
    )


def test_a_missing_label_has_no_macro_auroc() -> None:
    assert np.isnan(macro_auroc(np.array([0, 1, 0]), np.full((3, 3), 1 / 3)))


def test_windows_of_a_person_are_resampled_together() -> None:
    units = np.array([7, 7, 2, 2, 2, 9])

    for rows in resampled(units, times=50):
        counts = np.bincount(rows, minlength=6)
        assert counts[0] == counts[1]
        assert counts[2] == counts[3] == counts[4]
        assert counts[0] + counts[2] + counts[5] == 3


def test_intervals_are_wider_than_if_windows_were_independent() -> None:
    """Eight people of fifty equal windows: the standard error is that of eight, not of four hundred."""
    answers = np.repeat([1, 1, 0, 1, 1, 0, 1, 1], 50)

    def spread(units: NDArray[np.int64]) -> float:
        return float(np.std([answers[rows].mean() for rows in resampled(units, times=400)]))

    assert spread(np.repeat(np.arange(8), 50)) == pytest.approx(np.sqrt(0.75 * 0.25 / 8), rel=0.15)
    assert spread(np.arange(400)) == pytest.approx(np.sqrt(0.75 * 0.25 / 400), rel=0.15)


def test_with_nobody_held_out_nothing_is_scored(three: Study) -> None:
    real = reference()
    nobody = Reference(
        real.train_signal, real.train_labels, real.test_signal[:0], real.test_labels[:0], real.test_units[:0]
    )

    assert reference_scores(Fake(three, []), nobody, source="real", progress=lambda *_: None) == []
