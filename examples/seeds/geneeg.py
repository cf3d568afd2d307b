"""GenEEG (soinikghosh9/GenEEG): normal, preictal and ictal EEG of patients whom no classifier and no generator saw.

    python examples/seeds/geneeg.py                  # 24 simulated patients, in the layouts of Siena and CHB-MIT
    python examples/seeds/geneeg.py --layouts Siena --parts features    # some of it; the rest may follow
    python examples/seeds/geneeg.py --siena DIR --chb-mit DIR    # real patients in their place, as `fedsynth fetch`
    python examples/seeds/geneeg.py --data DIR       # and Guinea-Bissau: people with epilepsy nobody saw
    python examples/seeds/geneeg.py --groups 0       # one patient after the other, not six groups of four: hours
    python examples/seeds/geneeg.py --quick

It leaves patients out, trains a generator on the others, and asks whether filling the rarer states with its
windows serves a classifier better than repeating windows of patients. It ends in a page and in study.json; a
stopped study goes on where it stopped.
"""

import argparse
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from kit.arms import Frame
from kit.bench import (
    HALVES,
    REAL_WAYS,
    Bench,
    Job,
    Made,
    Source,
    groups,
    leave_one_out,
    random_windows,
)
from kit.cohorts import CHB_MIT, SIENA, STATES, seizures
from kit.fidelity import DRAWS, fidelity
from kit.patients import (
    AIM,
    CENTRAL,
    EACH_NOISE,
    MAIN,
    NETWORKS,
    ONE_NOISE,
    PRIVATE,
    PRIVATE_SEQUENTIAL,
    SKIPPED,
    STEPS,
    UNSKIPPED,
    WAYS,
)
from kit.patients_page import page_of, table_of
from kit.real_sets import patients_with_seizures
from kit.skips import autoencoded
from kit.study import arguments, carry_out, open_cells, write
from kit.unseen import unseen_bench, unseen_jobs

from fedsynth.evaluation.protocol.cells import Cells
from fedsynth.evaluation.protocol.classifiers.training import Setting
from fedsynth.evaluation.protocol.material import Material
from fedsynth.evaluation.protocol.size import SIZES
from fedsynth.modalities.shape import Shape

LAYOUTS = {"Siena": SIENA, "CHB-MIT": CHB_MIT}
PARTS = ("features", "private", "networks")


def main(words: list[str] | None = None) -> int:
    """Run what is missing and write the page."""
    options = arguments("geneeg", __doc__ or "", more=_options).parse_args(words)
    quick = options.quick
    if quick:
        options.groups, options.layouts = 2, options.layouts[:1]
    folders = {"Siena": options.siena, "CHB-MIT": options.chb_mit}
    recorded = {name: folder for name, folder in folders.items() if folder and name in options.layouts}
    cells = open_cells(
        options,
        study="geneeg",
        version=3,
        groups=options.groups,
        data=bool(options.data),
        **({"recorded": sorted(recorded)} if recorded else {}),
    )
    benches = {name: bench_of(name, recorded.get(name), options, cells) for name in options.layouts}
    first = next(iter(benches.values()))
    few, leaky = (other_split(first, kind, quick=quick) for kind in ("groups", "leaky"))
    jobs = list(jobs_of(options.parts, benches, few, leaky, quick=quick))
    unseen = unseen_bench(options.data, cells, quick=quick) if options.data else None
    if unseen is not None:
        jobs += unseen_jobs(unseen, PRIVATE, per_label=20 if quick else 400)
    carry_out(cells, jobs, workers=options.jobs)
    place = write(options, cells, page_of(benches, few, leaky, unseen, recorded=tuple(recorded)))
    for bench in benches.values():
        print(table_of(bench), end="\n\n")
    print(f"Page: {place}")
    return 0


