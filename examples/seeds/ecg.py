"""Synthetic ECG (arXiv 2411.18456): three families, seven rhythms, two cohorts alone and merged.

    python examples/seeds/ecg.py
    python examples/seeds/ecg.py --quick

Trained on real, synthetic or both, tested on real and synthetic, and a network pretrained on synthetic
windows whose
head then sees 0 to 100 % of the real people. Does adding synthetic windows help, and does it on merged data, as the
paper found? It ends in a page and in a file for each cohort and generator; a stopped study goes on.
"""

import argparse
import sys
import time
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
from kit.arms import Arm, Frame, drawn, trained
from kit.hearts import CHAPMAN, LEADS, OTHER, RHYTHMS, hearts
from kit.study import SECONDS, SIMULATED, arguments, write

from fedsynth.cli.progress import progress
from fedsynth.evaluation.protocol.cells import Cells
from fedsynth.evaluation.protocol.material import Material
from fedsynth.evaluation.protocol.measures import MACRO_AUROC, MACRO_F1
from fedsynth.evaluation.protocol.plan import ProtocolPlan
from fedsynth.evaluation.protocol.run import BOTH, REAL, SYNTHETIC, Question, matrix_cell, run_protocol
from fedsynth.evaluation.protocol.splits import split_of
from fedsynth.evaluation.protocol.tables import Number, Table, tables_of
from fedsynth.modalities.shape import Shape
from fedsynth.report.experiment import ExperimentPage, Section
from fedsynth.report.experiment_figures import Dot, dots_svg, figures_of

FEATURES = Arm("features, no privacy", family="diffwave")
LEARNED = tuple(
    Arm(f"every layer of {family}, {where}", family=family, layers="all", hospitals=hospitals)
    for family, where, hospitals in (
        ("diffwave", "in one place", 1),
        ("time-diffusion", "in one place", 1),
        ("time-vqvae", "in one place", 1),
        ("diffwave", "four hospitals", 4),
    )
)
ONE_NOISE = Arm("features, ε = 8, secure sums", family="diffwave", epsilon=8.0)
EACH_NOISE = Arm("features, ε = 8, each hospital's noise", family="diffwave", epsilon=8.0, hospitals=4)
ARMS = (FEATURES, *LEARNED, ONE_NOISE, EACH_NOISE)
NETWORK = "resnet"


@dataclass(frozen=True)
class Trial:
    """One cohort and one generator: what is asked, and what was found."""

    cohort: str
    arm: Arm
    question: Question
    cells: Cells


def main(words: list[str] | None = None) -> int:
    """Run what is missing and write the page."""
    options = arguments("ecg", __doc__ or "", more=_options).parse_args(words)
    cohorts = cohorts_of(options.quick, options.seed)
    arms = (FEATURES, LEARNED[0], ONE_NOISE, EACH_NOISE) if options.quick else ARMS
    pairs = [(name, arm) for name in cohorts for arm in arms if arm.family in options.families]
    found = []
    with progress() as tell:
        tell("study", 0, len(pairs))
        for number, (name, arm) in enumerate(pairs):
            found.append(trial(name, cohorts[name], arm, options))
            tell("study", number + 1, len(pairs))
    index = Cells.at(options.out / "study.json", {"study": "ecg", "quick": options.quick, "seed": options.seed})
    index.more = {"trials": [_path(options.out, one.cohort, one.arm).name for one in found]}
    place = write(options, index, page_of(found))
    print(gains_table(found), end="\n\n")
    print(f"Page: {place}")
    return 0


def cohorts_of(quick: bool, seed: int) -> dict[str, Material]:
    """Return a cohort in the layout of Chapman-Shaoxing, one of other devices and rhythms, and both."""
    leads, times = (("I", "II", "V2"), 256) if quick else (LEADS, 1000)
    each = 4 if quick else 24
    mixes = ((1.0,) * 7, (2.0, 1.0, 0.7, 1.0, 1.0, 0.4, 0.4))
    first, second = (
        hearts(
            counts=tuple(max(4, round(each * share)) for share in mix),
            device=device,
            leads=leads,
            seed=seed + number,
            n_times=times,
        )
        for number, (mix, device) in enumerate(zip(mixes, (CHAPMAN, OTHER), strict=True))
    )
    return {"Chapman layout": first, "other devices": second, "merged": first.with_more(second)}


