"""Effects of covariates: what an anchor recovers of them on made-up people, against regression on their features.

    .venv/bin/python benchmarks/conditions.py --people 300 1000 --epsilons inf 8 1
    .venv/bin/python benchmarks/conditions.py --ptbxl DIR --epsilons inf 8 --statements

Age changes the power of alpha, sex the amplitude of everything, and old people have the second label more often, so
that a label's mean says something of age. One window's features are the codec's; nothing of the prior's simulators
is used. Printed for each covariate: the slope of the recovered effects on those of ordinary least squares without
privacy (1 is right, 0 is nothing), their correlation, and how far strata's shares are off. With `--ptbxl` the same
on people of PTB-XL, and the AUROC, on people who were not asked, of random convolutions trained on windows that are
drawn with and without the sum; with `--statements` that of each statement which is not rare, too.
"""

import argparse
import csv
import json
import math
import re
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from sklearn.linear_model import RidgeClassifierCV
from sklearn.metrics import roc_auc_score
from torch import Tensor

from fedsynth.anchors.anchor import Anchor, FeatureDraw, deviations
from fedsynth.anchors.coordinates import coordinates_of
from fedsynth.anchors.moments.condition_effects import explained_share
from fedsynth.anchors.moments.conditions import values_by_condition
from fedsynth.condition_plan import stratum_of
from fedsynth.evaluation.protocol.classifiers.random_convolutions import auroc, described
from fedsynth.modalities.registry import codec_of, standardise
from fedsynth.plan import Plan, plan_of
from fedsynth.recordings.readers.site import read_site
from fedsynth.recordings.recording import Windows
from fedsynth.recordings.windows import windows_of
from fedsynth.study import Study, parse_study
from fedsynth.synthesis.generator import untrained

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
_PTBXL = """
name = "conditions-ptbxl"
[signal]
modality = "ecg"
format = "wfdb"
channels = ["I", "II", "III", "AVR", "AVL", "AVF", "V1", "V2", "V3", "V4", "V5", "V6"]
sfreq = 100.0
range_uv = 5000.0
[recordings]
preset = "ptbxl"
[windows]
n_times = 500
per_recording = 2
[labels]
names = ["normal", "abnormal"]
source = "layout"
rename = {{ NORM = "normal", MI = "abnormal", STTC = "abnormal", CD = "abnormal", HYP = "abnormal" }}
positive = "abnormal"
others = "leave out"
{conditions}
[privacy]
unit = "subject"
epsilon = {epsilon}
delta = 1e-5
trust = "aggregate"
[cohort]
sites = ["a", "b", "c", "d"]
least_sites = 4
expected_units = 75
[family]
name = "cwgan"
[plan]
rounds = 0
"""
_PTBXL_CONDITIONS = """
[conditions.age]
source = "layout"
bands = [40, 60, 75]
[conditions.sex]
source = "layout"
values = ["F", "M"]
missing = "leave out"
"""
_WINDOWS = 6


@dataclass(frozen=True)
class Person:
    """A person: windows in microvolts, (window, channel, time), their labels and covariates."""

    windows: Tensor
    labels: Tensor
    covariates: Tensor

    @property
    def strata(self) -> Tensor:
        """Return the first of the covariates."""
        return self.covariates[:, 0]


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
        found.append(Person(windows, torch.full((_WINDOWS,), ill), torch.full((_WINDOWS, 1), stratum)))
    return found


