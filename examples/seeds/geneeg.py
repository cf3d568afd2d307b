"""GenEEG (soinikghosh9/GenEEG): normal, preictal and ictal EEG of patients whom no classifier and no generator saw.

    python examples/seeds/geneeg.py                  # 24 simulated patients, in the layouts of Siena and CHB-MIT
    python examples/seeds/geneeg.py --layouts Siena --parts features    # some of it; the rest may follow
    python examples/seeds/geneeg.py --data DIR       # and Guinea-Bissau: people with epilepsy nobody saw
    python examples/seeds/geneeg.py --groups 0       # one patient after the other, not six groups of four: an hour
    python examples/seeds/geneeg.py --quick

It leaves patients out, trains a generator on the others, and asks whether filling the rarer states with its
windows serves a classifier better than repeating windows of patients. It ends in a page and in study.json; a
stopped study goes on where it stopped.
"""

import argparse
import sys
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
from kit.arms import Arm, Frame
from kit.bench import DOUBLED, Bench, Job, Source, groups, leave_one_out, random_windows
from kit.cohorts import CHB_MIT, SIENA, STATES, seizures
from kit.skips import autoencoded
from kit.study import SECONDS, SIMULATED, arguments, carry_out, open_cells, write
from kit.unseen import unseen_bench, unseen_jobs, unseen_section

from fedsynth.evaluation.protocol.cells import Cells
from fedsynth.evaluation.protocol.classifiers.training import Setting
from fedsynth.evaluation.protocol.fidelity import distances
from fedsynth.evaluation.protocol.material import Material
from fedsynth.evaluation.protocol.measures import MACRO_F1
from fedsynth.evaluation.protocol.size import SIZES
from fedsynth.evaluation.protocol.splits import LEAKY
from fedsynth.evaluation.protocol.tables import Number, Table, shown
from fedsynth.modalities.shape import Shape
from fedsynth.report.experiment import ExperimentPage, Section
from fedsynth.report.experiment_figures import Dot, dots_svg, floors_svg

CENTRAL = Arm("features, no privacy")
ONE_NOISE = Arm("features, ε = 8, secure sums", epsilon=8.0)
EACH_NOISE = Arm("features, ε = 8, each hospital's noise", epsilon=8.0, hospitals=4)
PRIVATE = (CENTRAL, ONE_NOISE, EACH_NOISE)
LEARNED = Arm("every layer of vae-ldm, in one place", family="vae-ldm", layers="all", rows=32)
AVERAGED = replace(LEARNED, name="every layer of vae-ldm, four hospitals averaged", hospitals=4)
SEQUENTIAL = replace(
    AVERAGED, name="every layer of vae-ldm, one hospital after the other, consolidated",
    order="sequential", consolidation=5000.0,
)  # fmt: skip
FORGETFUL = replace(
    SEQUENTIAL, name="every layer of vae-ldm, one hospital after the other, nothing held", consolidation=0.0
)
NETWORKS = (LEARNED, AVERAGED, SEQUENTIAL, FORGETFUL)
SKIPPED = "an autoencoder with skips, decoded without them (as published)"
UNSKIPPED = "the same autoencoder, trained without skips"
PRIVATE_SEQUENTIAL = Arm(
    "adapters of vae-ldm, ε = 8, one hospital after the other, consolidated", family="vae-ldm", epsilon=8.0,
    hospitals=4, order="sequential", consolidation=5000.0,
)  # fmt: skip
WAYS = ("minority only", DOUBLED)
LAYOUTS = {"Siena": SIENA, "CHB-MIT": CHB_MIT}
MAIN = "cnn-bilstm"


PARTS = ("features", "private", "networks")


def main(words: list[str] | None = None) -> int:
    """Run what is missing and write the page."""
    options = arguments("geneeg", __doc__ or "", more=_options).parse_args(words)
    quick = options.quick
    if quick:
        options.groups, options.layouts = 2, options.layouts[:1]
    cells = open_cells(options, study="geneeg", version=2, groups=options.groups, data=bool(options.data))
    benches = {name: bench_of(name, LAYOUTS[name], options, cells) for name in options.layouts}
    first = next(iter(benches.values()))
    few, leaky = (other_split(first, kind, quick=quick) for kind in ("groups", "leaky"))
    jobs = list(jobs_of(options.parts, benches, few, leaky, quick=quick))
    unseen = unseen_bench(options.data, cells, quick=quick) if options.data else None
    if unseen is not None:
        jobs += unseen_jobs(unseen, PRIVATE, per_label=20 if quick else 400)
    carry_out(cells, jobs)
    place = write(options, cells, page_of(benches, few, leaky, unseen))
    for bench in benches.values():
        print(table_of(bench), end="\n\n")
    print(f"Page: {place}")
    return 0


