"""Synthetic ECG (arXiv 2411.18456): three families, seven rhythms, two cohorts alone and merged.

    python examples/seeds/ecg.py                 # both cohorts simulated
    python examples/seeds/ecg.py --data DIR      # PTB-XL, as far as it is there, in the place of the second one
    python examples/seeds/ecg.py --large         # 60 people of a rhythm, more steps: hours
    python examples/seeds/ecg.py --quick

Trained on real, synthetic or both, tested on real and synthetic, and a network pretrained on synthetic windows
whose head then sees 0 to 100 % of the real people. Does adding synthetic windows help, and does it on merged data,
as the paper found? It ends in a page and in a file for each cohort and generator; a stopped study goes on.
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
from kit.real_sets import ptbxl
from kit.study import SECONDS, arguments, write
from kit.trials import ARMS, EACH_NOISE, EVERYWHERE, FEATURES, LEARNED, MERGED, NETWORK, ONE_NOISE, Trial
from kit.trials_page import gains_table, page_of
from kit.workers import done

from fedsynth.cli.progress import progress
from fedsynth.evaluation.protocol.cells import Cells
from fedsynth.evaluation.protocol.material import Material
from fedsynth.evaluation.protocol.plan import ProtocolPlan
from fedsynth.evaluation.protocol.run import (
    Question,
    run_protocol,
)
from fedsynth.evaluation.protocol.splits import split_of
from fedsynth.modalities.shape import Shape


@dataclass(frozen=True)
class Extent:
    """How much is done: people of a rhythm, steps of a family's layers and of the network, windows of a label."""

    each: int
    layers: int
    network: int
    per_label: int
    shares: tuple[int, ...] = (0, 20, 40, 60, 80, 100)


QUICK = Extent(each=4, layers=4, network=40, per_label=6, shares=(0, 50, 100))
USUAL = Extent(each=18, layers=60, network=100, per_label=40)
LARGE = Extent(each=60, layers=1000, network=400, per_label=200)


@dataclass(frozen=True)
class Cohort:
    """Windows of people, which of them are held out (window,), and the rhythms' names."""

    real: Material
    held_out: np.ndarray
    names: tuple[str, ...]


def main(words: list[str] | None = None) -> int:
    """Run what is missing and write the page."""
    options = arguments("ecg", __doc__ or "", more=_options).parse_args(words)
    extent = QUICK if options.quick else LARGE if options.large else USUAL
    cohorts = cohorts_of(options, extent)
    arms = (FEATURES, LEARNED[0], ONE_NOISE, EACH_NOISE) if options.quick else ARMS
    pairs = [
        (name, arm)
        for name in cohorts
        for arm in arms
        if arm.family in options.families and (name == MERGED or arm in EVERYWHERE[: 1 if options.quick else None])
    ]
    jobs = [
        (f"{name} {arm.name}", partial(trial, name, cohorts[name], arm, options, extent)) for name, arm in pairs
    ]
    with progress() as tell:
        tell("study", 0, len(jobs))
        # Every trial keeps its numbers in a file of its own, so that they need not come back from a process.
        asked = [(key, lambda job=job: bool(job())) for key, job in jobs]
        for number, _ in enumerate(done(asked, workers=options.jobs)):
            tell("study", number + 1, len(jobs))
    found = [job() for _, job in jobs]
    told = {"quick": options.quick, "large": options.large, "seed": options.seed, "data": bool(options.data)}
    index = Cells.at(options.out / "study.json", {"study": "ecg", **told})
    index.more = {"trials": [_path(options.out, one.cohort, one.arm).name for one in found]}
    place = write(options, index, page_of(found, is_real=options.data is not None))
    print(gains_table(found), end="\n\n")
    print(f"Page: {place}")
    return 0


