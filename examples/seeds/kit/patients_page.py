"""The page of the GenEEG study: what held, tables and figures, in words that follow from the numbers."""

from collections.abc import Sequence

import numpy as np

from fedsynth.evaluation.protocol.measures import MACRO_F1
from fedsynth.evaluation.protocol.splits import LEAKY
from fedsynth.evaluation.protocol.tables import Number, Table, shown
from fedsynth.report.experiment import ExperimentPage, Section
from fedsynth.report.experiment_figures import Dot, dots_svg
from kit.bench import HALVES, Bench
from kit.cohorts import STATES
from kit.fidelity import fidelity_section
from kit.findings import costs, findings
from kit.patients import (
    AIM,
    AVERAGED,
    CENTRAL,
    EACH_NOISE,
    FORGETFUL,
    LEARNED,
    MAIN,
    NETWORKS,
    ONE_NOISE,
    PRIVATE,
    PRIVATE_SEQUENTIAL,
    SEQUENTIAL,
    SKIPPED,
    UNSKIPPED,
    WAYS,
)
from kit.study import SECONDS, computing, filled, notice
from kit.unseen import unseen_findings, unseen_section


def table_of(bench: Bench) -> Table:
    """Return the main table of one layout."""
    rows = [(way, "real", way) for way in ("none", "class weights", "oversampling", "SMOTE", HALVES)]
    rows += [(f"{way}: {arm.name}", arm.name, way) for arm in (CENTRAL, ONE_NOISE, EACH_NOISE) for way in WAYS]
    rows += [(f"all classes: {CENTRAL.name}", CENTRAL.name, "all classes")]
    rows += [(f"synthetic alone: {CENTRAL.name}", CENTRAL.name, "synthetic alone")]
    return bench.table(
        MAIN, rows, title=f"{bench.name} layout, {len(bench.folds)} folds", note="Tested on the patients left out."
    )


def page_of(
    benches: dict[str, Bench], few: Bench, leaky: Bench, unseen: Bench | None, *, recorded: Sequence[str] = ()
) -> ExperimentPage:
    """Return the page; `recorded` names the layouts whose patients are real."""
    main = next(iter(benches.values()))
    real = [*(f"those of {name}" for name in recorded), *(["those of Guinea-Bissau"] if unseen else [])]
    counts = np.bincount(main.real.labels, minlength=3)
    sections = [
        Section("What held, and what did not", _findings(benches, few, leaky, unseen)),
        Section("The published figures beside ours", _about_published(recorded), (_published(benches),)),
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
        fidelity_section(main.cells.more.get("fidelity", {}), unit="patient"),
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
        notice=notice(" and ".join(real), everything=len(recorded) == len(benches)),
        lead=(
            f"{main.real.n_people} patients of {main.name}, as recorded."
            if main.name in recorded
            else f"{main.real.n_people} simulated patients differ in the noise of their montage and in the form, "
            "place, size and rate of their seizures. They are simpler than patients: read differences, not levels.",
        ),
        facts={
            "windows": ", ".join(f"{name} {count}" for name, count in zip(STATES, counts, strict=True))
            + f", of {main.real.n_people} patients in a layout, {len(main.frame.shape.channels)} channels, "
            "4 s at 64 Hz",
            "classifier": f"CNN-BiLSTM, {main.setting.size.steps} steps of 32 windows",
            "intervals": "95 %, bootstrap over patients; differences are paired",
            "time": computing(main.cells.more.get(SECONDS, 0)),
        },
        sections=filled(sections),
    )


def _findings(benches: dict[str, Bench], few: Bench, leaky: Bench, people: Bench | None) -> tuple[str, ...]:
    """Say whether the seed's claims and this study's goal were reached, and what was lost on the way."""
    said: list[str] = []
    over = ("real", "oversampling")
    for name, bench in benches.items():
        said += _goal(name, bench)
        said += findings(
            f"{name}: rarer states filled with made-up windows beat repeated ones",
            {
                f"{arm.name}, {way}": bench.difference(MAIN, (arm.name, way), over)
                for arm in PRIVATE
                for way in WAYS
            },
        )
        said += costs(
            f"{name}, {AIM}",
            {
                f"the promise of {arm.name.removeprefix('features, ')}": bench.difference(
                    MAIN, (arm.name, AIM), (CENTRAL.name, AIM)
                )
                for arm in (ONE_NOISE, EACH_NOISE)
            },
        )
    pairs = {
        "averaging over four hospitals, against one place,": (AVERAGED, LEARNED),
        "one hospital after the other, consolidated, against averaging,": (SEQUENTIAL, AVERAGED),
        "leaving consolidation out": (FORGETFUL, SEQUENTIAL),
    }
    said += findings(
        f"{few.name}, networks that learn: {AIM} beats repeated windows",
        {arm.name: few.difference(MAIN, (arm.name, AIM), over) for arm in (CENTRAL, *NETWORKS, PRIVATE_SEQUENTIAL)},
    )
    said += costs(
        f"{few.name}, {AIM}",
        {what: few.difference(MAIN, (one.name, AIM), (other.name, AIM)) for what, (one, other) in pairs.items()},
    )
    said += costs(
        f"{few.name}, macro-F1 with made-up windows in place of patients'",
        {
            arm.name: few.difference(MAIN, (arm.name, "synthetic alone"), ("real", "none"))
            for arm in (CENTRAL, *NETWORKS, PRIVATE_SEQUENTIAL)
        },
    )
    seen, unseen = (one.measures("real", MAIN, "none") for one in (leaky, few))
    if seen and unseen:
        gain = seen[MACRO_F1].minus(unseen[MACRO_F1])
        said += findings("a split by window looks better than one by patient", {"the same classifier": gain})
    alone = (few.measures(name, MAIN, "synthetic alone") for name in (UNSKIPPED, SKIPPED))
    first, second = alone
    if first and second:
        gain = first[MACRO_F1].minus(second[MACRO_F1])
        said += findings("a decoder that learned without skips teaches more", {"the small autoencoder": gain})
    return (*said, *(unseen_findings(people, PRIVATE) if people is not None else ()))


