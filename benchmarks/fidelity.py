"""Fidelity: whether synthetic windows look like real ones, beside what real people differ by among themselves.

For each set, family and epsilon: windows with a twin (r > .95 at any lag) of the same and of another label, median
root mean square by label, mean correlations between channels, intraclass correlation of people's log power, whether
random convolutions tell real from synthetic, the spectrum, and of ECG how R peaks vary within a window. The arm
"real" is the same of real windows, of two halves of the people where two sets are compared.

    python benchmarks/fidelity.py --data DIR --sets bonn --epsilon inf 8 --seeds 3 --json out.json
    python benchmarks/fidelity.py --data DIR --sets ptbxl --families cwgan vae-ldm --epsilon 8

Private sums are asked of everybody at one site in memory: the noise of trust `aggregate`, which is the same, but
no messages. No gradients are taken: what is measured is anchor and decoder. Statistics are compared with all real
windows of the set; the classifier that tells real from synthetic is tested on people held out.
"""

import argparse
import json
import math
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import fidelity_measures as measure
import numpy as np
import torch
from utility import DELTA, UNITS
from utility_data import HOSPITALS, ROOT, SETS, Dealt, Half, load, study_text

from fedsynth.plan import plan_of
from fedsynth.recordings.recording import Windows
from fedsynth.rehearsal.in_memory import train_in_memory
from fedsynth.study import Study, parse_study
from fedsynth.synthesis.generator import Generator

_SITE = "everybody"
_HERTZ = (0.6, 1.0, 2.0, 4.0, 6.0, 8.0, 10.0, 13.0, 18.0, 24.0, 30.0, 35.0, 38.0, 42.0, 45.0, 48.0)
REAL = "real"


@dataclass(frozen=True)
class Row:
    """One trial, and what was measured; numbers by label stand in the order of the study's labels."""

    set: str
    family: str
    epsilon: float
    seed: int
    seconds: float
    measured: dict[str, Any]


def main(arguments: list[str] | None = None) -> int:
    """Measure, and print a table."""
    options = _parser().parse_args(arguments)
    torch.set_num_threads(1)
    rows: list[Row] = []
    for name in options.sets:
        for seed in range(1, options.seeds + 1):
            dealt = load(name, data=options.data, seed=seed, work=options.work)
            for row in trials(name, dealt, options, seed=seed):
                rows.append(row)
                print(line(row), flush=True)
                if options.json:
                    write(rows, options.json)
    print(table(rows))
    return 0


def trials(name: str, dealt: Dealt, options: argparse.Namespace, *, seed: int) -> Iterator[Row]:
    """Yield what real people have, then one row for each family and epsilon."""
    began = time.monotonic()
    floor = real_floor(dealt, options, seed=seed)
    yield Row(name, REAL, math.inf, seed, time.monotonic() - began, floor)
    for family in options.families:
        for epsilon in options.epsilon:
            began = time.monotonic()
            generator = generator_of(name, dealt, family=family, epsilon=epsilon)
            measured = measured_of(generator, dealt, options, seed=seed)
            yield Row(name, family, epsilon, seed, time.monotonic() - began, measured)


def study_of(name: str, *, family: str, epsilon: float, minibatches: int = 0) -> Study:
    """Return the set's study as one hospital with everybody would run it.

    Args:
        name: of the set.
        family: of the generator.
        epsilon: of the promise.
        minibatches: on which all layers learn, in each phase; without any no gradient is asked for.
    """
    units = parse_study(study_text(name)).cohort.expected_units * HOSPITALS
    changes: dict[str, dict[str, Any]] = {
        "privacy": {"unit": UNITS.get(name, "subject"), "epsilon": epsilon, "delta": DELTA, "trust": "site"},
        "cohort": {"sites": [_SITE], "least_sites": 1, "least_subjects": 1, "expected_units": units},
        "family": {"name": family, "train": "all" if minibatches else "adapters"},
        "plan": {"minibatch_steps": minibatches} if minibatches else {"rounds": 0},
    }
    return parse_study(study_text(name, changes))


def generator_of(name: str, dealt: Dealt, *, family: str, epsilon: float, minibatches: int = 0) -> Generator:
    """Return the generator after the private sums, and gradients, of the training people."""
    plan = plan_of(study_of(name, family=family, epsilon=epsilon, minibatches=minibatches))
    half, shape = dealt.train, dealt.shape
    windows = Windows(
        signal=half.signal,
        labels=half.labels,
        subjects=half.people,
        recordings=half.recordings,
        label_names=dealt.study.labels.names,
        channels=shape.channels,
        sfreq=shape.sfreq,
    )
    return train_in_memory(plan, {_SITE: windows})


