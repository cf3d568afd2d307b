"""The protocol: from folds and a plan to cells with bootstraps over people; what is there is not done again."""

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from fedsynth.evaluation.protocol.augmentation import Way, augmented
from fedsynth.evaluation.protocol.cells import Cells
from fedsynth.evaluation.protocol.classifiers.learning import answers_of, learned
from fedsynth.evaluation.protocol.classifiers.networks import Network
from fedsynth.evaluation.protocol.classifiers.registry import classifier_of, usual_network
from fedsynth.evaluation.protocol.classifiers.training import Setting, Training
from fedsynth.evaluation.protocol.fidelity import distances
from fedsynth.evaluation.protocol.material import Fold, Material
from fedsynth.evaluation.protocol.measures import measured
from fedsynth.evaluation.protocol.plan import ProtocolPlan
from fedsynth.evaluation.protocol.replicates import Replicates
from fedsynth.evaluation.protocol.splits import Split
from fedsynth.modalities.shape import Shape
from fedsynth.progress import Progress
from fedsynth.rng import numpy_generator

REAL, SYNTHETIC, BOTH = "real", "synthetic", "both"
PRETRAINED, SCRATCH = "pretrained on synthetic, convolutions frozen", "from scratch"
Answers = NDArray[np.float64]


@dataclass(frozen=True)
class Question:
    """Everything that an evaluation is about: windows in folds, the plan, the labels' names and the rarer one."""

    split: Split
    plan: ProtocolPlan
    shape: Shape
    names: tuple[str, ...]
    positive: int

    def digest(self) -> str:
        """Return the SHA-256 of all windows, labels and people, in the order of the folds."""
        found = hashlib.sha256()
        for fold in self.split.folds:
            for some in (fold.train, fold.test, fold.synthetic, fold.synthetic_test):
                for array in (some.signal, some.labels, some.people):
                    found.update(np.ascontiguousarray(array).tobytes())
        return found.hexdigest()


def matrix_cell(classifier: str, trained: str, tested: str) -> str:
    """Return a cell's name."""
    return f"matrix/{classifier}/{trained}/{tested}"


def augmentation_cell(classifier: str, way: str) -> str:
    """Return a cell's name."""
    return f"augmentation/{classifier}/{way}"


def transfer_cell(network: str, start: str, share: int) -> str:
    """Return a cell's name."""
    return f"transfer/{network}/{start}/{share}"


def run_protocol(question: Question, cells: Cells, *, progress: Progress) -> None:
    """Compute every cell of the plan that is not there.

    Args:
        question: what is asked.
        cells: where results are kept.
        progress: called with (what, cells done, cells in all).
    """
    jobs = list(_jobs(question, cells))
    progress("evaluation", 0, len(jobs))
    for number, job in enumerate(jobs):
        job()
        progress("evaluation", number + 1, len(jobs))


def _jobs(question: Question, cells: Cells) -> Iterator[Callable[[], object]]:
    plan, shape = question.plan, question.shape
    setting = Setting(shape, plan.extent)
    usual = usual_network(shape)
    if "matrix" in plan.tables:
        for name in plan.classifiers:
            for trained in (SYNTHETIC, REAL, BOTH):
                yield partial(_matrix, question, cells, setting, classifier=name, trained=trained)
    if "augmentation" in plan.tables:
        for name in plan.augmenting or (usual,):
            for way in plan.ways:
                job = partial(_augmentation, question, setting, classifier=name, way=way)
                yield partial(cells.cell, augmentation_cell(name, way), job)
    if "transfer" in plan.tables:
        name = plan.transferring or usual
        starts: dict[int, Network] = {}
        for start in (PRETRAINED, SCRATCH):
            for share in plan.shares:
                if share or start == PRETRAINED:
                    job = partial(_transfer, question, setting, starts, network=name, start=start, share=share)
                    yield partial(cells.cell, transfer_cell(name, start, share), job)
    if "fidelity" in plan.tables:
        yield partial(cells.other, "fidelity", partial(_fidelity, question))


