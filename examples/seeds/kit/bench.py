"""Bench: folds of people, ways to train a classifier, and where synthetic windows come from.

Answers are kept as soon as a fold is done, so that a stopped study goes on; measures are of all folds together.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fedsynth.evaluation.protocol.augmentation import Way, augmented
from fedsynth.evaluation.protocol.cells import Cells
from fedsynth.evaluation.protocol.classifiers.learning import answers_of, learned
from fedsynth.evaluation.protocol.classifiers.registry import classifier_of
from fedsynth.evaluation.protocol.classifiers.training import Setting, Training
from fedsynth.evaluation.protocol.material import Material
from fedsynth.evaluation.protocol.measures import ACCURACY, MACRO_AUROC, MACRO_F1, measured, positive_f1
from fedsynth.evaluation.protocol.replicates import Replicates
from fedsynth.evaluation.protocol.tables import Number, Table
from kit.arms import Arm, Frame, drawn, trained

REAL_WAYS: tuple[Way, ...] = ("none", "class weights", "oversampling", "SMOTE")
SYNTHETIC_WAYS = ("minority only", "all classes", "synthetic alone")
DOUBLED = "minority doubled"
"""As many synthetic windows of a rare label as it has real ones, and then both repeated up to balance."""
STAGED = "minority first"
"""A network's first half of steps with synthetic windows of rare labels, its second with real ones, repeated."""
HALVES = "oversampling in two halves"
"""What `STAGED` is to be compared with: the same schedule without synthetic windows."""
NOTES = "notes"
Rows = tuple[NDArray[np.int64], NDArray[np.int64]]
Job = tuple[str, Callable[[], Any]]


@dataclass(frozen=True)
class Made:
    """Synthetic windows, and plain numbers about them or their generator that a page tells."""

    windows: Material
    notes: dict[str, float] = field(default_factory=dict)


Make = Callable[[Material, int], Made]
"""From the windows of those who train, and a fold's number, to synthetic windows."""


@dataclass(frozen=True)
class Source:
    """Where synthetic windows come from: the product by an arm, or an original network from scratch."""

    name: str
    make: Make
    ways: tuple[str, ...] = SYNTHETIC_WAYS