def jobs_of(parts: list[str], benches: dict[str, Bench], few: Bench, leaky: Bench, *, quick: bool) -> Iterator[Job]:
    """Yield what is asked, what matters most first."""
    per_label, steps = (30, 4) if quick else (500, 120)
    if "features" in parts:
        for bench in benches.values():
            yield from bench.real_jobs()
            yield from bench.jobs(
                bench.source(CENTRAL, per_label=per_label, ways=(*WAYS, "all classes", "synthetic alone"))
            )
        yield "fidelity", lambda: fidelity(next(iter(benches.values())), quick=quick)
        for bench in (few, leaky):
            yield from bench.real_jobs(("none", "oversampling"))
        for name in (SKIPPED, UNSKIPPED):
            yield from few.jobs(autoencoder(few, name, steps=10 if quick else 400, per_label=per_label))
    if "private" in parts:
        for bench in benches.values():
            for arm in (ONE_NOISE, EACH_NOISE):
                yield from bench.jobs(bench.source(arm, per_label=per_label, ways=WAYS))
    if "networks" in parts:
        ways = (*WAYS, "synthetic alone")
        yield from few.jobs(few.source(CENTRAL, per_label=per_label, ways=ways))
        for arm in NETWORKS[:: 2 if quick else 1]:
            share = steps // 2 if arm.hospitals > 1 else steps  # so that all hospitals take twice as many in all
            yield from few.jobs(few.source(replace(arm, steps=share), per_label=per_label, ways=ways))
        yield from few.jobs(few.source(PRIVATE_SEQUENTIAL, per_label=per_label, ways=ways))


def autoencoder(bench: Bench, name: str, *, steps: int, per_label: int) -> Source:
    """Return the seed's autoencoder as a source; how it reconstructs those it was trained on is kept."""

    def make(real: Material, fold: int) -> Material:
        with_skips = name == SKIPPED
        found = autoencoded(
            real, bench.frame, steps=steps, per_label=per_label, seed=fold + 1, with_skips=with_skips
        )
        told = {"with skips": round(found.with_skips, 3), "without": round(found.without, 3)}
        bench.cells.more.setdefault("reconstruction", {})[f"{name}/{fold}"] = told
        return found.made

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
    parser.add_argument("--data", type=Path, metavar="DIR", help="folder of the Guinea-Bissau recordings")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))


def bench_of(name: str, channels: tuple[str, ...], options: argparse.Namespace, cells: Cells) -> Bench:
    """Return patients of one layout, one left out at a time."""
    quick: bool = options.quick
    channels = channels[:4] if quick else channels
    real = seizures(
        channels,
        patients=5 if quick else 24,
        seed=options.seed,
        each=0.2 if quick else 1.0,
        sfreq=64.0,
        n_times=256,
    )
    shape = Shape(channels, 256, 64.0, (0.5, 30.0), len(STATES), "eeg")
    setting = Setting(shape, SIZES["quick"] if quick else replace(SIZES["small"], steps=150))
    folds = groups(real, count=options.groups) if options.groups else leave_one_out(real)
    return Bench(name, real, Frame(shape, STATES, "ictal"), folds, setting, (MAIN,), cells)


def other_split(bench: Bench, kind: str, *, quick: bool) -> Bench:
    """Return the same patients in a few groups, or in a leaky split."""
    count = 2 if quick else 3
    folds = groups(bench.real, count=count) if kind == "groups" else random_windows(bench.real, count=count)
    return replace(bench, name=f"{bench.name}, {kind}", folds=folds, made={})


def fidelity(bench: Bench, *, quick: bool) -> list[dict[str, float | str]]:
    """Compare features of patients with those of made-up ones, who were trained on all but the first patient."""
    source = bench.source(CENTRAL, per_label=40 if quick else 200)
    made = source.make(bench.real.at(bench.folds[0][0]), 0)
    found = distances(
        bench.real, made, shape=bench.frame.shape, names=STATES, draws=50 if quick else 200, correction="holm"
    )
    return [asdict(one) for one in found]


