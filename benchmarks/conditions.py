"""Effects of covariates: what an anchor recovers of them on made-up people, against regression on their features.

    .venv/bin/python benchmarks/conditions.py --people 300 1000 --epsilons inf 8 1

Age changes the power of alpha, sex the amplitude of everything, and old people have the second label more often, so
that a label's mean says something of age. One window's features are the codec's; nothing of the prior's simulators
is used. Printed for each covariate: the slope of the recovered effects on those of ordinary least squares without
privacy (1 is right, 0 is nothing), their correlation, and how far strata's shares are off.
"""

import argparse
import math
import sys
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from fedsynth.anchors.anchor import Anchor, FeatureDraw, deviations
from fedsynth.anchors.coordinates import coordinates_of
from fedsynth.anchors.moments.condition_effects import explained_share
from fedsynth.anchors.moments.conditions import values_by_condition
from fedsynth.condition_plan import stratum_of
from fedsynth.modalities.registry import codec_of, standardise
from fedsynth.plan import Plan, plan_of
from fedsynth.study import Study, parse_study

_STUDY = """
name = "conditions"
[signal]
modality = "eeg"
format = "edf"
channels = ["C3", "C4", "O1", "O2"]
sfreq = 128.0
[windows]
n_times = 256
[labels]
names = ["healthy", "ill"]
source = "participants.tsv"
positive = "ill"
[conditions.age]
bands = [40, 60, 75]
[conditions.sex]
values = ["F", "M"]
missing = "leave out"
[privacy]
unit = "subject"
epsilon = {epsilon}
delta = 1e-5
trust = "aggregate"
[cohort]
sites = ["a", "b", "c", "d"]
least_sites = 4
expected_units = {units}
[family]
name = "cwgan"
[plan]
rounds = 0
"""
_WINDOWS = 6


@dataclass(frozen=True)
class Person:
    """A made-up person: windows in microvolts, (window, channel, time), and what was said of the person."""

    windows: Tensor
    label: int
    stratum: int


def people(count: int, study: Study, *, seed: int) -> list[Person]:
    """Return made-up people; every tenth does not say an age."""
    rng = np.random.default_rng(seed)
    plans = list(study.conditions.values())
    found = []
    for number in range(count):
        age, sex = rng.uniform(20, 90), int(rng.integers(2))
        ill = int(rng.random() < 0.2 + 0.6 * (age - 20) / 70)
        said = "n/a" if number % 10 == 9 else f"{age:.1f}"
        numbers = [plans[0].number_of(said), plans[1].number_of("FM"[sex])]
        assert None not in numbers
        windows = _windows(rng, study, alpha=math.exp(-0.02 * (age - 55)), loud=1.3 if sex else 1.0, ill=ill)
        stratum = stratum_of([one or 0 for one in numbers], study.strata)
        found.append(Person(windows, ill, stratum))
    return found


def learn(plan: Plan, cohort: list[Person], *, seed: int) -> Anchor:
    """Ask the plan's sums of the people, with its noise, and return the anchor."""
    estimator, shape = plan.estimator, plan.shape
    generator, anchor = torch.Generator().manual_seed(seed), estimator.prior(shape)
    for step in (one for one in plan.steps if one.kind == "anchor"):
        bound = step.mechanism.clipping_norm
        total = torch.zeros(estimator.statistic_size(shape, step=step.index), dtype=torch.float64)
        for person in cohort:
            labels = torch.full((_WINDOWS,), person.label)
            strata = torch.full((_WINDOWS,), person.stratum)
            row = estimator.statistics(anchor, shape, signal=person.windows, labels=labels, strata=strata)
            total += row * (bound / row.norm()).clamp(max=1)
        std = step.mechanism.noise_multiplier * bound if step.mechanism.is_private else 0.0
        total += std * torch.randn(total.shape, generator=generator, dtype=torch.float64)
        anchor = estimator.advance(anchor, shape, total=total, noise_std=std)
    return anchor


def least_squares(cohort: list[Person], plan: Plan) -> Tensor:
    """Return the effects of ordinary least squares on labels and covariates, in the frame, (value, feature)."""
    shape = plan.shape
    rows = [standardise(codec_of(shape).features(one.windows), shape).mean(dim=0) for one in cohort]
    y = torch.stack(rows).to(torch.float64) @ coordinates_of(shape).there
    strata = torch.tensor([one.stratum for one in cohort])
    values = torch.cat(values_by_condition(strata, shape), dim=1).to(torch.float64)
    labels = torch.nn.functional.one_hot(torch.tensor([one.label for one in cohort]), shape.n_labels)
    x = torch.cat([labels.to(torch.float64), values], dim=1)
    return (torch.linalg.pinv(x) @ y)[shape.n_labels :]


