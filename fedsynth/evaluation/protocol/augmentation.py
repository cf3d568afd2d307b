"""Augmentation: what stands against imbalance, from nothing to synthetic windows of the rarer labels."""

from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from fedsynth.errors import MissingPackageError
from fedsynth.evaluation.protocol.classifiers.training import Training
from fedsynth.evaluation.protocol.material import Material
from fedsynth.rng import numpy_generator, public_seed

Way = Literal["none", "class weights", "oversampling", "SMOTE", "all classes", "minority only"]
WAYS: tuple[Way, ...] = get_args(Way)
NEEDS_SYNTHETIC: tuple[Way, ...] = ("all classes", "minority only")
_NEIGHBOURS = 5


def augmented(real: Material, synthetic: Material, *, way: Way, n_labels: int, seed: int = 1) -> Training:
    """Return what a classifier learns from; labels weigh more where they are rare only with "class weights".

    "oversampling", "SMOTE" and "minority only" bring each label to as many windows as the most frequent has, the
    first by repeating windows of people, the second by mixing neighbours among raw windows (Chawla et al. 2002),
    the third with synthetic windows, as far as there are some. "all classes" adds as many synthetic windows of each
    label as the most frequent one has real ones.

    Args:
        real: of those who train.
        synthetic: to take from.
        way: one of `WAYS`.
        n_labels: how many labels there are.
        seed: of what is repeated, mixed and taken; public.

    Raises:
        MissingPackageError: SMOTE without imbalanced-learn.
    """
    counts = np.bincount(real.labels, minlength=n_labels)
    most, rng = int(counts.max(initial=0)), numpy_generator("protocol", "augmentation", way, seed)
    if way == "class weights":
        return Training(real, is_weighted=True)
    if way == "oversampling":
        more = [_some(real.labels == label, most - count, rng, again=True) for label, count in enumerate(counts)]
        return Training(real.at(np.concatenate([np.arange(len(real)), *more])), is_weighted=False)
    if way == "SMOTE":
        return Training(_mixed(real, seed), is_weighted=False)
    if way in NEEDS_SYNTHETIC:
        wanted = [most if way == "all classes" else most - int(count) for count in counts]
        rows = [_some(synthetic.labels == label, count, rng) for label, count in enumerate(wanted)]
        return Training(real.with_more(synthetic.at(np.concatenate(rows))), is_weighted=False)
    return Training(real, is_weighted=False)


def _some(
    there: NDArray[np.bool_], count: int, rng: np.random.Generator, *, again: bool = False
) -> NDArray[np.int64]:
    """Return `count` of the rows that are there; each once at most, unless they may come `again`."""
    rows = np.flatnonzero(there)
    if len(rows) == 0 or count <= 0:
        return rows[:0]
    return rng.choice(rows, count if again else min(count, len(rows)), replace=again)


def _mixed(real: Material, seed: int) -> Material:
    try:
        from imblearn.over_sampling import SMOTE
    except ModuleNotFoundError as error:
        raise MissingPackageError(
            "SMOTE needs imbalanced-learn, which is not installed; nothing was done. Run: pip install "
            "'fedsynth[smote]', or leave SMOTE out"
        ) from error
    counts = np.bincount(real.labels)
    fewest = int(counts[counts > 0].min())
    if fewest < 2:
        return real  # a single window has no neighbour to mix with
    smote = SMOTE(k_neighbors=min(_NEIGHBOURS, fewest - 1), random_state=public_seed("SMOTE", seed) % 2**32)
    flat, labels = smote.fit_resample(real.signal.reshape(len(real), -1), real.labels)
    made = len(labels) - len(real)
    # Whose a mixed window is does not matter: it only trains.
    people = np.concatenate([real.people, int(real.people.max()) + 1 + np.arange(made)])
    return Material(
        flat.reshape(-1, *real.signal.shape[1:]).astype(np.float32),
        labels.astype(np.int64),
        people.astype(np.int64),
    )
