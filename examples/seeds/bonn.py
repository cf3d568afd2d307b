"""The Bonn seed (saumitkunder/EEG-DATA-SYNTHESIS-USING-GANS): seizures and the rest, classifiers and GANs.

    python examples/seeds/bonn.py --data DIR     # the Bonn sets as published, a folder for each: Z, O, N, F, S
    python examples/seeds/bonn.py                # without: simulated recordings, laid out in the same way

Windows are those of the UCI table: 178 samples, about a second. There are no patient numbers, so that a recording
is held out as a whole and is the unit of the promise. It ends in a page and in study.json; a stopped study goes on.
"""

import argparse
import sys
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
from kit.arms import Arm, Frame
from kit.bench import Bench, Job, Made, Source, groups, random_windows
from kit.bonn_sets import SFREQ, TIMES, read
from kit.fidelity import DRAWS, fidelity, fidelity_section
from kit.findings import costs, findings
from kit.originals import Train, dense_gan, one_network_a_label, wavegan
from kit.study import SECONDS, arguments, carry_out, computing, filled, notice, open_cells, write

from fedsynth.evaluation.protocol.classifiers.training import Setting
from fedsynth.evaluation.protocol.material import Material
from fedsynth.evaluation.protocol.measures import ACCURACY
from fedsynth.evaluation.protocol.size import SIZES
from fedsynth.evaluation.protocol.splits import LEAKY
from fedsynth.evaluation.protocol.tables import Number, Table
from fedsynth.modalities.shape import Shape
from fedsynth.report.experiment import ExperimentPage, Section

NAMES = ("rest", "seizure")
DENSE, WAVE = "dense GAN, the original", "WaveGAN, the original"
FEATURES = Arm("features, no privacy")
ONE_NOISE = Arm("features, ε = 8, secure sums", epsilon=8.0)
EACH_NOISE = Arm("features, ε = 8, each hospital's noise", epsilon=8.0, hospitals=4)
LEARNED = tuple(
    Arm(f"every layer of {family}, {where}", family=family, layers="all", hospitals=hospitals, rows=32)
    for family, where, hospitals in (
        ("dense-gan", "in one place", 1),
        ("wavegan", "in one place", 1),
        ("wavegan", "four hospitals", 4),
    )
)
SOURCES = (FEATURES.name, *(arm.name for arm in LEARNED), ONE_NOISE.name, EACH_NOISE.name, DENSE, WAVE)
PUBLISHED = {"pca-mlp": 0.940, "ica-mlp": 0.921, "lda-mlp": 0.854, "sigxnet": 0.977}
MAIN, OTHER = "sigxnet", "random-convolutions"


def main(words: list[str] | None = None) -> int:
    """Run what is missing and write the page."""
    options = arguments("bonn", __doc__ or "", more=_options).parse_args(words)
    quick: bool = options.quick
    real = read(options.data, each=2 if quick else 4, most=6 if quick else 80, seed=options.seed)
    cells = open_cells(
        options, study="bonn", version=3, large=options.large, windows=len(real), data=bool(options.data)
    )
    shape = Shape(("EEG",), TIMES, SFREQ, (0.5, 40.0), 2, "eeg")
    setting = Setting(shape, SIZES["quick"] if quick else replace(SIZES["small"], steps=200))
    frame = Frame(shape, NAMES, "seizure")
    bench = Bench("by recording", real, frame, groups(real, count=2 if quick else 3), setting, (MAIN, OTHER), cells)
    seeds = replace(bench, name="the seed's classifiers", classifiers=tuple(PUBLISHED))
    leaky = replace(seeds, name="by window", folds=random_windows(real, count=len(bench.folds)))
    scaled = replace(leaky, name="by window, scaler of everybody", real=scaled_by_all(real))
    jobs = list(jobs_of(bench, seeds, leaky, scaled, quick=quick, large=options.large))
    carry_out(cells, jobs, workers=options.jobs)
    place = write(options, cells, page_of(bench, seeds, leaky, scaled, is_real=options.data is not None))
    print(table_of(bench, MAIN), end="\n\n")
    print(f"Page: {place}")
    return 0


def scaled_by_all(real: Material) -> Material:
    """Return windows as the seed's scaler leaves them: every sample by its mean and spread over all rows,
    test and all.

    It is brought back to microvolts by one factor, so that networks see the range that they are made for.
    """
    flat = real.signal.reshape(len(real), -1)
    scaled = (flat - flat.mean(axis=0)) / (flat.std(axis=0) + 1e-9) * flat.std()
    return replace(real, signal=scaled.reshape(real.signal.shape).astype(np.float32))


def jobs_of(bench: Bench, seeds: Bench, leaky: Bench, scaled: Bench, *, quick: bool, large: bool) -> Iterator[Job]:
    """Yield what is asked, what matters most first."""
    per_label, steps, layers = (20, 10, 6) if quick else (5000, 20000, 3000) if large else (500, 1500, 60)
    yield from bench.real_jobs(("none", "class weights", "oversampling"))
    for arm in (FEATURES, ONE_NOISE, EACH_NOISE):
        yield from bench.jobs(bench.source(arm, per_label=per_label))
    for name, train in ((DENSE, dense_gan), (WAVE, wavegan)):
        yield from bench.jobs(original(bench, name, partial(train), steps=steps, per_label=per_label))
    for some in (seeds, leaky, scaled):
        yield from some.real_jobs(("none",))
    for arm in LEARNED:
        yield from bench.jobs(bench.source(arm.learning(layers), per_label=per_label))
    few = 60 if quick else 200
    sources = [bench.source(FEATURES, per_label=few)]
    sources += [
        original(bench, name, train, steps=steps, per_label=few)
        for name, train in ((DENSE, dense_gan), (WAVE, wavegan))
    ]
    yield "fidelity", lambda: fidelity(bench, sources, draws=100 if quick else DRAWS)