def measured_of(generator: Generator, dealt: Dealt, options: argparse.Namespace, *, seed: int) -> dict[str, Any]:
    """Return what synthetic windows are beside real ones."""
    real, per_person = everybody(dealt), windows_a_person(dealt.train)
    drawn = generator.draw(
        per_label=options.per_label, seed=f"fidelity {seed}", windows_per_subject=round(per_person)
    )
    fake = Half(drawn.signal, drawn.labels, drawn.subjects, drawn.subjects, np.zeros_like(drawn.labels))
    rng = np.random.default_rng(seed)
    first, second = halves(fake, rng)
    apart = measure.told_apart(
        (some(dealt.train, options.referee, rng).signal, like(first, dealt.train, options.referee, rng).signal),
        (some(dealt.test, options.referee, rng).signal, like(second, dealt.test, options.referee, rng).signal),
    )
    # Every window another made-up person, so that few people decide no median.
    wide = generator.draw(per_label=options.per_label, seed=f"fidelity {seed}", windows_per_subject=1)
    others = Half(wide.signal, wide.labels, wide.subjects, wide.subjects, np.zeros_like(wide.labels))
    return {"told_apart": apart, **compared(others, real, dealt), **alone(fake, dealt, options, rng)}


def real_floor(dealt: Dealt, options: argparse.Namespace, *, seed: int) -> dict[str, Any]:
    """Return the same of real windows; where two sets are compared, of two halves of the people."""
    rng = np.random.default_rng(seed)
    real, apart = everybody(dealt), []
    for _ in range(options.floor_splits):
        quarters = [quarter for half in halves(real, rng) for quarter in halves(half, rng)]
        ours, ours_test, theirs, theirs_test = [some(one, options.referee, rng).signal for one in quarters]
        apart.append(abs(measure.told_apart((ours, theirs), (ours_test, theirs_test)) - 0.5) + 0.5)
    first, second = halves(real, rng)
    return {
        "told_apart": float(np.mean(apart)),
        **compared(first, second, dealt),
        **alone(real, dealt, options, rng),
    }


def compared(ours: Half, real: Half, dealt: Dealt) -> dict[str, Any]:
    """Return ratios and differences of statistics by label."""
    shape, found = dealt.shape, {}
    labels = range(shape.n_labels)
    both = [(ours.signal[ours.labels == one], real.signal[real.labels == one]) for one in labels]
    both = [pair for pair in both if len(pair[0]) and len(pair[1])]
    found["rms_ratio"] = [measure.median_rms(one) / measure.median_rms(other) for one, other in both]
    hertz = np.array([one for one in _HERTZ if shape.bandpass[0] <= one < shape.sfreq / 2])
    spectra = [[measure.log_spectrum(one, shape.sfreq, hertz) for one in pair] for pair in both]
    found["spectrum_error_db"] = float(np.mean([measure.rms_difference(*pair) for pair in spectra]))
    found["spectrum_db"] = {
        f"{one:g}": [float(np.mean([pair[side][at] for pair in spectra])) for side in (0, 1)]
        for at, one in enumerate(hertz)
    }
    if len(shape.channels) > 1:
        means = [[measure.mean_correlations(one) for one in pair] for pair in both]
        found["channel_error"] = [measure.rms_difference(*pair) for pair in means]
        found["channel_mean"] = [[float(one.mean()) for one in pair] for pair in means]
        apart = [measure.rms_difference(means[0][side], means[-1][side]) for side in (0, 1)]
        found["channel_first_to_last"] = apart
    return found


def alone(ours: Half, dealt: Dealt, options: argparse.Namespace, rng: np.random.Generator) -> dict[str, Any]:
    """Return what a set of windows shows by itself: twins, what people share, how R peaks vary."""
    shape = dealt.shape
    few = balanced(ours, options.twins, rng)
    found: dict[str, Any] = {"twins": measure.twins(few.signal, few.labels)}
    people = measure.intraclass_correlation(measure.log_power(ours.signal), ours.people, ours.labels)
    found["people"] = people
    if shape.modality == "ecg" and not shape.centred:
        found["r_peaks"] = measure.r_peak_variation(few.signal, shape.channels, shape.sfreq)
    return found


def everybody(dealt: Dealt) -> Half:
    """Return the windows of all people, training and held out."""
    train, test = dealt.train, dealt.test
    return Half(
        np.concatenate([train.signal, test.signal]),
        np.concatenate([train.labels, test.labels]),
        np.concatenate([train.people, test.people + train.people.max() + 1]),
        np.concatenate([train.recordings, test.recordings + train.recordings.max() + 1]),
        np.concatenate([train.hospitals, test.hospitals]),
    )


def windows_a_person(half: Half) -> float:
    """Return how many windows of one label a person has, in the mean, at least 1."""
    return max(1.0, len(half.labels) / len(np.unique(np.stack([half.labels, half.people]), axis=1).T))