def jobs_of(parts: list[str], benches: dict[str, Bench], few: Bench, leaky: Bench, *, quick: bool) -> Iterator[Job]:
    """Yield what is asked, what matters most first."""
    per_label, steps = (30, 4) if quick else (500, 120)
    if "features" in parts:
        for bench in benches.values():
            yield from bench.real_jobs((*REAL_WAYS, HALVES))
            yield from bench.jobs(
                bench.source(CENTRAL, per_label=per_label, ways=(*WAYS, "all classes", "synthetic alone"))
            )
        first = next(iter(benches.values()))
        sources = [first.source(CENTRAL, per_label=40 if quick else 200)]
        yield "fidelity", lambda: fidelity(first, sources, draws=50 if quick else DRAWS)
        for bench in (few, leaky):
            yield from bench.real_jobs(("none", "oversampling"))
        for name in (SKIPPED, UNSKIPPED):
            yield from few.jobs(autoencoder(few, name, steps=10 if quick else 400, per_label=per_label))
    if "private" in parts:
        for bench in benches.values():
            for arm in (ONE_NOISE, EACH_NOISE):
                yield from bench.jobs(bench.source(arm, per_label=per_label, ways=WAYS))
    if "networks" in parts:
        ways = (AIM, "synthetic alone")
        yield from few.jobs(few.source(CENTRAL, per_label=per_label, ways=ways))
        for arm in NETWORKS[:: 2 if quick else 1]:
            yield from few.jobs(few.source(arm.learning(steps), per_label=per_label, ways=ways))
        yield from few.jobs(few.source(PRIVATE_SEQUENTIAL, per_label=per_label, ways=ways))


def autoencoder(bench: Bench, name: str, *, steps: int, per_label: int) -> Source:
    """Return the seed's autoencoder as a source; how it reconstructs those it was trained on is kept."""

    def make(real: Material, fold: int) -> Made:
        with_skips = name == SKIPPED
        found = autoencoded(
            real, bench.frame, steps=steps, per_label=per_label, seed=fold + 1, with_skips=with_skips
        )
        return Made(found.made, {"with skips": round(found.with_skips, 3), "without": round(found.without, 3)})

    return Source(name, make, ("synthetic alone",))


def _options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--layouts", nargs="+", choices=LAYOUTS, default=list(LAYOUTS))
    parser.add_argument(
        "--groups",
        type=int,
        default=6,
        metavar="N",
        help="of patients left out in turn (default 6); 0: each patient",
    )
    for name in LAYOUTS:
        parser.add_argument(
            f"--{name.lower()}", type=Path, metavar="DIR", help=f"folder of {name} as published, a folder a patient"
        )
    parser.add_argument("--data", type=Path, metavar="DIR", help="folder of the Guinea-Bissau recordings")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))


def bench_of(name: str, folder: Path | None, options: argparse.Namespace, cells: Cells) -> Bench:
    """Return patients of one layout, some left out at a time: recorded ones where there is a folder of them."""
    quick: bool = options.quick
    channels = LAYOUTS[name][: 4 if quick and folder is None else None]
    shape = Shape(channels, 256, 64.0, (0.5, 30.0), len(STATES), "eeg")
    if folder is None:
        real = seizures(
            channels,
            patients=5 if quick else 24,
            seed=options.seed,
            each=0.2 if quick else 1.0,
            sfreq=shape.sfreq,
            n_times=shape.n_times,
        )
    else:
        real = patients_with_seizures(name, folder, shape)
    setting = Setting(shape, SIZES["quick"] if quick else replace(SIZES["small"], steps=STEPS))
    folds = groups(real, count=options.groups) if options.groups else leave_one_out(real)
    return Bench(name, real, Frame(shape, STATES, "ictal"), folds, setting, (MAIN,), cells)


def other_split(bench: Bench, kind: str, *, quick: bool) -> Bench:
    """Return the same patients in a few groups, or in a leaky split."""
    count = 2 if quick else 3
    folds = groups(bench.real, count=count) if kind == "groups" else random_windows(bench.real, count=count)
    return replace(bench, name=f"{bench.name}, {kind}", folds=folds)


if __name__ == "__main__":
    sys.exit(main())
