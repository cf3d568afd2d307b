"""`fedsynth check`: what a study would do and cost, before anybody opens data."""

import json
import sys
from pathlib import Path
from typing import Annotated

import typer


def check(
    study: Annotated[Path, typer.Argument(help="the study file")],
    as_json: Annotated[bool, typer.Option("--json", help="answer as JSON")] = False,
) -> None:
    """Print every private step of a study, its noise, and what it costs in all. Opens no recording."""
    from fedsynth.privacy.accountant import PLD, PRV, epsilon_pld, epsilon_prv
    from fedsynth.study import load_study
    from fedsynth.wire.plan import plan_of

    plan = plan_of(load_study(study))
    privacy = plan.study.privacy
    costs = {
        group: (
            epsilon_pld(plan.mechanisms(group), delta=privacy.delta),
            epsilon_prv(plan.mechanisms(group), delta=privacy.delta),
        )
        for group in ("train", "held-out")
    }
    if as_json:
        body = {**json.loads(plan.to_json()), "digest": plan.digest, "epsilon": str(plan.epsilon())}
        sys.stdout.write(json.dumps(body, indent=2) + "\n")
        return
    write = sys.stdout.write
    write(f"{plan.study.name}: epsilon {privacy.epsilon:g} at delta {privacy.delta:g} per {privacy.unit}, ")
    write(f"trust {privacy.trust}\nplan {plan.digest}\ncode {plan.code}\n\n")
    write(f"{'purpose':<36}{'asked of':<10}{'sigma':>8}{'q':>7}{'steps':>7}{'C':>8}\n")
    for step in plan.steps:
        m = step.mechanism
        write(f"{m.purpose:<36}{m.group:<10}{m.noise_multiplier:>8.3f}{m.sampling_probability:>7.3f}")
        write(f"{m.steps:>7}{m.clipping_norm:>8.3f}\n")
    write("\n")
    for group, (first, second) in costs.items():
        write(f"{group}: epsilon {first:.4f} ({PLD}), {second:.4f} ({PRV})\n")
    write("Every unit is in one of the two groups, so the promise is the larger figure.\n")
