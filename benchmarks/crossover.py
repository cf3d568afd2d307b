"""Crossover: from how many people on private gradients pay, and what private sums give before.

Populations fitted to a public set (`crossover_population.py`) are learned by every arm, for many people and every
epsilon. Nobody trains on 100 000 people here: a pool of a few hundred stands for n, and the noise of every sum is
what n people would leave in it. A sum over n people with noise s C has the mean of the pool's sum with noise
s C / n for each person, so the pool's sum gets s C m / n for m people in the pool; a gradient step with sampling
probability q gets s C / (q n) on the mean of those drawn. Which sums are asked is decided as for n people. What is
not simulated: n people differ from one another less by chance than m do, so large numbers are looked at a little
too darkly, for every arm alike; and every step sees about `--batch` people, where n would bring q n.

    python benchmarks/crossover.py --data DIR --json build/crossover.json      # minutes; goes on where it stopped
    python benchmarks/crossover.py --data DIR --json FILE --populations evoked chirp features --seeds 5 --steps 400
    python benchmarks/crossover_map.py build/crossover.json                         # the map in docs/

Arms: "anchor" (features alone), "more sums" (windows are said to begin at events, and how rhythms come and go is
asked), and layers of `time-diffusion` that learn by gradients beside the anchor: "adapters", "low-rank", "all",
"scratch". Utility is the recovered share: (AUROC of a classifier of raw windows trained on synthetic ones - 1/2)
over that of one trained on real ones. "told apart" is the AUROC of the same classifier on real against synthetic.
"""

import argparse
import json
import math
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from unittest.mock import patch

import numpy as np
import torch
from blind_spot_cohorts import Cohort
from crossover_population import LABELS, N_TIMES, POPULATIONS, SFREQ, SHAPE, Population, populations
from utility_data import load

from fedsynth import plan as plans
from fedsynth.anchors import estimator as estimators
from fedsynth.anchors.estimator import Estimator
from fedsynth.coordinator import rounds
from fedsynth.evaluation.protocol.classifiers.random_convolutions import auroc
from fedsynth.modalities.shape import Shape
from fedsynth.plan import Plan, Step, plan_of
from fedsynth.recordings.recording import Windows
from fedsynth.rehearsal.in_memory import train_in_memory
from fedsynth.study import Study
from fedsynth.synthesis.generator import untrained
from fedsynth.synthesis.windows import SyntheticWindows

SUMS = ("anchor", "more sums")
GRADIENTS = ("adapters", "low-rank", "all", "scratch")
ARMS = (*SUMS, *GRADIENTS)
FAMILY = "time-diffusion"
GRADIENT_SHARE = 0.5  # of epsilon, where gradients are asked for


@dataclass(frozen=True)
class Row:
    """One trial; `noise` is what a gradient step's mean carries on every coordinate, in units of its bound."""

    population: str
    arm: str
    epsilon: float
    people: int
    steps: int
    seed: int
    noise: float
    real: float
    synthetic: float
    told_apart: float
    seconds: float

    @property
    def key(self) -> tuple[str, str, float, int, int, int]:
        """Return what a trial is known by."""
        return self.population, self.arm, self.epsilon, self.people, self.steps, self.seed

    @property
    def share(self) -> float:
        """Return the recovered share."""
        return (self.synthetic - 0.5) / (self.real - 0.5)


@dataclass(frozen=True)
class Rescaled(Plan):
    """A plan for a pool of people whose sums carry the noise of the `declared` plan's many."""

    declared: Plan

    @cached_property
    def estimator(self) -> Estimator:
        """Return what is asked of the many."""
        return self.declared.estimator

    @cached_property
    def shape(self) -> Shape:
        """Return the shape that goes with it."""
        return self.declared.shape


def rescaled(declared: Plan, *, pool: int, people: int, batch: int) -> Rescaled:
    """Return the plan for a pool; `people` is the number of those it stands for.

    Sums over everybody count each of the pool once, so noise shrinks by pool / people. A gradient step draws about
    `batch` of the pool, and the mean over those has the noise that the mean over q n would have.
    """
    draw = min(1.0, batch / pool)

    def step(one: Step) -> Step:
        was = one.mechanism
        if was.sampling_probability == 1 and one.kind != "train":
            return replace(one, mechanism=replace(was, noise_multiplier=was.noise_multiplier * pool / people))
        sigma = noise_of(was.noise_multiplier, was.sampling_probability, people) * draw * pool
        return replace(one, mechanism=replace(was, noise_multiplier=sigma, sampling_probability=draw))

    cohort = declared.study.cohort.model_copy(update={"expected_units": pool})
    study = declared.study.model_copy(update={"cohort": cohort})
    return Rescaled(study, tuple(step(one) for one in declared.steps), declared.code, declared)