def cohorts_of(options: argparse.Namespace, extent: Extent) -> dict[str, Cohort]:
    """Return a simulated cohort in the layout of Chapman-Shaoxing, PTB-XL or one of other devices, and both."""
    leads, times = (("I", "II", "V2"), 256) if options.quick else (LEADS, 1000)
    mixes = ((1.0,) * 7, (2.0, 1.0, 0.7, 1.0, 1.0, 0.4, 0.4))
    simulated = [
        hearts(
            counts=tuple(max(4, round(extent.each * share)) for share in mix),
            device=device,
            leads=leads,
            seed=options.seed + number,
            n_times=times,
        )
        for number, (mix, device) in enumerate(zip(mixes, (CHAPMAN, OTHER), strict=True))
    ]
    first = Cohort(simulated[0], held_out_third(simulated[0]), RHYTHMS)
    second = Cohort(simulated[1], held_out_third(simulated[1]), RHYTHMS)
    name = "other devices"
    if options.data is not None:
        name, (real, held_out, names) = "PTB-XL", ptbxl(options.data, least=6, most=3 * extent.each)
        second = Cohort(
            Material(real.signal[:, [LEADS.index(lead) for lead in leads], :times], real.labels, real.people),
            held_out,
            names,
        )
        first = _with_rhythms(first, names)
    both = Cohort(
        first.real.with_more(second.real), np.concatenate([first.held_out, second.held_out]), second.names
    )
    return {"Chapman layout": first, name: second, MERGED: both}


def _with_rhythms(cohort: Cohort, names: tuple[str, ...]) -> Cohort:
    """Return the people whose rhythm is among these, numbered as they are there."""
    numbers = np.array([names.index(name) if name in names else -1 for name in cohort.names])[cohort.real.labels]
    mine = cohort.real.at(numbers >= 0)
    return Cohort(replace(mine, labels=numbers[numbers >= 0]), cohort.held_out[numbers >= 0], names)


def trial(name: str, cohort: Cohort, arm: Arm, options: argparse.Namespace, extent: Extent) -> Trial:
    """Train a generator on those who are not held out and run the protocol; or read what is there."""
    real, held_out, names = cohort.real, cohort.held_out, cohort.names
    leads = LEADS if real.signal.shape[1] == len(LEADS) else ("I", "II", "V2")
    shape = Shape(leads, real.signal.shape[2], 100.0, (0.5, 40.0), len(names), "ecg")
    frame = Frame(shape, names, "fibrillation", range_uv=5000.0)
    plan = ProtocolPlan(
        tables=("matrix", "transfer") if name == MERGED and arm in EVERYWHERE else ("matrix",),
        classifiers=(NETWORK,),
        transferring=NETWORK,
        shares=extent.shares,
        split="given",
        size="quick" if options.quick else "small",
        steps=extent.network,
    )
    asked = {"cohort": name, "arm": arm.name, "seed": options.seed, "people": len(real), "plan": plan.to_plain()}
    asked |= {"layers": extent.layers, "data": bool(options.data)}
    cells = Cells.at(_path(options.out, name, arm), asked)
    if not cells.more.get("finished"):
        cells.found.clear()  # a generator is not kept, and what noise it had cannot be had again
    began = time.process_time()
    # What is finished needs no generator any more, only people to name.
    made = (
        real.at(held_out)
        if cells.more.get("finished")
        else _made(arm.learning(extent.layers), real.at(~held_out), frame, per_label=extent.per_label)
    )
    split = split_of(real, made, name="given", n_labels=len(names), held_out=held_out)
    question = Question(split, plan, shape, names, names.index("fibrillation"))
    if not cells.more.get("finished"):
        run_protocol(question, cells, progress=lambda *_: None)
        cells.more = {"finished": True, SECONDS: round(time.process_time() - began, 1)}
        cells.keep()
    return Trial(name, arm, question, cells)


def held_out_third(real: Material) -> np.ndarray:
    """Return which windows are held out: every third person of a rhythm; a person has one window."""
    flags = np.zeros(len(real), dtype=bool)
    for label in np.unique(real.labels):
        flags[np.flatnonzero(real.labels == label)[::3]] = True
    return flags


def _made(arm: Arm, real: Material, frame: Frame, *, per_label: int) -> Material:
    return drawn(trained(arm, real, frame), per_label=per_label, seed=f"ecg {arm.name}")


def _path(out: Path, cohort: str, arm: Arm) -> Path:
    name = "".join(letter if letter.isalnum() else "-" for letter in f"{cohort} {arm.name}".lower())
    path: Path = out / f"{name}.json"
    return path


def _options(parser: argparse.ArgumentParser) -> None:
    families = tuple(dict.fromkeys(arm.family for arm in ARMS))
    parser.add_argument("--data", type=Path, metavar="DIR", help="folder of PTB-XL, or a part of it")
    parser.add_argument("--large", action="store_true", help="more people and steps: hours")
    parser.add_argument("--families", nargs="+", choices=families, default=list(families))


if __name__ == "__main__":
    sys.exit(main())