def trial(cohort: str, real: Material, arm: Arm, options: argparse.Namespace) -> Trial:
    """Hold people out, train a generator on the others and run the protocol; or read what is there."""
    quick: bool = options.quick
    n_times = real.signal.shape[2]
    leads = LEADS if real.signal.shape[1] == len(LEADS) else ("I", "II", "V2")
    shape = Shape(leads, n_times, 100.0, (0.5, 40.0), len(RHYTHMS), "ecg")
    frame = Frame(shape, RHYTHMS, "fibrillation", range_uv=5000.0)
    held_out = held_out_third(real)
    steps, per_label = (4, 6) if quick else (400, 60)
    plan = ProtocolPlan(
        tables=("matrix", "augmentation", "transfer") if arm.layers == "all" or arm == FEATURES else ("matrix",),
        classifiers=(NETWORK,),
        augmenting=(NETWORK,),
        ways=("none", "oversampling", "all classes", "minority only"),
        transferring=NETWORK,
        shares=(0, 50, 100) if quick else (0, 20, 40, 60, 80, 100),
        split="given",
        size="quick" if quick else "small",
    )
    asked = {"cohort": cohort, "arm": arm.name, "quick": quick, "seed": options.seed, "plan": plan.to_plain()}
    cells = Cells.at(_path(options.out, cohort, arm), asked)
    makes = partial(_made, replace(arm, steps=steps), real.at(~held_out), frame, per_label=per_label)
    # What is finished needs no generator any more, only people to name.
    made = real.at(held_out) if cells.more.get("finished") else makes()
    split = split_of(real, made, name="given", n_labels=len(RHYTHMS), held_out=held_out)
    question = Question(split, plan, shape, RHYTHMS, RHYTHMS.index("fibrillation"))
    if not cells.more.get("finished"):
        began = time.process_time()
        run_protocol(question, cells, progress=lambda *_: None)
        cells.more = {"finished": True, SECONDS: round(time.process_time() - began, 1)}
        cells.keep()
    return Trial(cohort, arm, question, cells)


def held_out_third(real: Material) -> np.ndarray:
    """Return which windows are held out: every third person of a rhythm; a person has one window."""
    flags = np.zeros(len(real), dtype=bool)
    for label in np.unique(real.labels):
        flags[np.flatnonzero(real.labels == label)[::3]] = True
    return flags


def gains_table(found: list[Trial]) -> Table:
    """Return what each generator's windows give, cohort by cohort."""
    rows: list[tuple[str | Number, ...]] = []
    for one in found:
        cells = {
            kind: one.cells.found[matrix_cell(NETWORK, kind, REAL)].measures for kind in (SYNTHETIC, REAL, BOTH)
        }
        gain = cells[BOTH][MACRO_F1].minus(cells[REAL][MACRO_F1])
        numbers = [Number.of(cells[kind][MACRO_F1]) for kind in (REAL, SYNTHETIC, BOTH)]
        share = (cells[SYNTHETIC][MACRO_AUROC].value - 0.5) / max(cells[REAL][MACRO_AUROC].value - 0.5, 1e-9)
        rows.append((one.cohort, one.arm.name, *numbers, Number.of(gain, signed=True), f"{100 * share:.0f} %"))
    head = ("cohort", "generator", "real", "synthetic", "both", "both − real", "share of real's AUROC above chance")
    return Table("Macro-F1 on real people held out, residual network", head, tuple(rows))


