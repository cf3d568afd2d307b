"""Raw windows against features: what a unit may say, what a classifier can see, and what a report makes of it."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.metrics import roc_auc_score
from torch import Tensor

from fedsynth.anchors.anchor import Anchor, prior_anchor
from fedsynth.anchors.estimator import estimator_of
from fedsynth.anchors.moments.raw_views import PURPOSE, RawViews
from fedsynth.evaluation.asked import Asked
from fedsynth.evaluation.compared_scores import (
    RECORDINGS_LESS_RELEASE,
    WINDOWS_LESS_FEATURES,
    about_raw_windows,
    compared_scores,
)
from fedsynth.evaluation.comparison import Comparison, LinearClassifier
from fedsynth.evaluation.private_scores import tally_size
from fedsynth.evaluation.score import Score
from fedsynth.evaluation.tally_plan import BINS, TallyPlan, tally_plan_of
from fedsynth.modalities.random_views import N_VIEWS, random_views
from fedsynth.modalities.shape import Shape, shape_of
from fedsynth.study import Study
from fedsynth.synthesis.windows import SyntheticWindows

SHAPE = Shape(("C3", "C4"), 128, 100.0, (1.0, 30.0), 2, "eeg")
ALL = TallyPlan(compared=3)
NAMES = ("rest", "task")


def noise(count: int, *, seed: int) -> NDArray[np.float32]:
    return (20 * np.random.default_rng(seed).normal(size=(count, 2, 128))).astype(np.float32)


def bumps(count: int, *, seed: int, told: bool) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Return noise with a bump, early or late by label where it is `told`, else by chance; features see neither."""
    rng, labels = np.random.default_rng(seed), np.arange(count) % 2
    late = labels if told else rng.integers(0, 2, count)
    time = np.arange(128)
    bump = np.exp(-0.5 * ((time - np.where(late, 96, 32)[:, None]) / 4) ** 2)
    return noise(count, seed=seed) + (80 * bump[:, None]).astype(np.float32), labels.astype(np.int64)


def release(signal: NDArray[np.float32], labels: NDArray[np.int64]) -> SyntheticWindows:
    subjects = np.arange(len(labels), dtype=np.int64)
    return SyntheticWindows(signal, labels, subjects, NAMES, SHAPE.channels, SHAPE.sfreq)


def taught_by(signal: NDArray[np.float32], labels: NDArray[np.int64], *, noise_std: float = 0.0) -> Anchor:
    """Return the anchor after the sum over units of two windows of one label each."""
    stage = RawViews(radius=8.0)
    anchor = stage.prior(prior_anchor(SHAPE), SHAPE)
    order = np.argsort(labels, kind="stable").reshape(-1, 2)
    rows = torch.stack(
        [
            stage.contribution(SHAPE, signal=torch.from_numpy(signal[pair]), labels=torch.from_numpy(labels[pair]))
            for pair in order
        ]
    ).sum(dim=0)
    counts = torch.full((2,), len(order) / 2, dtype=torch.float64)
    return stage.advance(replace(anchor, counts=counts), SHAPE, rows=rows, noise_std=noise_std)


def differences(*, release_knows: bool, recordings_know: bool) -> dict[str, Score]:
    """Return the differences that 300 held-out people show who differ by label in when a bump comes."""
    anchor = taught_by(*bumps(800, seed=1, told=recordings_know))
    asked = Comparison(SHAPE, ALL)
    asked.learn(release(*bumps(800, seed=2, told=release_knows)), anchor, positive=1, bins=BINS)
    signal, labels = bumps(300, seed=3, told=True)
    told = asked.tell(torch.from_numpy(signal), labels, positive=1)
    total = torch.cat([torch.zeros(tally_size(2), dtype=torch.float64), told.sum(dim=0)])
    scores = compared_scores(total, label_names=NAMES, positive=1, noise_std=0.5, tally=ALL)
    return {score.name: score for score in scores}


def test_what_the_release_lacks_is_seen_by_the_classifier_that_recordings_taught_and_by_no_other() -> None:
    found = differences(release_knows=False, recordings_know=True)

    assert found[RECORDINGS_LESS_RELEASE].low > 0.3
    assert found[WINDOWS_LESS_FEATURES].low < 0 < found[WINDOWS_LESS_FEATURES].high
    # A classifier that learned nothing answers nothing, and does not score by the luck of its direction.
    assert found["AUROC, task against the rest, linear on features, taught by the release"].value == 0.5
    assert "labels differ in something that this release does not hold" in about_raw_windows(list(found.values()))


def test_a_release_that_holds_what_recordings_do_leaves_no_difference() -> None:
    found = differences(release_knows=True, recordings_know=True)

    assert abs(found[RECORDINGS_LESS_RELEASE].value) < 0.02
    assert found[WINDOWS_LESS_FEATURES].low > 0.2
    assert "hold something of the labels beyond them" in about_raw_windows(list(found.values()))


def test_linear_discriminants_agree_with_scikit_learn() -> None:
    rng, labels = np.random.default_rng(0), np.arange(600) % 2
    numbers = rng.normal(size=(600, 5)) + labels[:, None] * np.array([1.0, -0.5, 0, 0, 0.3])
    means = np.stack([numbers[labels == label].mean(axis=0) for label in (0, 1)])
    ours = LinearClassifier(5, 2)
    ours.learn(torch.from_numpy(means), torch.from_numpy(np.cov((numbers - means[labels]).T)))
    theirs = LinearDiscriminantAnalysis().fit(numbers, labels).decision_function(numbers)
    mine = ours(torch.from_numpy(numbers)).numpy()[:, 1]

    assert np.corrcoef(np.log(mine / (1 - mine)), theirs)[0, 1] > 0.995  # all but the ridge
    assert roc_auc_score(labels, mine) > 0.75


