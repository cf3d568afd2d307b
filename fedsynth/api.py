"""The public face: what a notebook needs, in a few calls. `import fedsynth` offers all of it.

    import fedsynth

    run = fedsynth.rehearse("examples/toy/study.toml", people=0.2)
    release = fedsynth.publish(run)
    release.verify()

Nothing heavy is imported before it is used: `verify` needs `cryptography` alone, `load_release` also NumPy.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from fedsynth.errors import RefusedError, StudyError
from fedsynth.extras import explained
from fedsynth.progress import Progress

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

    from fedsynth.coordinator.run_folder import RunFolder
    from fedsynth.evaluation.protocol.plan import TableName
    from fedsynth.evaluation.protocol.size import SizeName
    from fedsynth.evaluation.protocol.splits import SplitName
    from fedsynth.experiments.evaluate import Evaluation
    from fedsynth.plan import Plan
    from fedsynth.release.load import Release
    from fedsynth.release.verify import Verified
    from fedsynth.study import Study


def load_study(path: Path | str) -> "Study":
    """Read a study file.

    Args:
        path: of a `study.toml`.

    Raises:
        StudyError: unreadable, not TOML, an unknown key, a wrong type or value.
    """
    with explained():
        from fedsynth import study

    return study.load_study(Path(path))


def plan_of(study: "Study | Path | str") -> "Plan":
    """Return the private steps that a study leads to, with their noise and what they cost.

    Args:
        study: a study, or the path of its file.

    Raises:
        StudyError: the study, an unknown family or option.
        PrivacyError: no noise reaches epsilon.
    """
    with explained():
        from fedsynth import plan

    return plan.plan_of(_study(study))


def rehearse(
    study: "Study | Path | str",
    *,
    sites: Path | str | None = None,
    cohort: Literal["toy"] | None = None,
    out: Path | str | None = None,
    engine: str = "in-process",
    ledgers: Path | str | None = None,
    heads: Path | str | None = None,
    people: float = 1.0,
    unit: Literal["uV", "mV", "V"] | None = None,
    follow_links: bool = False,
    progress: bool = True,
) -> "RunFolder":
    """Rehearse a study on this machine, with every site's ledger and approval; return the run's folder.

    A run that is there and finished is returned as it is. A run's folder holds windows of the recordings: guard it
    as you guard them.

    Args:
        study: a study, or the path of its file.
        sites: a folder with one folder of recordings for each hospital.
        cohort: "toy" simulates people instead; it is the default where no `sites` are given.
        out: the run's folder; by default `runs/` and the study's name.
        engine: what carries the messages.
        ledgers: continue the ledgers in this folder; by default those that know the recordings, wherever they are.
        heads: keep the ledgers' heads in this folder, best on another disk.
        people: scales how many people a toy cohort has.
        unit: of all recordings, whatever their files say.
        follow_links: read what links that lead out of a site's folder lead to.
        progress: show progress on standard error.

    Raises:
        StudyError: the study, or both `sites` and `cohort`.
        RecordingError: a site's recordings; nothing was written or charged.
        BudgetError: a ledger that cannot afford the plan; nothing was trained.
        RefusedError: `out` holds something else, or too few sites answered.
    """
    with explained():
        from fedsynth.recordings.options import SiteOptions
        from fedsynth.rehearsal import rehearse as rehearsal

    if sites is not None and cohort is not None:
        raise StudyError("give sites or cohort, not both; nothing was written or charged")
    read, text = _study_and_text(study)
    what = rehearsal.Rehearsal(
        study_text=text,
        source=read.name,
        sites=_path(sites),
        out=_path(out) or Path("runs") / read.name,
        ledgers=_path(ledgers),
        heads=_path(heads),
        engine=engine,
        people=people,
        options=SiteOptions(unit=unit, follow_links=follow_links),
    )
    with explained(), _shown(progress) as tell:
        return rehearsal.rehearse(what, progress=tell)


def publish(
    run: "RunFolder | Path | str",
    *,
    out: Path | str | None = None,
    key: Path | str | None = None,
    progress: bool = True,
) -> "Release":
    """Hold a run's statement against its ledgers, draw synthetic windows, sign a release, and load it.

    Args:
        run: a finished run, or its folder.
        out: the release's folder; by default the run's folder with `-release` behind its name.
        key: private key (OpenSSH, Ed25519); without it the run's own is made.
        progress: show progress on standard error.

    Raises:
        LedgerError: ledger and statement disagree.
        PrivacyError: the run promises nothing, or more than its study allows.
        RefusedError: something else stands at `out`, or the code is not the one that the sites approved.
    """
    with explained():
        from fedsynth.coordinator.run_folder import RunFolder
        from fedsynth.rehearsal import publish as publication

    folder = run if isinstance(run, RunFolder) else RunFolder(Path(run))
    place = _path(out) or folder.path.with_name(f"{folder.path.name}-release")
    with _shown(progress) as tell:
        publication.publish(folder, place, key=_path(key), progress=tell)
    return load_release(place)


def verify(folder: Path | str, key: Path | str | None = None, *, seen: Path | str | None = None) -> "Verified":
    """Check that a release is, file by file, what its publisher signed. Needs no network and no other package.

    Where an accountant is installed, the promise's events are priced again.

    Args:
        folder: the release.
        key: the publisher's public key, from somewhere else than the release.
        seen: a file that remembers the ledgers of releases verified before.

    Raises:
        VerificationError: with the cause.
    """
    from fedsynth.privacy import repricing
    from fedsynth.release.verify import verify_release

    return verify_release(Path(folder), key=_path(key), seen=_path(seen), reprice=repricing.installed())


def load_release(folder: Path | str) -> "Release":
    """Open a release: `.X .y .subject .labels .to_epochs() .to_dataframe() .statement .scores .verify(key)`.

    Args:
        folder: the release.

    Raises:
        ReleaseError: the folder is no release.
    """
    from fedsynth.privacy import repricing
    from fedsynth.release import load

    return load.load_release(folder, reprice=repricing.installed())


def evaluate(
    real: "tuple[ArrayLike, ArrayLike] | Path | str",
    synthetic: "Release | Path | str",
    *,
    subjects: "ArrayLike | None" = None,
    study: Path | str | None = None,
    positive: str | None = None,
    tables: "Sequence[TableName]" = ("matrix",),
    classifiers: Sequence[str] = ("random-convolutions", "boosting", "small-cnn"),
    network: str = "",
    split: "SplitName | None" = None,
    folds: int = 3,
    size: "SizeName" = "small",
    out: Path | str | None = None,
    progress: bool = True,
) -> "Evaluation":
    """Compare what classifiers learn from synthetic, from real, and from both kinds of windows; tested on people.

    What comes out is about the real windows and is not private: it must not leave the house.

    Args:
        real: windows in microvolts, shape (window, channel, time), cut as the release's study says, and their
            labels, shape (window,), as words or as numbers of the study's labels; or a path: recordings of one
            hospital, a folder of several, or an archive (docs/evaluate.md).
        synthetic: a release, its folder, or an archive of any generator's windows.
        subjects: whom each real window is of, shape (window,), where `real` is arrays; nobody trains and is tested.
        study: path of the study that recordings are read by; the release's own by default.
        positive: the label whose F1 is told; the study's by default.
        tables: of "matrix", "augmentation", "transfer" and "fidelity".
        classifiers: of the matrix, by name.
        network: of augmentation and transfer; by default that of the seed's paper for the kind of signal.
        split: "person", "leave-one-out", "given" (those whom the study held out) or "leaky", which is marked
            everywhere; by default "given" where it is known who was held out.
        folds: parts that people are dealt into.
        size: of classifiers: "small", "paper" or "quick".
        out: a folder for the page and its numbers; a stopped evaluation goes on from there.
        progress: show progress on standard error.

    Raises:
        RefusedError: windows that do not belong together, too few people to hold some out, an unknown name, or an
            `out` that leaves the house.
        RecordingError: the recordings.
        ReleaseError: the release.
    """
    with explained():
        import numpy as np

        from fedsynth.evaluation.protocol.material import Material
        from fedsynth.evaluation.protocol.plan import ProtocolPlan
        from fedsynth.experiments import evaluate as experiment
        from fedsynth.experiments.inputs import Given, frame_of, numbers_of

    made = Path(synthetic) if isinstance(synthetic, Path | str) else synthetic
    given: Given | Path
    if isinstance(real, Path | str):
        given = Path(real)
    else:
        if subjects is None:
            raise RefusedError("arrays of windows need `subjects`: whom each window is of")
        names = frame_of(made, study=_path(study), positive=positive).names
        people = np.unique(np.asarray(subjects), return_inverse=True)[1].reshape(np.shape(subjects))
        labels = numbers_of(np.asarray(real[1]), names, names)
        given = Given(Material(np.asarray(real[0], dtype=np.float32), labels, people.astype(np.int64)))
    asked = experiment.Asked(
        real=given,
        synthetic=made,
        plan=ProtocolPlan(
            tables=tuple(tables),
            classifiers=tuple(classifiers),
            augmenting=(network,) if network else (),
            transferring=network,
            folds=folds,
            size=size,
        ),
        split=split,
        study=_path(study),
        positive=positive,
        out=_path(out),
    )
    with explained(), _shown(progress) as tell:
        return experiment.evaluate(asked, progress=tell)


def _study(study: "Study | Path | str") -> "Study":
    return load_study(study) if isinstance(study, Path | str) else study


def _study_and_text(study: "Study | Path | str") -> "tuple[Study, str]":
    """Return a study and its file's text, which a release keeps with its comments."""
    if isinstance(study, Path | str):
        return load_study(study), Path(study).read_text(encoding="utf-8")
    return study, study.to_toml()


def _path(place: Path | str | None) -> Path | None:
    return None if place is None else Path(place)


@contextmanager
def _shown(progress: bool) -> "Iterator[Progress]":
    from fedsynth.cli.progress import progress as bars

    with bars(quiet=not progress) as tell:
        yield tell
