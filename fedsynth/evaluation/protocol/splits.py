"""Splits: who trains and who is tested, by person; and the leaky one, which has to be asked for by name."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from fedsynth.errors import RefusedError
from fedsynth.evaluation.protocol.material import Fold, Material
from fedsynth.rng import numpy_generator, public_seed

SplitName = Literal["person", "leave-one-out", "given", "leaky"]
LEAKY = "leaky: windows of one person train and are tested"
"""What stands on every table of a leaky split."""
_SYNTHETIC_TEST = 0.2  # of the made-up subjects, who train nothing and are tested


@dataclass(frozen=True)
class Split:
    """Folds with the name of what made them."""

    name: SplitName
    folds: tuple[Fold, ...]

    @property
    def mark(self) -> str:
        """Return what must stand on every table; empty for a clean split."""
        return LEAKY if self.name == "leaky" else ""


def split_of(
    real: Material,
    synthetic: Material,
    *,
    name: SplitName,
    n_labels: int,
    folds: int = 3,
    held_out: NDArray[np.bool_] | None = None,
) -> Split:
    """Split real windows by person, and a fifth of the made-up subjects off; public seeds.

    Args:
        real: windows of people.
        synthetic: windows of made-up subjects; every fold has the same.
        name: "person" tests everybody once in `folds` parts balanced by label, "leave-one-out" one person after the
            other, "given" those of `held_out`, and "leaky" random windows, whoever they are of.
        n_labels: how many labels there are.
        folds: in how many parts, for "person" and "leaky".
        held_out: shape (window,), whom "given" tests.

    Raises:
        RefusedError: too few people, somebody on both sides of a given split, or a label that a side lacks.
    """
    mine, theirs = synthetic_halves(synthetic)
    if not len(mine) or not len(theirs):
        raise RefusedError(
            f"there are {synthetic.n_people} made-up subjects, and a fifth of them is tested apart; draw windows "
            "of more of them, each with a number of its own in `subject`"
        )
    _check_labels("the synthetic windows", mine.labels, n_labels)
    pairs = _rows(real, name=name, n_labels=n_labels, folds=folds, held_out=held_out)
    for train, _ in pairs:
        _check_labels("the people who train", real.labels[train], n_labels)
    return Split(name, tuple(Fold(real.at(train), real.at(test), mine, theirs) for train, test in pairs))


def synthetic_halves(synthetic: Material) -> tuple[Material, Material]:
    """Part made-up subjects into those who train and a fifth who are tested, label by label where they have one."""
    subjects, first = np.unique(synthetic.people, return_index=True)
    chosen = []
    for label in np.unique(synthetic.labels[first]):
        group = numpy_generator("protocol", "synthetic", int(label)).permutation(
            subjects[synthetic.labels[first] == label]
        )
        chosen.append(group[: max(1, round(_SYNTHETIC_TEST * len(group)))] if len(group) > 1 else group[:0])
    tested = np.isin(synthetic.people, np.concatenate(chosen) if chosen else [])
    return synthetic.at(~tested), synthetic.at(tested)


Rows = tuple[NDArray[np.int64], NDArray[np.int64]]


def _rows(
    real: Material, *, name: SplitName, n_labels: int, folds: int, held_out: NDArray[np.bool_] | None
) -> list[Rows]:
    seed = public_seed("protocol", name) % 2**32
    if name == "leaky":
        from sklearn.model_selection import StratifiedKFold  # scikit-learn takes a second to load

        whole = StratifiedKFold(folds, shuffle=True, random_state=seed)
        return [(train, test) for train, test in whole.split(real.signal, real.labels)]
    if name == "given":
        return [_given(real, held_out)]
    if name == "leave-one-out":
        if real.n_people < 3:
            raise RefusedError(f"there are {real.n_people} people, and leaving one out needs 3; add people")
        return [
            (np.flatnonzero(real.people != person), np.flatnonzero(real.people == person))
            for person in np.unique(real.people)
        ]
    of_each = [len(np.unique(real.people[real.labels == label])) for label in range(n_labels)]
    if min(of_each) < folds:
        raise RefusedError(
            f"one of the {n_labels} labels is that of {min(of_each)} people, and {folds} folds need {folds}; add "
            "people, ask for fewer folds (2 at least), or leave the label out of the study"
        )
    from sklearn.model_selection import StratifiedGroupKFold

    by_person = StratifiedGroupKFold(folds, shuffle=True, random_state=seed)
    return [(train, test) for train, test in by_person.split(real.signal, real.labels, real.people)]


def _check_labels(who: str, labels: NDArray[np.int64], n_labels: int) -> None:
    """Refuse to learn labels of which nothing is there.

    Raises:
        RefusedError: with how many.
    """
    missing = n_labels - len(np.unique(labels))
    if missing:
        raise RefusedError(
            f"of {n_labels} labels {missing} have no window among {who}, so that no classifier can learn them; add "
            "such windows, split otherwise, or leave the label out of the study"
        )


def _given(real: Material, held_out: NDArray[np.bool_] | None) -> Rows:
    if held_out is None or held_out.shape != real.labels.shape:
        raise RefusedError(
            "a given split needs a flag for each real window: whether it is held out; add `held_out` to the "
            "archive, or ask for another split"
        )
    both = np.intersect1d(real.people[held_out], real.people[~held_out])
    if len(both):
        raise RefusedError(
            f"{len(both)} people are on both sides of the given split; hold out whole people, or ask for the leaky "
            "split by its name"
        )
    if not held_out.any() or held_out.all():
        side = "held out" if held_out.all() else "left to train"
        raise RefusedError(f"a given split needs people on both sides, and everybody is {side}")
    return np.flatnonzero(~held_out), np.flatnonzero(held_out)
