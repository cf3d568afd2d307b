"""Evaluate: real and synthetic windows through the whole protocol, to one page and its numbers.

It reads real recordings exactly. What comes out is for those who may see them.
"""

import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

from fedsynth.errors import RefusedError
from fedsynth.evaluation.protocol.cells import NOTICE, Cells
from fedsynth.evaluation.protocol.material import check_material
from fedsynth.evaluation.protocol.plan import ProtocolPlan
from fedsynth.evaluation.protocol.run import Question, run_protocol
from fedsynth.evaluation.protocol.scores import scores_of
from fedsynth.evaluation.protocol.splits import SplitName, split_of
from fedsynth.evaluation.protocol.tables import Table, tables_of
from fedsynth.evaluation.score import Score
from fedsynth.experiments.inputs import Frame, Given, frame_of, read_real, read_synthetic
from fedsynth.experiments.inside import place_inside
from fedsynth.places import claimed
from fedsynth.progress import Progress
from fedsynth.recordings.options import SiteOptions
from fedsynth.release.load import Release
from fedsynth.report.experiment import ExperimentPage, Section, write_page
from fedsynth.report.experiment_figures import figures_of

JSON, PAGE = "evaluation.json", "evaluation.html"
_ABOUT_SPLIT = {
    "person": "People are parted into folds by person, and everybody is tested once. The generator may have been "
    "trained on people who are tested here; where that matters, ask for the given split.",
    "leave-one-out": "One person after the other is tested, and the others train. The generator may have been "
    "trained on people who are tested here.",
    "given": "Those are tested who were held out, and trained neither a classifier nor, if the holding out is the "
    "study's, the generator.",
    "leaky": "LEAKY, as asked: random windows are held out, so that windows of one person train and are tested. "
    "The numbers are too good, and they say nothing about people who were not seen.",
}


@dataclass(frozen=True)
class Asked:
    """What to evaluate. `split` may be None: "given" where it is known who was held out, else "person"."""

    real: Path | Given
    synthetic: Path | Release
    plan: ProtocolPlan = field(default_factory=ProtocolPlan)
    split: SplitName | None = None
    study: Path | None = None
    positive: str | None = None
    options: SiteOptions = field(default_factory=SiteOptions)
    out: Path | None = None


@dataclass(frozen=True)
class Evaluation:
    """What came of it. Not private: it tells of real people."""

    question: Question
    cells: Cells
    page: Path | None = None

    @property
    def tables(self) -> tuple[Table, ...]:
        """Return every table, with intervals."""
        return tables_of(self.question, self.cells)

    @property
    def scores(self) -> tuple[Score, ...]:
        """Return macro-F1 and macro-AUROC of the matrix, tested on real windows."""
        return scores_of(self.question, self.cells)

    def __iter__(self) -> Iterator[Score]:
        """Go through the scores."""
        return iter(self.scores)

    def __str__(self) -> str:
        """Write all tables as text below the notice."""
        return "\n\n".join([NOTICE, *map(str, self.tables)])

    def _repr_html_(self) -> str:
        from fedsynth.report.experiment import tables_html

        return tables_html(NOTICE, self.tables)


def evaluate(asked: Asked, *, progress: Progress) -> Evaluation:
    """Run the protocol; an evaluation that was stopped goes on from the cells that are in its file.

    Args:
        asked: what to evaluate.
        progress: called with (what, done, all).

    Raises:
        RefusedError: windows that do not belong together, too few people, or a place that leaves the house.
        RecordingError: the recordings.
        ReleaseError: the release.
        RunError: the file that is there is about something else.
    """
    asked.plan.check()
    given = tuple(some for some in (asked.real, asked.synthetic) if isinstance(some, Path))
    place = None if asked.out is None else place_inside(asked.out, apart_from=given)
    frame = frame_of(asked.synthetic, study=asked.study, positive=asked.positive)
    question = _question(asked, frame, progress)
    if place is None:
        cells = Cells.at(None, _told(question))
        run_protocol(question, cells, progress=progress)
        return Evaluation(question, cells)
    place.mkdir(parents=True, exist_ok=True)
    with claimed(place, what="an evaluation"):
        cells = Cells.at(place / JSON, _told(question))
        run_protocol(question, cells, progress=progress)
        cells.keep()
        write_page(place / PAGE, _page(question, cells))
    return Evaluation(question, cells, place / PAGE)


def _question(asked: Asked, frame: Frame, progress: Progress) -> Question:
    if isinstance(asked.real, Given):
        real = asked.real
    else:
        with tempfile.TemporaryDirectory(prefix="fedsynth-") as staging:
            real = read_real(asked.real, frame, options=asked.options, staging=Path(staging), progress=progress)
    synthetic = read_synthetic(asked.synthetic, frame.names)
    for what, some in (("real", real), ("synthetic", synthetic)):
        check_material(what, some.windows, shape=frame.shape)
        if len(some.windows) == 0:
            raise RefusedError(f"there are no {what} windows")
    name = asked.split or ("person" if real.held_out is None else "given")
    split = split_of(
        real.windows,
        synthetic.windows,
        name=name,
        n_labels=len(frame.names),
        folds=asked.plan.folds,
        held_out=real.held_out,
    )
    return Question(split, replace(asked.plan, split=name), frame.shape, frame.names, frame.positive)


def _told(question: Question) -> dict[str, object]:
    """Return what an evaluation's file says of its question."""
    return {
        "windows": question.digest(),
        "plan": question.plan.to_plain(),
        "split": question.split.name,
        "leaky": bool(question.split.mark),
        "labels": list(question.names),
        "positive": question.names[question.positive],
    }


def _page(question: Question, cells: Cells) -> ExperimentPage:
    fold = question.split.folds[0]
    people = fold.train.n_people + fold.test.n_people
    facts = {
        "real windows": f"{len(fold.train) + len(fold.test)} of {people} people"
        if question.split.name != "leaky"
        else f"{len(fold.train) + len(fold.test)}",
        "synthetic windows": f"{len(fold.synthetic) + len(fold.synthetic_test)} of "
        f"{fold.synthetic.n_people + fold.synthetic_test.n_people} made-up subjects",
        "labels": ", ".join(question.names),
        "signal": f"{question.shape.modality.upper()}, {len(question.shape.channels)} channels, "
        f"{question.shape.n_times / question.shape.sfreq:g} s at {question.shape.sfreq:g} Hz",
        "split": question.split.name,
        "size": question.plan.size,
        "time": f"{cells.seconds / 60:.1f} minutes of computing",
    }
    figures = figures_of(question, cells)
    sections = [
        Section(
            title, tables=tuple(t for t in tables_of(question, cells) if t.title.startswith(starts)), figures=drawn
        )
        for title, starts, drawn in (
            ("Real and synthetic, trained on and tested", ("macro-", "What synthetic"), figures.get("matrix", ())),
            ("Against imbalance", ("Augmentation",), figures.get("augmentation", ())),
            ("Transfer", ("Transfer",), figures.get("transfer", ())),
            ("Fidelity by feature", ("Fidelity",), figures.get("fidelity", ())),
        )
    ]
    return ExperimentPage(
        kicker="Evaluation of synthetic windows",
        title="What synthetic windows are worth beside real ones",
        notice=NOTICE,
        mark=question.split.mark,
        lead=(_ABOUT_SPLIT[question.split.name],),
        facts=facts,
        sections=tuple(section for section in sections if section.tables),
    )