def table_of(bench: Bench) -> Table:
    """Return the main table of one layout."""
    rows = [(way, "real", way) for way in ("none", "class weights", "oversampling", "SMOTE")]
    rows += [(f"{way}: {arm.name}", arm.name, way) for arm in (CENTRAL, ONE_NOISE, EACH_NOISE) for way in WAYS]
    rows += [(f"all classes: {CENTRAL.name}", CENTRAL.name, "all classes")]
    rows += [(f"synthetic alone: {CENTRAL.name}", CENTRAL.name, "synthetic alone")]
    return bench.table(
        MAIN, rows, title=f"{bench.name} layout, {len(bench.folds)} folds", note="Tested on the patients left out."
    )


def page_of(benches: dict[str, Bench], few: Bench, leaky: Bench, unseen: Bench | None) -> ExperimentPage:
    """Return the page."""
    main = next(iter(benches.values()))
    counts = np.bincount(main.real.labels, minlength=3)
    sections = [
        Section("The published figures beside ours", _about_published(benches), (_published(benches),)),
        Section(
            "Patients left out",
            tables=tuple(table_of(bench) for bench in benches.values()),
            figures=_gains(benches),
        ),
        Section(
            "What the promise costs",
            (
                "At ε = 8 by person, private sums over two dozen patients hold more noise than patients. The noise "
                "of one sum for all hospitals together (secure sums; in one place it would be the same sum) "
                "and that "
                "of every hospital for itself differ by how much of nothing is left. So with 14 patients "
                "(Siena) or "
                "23 (CHB-MIT) a promise to each person says nothing about seizures, at whatever macro-F1: what the "
                "rows with ε gain or lose against oversampling comes from the public prior. Without privacy, sums "
                "over four hospitals are the sums over all of them: federation changes no number in the row of "
                "features.",
            ),
            (_cost(benches),),
        ),
        Section(
            "Networks that learn, and sequential fine-tuning",
            (
                "The seed fine-tunes its networks patient by patient, with elastic weight consolidation and "
                "a replay of raw windows. Here one hospital after the other fine-tunes what the last one left, and "
                "its Fisher information, a private sum, holds the weights that mattered; no recording is kept or "
                "sent. It stands beside the same without consolidation, federated averaging and training in one "
                f"place. {len(few.folds)} groups of patients are left out in turn, since networks take longer.",
            ),
            (_learned(few),),
        ),
        *([unseen_section(unseen, PRIVATE)] if unseen is not None else []),
        Section(
            "Fidelity, by patient",
            ("Twelve features and loudness; p-values by permuting patients, corrected by Holm over all rows.",),
            figures=(floors_svg("fidelity", main.cells.more["fidelity"]),)
            if main.cells.more.get("fidelity")
            else (),
        ),
        Section(
            "Flaws of the original, shown",
            (
                "Its validation takes random windows, half of each in another one, on both sides of the split, and "
                "stops by them. Below are the same classifier and the same patients, by patient and by window. Its "
                "decoder learns beside skips from the encoder, which sees the recording, and draws without them: "
                "what skips told in training is missing. The same small autoencoder without them stands beside it.",
            ),
            (_leak(few, leaky), _skips(few)),
        ),
    ]
    return ExperimentPage(
        kicker="The seeds, reproduced: GenEEG",
        title="Do made-up seizures help to find seizures of patients nobody saw?",
        notice=SIMULATED,
        lead=(
            f"{main.real.n_people} simulated patients differ in the noise of their montage and in the form, place, "
            "size and rate of their seizures. They are simpler than patients: read differences, not levels.",
        ),
        facts={
            "windows": ", ".join(f"{name} {count}" for name, count in zip(STATES, counts, strict=True))
            + f", of {main.real.n_people} patients in a layout, {len(main.frame.shape.channels)} channels, "
            "4 s at 64 Hz",
            "classifier": f"CNN-BiLSTM, {main.setting.size.steps} steps of 32 windows",
            "intervals": "95 %, bootstrap over patients; differences are paired",
            "time": f"{main.cells.more.get(SECONDS, 0) / 60:.0f} minutes of computing",
        },
        sections=tuple(one for one in sections if one.figures or any(table.rows for table in one.tables)),
    )


def _published(benches: dict[str, Bench]) -> Table:
    told: list[tuple[str | Number, ...]] = []
    claims = {"Siena": "0.84 (repository), 0.86 (README)", "CHB-MIT": "0.82"}
    for name, bench in benches.items():
        found = bench.measures(CENTRAL.name, MAIN, "minority only")
        gain = bench.difference(MAIN, (CENTRAL.name, "minority only"), ("real", "oversampling"))
        if found is None or gain is None:
            continue
        told += [
            (f"macro-F1, minority augmented, {name}", claims[name], Number.of(found[MACRO_F1])),
            (f"gain over oversampling, {name}", "+0.15", Number.of(gain, signed=True)),
        ]
    return Table("GenEEG", ("what", "published", "here"), tuple(told))