def halves(half: Half, rng: np.random.Generator) -> tuple[Half, Half]:
    """Part people by chance, about as many with each label on both sides."""
    people = np.unique(half.people)
    bears = np.array([half.labels[half.people == one][0] for one in people])
    chosen = np.zeros(len(people), bool)
    for label in np.unique(bears):
        mine = rng.permutation(np.flatnonzero(bears == label))
        chosen[mine[: (len(mine) + int(rng.integers(2))) // 2]] = True
    first = np.isin(half.people, people[chosen])
    return take(half, np.flatnonzero(first)), take(half, np.flatnonzero(~first))


def some(half: Half, count: int, rng: np.random.Generator) -> Half:
    """Return at most so many windows, by chance."""
    return take(half, rng.permutation(len(half.labels))[:count])


def like(half: Half, other: Half, count: int, rng: np.random.Generator) -> Half:
    """Return windows by chance, as many of each label as `some` expects of `other`."""
    shares = np.bincount(other.labels, minlength=half.labels.max() + 1) / len(other.labels)
    whole = min(count, len(other.labels))
    rows = [
        rng.permutation(np.flatnonzero(half.labels == label))[: round(whole * share)]
        for label, share in enumerate(shares)
    ]
    return take(half, np.concatenate(rows))


def balanced(half: Half, count: int, rng: np.random.Generator) -> Half:
    """Return about `count` windows, as many of each label as there are."""
    labels = np.unique(half.labels)
    rows = [rng.permutation(np.flatnonzero(half.labels == one))[: count // len(labels)] for one in labels]
    return take(half, np.concatenate(rows))


def take(half: Half, rows: Any) -> Half:
    """Return some rows."""
    columns = (half.signal, half.labels, half.people, half.recordings, half.hospitals)
    return Half(*(column[rows] for column in columns))


def line(row: Row) -> str:
    """Return one trial as a line."""
    told = row.measured
    parts = [
        f"{row.set} {row.family} epsilon {row.epsilon:g} seed {row.seed}: told apart {told['told_apart']:.3f}",
        f"twins {told['twins']['same']:.3f}, across labels {told['twins']['across']:.3f}",
        "rms " + " ".join(f"{one:.2f}" for one in told["rms_ratio"]),
        f"people {told['people']:.2f}",
        f"spectrum off {told['spectrum_error_db']:.1f} dB",
    ]
    if "channel_error" in told:
        parts.append("channels off " + " ".join(f"{one:.3f}" for one in told["channel_error"]))
        parts.append("first to last {:.3f} of {:.3f}".format(*told["channel_first_to_last"]))
    if "r_peaks" in told:
        parts.append(f"R peaks {told['r_peaks']:.2f}")
    return "; ".join(parts) + f" ({row.seconds:.0f} s)"


def table(rows: list[Row]) -> str:
    """Return means over seeds as a table in Markdown."""
    head = "| set | windows | ε | told apart | twins | across | rms | channels off | people | dB off | R peaks |"
    lines = [head, "|---" * 11 + "|"]
    for key in dict.fromkeys((row.set, row.family, row.epsilon) for row in rows):
        each = [row.measured for row in rows if (row.set, row.family, row.epsilon) == key]
        cells = [
            key[0],
            key[1],
            "" if key[1] == REAL else f"{key[2]:g}",
            _mean([one["told_apart"] for one in each]),
            _mean([one["twins"]["same"] for one in each]),
            _mean([one["twins"]["across"] for one in each]),
            " ".join(_mean(column) for column in zip(*(one["rms_ratio"] for one in each), strict=True)),
            " ".join(_mean(column) for column in zip(*(one.get("channel_error", []) for one in each), strict=True)),
            _mean([one["people"] for one in each]),
            _mean([one["spectrum_error_db"] for one in each], digits=1),
            _mean([one["r_peaks"] for one in each if "r_peaks" in one]),
        ]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def write(rows: list[Row], path: Path) -> None:
    """Write results in one move, so that a run that is stopped leaves a whole file."""
    body = [{**asdict(row), "epsilon": str(row.epsilon)} for row in rows]
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_suffix(".part")
    unfinished.write_text(json.dumps(body, indent=1) + "\n", encoding="utf-8")
    unfinished.replace(path)


def _mean(numbers: Any, *, digits: int = 2) -> str:
    return f"{np.mean(numbers):.{digits}f}" if len(numbers) else ""


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="fidelity.py", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", type=Path, help="folder that holds the public sets, one folder each")
    parser.add_argument("--sets", nargs="+", choices=sorted(SETS), default=["simulated"])
    parser.add_argument("--families", nargs="+", default=["cwgan"], metavar="FAMILY")
    parser.add_argument("--epsilon", nargs="+", type=float, default=[math.inf, 8.0], metavar="E")
    parser.add_argument("--seeds", type=int, default=1, metavar="N", help="splits, numbered from 1 (default 1)")
    parser.add_argument("--per-label", type=int, default=480, metavar="N", help="synthetic windows (default 480)")
    parser.add_argument("--twins", type=int, default=640, metavar="N", help="windows compared in pairs")
    parser.add_argument("--referee", type=int, default=600, metavar="N", help="windows of each kind, at most")
    parser.add_argument("--floor-splits", type=int, default=3, metavar="N", help="of real people, for the floor")
    parser.add_argument("--json", type=Path, metavar="FILE")
    parser.add_argument("--work", type=Path, default=ROOT / "build" / "utility", metavar="DIR", help="scratch")
    return parser


if __name__ == "__main__":
    sys.exit(main())