def original(bench: Bench, name: str, train: Train, *, steps: int, per_label: int) -> Source:
    """Return one of the seed's own networks as a source."""
    return Source(
        name,
        lambda real, fold: Made(
            one_network_a_label(real, bench.frame, train=train, steps=steps, per_label=per_label, seed=fold + 1)
        ),
    )


def table_of(bench: Bench, classifier: str) -> Table:
    """Return the generators' table by one classifier."""
    rows = [(way, "real", way) for way in ("none", "class weights", "oversampling")]
    for name in SOURCES:
        rows += [(f"{way}: {name}", name, way) for way in ("synthetic alone", "minority only")]
    return bench.table(classifier, rows, title="Trained on these, tested on recordings held out")


def page_of(bench: Bench, seeds: Bench, leaky: Bench, scaled: Bench, *, is_real: bool) -> ExperimentPage:
    """Return the page."""
    cells = bench.cells
    sections = [
        Section("What held, and what did not", _findings(bench, seeds, leaky)),
        Section(
            "The published figures beside ours",
            (
                "The seed reports accuracy on its test rows: random windows, so that windows of one "
                "recording are on "
                "both sides, after a scaler that saw all rows; the convolutional net's test rows also chose its "
                "learning rate. Four fifths of the rows are no seizure, so that accuracy begins at .80. Its "
                "synthetic "
                "windows were looked at and never measured.",
            ),
            (_published(seeds, leaky, scaled),),
        ),
        Section(
            "Generators",
            (
                "The original networks are trained from scratch, one for each label, as their pages describe them. "
                "The product's families learn every layer from the public prior; “features” are private sums of "
                "features and a public decoder. The unit of the promise is the recording: nothing says "
                "whose it is.",
            ),
            tuple(table_of(bench, name) for name in bench.classifiers),
        ),
        fidelity_section(cells.more.get("fidelity", {}), unit="recording"),
    ]
    return ExperimentPage(
        kicker="The seeds, reproduced: Bonn",
        title="The Bonn seed’s classifiers and GANs, split as they should be",
        notice=notice(everything=is_real),
        lead=("Seizure against the rest, windows of 178 samples as in the UCI table.",),
        facts={
            "recordings": "the Bonn sets" if is_real else "simulated, laid out as the Bonn sets",
            "windows": f"{len(bench.real)} of {bench.real.n_people} recordings",
            "time": computing(cells.more.get(SECONDS, 0)),
        },
        sections=filled(sections),
    )


def _findings(bench: Bench, seeds: Bench, leaky: Bench) -> tuple[str, ...]:
    """Say what splits, generators, privacy and federation do to the numbers."""
    windows, recordings = (
        {name: one[ACCURACY] for name in PUBLISHED if (one := some.measures("real", name, "none"))}
        for some in (leaky, seeds)
    )
    both = [name for name in PUBLISHED if name in windows and name in recordings]
    said = list(
        findings(
            "the seed's accuracy is higher where windows of one recording are on both sides of the split",
            {name: windows[name].minus(recordings[name]) for name in both},
        )
    )
    over, alone = ("real", "oversampling"), "synthetic alone"
    for name in bench.classifiers:
        gains = {source: bench.difference(name, (source, "minority only"), over) for source in SOURCES}
        said += findings(f"{name}: seizures filled with made-up windows beat repeated ones in macro-F1", gains)
        against = {source: bench.difference(name, (source, alone), ("real", "none")) for source in SOURCES}
        said += costs(f"{name}, macro-F1 with made-up windows in place of real ones", against)
        pairs = (
            (ONE_NOISE, FEATURES, "the promise of ε = 8 with one noise for all hospitals"),
            (EACH_NOISE, FEATURES, "the promise of ε = 8 with the noise of each of four hospitals"),
            (LEARNED[2], LEARNED[1], "averaging wavegan over four hospitals"),
        )
        for way in ("minority only", alone):
            lost = {what: bench.difference(name, (arm.name, way), (base.name, way)) for arm, base, what in pairs}
            said += costs(f"{name}, {way}", lost)
    return tuple(said)


def _published(seeds: Bench, leaky: Bench, scaled: Bench) -> Table:
    rows: list[tuple[str | Number, ...]] = []
    for name, published in PUBLISHED.items():
        found = [bench.measures("real", name, "none") for bench in (scaled, leaky, seeds)]
        if all(one is not None for one in found):
            told = [Number.of(one[ACCURACY]) for one in found if one is not None]
            rows.append((name, f"{published:.3f}", *told))
    head = (
        "classifier",
        "published",
        "scaler of all rows, split by window",
        "split by window",
        "split by recording",
    )
    note = f"Columns 3 and 4 are {LEAKY.replace('person', 'recording')}."
    return Table("Accuracy on real windows", head, tuple(rows), note)


def _options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--data", type=Path, metavar="DIR", help="folder of the Bonn sets")
    parser.add_argument("--large", action="store_true", help="more windows and steps: hours")


if __name__ == "__main__":
    sys.exit(main())