def compared(found: Tensor, right: Tensor, weights: Tensor) -> tuple[float, float]:
    """Return slope and correlation of effects, (value, feature), around their weighted means."""
    centred = [(one - (weights @ one) / weights.sum()) * weights[:, None].sqrt() for one in (found, right)]
    product = float((centred[0] * centred[1]).sum())
    sizes = [float(one.square().sum()) for one in centred]
    return product / sizes[1], product / math.sqrt(max(sizes[0] * sizes[1], 1e-12))


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--people", type=int, nargs="+", default=[300, 1000])
    parser.add_argument("--epsilons", nargs="+", default=["inf", "8", "1"])
    parser.add_argument("--seeds", type=int, default=2)
    options = parser.parse_args()
    torch.set_num_threads(1)
    head = ("people", "epsilon", "condition", "slope", "corr.", "drawn", "explained", "shares off")
    sys.stdout.write(f"| {' | '.join(head)} |\n|{'---|' * len(head)}\n")
    for count in options.people:
        for epsilon in options.epsilons:
            _row(count, epsilon, seeds=options.seeds)


def _row(count: int, epsilon: str, *, seeds: int) -> None:
    study = parse_study(_STUDY.format(epsilon=epsilon, units=max(1, count // 4)))
    plan = plan_of(study)
    told: dict[str, list[list[float]]] = {name: [] for name in study.conditions}
    for seed in range(seeds):
        cohort = people(count, study, seed=seed)
        right = least_squares(cohort, plan)
        anchor = learn(plan, cohort, seed=seed)
        assert anchor.effects is not None
        assert anchor.strata is not None
        found = anchor.effects @ coordinates_of(plan.shape).there
        drawn = _drawn_effects(anchor, plan)
        strata = torch.tensor([one.stratum for one in cohort])
        truth = torch.bincount(strata, minlength=plan.shape.n_strata).to(torch.float64) / count
        shares = (anchor.counts / anchor.counts.sum()) @ anchor.strata
        off = float((shares - truth).abs().sum() / 2)
        start, explained = 0, explained_share(anchor, plan.shape)
        for k, (name, size) in enumerate(zip(study.conditions, study.strata, strict=True)):
            mine = slice(start, start + size)
            weights = torch.cat(values_by_condition(strata, plan.shape), dim=1).sum(dim=0).to(torch.float64)[mine]
            slope, corr = compared(found[mine], right[mine], weights)
            of_draws, _ = compared(drawn[mine], right[mine], weights)
            told[name].append([slope, corr, of_draws, float(explained[k]), off])
            start += size
    for name, rows in told.items():
        means = " | ".join(f"{value:.2f}" for value in np.mean(rows, axis=0))
        sys.stdout.write(f"| {count} | {epsilon} | {name} | {means} |\n")
    sys.stdout.flush()


def _drawn_effects(anchor: Anchor, plan: Plan) -> Tensor:
    """Return the effects of least squares on vectors that are drawn from the anchor, in the frame."""
    shape, draw = plan.shape, FeatureDraw(anchor, plan.shape)
    generator = torch.Generator().manual_seed(5)
    labels = torch.arange(8000) % shape.n_labels
    noise = torch.randn(len(labels), draw.width, generator=generator)
    vectors = draw(labels, noise).to(torch.float64) @ coordinates_of(shape).there
    strata = draw.strata_of(labels, noise)
    values = torch.cat(values_by_condition(strata, shape), dim=1).to(torch.float64)
    x = torch.cat([torch.nn.functional.one_hot(labels, shape.n_labels).to(torch.float64), values], dim=1)
    assert deviations(anchor, shape).shape[1] == shape.n_strata
    return (torch.linalg.pinv(x) @ vectors)[shape.n_labels :]


def _windows(rng: np.random.Generator, study: Study, *, alpha: float, loud: float, ill: int) -> Tensor:
    """Return windows of one person: a random walk that forgets, alpha of the person's own frequency, and theta."""
    n_times, sfreq, channels = study.windows.n_times, study.signal.sfreq, len(study.signal.channels)
    own = np.exp(0.25 * rng.standard_normal(3))
    hertz, time = rng.normal(10, 0.7), np.arange(n_times) / sfreq
    out = np.empty((_WINDOWS, channels, n_times), np.float32)
    for window in range(_WINDOWS):
        steps = rng.standard_normal((channels, n_times + 64))
        walk = np.zeros_like(steps)
        for place in range(1, steps.shape[1]):
            walk[:, place] = 0.93 * walk[:, place - 1] + steps[:, place]
        phases = rng.uniform(0, 2 * np.pi, (channels, 2, 1))
        rhythm = 1.5 * alpha * own[0] * np.sin(2 * np.pi * hertz * time + phases[:, 0])
        slow = (1.0 + 0.8 * ill) * own[1] * np.sin(2 * np.pi * 6 * time + phases[:, 1])
        out[window] = 5 * loud * own[2] * (walk[:, 64:] + rhythm + slow)
    return torch.from_numpy(out)


if __name__ == "__main__":
    main()