def noise_of(sigma: float, sampling_probability: float, people: int) -> float:
    """Return the standard deviation of noise on the mean gradient of those drawn, in units of the bound."""
    return sigma / (sampling_probability * people)


def study_of(arm: str, *, people: int, epsilon: float, steps: int) -> Study:
    """Return the study of an arm for so many people at one site."""
    learns = arm in GRADIENTS
    training: dict[str, object] = {"rounds": 0}
    if learns:
        n_rounds = 1 if math.isfinite(epsilon) or arm == "adapters" else 10
        training = {"rounds": n_rounds, "local_steps": steps, "minibatch_steps": steps, "private_step": "batched"}
        training["gradient_share"] = GRADIENT_SHARE
    return Study.model_validate(
        {
            "name": "crossover",
            "signal": {
                "modality": "eeg",
                "format": "edf",
                "channels": SHAPE.channels,
                "sfreq": SFREQ,
                "bandpass": SHAPE.bandpass,
                "range_uv": 5000.0,
            },
            "windows": {"n_times": N_TIMES, "per_recording": 4},
            "labels": {
                "names": LABELS,
                "source": "events" if arm == "more sums" else "participants.tsv",
                "positive": LABELS[1],
            },
            "privacy": {"unit": "subject", "epsilon": epsilon, "delta": 1e-6},
            "cohort": {"least_sites": 1, "sites": ("site-1",), "expected_units": people},
            "family": {
                "name": FAMILY if learns else "cwgan",
                "train": {"scratch": "all"}.get(arm, arm) if learns else "adapters",
                "start": "scratch" if arm == "scratch" else "prior",
            },
            "plan": training,
        }
    )


def trial(
    population: Population, arm: str, given: argparse.Namespace, *, epsilon: float, people: int, seed: int
) -> Row:
    """Learn a pool's windows by one arm and score what it draws."""
    began = time.monotonic()
    pool = min(people, given.pool)
    train = population.cohort(people=pool, windows=given.windows, seed=2 * seed)
    test = population.cohort(people=given.test_people, windows=given.windows, seed=2 * seed + 1)
    declared = _plan(arm, people=people, epsilon=epsilon, steps=given.steps)
    plan = rescaled(declared, pool=pool, people=people, batch=given.batch)
    # A run begins at the prior of its study's estimator, and the pool's study would choose another one.
    with patch.object(rounds, "at_prior", lambda study: untrained(study, plan.estimator.prior(plan.shape))):
        generator = train_in_memory(plan, {"site-1": _windows(train)})
    drawn = generator.draw(per_label=given.per_label, seed=f"crossover {seed}")
    steps = [one.mechanism for one in declared.steps if one.kind == "train"]
    noise = noise_of(steps[0].noise_multiplier, steps[0].sampling_probability, people) if steps else 0.0
    return Row(
        population=population.name,
        arm=arm,
        epsilon=epsilon,
        people=people,
        steps=given.steps if arm in GRADIENTS else 0,
        seed=seed,
        noise=noise,
        real=auroc(train.signal, train.labels, test.signal, test.labels),
        synthetic=auroc(drawn.signal, drawn.labels, test.signal, test.labels),
        told_apart=_told_apart(train, test, drawn),
        seconds=time.monotonic() - began,
    )


def _plan(arm: str, *, people: int, epsilon: float, steps: int) -> Plan:
    """Return the plan of an arm; "anchor" asks for features alone."""
    with ExitStack() as held:
        if arm == "anchor":
            held.enter_context(patch.object(plans, "_PLANS", {}))
            held.enter_context(patch.object(estimators, "modulation_of", lambda *_, **__: None))
        plan = plan_of(study_of(arm, people=people, epsilon=epsilon, steps=steps))
        _ = plan.estimator
        return plan