@dataclass
class Bench:
    """People in folds, and classifiers by name."""

    name: str
    real: Material
    frame: Frame
    folds: Sequence[Rows]
    setting: Setting
    classifiers: tuple[str, ...]
    cells: Cells

    def source(self, arm: Arm, *, per_label: int, ways: tuple[str, ...] = SYNTHETIC_WAYS) -> Source:
        """Return an arm of the product as a source."""
        return Source(
            arm.name,
            lambda real, fold: Made(
                drawn(trained(arm, real, self.frame), per_label=per_label, seed=f"{self.name} {arm.name} {fold}")
            ),
            ways,
        )

    def real_jobs(self, ways: Sequence[str] = REAL_WAYS) -> Iterator[Job]:
        """Yield jobs that need no synthetic windows, one a fold."""
        for number, rows in enumerate(self.folds):
            yield f"{self.name}/real/{number}", lambda rows=rows: self._answers(rows, None, tuple(ways))

    def jobs(self, source: Source) -> Iterator[Job]:
        """Yield one job a fold: train the source's generator on those who train, and answer in every way."""
        for number, rows in enumerate(self.folds):

            def job(rows: Rows = rows, number: int = number) -> Any:
                made = source.make(self.real.at(rows[0]), number)
                return {**self._answers(rows, made.windows, source.ways), NOTES: made.notes}

            yield f"{self.name}/{source.name}/{number}", job

    def notes(self, source: str) -> list[dict[str, float]]:
        """Return what was noted of a source, a fold each, as far as folds are done."""
        keys = [f"{self.name}/{source}/{number}" for number in range(len(self.folds))]
        return [self.cells.more[key][NOTES] for key in keys if key in self.cells.more]

    def measures(self, source: str, classifier: str, way: str) -> dict[str, Replicates] | None:
        """Return measures over all folds; None where a fold is missing."""
        keys = [f"{self.name}/{source}/{number}" for number in range(len(self.folds))]
        if not all(key in self.cells.more and f"{classifier}/{way}" in self.cells.more[key] for key in keys):
            return None
        answers = np.concatenate([np.array(self.cells.more[key][f"{classifier}/{way}"]) for key in keys])
        tests = self.real.at(np.concatenate([test for _, test in self.folds]))
        return self.cells.cell(
            f"{self.name}/{source}/{classifier}/{way}",
            lambda: measured(
                answers,
                tests.labels,
                tests.people,
                names=self.frame.names,
                positive=self.frame.names.index(self.frame.positive),
                draws=self.setting.size.draws,
            ),
        ).measures

    def difference(self, classifier: str, mine: tuple[str, str], other: tuple[str, str]) -> Replicates | None:
        """Return the paired difference in macro-F1 of two (source, way)."""
        first, second = (self.measures(source, classifier, way) for source, way in (mine, other))
        return None if first is None or second is None else first[MACRO_F1].minus(second[MACRO_F1])

    def table(self, classifier: str, rows: Sequence[tuple[str, str, str]], *, title: str, note: str = "") -> Table:
        """Return rows of (words, source, way), with paired differences to nothing and to oversampling."""
        names = (MACRO_F1, positive_f1(self.frame.positive), MACRO_AUROC, ACCURACY)
        told: list[tuple[str | Number, ...]] = []
        for words, source, way in rows:
            found = self.measures(source, classifier, way)
            if found is None:
                continue
            against = [
                ""
                if (source, way) == other or (one := self.difference(classifier, (source, way), other)) is None
                else Number.of(one, signed=True)
                for other in (("real", "none"), ("real", "oversampling"))
            ]
            told.append((words, *(Number.of(found[name]) for name in names), *against))
        head = ("training windows", *names, "macro-F1 − none", "macro-F1 − oversampling")
        kept = [column for column in range(len(head)) if any(row[column] != "" for row in told)]
        rows_kept = tuple(tuple(row[column] for column in kept) for row in told)
        return Table(f"{title}, {classifier}", tuple(head[column] for column in kept), rows_kept, note)

    def _answers(self, rows: Rows, made: Material | None, ways: Sequence[str]) -> dict[str, list[list[float]]]:
        train, test = self.real.at(rows[0]), self.real.at(rows[1])
        found = {}
        for way in ways:
            for name in self.classifiers:
                if way in (STAGED, HALVES):
                    answers = self._in_stages(train, made, test, name)
                else:
                    training = training_of(train, made, way, n_labels=len(self.frame.names))
                    answers = classifier_of(name)(training, test.signal, setting=self.setting)
                found[f"{name}/{way}"] = np.round(answers, 4).tolist()
        return found

    def _in_stages(self, train: Material, made: Material | None, test: Material, name: str) -> NDArray[np.float64]:
        """Train a network by half of the steps each on filled and on repeated windows, and answer."""
        size, ways = self.setting.size, ("oversampling" if made is None else "minority only", "oversampling")
        half = replace(self.setting, size=replace(size, steps=size.steps // 2))
        model = None
        for way in ways:
            training = training_of(train, made, way, n_labels=len(self.frame.names))
            model = learned(training, setting=half, name=name, start=model)  # type: ignore[arg-type]
        assert model is not None
        return answers_of(model, test.signal)


def training_of(train: Material, made: Material | None, way: str, *, n_labels: int) -> Training:
    """Return what a classifier learns from."""
    if way == "synthetic alone":
        assert made is not None
        return Training(made)
    if way == DOUBLED:
        assert made is not None
        return augmented(_doubled(train, made, n_labels=n_labels), made, way="oversampling", n_labels=n_labels)
    nothing = made if made is not None else train.at(np.zeros(0, dtype=np.int64))
    return augmented(train, nothing, way=way, n_labels=n_labels)  # type: ignore[arg-type]


def _doubled(train: Material, made: Material, *, n_labels: int) -> Material:
    counts = np.bincount(train.labels, minlength=n_labels)
    rows = [
        np.flatnonzero(made.labels == label)[: min(int(count), int(counts.max() - count))]
        for label, count in enumerate(counts)
    ]
    return train.with_more(made.at(np.concatenate(rows)))


def leave_one_out(real: Material) -> list[Rows]:
    """Return one fold for each person."""
    return [
        (np.flatnonzero(real.people != person), np.flatnonzero(real.people == person))
        for person in np.unique(real.people)
    ]


def groups(real: Material, *, count: int) -> list[Rows]:
    """Return folds of whole people, dealt out by label and turn."""
    people, first = np.unique(real.people, return_index=True)
    order = people[np.argsort(real.labels[first], kind="stable")]
    return [
        (
            np.flatnonzero(~np.isin(real.people, order[n::count])),
            np.flatnonzero(np.isin(real.people, order[n::count])),
        )
        for n in range(count)
    ]


def random_windows(real: Material, *, count: int, seed: int = 1) -> list[Rows]:
    """Return folds of windows, whoever they are of: the seeds' leaky split, to be marked wherever it is shown."""
    order = np.random.default_rng(seed).permutation(len(real))
    return [
        (np.sort(np.concatenate([order[m::count] for m in range(count) if m != n])), np.sort(order[n::count]))
        for n in range(count)
    ]