def _matrix(question: Question, cells: Cells, setting: Setting, *, classifier: str, trained: str) -> None:
    """Train once a fold and test on real and on synthetic windows."""
    keys = {tested: matrix_cell(classifier, trained, tested) for tested in (REAL, SYNTHETIC)}
    if all(key in cells.found for key in keys.values()):
        return
    classify = classifier_of(classifier)
    real: list[Answers] = []
    made: list[Answers] = []
    earlier: Answers | None = None
    for fold in question.split.folds:
        # What learns from synthetic windows alone learns the same in every fold that has the same ones.
        same = earlier is not None and trained == SYNTHETIC and fold.synthetic is question.split.folds[0].synthetic
        tests = [fold.test] if same else [fold.test, fold.synthetic_test]
        windows = {REAL: fold.train, SYNTHETIC: fold.synthetic}.get(trained)
        training = Training(fold.train.with_more(fold.synthetic) if windows is None else windows)
        asked = np.concatenate([some.signal for some in tests])
        answers = classify(training, asked, setting=setting)
        real.append(answers[: len(fold.test)])
        made.append(earlier if same and earlier is not None else answers[len(fold.test) :])
        earlier = made[-1]
    cells.cell(keys[REAL], lambda: _told(question, real, [fold.test for fold in question.split.folds]))
    cells.cell(
        keys[SYNTHETIC], lambda: _told(question, made, [fold.synthetic_test for fold in question.split.folds])
    )


def _augmentation(question: Question, setting: Setting, *, classifier: str, way: Way) -> dict[str, Replicates]:
    n_labels = question.shape.n_labels

    def answers(fold: Fold) -> Answers:
        training = augmented(fold.train, fold.synthetic, way=way, n_labels=n_labels)
        return classifier_of(classifier)(training, fold.test.signal, setting=setting)

    folds = question.split.folds
    return _told(question, [answers(fold) for fold in folds], [fold.test for fold in folds])


def _transfer(
    question: Question, setting: Setting, starts: dict[int, Network], *, network: str, start: str, share: int
) -> dict[str, Replicates]:
    def answers(number: int, fold: Fold) -> Answers:
        part = some_people(fold.train, share=share)
        if start == SCRATCH:
            return answers_of(learned(Training(part), setting=setting, name=network), fold.test.signal)  # type: ignore[arg-type]
        if number not in starts:
            starts[number] = learned(Training(fold.synthetic), setting=setting, name=network)  # type: ignore[arg-type]
        model = starts[number]
        if share:
            model = learned(Training(part), setting=setting, name=network, start=model, is_frozen=True)  # type: ignore[arg-type]
        return answers_of(model, fold.test.signal)

    folds = question.split.folds
    return _told(question, [answers(*one) for one in enumerate(folds)], [fold.test for fold in folds])


def some_people(real: Material, *, share: int) -> Material:
    """Return the windows of a share of people, in per cent; a larger share holds the smaller ones, every label has
    somebody."""
    people, first = np.unique(real.people, return_index=True)
    chosen = []
    for label in np.unique(real.labels[first]):
        mine = numpy_generator("protocol", "shares", int(label)).permutation(people[real.labels[first] == label])
        chosen.append(mine[: max(1, round(share / 100 * len(mine)))])
    return real.at(np.isin(real.people, np.concatenate(chosen)))


def _fidelity(question: Question) -> list[dict[str, float | str]]:
    """Compare all real people with the made-up subjects, each fold's where they differ; the first fold's here."""
    fold = question.split.folds[0]
    found = distances(
        fold.train if question.split.name == "given" else _all_real(question),
        _all_synthetic(question),
        shape=question.shape,
        names=question.names,
        correction=question.plan.correction,
        draws=question.plan.extent.draws,
    )
    return [asdict(one) for one in found]


def _all_real(question: Question) -> Material:
    fold = question.split.folds[0]
    both = [fold.train, fold.test]
    return Material(
        *(np.concatenate([getattr(some, name) for some in both]) for name in ("signal", "labels", "people"))
    )


def _all_synthetic(question: Question) -> Material:
    fold = question.split.folds[0]
    both = [fold.synthetic, fold.synthetic_test]
    return Material(
        *(np.concatenate([getattr(some, name) for some in both]) for name in ("signal", "labels", "people"))
    )


def _told(question: Question, answers: list[Answers], tests: list[Material]) -> dict[str, Replicates]:
    """Measure the answers of all folds together; a made-up subject that every fold tested is one unit."""
    return measured(
        np.concatenate(answers),
        np.concatenate([some.labels for some in tests]),
        np.concatenate([some.people for some in tests]),
        names=question.names,
        positive=question.positive,
        draws=question.plan.extent.draws,
    )
