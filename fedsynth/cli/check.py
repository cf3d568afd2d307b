"""`fedsynth check`: what a study would do and cost, before anybody opens data."""

import json
import re
import sys
from dataclasses import asdict
from functools import partial
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fedsynth.cli.conditions import asked_conditions
from fedsynth.cli.differences import differences
from fedsynth.cli.progress import progress

_FOR_LAYERS = 0.5  # of epsilon, as it was measured
_MUCH = 0.1  # units that delta may give away before `check` says so

if TYPE_CHECKING:
    from fedsynth.evaluation.evidence import Expectation
    from fedsynth.plan import Plan
    from fedsynth.privacy.mechanism import Group
    from fedsynth.progress import StepProgress
    from fedsynth.study import Study


def check(
    study: Annotated[Path, typer.Argument(help="the study file")],
    as_json: Annotated[bool, typer.Option("--json", help="answer as JSON")] = False,
) -> None:
    """Print every private sum of a study, its noise and price, and how epsilon is shared. Opens no recording."""
    from fedsynth.plan import plan_of, secure_cohort_of, stand_in_roster
    from fedsynth.privacy.accountant import PLD, PRV, epsilon_pld, epsilon_prv
    from fedsynth.release.releasable import check_releasable
    from fedsynth.study import canonical, load_study

    with progress() as tell:
        read = load_study(study)
        check_releasable(read, study.read_text(encoding="utf-8"))
        tell("the study, and whether it can be released", 1, 1)
        tell("the plan's noise", 0, 1)
        plan = plan_of(read)
        tell("the plan's noise", 1, 1)
        privacy = plan.study.privacy
        groups: tuple[Group, ...] = ("train", "held-out")
        phases = {group: _phases(plan, group, partial(tell, f"prices, {group}")) for group in groups}
        costs = {}
        for number, group in enumerate(groups):
            tell("prices by two accountants", number, len(groups))
            mechanisms = plan.mechanisms(group)
            costs[group] = tuple(price(mechanisms, delta=privacy.delta) for price in (epsilon_pld, epsilon_prv))
        tell("prices by two accountants", len(groups), len(groups))
    if as_json:
        body = {
            **json.loads(plan.to_json()),
            "digest": plan.digest,
            "epsilon": str(plan.epsilon()),
            "private_score": asdict(_expected(plan)) | {"says_nothing": _expected(plan).says_nothing},
            "differences": asdict(differences(plan)),
            "conditions": asdict(asked_conditions(plan)),
            "phases": [{**phase, "group": group} for group, some in phases.items() for phase in some],
        }
        sys.stdout.write(json.dumps(json.loads(canonical(body)), indent=2) + "\n")
        return
    write = sys.stdout.write
    write(f"{plan.study.name}: epsilon {privacy.epsilon:g} at delta {privacy.delta:g} per {privacy.unit}, ")
    write(f"trust {privacy.trust}\nplan {plan.digest}\ncode {plan.code}\n")
    circle = secure_cohort_of(plan.study, stand_in_roster(plan.study))
    if circle:
        write(
            f"secure aggregation: {circle.n} sites, each adds one of {circle.noise_sharers} shares of the noise; "
            f"a total needs {circle.least_survivors} sites, and bears {circle.dishonest} that tell\n"
        )
    width = 2 + max(len(str(phase["purpose"])) for some in phases.values() for phase in some)
    for group, some in phases.items():
        write(f"\nasked of the {group} group\n")
        write(f"  {'purpose':<{width}}{'sigma':>8}{'q':>7}{'steps':>7}{'C':>8}{'alone':>9}{'so far':>9}\n")
        for phase in some:
            write(f"  {phase['purpose']:<{width}}{phase['noise_multiplier']:>8.3f}")
            write(f"{phase['sampling_probability']:>7.3f}{phase['steps']:>7}{phase['clipping_norm']:>8.3f}")
            write(f"{phase['alone']:>9.3f}{phase['so_far']:>9.3f}\n")
    write("\nalone and so far: epsilon of that line, and of all lines up to it\n")
    for group, (first, second) in costs.items():
        write(f"{group}: epsilon {first:.4f} ({PLD}), {second:.4f} ({PRV})\n")
    write("Every unit is in one of the two groups, so the promise is the larger figure.\n")
    write(_about_delta(plan.study))
    write(f"{_expected(plan).sentence(privacy.unit)}\n")
    write(_about_raw_windows(plan.study))
    write(_about_family(plan.study))
    write(_about_layers(plan.study))
    write(differences(plan).sentences())
    write(asked_conditions(plan).sentences())
    if not privacy.is_private:
        write("Without privacy it can be rehearsed, and never be released.\n")


