"""The protocol: splits by person, measures and intervals by person, augmentation, transfer, and what is kept."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.metrics import f1_score, roc_auc_score

from fedsynth.errors import RefusedError, RunError
from fedsynth.evaluation.protocol.augmentation import WAYS, Way, augmented
from fedsynth.evaluation.protocol.cells import Cells
from fedsynth.evaluation.protocol.classifiers.learning import learned
from fedsynth.evaluation.protocol.classifiers.registry import CLASSIFIERS, classifier_of
from fedsynth.evaluation.protocol.classifiers.training import Setting, Training
from fedsynth.evaluation.protocol.material import Material, check_material
from fedsynth.evaluation.protocol.measures import MACRO_AUROC, MACRO_F1, measured
from fedsynth.evaluation.protocol.plan import ProtocolPlan
from fedsynth.evaluation.protocol.replicates import Replicates
from fedsynth.evaluation.protocol.run import Question, run_protocol, some_people
from fedsynth.evaluation.protocol.size import SIZES
from fedsynth.evaluation.protocol.splits import LEAKY, split_of
from fedsynth.evaluation.protocol.tables import tables_of
from fedsynth.modalities.shape import Shape

SHAPE = Shape(("C3", "C4"), n_times=128, sfreq=64.0, bandpass=(1.0, 30.0), n_labels=2, modality="eeg")
QUICK = SIZES["quick"]


def cohort(people: int, *, each: int = 4, seed: int = 1, rare: int = 2, swapped: bool = False) -> Material:
    """People whose windows hum at 4 Hz, and every `rare`th at 12 Hz; everybody is loud in a way of their own."""
    rng = np.random.default_rng(seed)
    whose = np.repeat(np.arange(people), each)
    labels = (whose % rare == 0).astype(np.int64)
    time = np.arange(128) / 64
    hertz = np.where((labels == 0) == swapped, 12.0, 4.0)[:, None, None]
    loud = rng.uniform(0.8, 1.2, people)[whose][:, None, None]
    turns = rng.uniform(0, 2 * np.pi, (len(whose), 1, 1))
    signal = loud * (20 * np.sin(2 * np.pi * hertz * time + turns) + 5 * rng.normal(size=(len(whose), 2, 128)))
    return Material(signal.astype(np.float32), labels, whose)


def question(plan: ProtocolPlan, *, name: str = "person", synthetic: Material | None = None) -> Question:
    real, made = cohort(12), synthetic or cohort(20, seed=2)
    split = split_of(real, made, name=name, n_labels=2)  # type: ignore[arg-type]
    return Question(split, plan, SHAPE, ("slow", "fast"), 1)


@pytest.mark.parametrize("name", ["person", "leave-one-out"])
def test_nobody_trains_and_is_tested_and_everybody_is_tested_once(name: str) -> None:
    real = cohort(12)
    split = split_of(real, cohort(20), name=name, n_labels=2)  # type: ignore[arg-type]

    tested = [window.tobytes() for fold in split.folds for window in fold.test.signal]
    assert sorted(tested) == sorted(window.tobytes() for window in real.signal)
    for fold in split.folds:
        assert not set(fold.train.people) & set(fold.test.people)
        assert not set(fold.synthetic.people) & set(fold.synthetic_test.people)
    assert split.mark == ""


def test_a_leaky_split_mixes_people_and_every_table_of_it_says_so() -> None:
    asked = question(ProtocolPlan(size="quick", classifiers=("boosting",), split="leaky"), name="leaky")
    cells = Cells.at(None, {})
    run_protocol(asked, cells, progress=lambda *_: None)

    assert set(asked.split.folds[0].train.people) & set(asked.split.folds[0].test.people)
    tables = tables_of(asked, cells)
    assert len(tables) == 6
    assert {table.mark for table in tables} == {LEAKY}
    assert all(LEAKY in str(table) for table in tables)


def test_a_given_split_with_somebody_on_both_sides_is_refused() -> None:
    real = cohort(6)
    flags = np.arange(len(real)) % 2 == 0

    with pytest.raises(RefusedError, match="6 people are on both sides"):
        split_of(real, cohort(6), name="given", n_labels=2, held_out=flags)


def test_too_few_people_of_a_label_are_refused() -> None:
    with pytest.raises(RefusedError, match="that of 2 people, and 3 folds need 3"):
        split_of(cohort(4), cohort(6), name="person", n_labels=2)


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        pytest.param(lambda m: replace(m, signal=m.signal[:, :1]), r"not \(window, 2, 128\)", id="channels"),
        pytest.param(lambda m: replace(m, labels=m.labels[:-1]), "come with .* labels", id="labels too few"),
        pytest.param(lambda m: replace(m, people=m.people[:-1]), "come with .* subjects", id="subjects too few"),
        pytest.param(lambda m: replace(m, labels=m.labels + 1), "label outside 0 to 1", id="label unknown"),
        pytest.param(lambda m: replace(m, signal=m.signal * np.nan), "not finite", id="not a number"),
    ],
)
def test_windows_that_do_not_belong_together_are_refused(spoil: Callable[[Material], Material], said: str) -> None:
    with pytest.raises(RefusedError, match=said):
        check_material("real", spoil(cohort(3)), shape=SHAPE)


def test_measures_are_those_of_a_second_implementation() -> None:
    rng = np.random.default_rng(0)
    labels, people = rng.integers(0, 3, 200), np.arange(200) // 4
    answers = np.round(rng.dirichlet(np.ones(3), 200), 1)  # ties
    answers[np.arange(200), labels] += 0.2

    found = measured(answers, labels, people, names=("a", "b", "c"), positive=1, draws=20)

    each = [roc_auc_score(labels == label, answers[:, label]) for label in range(3)]
    assert found[MACRO_AUROC].value == pytest.approx(np.mean(each))
    assert found[MACRO_F1].value == pytest.approx(f1_score(labels, answers.argmax(axis=1), average="macro"))
    assert found["F1, b"].value == pytest.approx(f1_score(labels == 1, answers.argmax(axis=1) == 1))
    assert found["accuracy"].value == pytest.approx((labels == answers.argmax(axis=1)).mean())


def test_intervals_grow_where_windows_of_a_person_are_alike() -> None:
    rng = np.random.default_rng(1)
    right = np.repeat(rng.random(30) < 0.7, 20)  # a person is told right always or never
    labels = np.repeat(np.arange(30) % 2, 20)
    answers = np.eye(2)[np.where(right, labels, 1 - labels)].astype(float)

    def width(people: np.ndarray) -> float:
        found = measured(answers, labels, people, names=("a", "b"), positive=1)["accuracy"]
        return found.high - found.low

    assert width(np.repeat(np.arange(30), 20)) > 3 * width(np.arange(600))


def test_a_paired_difference_of_the_same_answers_is_nothing_at_all() -> None:
    rng = np.random.default_rng(2)
    labels, people = np.arange(80) % 2, np.arange(80) // 4
    answers = rng.dirichlet(np.ones(2), 80)
    one, other = (measured(answers, labels, people, names=("a", "b"), positive=1)[MACRO_F1] for _ in range(2))

    difference = one.minus(other)

    assert one.high - one.low > 0.1
    assert (difference.value, difference.low, difference.high) == (0, 0, 0)


@pytest.mark.parametrize("name", sorted(set(CLASSIFIERS) - {"pca-mlp", "ica-mlp", "lda-mlp"}))
def test_every_classifier_tells_rhythms_of_unseen_people_apart(name: str) -> None:
    setting = Setting(SHAPE, replace(QUICK, steps=120))
    train, test = cohort(40, seed=1), cohort(20, seed=2)

    answers = classifier_of(name)(Training(train), test.signal, setting=setting)

    assert answers.shape == (len(test), 2)
    assert np.allclose(answers.sum(axis=1), 1)
    assert roc_auc_score(test.labels, answers[:, 1]) > 0.9


@pytest.mark.parametrize("name", ["pca-mlp", "ica-mlp", "lda-mlp"])
def test_projections_see_an_amplitude_or_a_level(name: str) -> None:
    rng = np.random.default_rng(3)
    labels = np.arange(200) % 2
    signal = (20 * rng.normal(size=(200, 2, 128)) + 30 * labels[:, None, None]).astype(np.float32)
    whole = Material(signal, labels, np.arange(200))

    answers = classifier_of(name)(Training(whole.at(np.arange(150))), signal[150:], setting=Setting(SHAPE, QUICK))

    assert roc_auc_score(labels[150:], answers[:, 1]) > 0.9


def test_an_unknown_classifier_is_refused_before_anything_is_computed() -> None:
    with pytest.raises(RefusedError, match="no classifier 'crystal-ball'"):
        ProtocolPlan(classifiers=("crystal-ball",)).check()
    with pytest.raises(RefusedError, match="'boosting' is none of"):
        ProtocolPlan(transferring="boosting").check()


@pytest.mark.parametrize(
    ("way", "counts"),
    [
        pytest.param("none", [32, 8], id="none"),
        pytest.param("class weights", [32, 8], id="weights leave windows as they are"),
        pytest.param("oversampling", [32, 32], id="oversampling repeats"),
        pytest.param("SMOTE", [32, 32], id="SMOTE mixes"),
        pytest.param("all classes", [64, 40], id="as many synthetic of each as the most frequent has"),
        pytest.param("minority only", [32, 32], id="only what is missing"),
    ],
)
def test_augmentation_brings_labels_to_the_numbers_that_it_says(way: Way, counts: list[int]) -> None:
    real, synthetic = cohort(10, rare=5), cohort(40, seed=2)

    given = augmented(real, synthetic, way=way, n_labels=2)

    assert np.bincount(given.windows.labels).tolist() == counts
    known = {window.tobytes() for window in real.signal}
    new = [window.tobytes() not in known for window in given.windows.signal]
    assert any(new) == (way in ("SMOTE", "all classes", "minority only"))
    assert given.is_weighted == (way == "class weights")


def test_windows_that_smote_makes_lie_between_two_of_the_same_label() -> None:
    real = cohort(10, rare=5)
    made = augmented(real, real, way="SMOTE", n_labels=2).windows.signal[len(real) :]
    rare = real.signal[real.labels == 1]

    low, high = rare.min(axis=0), rare.max(axis=0)

    assert (made >= low - 1e-3).all()
    assert (made <= high + 1e-3).all()


def test_frozen_convolutions_stay_and_the_head_learns() -> None:
    setting = Setting(SHAPE, QUICK)
    start = learned(Training(cohort(12)), setting=setting, name="resnet")
    before = {name: value.clone() for name, value in start.state_dict().items()}

    after = learned(Training(cohort(8, seed=3)), setting=setting, name="resnet", start=start, is_frozen=True)

    for name, value in after.state_dict().items():
        assert torch.equal(value, before[name]) == name.startswith("body."), name
    assert all(torch.equal(value, before[name]) for name, value in start.state_dict().items())


def test_a_larger_share_of_people_holds_the_smaller_ones() -> None:
    real = cohort(20)
    shares = [set(some_people(real, share=share).people.tolist()) for share in (20, 60, 100)]

    assert [len(share) for share in shares] == [4, 12, 20]
    assert shares[0] < shares[1] < shares[2]


def test_windows_of_the_same_law_serve_and_windows_with_swapped_labels_do_not() -> None:
    plan = ProtocolPlan(tables=("matrix",), classifiers=("boosting",), size="quick")
    told = {}
    for swapped in (False, True):
        cells = Cells.at(None, {})
        run_protocol(question(plan, synthetic=cohort(20, seed=2, swapped=swapped)), cells, progress=lambda *_: None)
        told[swapped] = {
            name.rpartition("boosting/")[2]: cell.measures[MACRO_AUROC].value for name, cell in cells.found.items()
        }

    assert min(told[False].values()) > 0.95
    assert told[True]["synthetic/real"] < 0.1
    assert told[True]["real/real"] > 0.95
    assert told[True]["real/synthetic"] < 0.1
    assert told[True]["synthetic/synthetic"] > 0.95


def test_what_is_there_is_not_computed_again_and_another_question_is_refused(tmp_path: Path) -> None:
    path, asked = tmp_path / "cells.json", {"windows": "abc"}
    first = Cells.at(path, asked)
    first.cell("one", lambda: {"m": Replicates(0.5, (0.25, float("nan")))})

    again = Cells.at(path, asked)
    cell = again.cell("one", lambda: pytest.fail("it was computed again"))

    assert cell.measures["m"].value == 0.5
    assert np.isnan(cell.measures["m"].draws[1])
    before = path.read_bytes()
    with pytest.raises(RunError, match="other windows or of another plan"):
        Cells.at(path, {"windows": "abd"})
    assert path.read_bytes() == before


def test_every_way_has_a_row_in_the_table_and_its_paired_differences() -> None:
    plan = ProtocolPlan(tables=("augmentation",), augmenting=("boosting",), ways=WAYS, size="quick")
    asked, cells = question(plan), Cells.at(None, {})
    run_protocol(asked, cells, progress=lambda *_: None)

    (table,) = tables_of(asked, cells)

    assert [row[0] for row in table.rows] == list(WAYS)
    assert table.rows[0][-2] == ""  # against itself