def _told_apart(train: Cohort, test: Cohort, drawn: SyntheticWindows) -> float:
    """Return the AUROC of real against synthetic windows, on people and windows that were not learned from."""
    real, made = train.signal, drawn.signal
    half, many = len(made) // 2, min(len(real), len(made) // 2)
    order = np.random.default_rng(0).permutation(len(made))
    mine, others = made[order[:half]][:many], made[order[half:]][: len(test.signal)]
    seen, asked = np.concatenate([real[:many], mine]), np.concatenate([test.signal, others])
    is_made = [np.repeat([0, 1], [a, b]) for a, b in ((many, len(mine)), (len(test.signal), len(others)))]
    return auroc(seen, is_made[0], asked, is_made[1])


def _windows(cohort: Cohort) -> Windows:
    return Windows(
        signal=cohort.signal,
        labels=cohort.labels,
        subjects=cohort.people,
        recordings=cohort.people,
        label_names=LABELS,
        channels=SHAPE.channels,
        sfreq=SFREQ,
    )


def read(path: Path) -> list[Row]:
    """Read rows; none where there is no file."""
    if not path.exists():
        return []
    return [Row(**{**raw, "epsilon": float(raw["epsilon"])}) for raw in json.loads(path.read_text("utf-8"))]


def write(path: Path, rows: list[Row]) -> None:
    """Write rows; infinity is a word."""
    path.parent.mkdir(parents=True, exist_ok=True)
    body = [{**asdict(row), "epsilon": str(row.epsilon)} for row in rows]
    path.write_text(json.dumps(body, indent=1) + "\n", encoding="utf-8")


def main(arguments: list[str] | None = None) -> int:
    """Run the trials that the file does not hold yet, and print a line for each."""
    given = _parser().parse_args(arguments)
    torch.set_num_threads(1)
    rows = read(given.json)
    known = {row.key for row in rows}
    with tempfile.TemporaryDirectory(prefix="crossover-") as work:
        fitted = populations(load("bonn", data=given.data, seed=1, work=Path(work)).train)
    for population, arm, epsilon, people, seed in _trials(given):
        key = (population, arm, epsilon, people, given.steps if arm in GRADIENTS else 0, seed)
        if key in known:
            continue
        row = trial(fitted[population], arm, given, epsilon=epsilon, people=people, seed=seed)
        rows.append(row)
        write(given.json, rows)
        print(
            f"{population}, {arm}, epsilon {epsilon:g}, {people} people: share {row.share:+.2f} (real "
            f"{row.real:.3f}), told apart {row.told_apart:.3f}, noise {row.noise:.2g}, {row.seconds:.0f} s",
            flush=True,
        )
    return 0


def _trials(given: argparse.Namespace) -> Iterator[tuple[str, str, float, int, int]]:
    for seed in range(1, given.seeds + 1):
        for population in given.populations:
            for arm in given.arms:
                for epsilon in given.epsilon:
                    for people in given.people:
                        yield population, arm, epsilon, people, seed


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, metavar="DIR", help="holds the folder bonn")
    parser.add_argument("--json", type=Path, required=True, metavar="FILE", help="read first, then written")
    parser.add_argument("--populations", nargs="+", choices=POPULATIONS, default=["evoked"], metavar="NAME")
    parser.add_argument("--arms", nargs="+", choices=ARMS, default=list(SUMS), metavar="ARM")
    parser.add_argument("--epsilon", nargs="+", type=float, default=[8.0], metavar="E")
    parser.add_argument("--people", nargs="+", type=int, default=[300, 3000, 30_000], metavar="N")
    parser.add_argument("--pool", type=int, default=400, metavar="M", help="stand for more (default 400)")
    parser.add_argument("--windows", type=int, default=2, metavar="N", help="of each person (default 2)")
    parser.add_argument("--test-people", type=int, default=250, metavar="N")
    parser.add_argument("--per-label", type=int, default=500, metavar="N", help="synthetic windows (default 500)")
    parser.add_argument("--batch", type=int, default=48, metavar="N", help="people behind a gradient step")
    parser.add_argument("--steps", type=int, default=400, metavar="N", help="gradient steps (default 400)")
    parser.add_argument("--seeds", type=int, default=1, metavar="N")
    return parser


if __name__ == "__main__":
    sys.exit(main())