def _goal(name: str, bench: Bench) -> tuple[str, ...]:
    """Say whether the gain's interval is above zero, and whether two thirds of it are left at a promise."""
    over = ("real", "oversampling")
    free, *kept = (bench.difference(MAIN, (arm.name, AIM), over) for arm in PRIVATE)
    if free is None:
        return ()
    said = f"Goal, {name}: “{AIM}” beats oversampling in macro-F1 with an interval above zero"
    gain = shown(Number.of(free, signed=True))
    if free.low <= 0:
        return (f"{said}. It was missed ({gain}), so that there is no gain of which a promise could keep a share.",)
    shares = [
        f"{arm.name}: {'yes' if one.value >= 2 / 3 * free.value else 'no'} ({shown(Number.of(one, signed=True))})"
        for arm, one in zip((ONE_NOISE, EACH_NOISE), kept, strict=True)
        if one is not None
    ]
    left = f" Were two thirds of it kept at four hospitals? {'; '.join(shares)}." if shares else ""
    return (f"{said}. It was met ({gain}).{left}",)


def _published(benches: dict[str, Bench]) -> Table:
    told: list[tuple[str | Number, ...]] = []
    claims = {"Siena": "0.84 (repository), 0.86 (README)", "CHB-MIT": "0.82"}
    for name, bench in benches.items():
        found = bench.measures(CENTRAL.name, MAIN, AIM)
        gain = bench.difference(MAIN, (CENTRAL.name, AIM), ("real", "oversampling"))
        if found is None or gain is None:
            continue
        told += [
            (f"macro-F1, {AIM}, {name}", claims[name], Number.of(found[MACRO_F1])),
            (f"gain over oversampling, {name}", "+0.15", Number.of(gain, signed=True)),
        ]
    return Table("GenEEG", ("what", "published", "here"), tuple(told))


def _about_published(recorded: Sequence[str]) -> tuple[str, ...]:
    ours = f"patients of {' and '.join(recorded)}" if recorded else "simulated patients"
    return (
        f"Ours are {ours} and a small classifier; theirs are real ones and 50 epochs. The "
        "repository has "
        "no result files, and its figures come from training on a replay buffer and from early stopping on a leaky "
        "validation split. Windows here are 4 s at 64 Hz and do not overlap. What makes our windows is "
        "private sums "
        "of features and a public decoder, not a latent diffusion.",
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
        free = bench.difference(MAIN, (CENTRAL.name, AIM), ("real", "oversampling"))
        for arm in (CENTRAL, ONE_NOISE, EACH_NOISE):
            gain = bench.difference(MAIN, (arm.name, AIM), ("real", "oversampling"))
            if gain is None or free is None:
                continue
            kept = f"{100 * gain.value / free.value:.0f} %" if free.low > 0 else "no gain to keep"
            lost = bench.difference(MAIN, (arm.name, AIM), (CENTRAL.name, AIM))
            cost = "" if arm == CENTRAL or lost is None else Number.of(lost, signed=True)
            told.append((name, arm.name, Number.of(gain, signed=True), kept, cost))
    head = ("layout", "arm", "gain over oversampling", "share of the gain kept", "macro-F1 − no privacy")
    return Table(f"{AIM}: what is left of the gain", head, tuple(told))


def _learned(few: Bench) -> Table:
    if few.measures(LEARNED.name, MAIN, AIM) is None:
        return Table("", (), ())
    rows = [("none", "real", "none"), ("oversampling", "real", "oversampling")]
    for arm in (CENTRAL, *NETWORKS, PRIVATE_SEQUENTIAL):
        rows += [(f"{way}: {arm.name}", arm.name, way) for way in (AIM, "synthetic alone")]
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
    for name in (SKIPPED, UNSKIPPED):
        found = few.measures(name, MAIN, "synthetic alone")
        if found is not None:
            notes = few.notes(name)
            means = [f"{np.mean([one[how] for one in notes]):.2f}" for how in ("with skips", "without")]
            rows.append((name, *means, Number.of(found[MACRO_F1])))
    head = ("decoder", "recordings against reconstructions, r, with skips", "without", "macro-F1, synthetic alone")
    return Table("A decoder that draws without what it learned with", head, tuple(rows))
