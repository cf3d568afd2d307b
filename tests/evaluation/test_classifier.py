"""Classifiers: what they can see of a window, and how they are built."""

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score

from fedsynth.evaluation.classifier import answer, classifier_plan, train_classifier
from fedsynth.modalities.shape import Shape

NINE_SECONDS = Shape(("ECG",), 900, 100.0, (0.5, 40.0), 2, "ecg")


def beats(count: int, *, seed: int) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Return noisy trains of one and the same beat; every other window's intervals are irregular."""
    rng = np.random.default_rng(seed)
    labels = np.arange(count) % 2
    signal = rng.normal(0, 20, (count, 1, 900))
    time = np.arange(900) / 100
    for window, irregular in zip(signal, labels, strict=True):
        interval, at = rng.uniform(0.6, 1.1), -rng.uniform(0, 1)
        while at < 9.2:
            window[0] += 800 * np.exp(-0.5 * ((time - at) / 0.02) ** 2)
            at += interval * np.exp(0.25 * irregular * rng.normal())
    return signal.astype(np.float32), labels


def test_an_ecg_classifier_sees_rhythm() -> None:
    signal, labels = beats(200, seed=1)
    test, truth = beats(200, seed=2)
    classifier = train_classifier(signal, labels, shape=NINE_SECONDS, seed=0)
    assert roc_auc_score(truth, answer(classifier, test)[:, 1]) > 0.95  # three layers reach .76


@pytest.mark.parametrize(("n_times", "depth"), [(64, 3), (128, 3), (500, 4), (512, 4), (900, 5), (5000, 7)])
def test_an_ecg_classifier_is_as_deep_as_its_windows_are_long(n_times: int, depth: int) -> None:
    shape = Shape(("ECG",), n_times, 100.0, (0.5, 40.0), 2, "ecg")
    assert classifier_plan(shape).depth == depth
    assert n_times >> depth >= 8


def test_an_eeg_classifier_is_the_same_for_any_window() -> None:
    plans = {
        classifier_plan(Shape(("Cz",), n_times, 128.0, (0.5, 40.0), 2, modality="eeg"))
        for n_times in (64, 512, 5000)
    }
    assert len(plans) == 1


@pytest.mark.parametrize(
    ("windows", "steps"),
    [(64, 40), (1280, 800), (5661, 1200), (12800, 1200), (19200, 1800), (25600, 2400), (10**6, 2400)],
)
def test_an_ecg_classifier_sees_all_of_many_windows_six_times(windows: int, steps: int) -> None:
    assert classifier_plan(NINE_SECONDS).steps_for(windows) == steps


def test_an_eeg_classifier_takes_at_most_six_hundred_steps() -> None:
    plan = classifier_plan(Shape(("Cz",), 128, 128.0, (0.5, 40.0), 2, modality="eeg"))
    assert [plan.steps_for(windows) for windows in (640, 6400, 10**6)] == [400, 600, 600]