def test_noise_in_what_recordings_taught_costs_little_where_it_is_said() -> None:
    signal, labels = bumps(400, seed=5, told=True)
    test, truth = bumps(300, seed=6, told=True)
    anchor = taught_by(signal, labels)
    assert anchor.views is not None
    variance = 4.0
    generator = torch.Generator().manual_seed(0)
    noisy = anchor.views + math.sqrt(variance) * torch.randn(2, N_VIEWS, generator=generator, dtype=torch.float64)
    seen = random_views(torch.from_numpy(signal), SHAPE)
    covariance = torch.cov((seen - anchor.views[torch.from_numpy(labels)]).T)
    classifier = LinearClassifier(N_VIEWS, 2)

    def area(noise_variance: float) -> float:
        classifier.learn(noisy, covariance, noise_variance=noise_variance)
        return float(roc_auc_score(truth, classifier(random_views(torch.from_numpy(test), SHAPE)).numpy()[:, 1]))

    assert area(variance) > 0.99
    assert area(variance) > area(0.0) + 0.02


@pytest.mark.parametrize("compared", [0, 2, 3])
@pytest.mark.parametrize("hostile", [False, True])
def test_a_unit_says_at_most_the_bound_of_its_plan(compared: int, hostile: bool) -> None:
    tally = TallyPlan(compared=compared)
    asked = Asked(SHAPE, tally)
    if hostile:
        generator = torch.Generator().manual_seed(0)
        asked.take({name: 1e30 * torch.randn(x.shape, generator=generator) for name, x in asked.tensors().items()})
    signal, labels = bumps(6, seed=1, told=True)

    rows = asked.tell(torch.from_numpy(signal), labels, positive=1)

    assert rows.shape == (6, tally_size(2, compared=compared))
    assert float(rows.norm(dim=1).max()) <= tally.bound * (1 + 1e-12)
    if not hostile:
        assert float(rows.norm(dim=1).max()) == pytest.approx(tally.bound)


def test_views_of_one_window_are_nobody_else_s_and_loudness_is_the_last() -> None:
    signal = torch.from_numpy(noise(8, seed=0))
    views = random_views(signal, SHAPE)
    louder = random_views(3 * signal, SHAPE)

    assert views.shape == (8, N_VIEWS)
    assert torch.allclose(views[3:4], random_views(signal[3:4], SHAPE), atol=1e-4)
    assert torch.allclose(views[:, :-1], louder[:, :-1], atol=0.02)
    assert (louder[:, -1] > views[:, -1]).all()
    for odd in (torch.zeros(2, 2, 128), 1e9 * signal[:2]):
        assert torch.isfinite(random_views(odd, SHAPE)).all()


@pytest.mark.parametrize("labels", [torch.zeros(9, dtype=torch.long), torch.arange(9) % 2])
def test_no_unit_brings_more_views_than_its_bound(labels: Tensor) -> None:
    stage = RawViews(radius=0.2)
    for signal in (1e6 * torch.from_numpy(noise(9, seed=0)), torch.zeros(9, 2, 128)):
        rows = stage.contribution(SHAPE, signal=signal, labels=labels)

        assert rows.shape == (2, N_VIEWS)
        assert float(rows.norm()) <= stage.request(SHAPE).clipping_norm * (1 + 1e-9)


def declared(tiny: Study, *, units: int, epsilon: float = 8.0, estimator: str = "moments") -> Study:
    cohort = tiny.cohort.model_copy(update={"expected_units": units})
    privacy = tiny.privacy.model_copy(update={"epsilon": epsilon})
    training = tiny.training.model_copy(update={"estimator": estimator})
    return tiny.model_copy(update={"cohort": cohort, "privacy": privacy, "training": training})


@pytest.mark.parametrize(
    ("units", "epsilon", "estimator", "compared"),
    [
        pytest.param(100, 8.0, "moments", 0, id="few"),
        pytest.param(1000, 1.0, "moments", 0, id="loud"),
        pytest.param(1000, 8.0, "moments", 3, id="many and quiet"),
        pytest.param(1000, 8.0, "mean-embedding", 2, id="an estimator that asks nothing of raw windows"),
        pytest.param(10, math.inf, "moments", 3, id="no noise"),
    ],
)
def test_what_is_compared_follows_from_public_facts(
    tiny: Study, units: int, epsilon: float, estimator: str, compared: int
) -> None:
    study = declared(tiny, units=units, epsilon=epsilon, estimator=estimator)
    purposes = {request.purpose for request in estimator_of(study).requests(shape_of(study))}

    assert tally_plan_of(study).compared == compared
    assert (PURPOSE in purposes) == (compared == 3)


def test_a_report_without_a_classifier_that_recordings_taught_says_what_it_cannot_see() -> None:
    known = Score(WINDOWS_LESS_FEATURES, -0.1, -0.15, -0.05, 0, "private sum", "")

    said = about_raw_windows([known])

    assert "recovers less than one of their features" in said
    assert "only a classifier that recordings taught could" in said
    assert about_raw_windows([]) == ""