def _expected(plan: "Plan") -> "Expectation":
    """Return how well the private score could measure good windows."""
    from fedsynth.evaluation.evidence import expected_interval

    asked, cohort = plan.mechanisms("held-out")[-1], plan.study.cohort
    return expected_interval(
        plan.study,
        noise_multiplier=asked.noise_multiplier,
        sites=len(cohort.sites) or cohort.least_sites,
        noise_shares=asked.noise_shares,
    )


def _about_raw_windows(study: "Study") -> str:
    """Say whether the report will hold raw windows against features."""
    from fedsynth.evaluation.comparison import COMPARED
    from fedsynth.evaluation.tally_plan import tally_plan_of

    compared = tally_plan_of(study).compared
    if not compared:
        return (
            "Whether raw windows tell labels apart as well as features do will not be asked: with so few units "
            "or so much noise it would cost the score more than it could say.\n"
        )
    taught = ", and against one that a private sum of recordings taught" if compared == len(COMPARED) else ""
    return f"The report will hold a classifier of raw windows against one of features{taught}.\n"


def _about_family(study: "Study") -> str:
    """Return a sentence where the family's name decides nothing: adversarial ones share the anchor's decoder."""
    from fedsynth.families.registry import FAMILIES

    alike = [name for name, place in FAMILIES.items() if place.startswith("adversarial.")]
    if study.n_rounds or study.family.train != "adapters" or study.family.name not in alike:
        return ""
    return (
        "No round of training is planned: windows come from the private sums and the public decoder alone, and "
        f"{', '.join(sorted(alike))} draw the very same ones.\n"
    )


def _about_layers(study: "Study") -> str:
    """Say whether private gradients would pay, or do not, by the measured map."""
    from fedsynth.study import MEASURED_FAMILY

    if not study.privacy.is_private or not study.training.anchor:
        return ""
    every_layer = study.family.train == "all" and study.family.name == MEASURED_FAMILY
    if study.n_rounds and not (every_layer and study.gradients_pay()):
        return (
            "Private gradients are planned where none that were measured gained anything: adapters and low-rank "
            "additions at any size, all layers with this much noise (docs/crossover.md). rounds = 0 leaves the "
            "sums what they would cost.\n"
        )
    if not study.n_rounds and study.gradients_pay(gradient_share=_FOR_LAYERS):
        return (
            f'With so many {study.privacy.unit}s every layer could learn: family.name = "{MEASURED_FAMILY}", '
            f'family.train = "all", plan.gradient_share = {_FOR_LAYERS:g} recovered most of a difference that no '
            "sum asks for, and gained nothing where features tell all (docs/crossover.md).\n"
        )
    return ""


def _about_delta(study: "Study") -> str:
    """Return a sentence on how many units delta gives away by itself."""
    cohort, delta = study.cohort, study.privacy.delta
    units = cohort.expected_units * max(len(cohort.sites), cohort.least_sites)
    given = delta * units
    said = f"Delta alone would allow to publish {given:.2g} of the {units} units declared."
    return said + (" That is much: ask for a smaller delta.\n" if given > _MUCH else "\n")


def _phases(plan: "Plan", group: "Group", tell: "StepProgress") -> list[dict[str, Any]]:
    """Join steps that differ in their number only, and price each phase alone and all up to it."""
    from fedsynth.privacy.accountant import epsilon_pld

    delta = plan.study.privacy.delta
    told: list[dict[str, Any]] = []
    done = 0
    mechanisms = plan.mechanisms(group)
    for _, alike in groupby(
        mechanisms, key=lambda m: (re.sub(r"\d+$", "", m.purpose), m.noise_multiplier, m.steps)
    ):
        tell(done, len(mechanisms))
        some = list(alike)
        done += len(some)
        first, last = some[0], some[-1]
        number = re.search(r"\d+$", last.purpose)
        told.append(
            {
                "purpose": f"{first.purpose} to {number[0]}" if len(some) > 1 and number else first.purpose,
                "noise_multiplier": first.noise_multiplier,
                "sampling_probability": first.sampling_probability,
                "steps": sum(m.steps for m in some),
                "clipping_norm": first.clipping_norm,
                "alone": epsilon_pld(some, delta=delta),
                "so_far": epsilon_pld(mechanisms[:done], delta=delta),
            }
        )
    tell(len(mechanisms), len(mechanisms))
    return told