def _about_published(benches: dict[str, Bench]) -> tuple[str, ...]:
    gains = [
        bench.difference(MAIN, (CENTRAL.name, "minority only"), ("real", "oversampling"))
        for bench in benches.values()
    ]
    known = [gain for gain in gains if gain is not None]
    held = [gain for gain in known if gain.low > 0]
    said = (
        f"That minority augmentation beats oversampling shows in {len(held)} of {len(known)} layouts with "
        f"an interval "
        "above zero."
        if known
        else ""
    )
    return (
        "Ours are simulated patients and a small classifier; theirs are real ones and 50 epochs. The "
        "repository has "
        "no result files, and its figures come from training on a replay buffer and from early stopping on a leaky "
        "validation split. Windows here are 4 s at 64 Hz and do not overlap. What makes our windows is "
        "private sums "
        "of features and a public decoder, not a latent diffusion. " + said,
    )


def _gains(benches: dict[str, Bench]) -> tuple[str, ...]:
    drawn = []
    for name, bench in benches.items():
        rows = [
            (way, bench.difference(MAIN, (source, kind), ("real", "oversampling")))
            for way, source, kind in (
                ("none", "real", "none"),
                ("class weights", "real", "class weights"),
                ("SMOTE", "real", "SMOTE"),
                *(
                    (f"{way}: {arm.name}", arm.name, way)
                    for arm in (CENTRAL, ONE_NOISE, EACH_NOISE)
                    for way in WAYS
                ),
            )
        ]
        dots = [Dot(way, Number.of(one, signed=True)) for way, one in rows if one is not None]
        drawn.append(dots_svg(f"gain-{name}", dots, axis=f"macro-F1 − oversampling, {name}") if dots else "")
    return tuple(figure for figure in drawn if figure)


def _cost(benches: dict[str, Bench]) -> Table:
    told = []
    for name, bench in benches.items():
        free = bench.difference(MAIN, (CENTRAL.name, "minority only"), ("real", "oversampling"))
        for arm in (CENTRAL, ONE_NOISE, EACH_NOISE):
            gain = bench.difference(MAIN, (arm.name, "minority only"), ("real", "oversampling"))
            if gain is None or free is None:
                continue
            kept = f"{100 * gain.value / free.value:.0f} %" if free.low > 0 else "no gain to keep"
            lost = bench.difference(MAIN, (arm.name, "minority only"), (CENTRAL.name, "minority only"))
            cost = "" if arm == CENTRAL or lost is None else Number.of(lost, signed=True)
            told.append((name, arm.name, Number.of(gain, signed=True), kept, cost))
    head = ("layout", "arm", "gain over oversampling", "share of the gain kept", "macro-F1 − no privacy")
    return Table("Minority augmentation", head, tuple(told))


def _learned(few: Bench) -> Table:
    if few.measures(LEARNED.name, MAIN, "minority only") is None:
        return Table("", (), ())
    rows = [("none", "real", "none"), ("oversampling", "real", "oversampling")]
    for arm in (CENTRAL, *NETWORKS, PRIVATE_SEQUENTIAL):
        rows += [(f"{way}: {arm.name}", arm.name, way) for way in (*WAYS, "synthetic alone")]
    return few.table(MAIN, rows, title="Groups of patients left out")


def _leak(few: Bench, leaky: Bench) -> Table:
    told = []
    for words, bench in (("by patient", few), (LEAKY, leaky)):
        for way in ("none", "oversampling"):
            found = bench.measures("real", MAIN, way)
            if found is not None:
                told.append((words, way, shown(Number.of(found[MACRO_F1]))))
    return Table("The same windows, split by patient and by window", ("split", "way", MACRO_F1), tuple(told))


def _skips(few: Bench) -> Table:
    rows: list[tuple[str | Number, ...]] = []
    kept = few.cells.more.get("reconstruction", {})
    for name in (SKIPPED, UNSKIPPED):
        found = few.measures(name, MAIN, "synthetic alone")
        if found is not None:
            mine = [one for key, one in kept.items() if key.startswith(f"{name}/")]
            means = [f"{np.mean([one[how] for one in mine]):.2f}" for how in ("with skips", "without")]
            rows.append((name, *means, Number.of(found[MACRO_F1])))
    head = ("decoder", "recordings against reconstructions, r, with skips", "without", "macro-F1, synthetic alone")
    return Table("A decoder that draws without what it learned with", head, tuple(rows))


if __name__ == "__main__":
    sys.exit(main())