def learn(plan: Plan, cohort: list[Person], *, seed: int) -> Anchor:
    """Ask the plan's sums of the people, with its noise, and return the anchor."""
    estimator, shape = plan.estimator, plan.shape
    generator, anchor = torch.Generator().manual_seed(seed), estimator.prior(shape)
    for step in (one for one in plan.steps if one.kind == "anchor"):
        bound = step.mechanism.clipping_norm
        total = torch.zeros(estimator.statistic_size(shape, step=step.index), dtype=torch.float64)
        for person in cohort:
            told = {"signal": person.windows, "labels": person.labels, "covariates": person.covariates}
            row = estimator.statistics(anchor, shape, **told)
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
    strata = torch.tensor([int(one.strata[0]) for one in cohort])
    values = torch.cat(values_by_condition(strata, shape), dim=1).to(torch.float64)
    labels = torch.nn.functional.one_hot(torch.tensor([int(one.labels[0]) for one in cohort]), shape.n_labels)
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
    parser.add_argument("--statements", action="store_true", help="ask for the 71 statements of PTB-XL as well")
    parser.add_argument("--ptbxl", type=Path, help="a folder of PTB-XL, instead of made-up people")
    options = parser.parse_args()
    torch.set_num_threads(1)
    head = ("people", "epsilon", "condition", "slope", "corr.", "drawn", "explained", "shares off")
    sys.stdout.write(f"| {' | '.join(head)} |\n|{'---|' * len(head)}\n")
    if options.ptbxl:
        _ptbxl(options.ptbxl, options.epsilons, seeds=options.seeds, statements=options.statements)
        return
    for count in options.people:
        for epsilon in options.epsilons:
            study = parse_study(_STUDY.format(epsilon=epsilon, units=max(1, count // 4)))
            cohorts = (people(count, study, seed=seed) for seed in range(options.seeds))
            _rows(plan_of(study), epsilon, cohorts)


def _ptbxl(folder: Path, epsilons: list[str], *, seeds: int, statements: bool) -> None:
    """Print the same of people of PTB-XL, and what the sum costs labels."""
    asked = _PTBXL_CONDITIONS
    if statements:
        with (folder / "scp_statements.csv").open(encoding="utf-8") as table:
            names = [row[""] for row in csv.DictReader(table)]
        renamed = {
            name: re.sub(r"[^A-Z0-9_]", "-", name).strip("-") for name in names if re.search(r"[^A-Z0-9_]", name)
        }
        known = [renamed.get(name, name) for name in names]
        pairs = ", ".join(f'"{raw}" = "{name}"' for raw, name in renamed.items())
        asked += f'[statements]\nnames = {json.dumps(known)}\nsource = "layout"\nrename = {{ {pairs} }}\n'
    for epsilon in epsilons:
        told: dict[str, list[float]] = {"real": [], "with": [], "without": []}
        plans = {}
        for name, conditions in (("with", asked), ("without", "")):
            plans[name] = plan_of(parse_study(_PTBXL.format(epsilon=epsilon, conditions=conditions)))
        study = plans["with"].study
        windows = windows_of(read_site(folder, site="ptbxl", study=study), study=study)
        halves = [_halves(windows, seed) for seed in range(seeds)]
        _rows(plans["with"], epsilon, (train for train, _ in halves))
        for seed, (train, test) in enumerate(halves):
            right = _together(test)
            told["real"].append(auroc(*_together(train), *right))
            for name, plan in plans.items():
                drawn = untrained(plan.study, learn(plan, train, seed=seed)).draw(per_label=1500, seed="ptbxl")
                told[name].append(auroc(drawn.signal, drawn.labels, *right))
                if drawn.statements is not None:
                    _say_statements(plan.study, drawn.signal, drawn.statements, train, test)
        for name, values in told.items():
            said = ", ".join(f"{value:.3f}" for value in values)
            sys.stdout.write(f"\nepsilon {epsilon}, AUROC on others, {name}: {np.mean(values):.3f} ({said})\n")
        sys.stdout.flush()


def _say_statements(
    study: Study, signal: np.ndarray, made: np.ndarray, train: list[Person], test: list[Person]
) -> None:
    """Print how far statements are off, and the AUROC of those that ten people of either half bear."""
    real, others = (np.concatenate([one.covariates[:, 1:].numpy() for one in some]) for some in (train, test))
    waves = [np.concatenate([one.windows.numpy() for one in some]) for some in (train, test)]
    whose = np.concatenate([one.labels.numpy() for one in train])
    right = np.mean([real[whose == label].mean(axis=0) for label in np.unique(whose)], axis=0)
    off = np.abs(made.mean(axis=0) - right)
    worst = int(off.argmax())
    assert study.statements is not None
    names = study.statements.names
    sys.stdout.write(f"\nstatements a window: drawn {made.sum(axis=1).mean():.2f}, real {right.sum():.2f}; ")
    sys.stdout.write(f"shares off by {off.mean():.3f}, at most {off[worst]:.3f} ({names[worst]})\n")
    common = np.flatnonzero((others.sum(axis=0) >= 20) & (real.sum(axis=0) >= 20))
    scale = float(waves[0].std())
    seen = {"real": (waves[0], real), "drawn": (signal, made)}
    asked = described(torch.from_numpy(waves[1] / scale))
    found = {}
    for kind, (some, flags) in seen.items():
        rows = described(torch.from_numpy(some / scale))
        centre, spread = rows.mean(axis=0), rows.std(axis=0) + 1e-6
        found[kind] = []
        for place in common:
            if flags[:, place].min() == flags[:, place].max():
                found[kind].append(0.5)
                continue
            ridge = RidgeClassifierCV(alphas=np.logspace(2, 5, 4)).fit((rows - centre) / spread, flags[:, place])
            margins = ridge.decision_function((asked - centre) / spread)
            found[kind].append(float(roc_auc_score(others[:, place], margins)))
    for number, place in enumerate(common):
        each = ", ".join(f"{kind} {values[number]:.3f}" for kind, values in found.items())
        sys.stdout.write(f"  {names[place]} ({int(real[:, place].sum())} windows): {each}\n")
    means = ", ".join(f"{kind} {np.mean(values):.3f}" for kind, values in found.items())
    sys.stdout.write(f"macro-AUROC of {len(common)} statements: {means}\n")
    sys.stdout.flush()


def _halves(windows: Windows, seed: int) -> tuple[list[Person], list[Person]]:
    """Return people to be asked, three in four, and the others."""
    assert windows.covariates is not None
    order = np.random.default_rng(seed).permutation(len(np.unique(windows.subjects)))
    found = []
    for person in order:
        mine = np.flatnonzero(windows.subjects == person)
        parts = (windows.signal[mine], windows.labels[mine], windows.covariates[mine])
        found.append(Person(*(torch.from_numpy(part) for part in parts)))
    return found[: 3 * len(found) // 4], found[3 * len(found) // 4 :]


def _together(some: list[Person]) -> tuple[np.ndarray, np.ndarray]:
    return tuple(np.concatenate([getattr(one, name).numpy() for one in some]) for name in ("windows", "labels"))  # type: ignore[return-value]


def _rows(plan: Plan, epsilon: str, cohorts: Iterable[list[Person]]) -> None:
    study = plan.study
    told: dict[str, list[list[float]]] = {name: [] for name in study.conditions}
    count = 0
    for seed, cohort in enumerate(cohorts):
        count = len(cohort)
        right = least_squares(cohort, plan)
        anchor = learn(plan, cohort, seed=seed)
        assert anchor.effects is not None
        assert anchor.strata is not None
        found = anchor.effects @ coordinates_of(plan.shape).there
        drawn = _drawn_effects(anchor, plan)
        strata = torch.tensor([int(one.strata[0]) for one in cohort])
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
