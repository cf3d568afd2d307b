"""The ALS seed (arXiv 2506.16243, als-synthetic-data-augmentation-wgan): a rare group of one in eleven, augmented.

    python examples/seeds/als.py                 # 132 made-up people, and recordings like the Bonn sets, thinned
    python examples/seeds/als.py --data DIR      # the Bonn sets themselves: a folder each for Z, O, N, F and S
    python examples/seeds/als.py --large         # 352 people, more steps: hours
    python examples/seeds/als.py --quick

Resting EEG of simulated people on 32 channels, one of them ill for every ten who are not. Does filling the rare
group with made-up windows help a classifier of people nobody saw? The seed's network stands beside the product's
`cwgan`, as its paper describes it and as its code has it: collapsed. The same is asked of seizures in the Bonn
sets, one recording in eleven. It ends in a page and in study.json.
"""

import argparse
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from kit.arms import Arm, Frame
from kit.bench import Bench, Job, Made, Source, groups
from kit.bonn_sets import SFREQ, TIMES, read, thinned
from kit.cohorts import ALS_CHANNELS, GROUPS, als
from kit.fidelity import DRAWS, fidelity, fidelity_section
from kit.findings import costs, findings
from kit.originals import als_gan
from kit.study import SECONDS, arguments, carry_out, computing, filled, notice, open_cells, write

from fedsynth.evaluation.diversity import LEAST_DIVERSITY, diversity_score
from fedsynth.evaluation.protocol.cells import Cells
from fedsynth.evaluation.protocol.classifiers.training import Setting
from fedsynth.evaluation.protocol.material import Material
from fedsynth.evaluation.protocol.measures import MACRO_F1
from fedsynth.evaluation.protocol.size import SIZES
from fedsynth.evaluation.protocol.tables import Number, Table
from fedsynth.modalities.shape import Shape
from fedsynth.report.experiment import ExperimentPage, Section
from fedsynth.report.experiment_figures import Dot, dots_svg
from fedsynth.synthesis.windows import SyntheticWindows

FEATURES = Arm("features, no privacy")
ONE_NOISE = Arm("features, ε = 8, secure sums", epsilon=8.0)
EACH_NOISE = Arm("features, ε = 8, each hospital's noise", epsilon=8.0, hospitals=4)
LEARNED = Arm("every layer of cwgan, in one place", family="cwgan", layers="all", rows=16)
AVERAGED = replace(LEARNED, name="every layer of cwgan, four hospitals", hospitals=4)
DESCRIBED, COLLAPSED = "the seed's WGAN, as described", "the seed's WGAN, as published: collapsed"
SOURCES = (*(arm.name for arm in (FEATURES, LEARNED, AVERAGED, ONE_NOISE, EACH_NOISE)), DESCRIBED, COLLAPSED)
WAYS = ("minority only", "synthetic alone")
DIVERSITY = "diversity"
CLASSIFIERS = ("cnn-bilstm", "boosting")
MAIN = CLASSIFIERS[0]
PER_SEIZURE = 10
DRAWN = 200  # made-up windows of a label whose features are compared


@dataclass(frozen=True)
class Extent:
    """How much is done: people and windows of each, folds, steps of classifiers, originals and families."""

    people: int
    windows: int
    folds: int
    classifier: int
    original: int
    layers: int
    per_label: int


QUICK = Extent(people=22, windows=2, folds=2, classifier=40, original=10, layers=4, per_label=20)
USUAL = Extent(people=132, windows=4, folds=3, classifier=150, original=2000, layers=60, per_label=400)
LARGE = Extent(people=352, windows=8, folds=5, classifier=400, original=20000, layers=600, per_label=2500)


def main(words: list[str] | None = None) -> int:
    """Run what is missing and write the page."""
    options = arguments("als", __doc__ or "", more=_options).parse_args(words)
    extent = QUICK if options.quick else LARGE if options.large else USUAL
    cells = open_cells(options, study="als", version=3, large=options.large, data=bool(options.data))
    benches = (als_bench(options, extent, cells), bonn_bench(options, extent, cells))
    jobs = [job for bench in benches for job in jobs_of(bench, extent)]
    carry_out(cells, jobs, workers=options.jobs)
    place = write(options, cells, page_of(*benches, is_real=options.data is not None))
    for bench in benches:
        print(table_of(bench, MAIN), end="\n\n")
    print(f"Page: {place}")
    return 0


def als_bench(options: argparse.Namespace, extent: Extent, cells: Cells) -> Bench:
    """Return simulated people, one in eleven of them ill."""
    channels = ALS_CHANNELS[::8] if options.quick else ALS_CHANNELS
    real = als(
        people=extent.people,
        share=1 / (PER_SEIZURE + 1),
        windows=extent.windows,
        seed=options.seed,
        layout=channels,
        sfreq=64.0,
        n_times=128,
    )
    shape = Shape(channels, 128, 64.0, (0.5, 30.0), 2, "eeg")
    return _bench("als", real, Frame(shape, GROUPS, "ALS"), options, extent, cells)