def page_of(found: list[Trial]) -> ExperimentPage:
    """Return the page."""
    cohorts = list(dict.fromkeys(one.cohort for one in found))
    sections = [
        Section(
            "The published figures beside ours",
            (
                "The paper reports its findings in words and bars: augmenting one set barely helps, on the "
                "merged set "
                "all measures rise, and Time-VQVAE is best in fine-tuning, below a classifier that saw real data. "
                "Here cohorts are simulated and some hundred people large instead of ten thousand, networks take "
                "hundreds of steps from a public prior instead of long training from scratch, and one split stands "
                "for 20 repetitions: intervals are over people, not over trainings.",
            ),
            (claims_table(found),),
        ),
        Section("Trained on one, tested on another", tables=(gains_table(found),), figures=_dots(found, cohorts)),
    ]
    for one in found:
        if "transfer" in one.question.plan.tables:
            tables = [table for table in tables_of(one.question, one.cells) if table.title.startswith("Transfer")]
            drawn_here = figures_of(one.question, one.cells).get("transfer", ())
            named = tuple(figure.replace("transfer", f"transfer-{len(sections)}") for figure in drawn_here)
            sections.append(Section(f"{one.cohort}: {one.arm.name}", tables=tuple(tables), figures=named))
    seconds = sum(one.cells.more.get(SECONDS, 0) for one in found)
    return ExperimentPage(
        kicker="The seeds, reproduced: 12-lead ECG",
        title="Does synthetic ECG help, alone and on merged cohorts?",
        notice=SIMULATED,
        lead=("Seven rhythms, ten seconds; a third of the people of every rhythm is held out.",),
        facts={
            "people": ", ".join(f"{name}: {_people(found, name)}" for name in cohorts),
            "time": f"{seconds / 60:.0f} minutes of computing, without the training of generators",
        },
        sections=tuple(section for section in sections if section.tables),
    )


def claims_table(found: list[Trial]) -> Table:
    """Return the paper's finding, and whether it holds here: the gain of adding synthetic windows, by cohort."""
    rows: list[tuple[str | Number, ...]] = []
    for one in found:
        if one.arm.is_private:
            continue
        both, real = (one.cells.found[matrix_cell(NETWORK, kind, REAL)].measures[MACRO_F1] for kind in (BOTH, REAL))
        gain = Number.of(both.minus(real), signed=True)
        claim = "rises" if one.cohort == "merged" else "barely changes"
        said = "rises" if gain.low > 0 else "falls" if gain.high < 0 else "not told from nothing"
        rows.append((one.arm.name, one.cohort, claim, said, gain))
    return Table("Adding synthetic windows", ("generator", "cohort", "published", "here", "macro-F1"), tuple(rows))


def _dots(found: list[Trial], cohorts: list[str]) -> tuple[str, ...]:
    figures = []
    for number, cohort in enumerate(cohorts):
        dots = []
        for one in found:
            if one.cohort == cohort:
                cells = [
                    one.cells.found[matrix_cell(NETWORK, kind, REAL)].measures[MACRO_F1] for kind in (BOTH, REAL)
                ]
                dots.append(Dot(one.arm.name, Number.of(cells[0].minus(cells[1]), signed=True)))
        figures.append(dots_svg(f"gain-{number}", dots, axis=f"macro-F1, both − real, {cohort}"))
    return tuple(figures)


def _people(found: list[Trial], cohort: str) -> int:
    fold = next(one for one in found if one.cohort == cohort).question.split.folds[0]
    return fold.train.n_people + fold.test.n_people


def _made(arm: Arm, real: Material, frame: Frame, *, per_label: int) -> Material:
    return drawn(trained(arm, real, frame), per_label=per_label, seed=f"ecg {arm.name}")


def _path(out: Path, cohort: str, arm: Arm) -> Path:
    name = "".join(letter if letter.isalnum() else "-" for letter in f"{cohort} {arm.name}".lower())
    path: Path = out / f"{name}.json"
    return path


def _options(parser: argparse.ArgumentParser) -> None:
    families = tuple(dict.fromkeys(arm.family for arm in ARMS))
    parser.add_argument("--families", nargs="+", choices=families, default=list(families))


if __name__ == "__main__":
    sys.exit(main())