def bonn_bench(options: argparse.Namespace, extent: Extent, cells: Cells) -> Bench:
    """Return the Bonn sets, or recordings like them, with one recording of a seizure for ten of anything else."""
    real = read(options.data, each=2, most=11 if options.quick else 80, seed=options.seed)
    shape = Shape(("EEG",), TIMES, SFREQ, (0.5, 40.0), 2, "eeg")
    frame = Frame(shape, ("rest", "seizure"), "seizure")
    return _bench("Bonn, thinned", thinned(real, per_seizure=PER_SEIZURE), frame, options, extent, cells)


def _bench(
    name: str, real: Material, frame: Frame, options: argparse.Namespace, extent: Extent, cells: Cells
) -> Bench:
    size = replace(SIZES["quick" if options.quick else "small"], steps=extent.classifier)
    folds = groups(real, count=extent.folds)
    classifiers = (MAIN,) if options.quick else CLASSIFIERS
    return Bench(name, real, frame, folds, Setting(frame.shape, size), classifiers, cells)


def jobs_of(bench: Bench, extent: Extent) -> Iterator[Job]:
    """Yield what is asked, what matters most first."""
    per_label = extent.per_label
    yield from bench.real_jobs()
    private = (FEATURES,) if extent == QUICK and bench.name != "als" else (FEATURES, ONE_NOISE, EACH_NOISE)
    sources = [bench.source(arm, per_label=per_label, ways=WAYS) for arm in private]
    if bench.name == "als":
        sources += [
            seed_source(bench, name, steps=extent.original, per_label=per_label) for name in (DESCRIBED, COLLAPSED)
        ]
    sources += [
        bench.source(arm.learning(extent.layers), per_label=per_label, ways=WAYS)
        for arm in ((LEARNED,) if extent == QUICK else (LEARNED, AVERAGED))
    ]
    for source in sources:
        yield from bench.jobs(with_diversity(bench, source))
    if bench.name == "als":
        shown = [bench.source(FEATURES, per_label=DRAWN)]
        shown += [seed_source(bench, DESCRIBED, steps=extent.original, per_label=DRAWN)]
        yield "fidelity", lambda: fidelity(bench, shown, draws=100 if extent == QUICK else DRAWS)


def seed_source(bench: Bench, name: str, *, steps: int, per_label: int) -> Source:
    """Return the seed's own network as a source."""

    def make(real: Material, fold: int) -> Made:
        is_collapsed = name == COLLAPSED
        return Made(
            als_gan(real, bench.frame, steps=steps, per_label=per_label, seed=fold + 1, is_collapsed=is_collapsed)
        )

    return Source(name, make, WAYS)


def with_diversity(bench: Bench, source: Source) -> Source:
    """Return a source that notes the score by which the product refuses collapsed windows."""

    def make(real: Material, fold: int) -> Made:
        made = source.make(real, fold)
        return replace(made, notes={**made.notes, DIVERSITY: diversity(bench, made.windows)})

    return replace(source, make=make)


def diversity(bench: Bench, made: Material) -> float:
    """Return that score, of the label where it is least."""
    shape, names = bench.frame.shape, bench.frame.names
    windows = SyntheticWindows(made.signal, made.labels, made.people, names, shape.channels, shape.sfreq)
    return round(diversity_score(windows).value, 4)


def table_of(bench: Bench, classifier: str) -> Table:
    """Return every way by one classifier."""
    rows = [(way, "real", way) for way in ("none", "class weights", "oversampling", "SMOTE")]
    for name in SOURCES:
        rows += [(f"{way}: {name}", name, way) for way in WAYS]
    what = "people" if bench.name == "als" else "Bonn recordings"
    return bench.table(classifier, rows, title=f"Trained on these, tested on {what} held out")


def page_of(bench: Bench, bonn: Bench, *, is_real: bool) -> ExperimentPage:
    """Return the page."""
    counts = np.bincount(bench.real.labels, minlength=2)
    sections = (
        Section("What held, and what did not", _findings(bench, bonn)),
        Section(
            "The published figures beside ours",
            (
                "The paper reports no number: it shows loss curves that are flat and calls them stable, and "
                "rows that look alike. In its code the generator is never trained through the critic; flat "
                "losses (critic −1, "
                "output .9999) are what a collapse looks like. Its rows are 32 numbers, one sample of 32 channels, "
                "so that windows put together from them have no dynamics. In place of losses stand distances and "
                "gains with intervals here.",
            ),
            (_published(bench),),
        ),
        Section(
            "Minority augmentation",
            (
                "Without privacy, private sums of features over four hospitals are those over all of them, so that "
                "federation changes nothing there; networks that learn are trained in one place and averaged over "
                "four hospitals. At ε = 8 by person the noise of one sum for all (secure sums; the same in one "
                "place) and of every hospital for itself are told apart.",
            ),
            tuple(table_of(bench, name) for name in bench.classifiers),
            _gains(bench),
        ),
        Section(
            "Seizure against the rest, thinned to one in eleven",
            (
                f"The Bonn sets{'' if is_real else ' (recordings simulated in their place)'}, windows of 178 "
                "samples, the recording being the unit. Seizures are the rare label here.",
            ),
            tuple(table_of(bonn, name) for name in bonn.classifiers),
            _gains(bonn),
        ),
        fidelity_section(bench.cells.more.get("fidelity", {}), unit="person"),
        Section(
            "Collapse, seen before a classifier is asked",
            (
                f"The score that a release of the product must reach is {LEAST_DIVERSITY:g}: the effective "
                f"number of distinct "
                "windows among up to 200, less one, over their number less one.",
            ),
            (_diversity(bench), _diversity(bonn)),
        ),
    )
    return ExperimentPage(
        kicker="The seeds, reproduced: ALS",
        title="One in eleven is ill: synthetic windows against imbalance",
        notice=notice("the Bonn sets" if is_real else ""),
        lead=("Slower and weaker central rhythms and more slow waves in front mark the rare group.",),
        facts={
            "windows": ", ".join(f"{name} {count}" for name, count in zip(GROUPS, counts, strict=True))
            + f", of {bench.real.n_people} people, {len(bench.frame.shape.channels)} channels, 2 s at 64 Hz",
            "Bonn": f"{bonn.real.n_people} recordings, {bonn.real.at(bonn.real.labels == 1).n_people} of seizures",
            "time": computing(bench.cells.more.get(SECONDS, 0)),
        },
        sections=filled(sections),
    )


def _findings(*benches: Bench) -> tuple[str, ...]:
    """Say of each classifier whether the seed's aim was reached, and what privacy and federation cost."""
    said: list[str] = []
    way, over = WAYS[0], ("real", "oversampling")
    for bench in benches:
        for name in bench.classifiers:
            where = f"{'ALS' if bench.name == 'als' else bench.name}, {name}"
            claim = f"{where}: the rare group filled with made-up windows beats oversampling"
            said += findings(claim, {arm: bench.difference(name, (arm, way), over) for arm in SOURCES})
            said += costs(
                where,
                {
                    what: bench.difference(name, (arm.name, way), (base.name, way))
                    for arm, base, what in (
                        (ONE_NOISE, FEATURES, "the promise of ε = 8 with one noise for all hospitals"),
                        (EACH_NOISE, FEATURES, "the promise of ε = 8 with the noise of each of four hospitals"),
                        (AVERAGED, LEARNED, "averaging over four hospitals, where every layer learns,"),
                    )
                },
            )
    return tuple(said)


def _published(bench: Bench) -> Table:
    rows: list[tuple[str | Number, ...]] = []
    claims = {FEATURES.name: "", DESCRIBED: "no number; “stabilised losses”", COLLAPSED: "the same"}
    for name, published in claims.items():
        gain = bench.difference(MAIN, (name, "minority only"), ("real", "oversampling"))
        alone = bench.measures(name, MAIN, "synthetic alone")
        if gain is not None and alone is not None:
            rows.append((name, published, Number.of(alone[MACRO_F1]), Number.of(gain, signed=True)))
    head = ("generator", "published", "macro-F1, synthetic alone", "minority augmented − oversampling")
    return Table("The seed and ours, CNN-BiLSTM", head, tuple(rows))


def _gains(bench: Bench) -> tuple[str, ...]:
    found = [(n, bench.difference(MAIN, (n, "minority only"), ("real", "oversampling"))) for n in SOURCES]
    dots = [Dot(name, Number.of(one, signed=True)) for name, one in found if one is not None]
    return (
        (dots_svg(f"gains-{bench.frame.positive}", dots, axis="macro-F1 − oversampling, CNN-BiLSTM"),)
        if dots
        else ()
    )


def _diversity(bench: Bench) -> Table:
    rows = []
    for name in SOURCES:
        scores = [notes[DIVERSITY] for notes in bench.notes(name)]
        if scores:
            refused = sum(score < LEAST_DIVERSITY for score in scores)
            said = "let through" if not refused else f"refused in {refused} of {len(scores)} folds"
            rows.append((name, f"{min(scores):.3f} to {max(scores):.3f}", said))
    head = ("generator", "score, over folds", "a release would be")
    return Table(f"Diversity of made-up windows, {'ALS' if bench.name == 'als' else bench.name}", head, tuple(rows))


def _options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--data", type=Path, metavar="DIR", help="folder of the Bonn sets")
    parser.add_argument("--large", action="store_true", help="more people, windows, folds and steps: hours")


if __name__ == "__main__":
    sys.exit(main())
