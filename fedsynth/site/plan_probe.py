"""A plan's steps tried out on made-up windows, when a site approves it: nobody is charged for half a run."""

from collections.abc import Iterator, Mapping
from dataclasses import replace

import torch
from torch import Tensor

from fedsynth.evaluation.asked import Asked
from fedsynth.evaluation.tally_plan import tally_plan_of
from fedsynth.plan import Plan, Step
from fedsynth.site.steps import prepare
from fedsynth.synthesis.generator import at_prior
from fedsynth.training.consolidation import Consolidation
from fedsynth.training.trainer import private_parameters
from fedsynth.wire.order import Order

_DONE: set[tuple[str, str]] = set()  # plans and devices of this process


def probe_plan(plan: Plan, *, device: torch.device) -> None:
    """Try every kind of a plan's steps on made-up windows, from the public prior on; once in a process.

    Raises:
        MachineError: one of them fails.
    """
    key = (plan.digest, str(device))
    if key in _DONE:
        return
    for order, step in _first_of_each(plan):
        prepare(order, plan, step, device=device)
    _DONE.add(key)


def _first_of_each(plan: Plan) -> Iterator[tuple[Order, Step]]:
    """Yield every sum and every phase's first step, with an order as it is where nothing has been learned."""
    prior, seen = plan.estimator.prior(plan.shape), set()
    for number, step in enumerate(plan.steps):
        tensors: Mapping[str, Tensor] = {}
        if step.kind == "anchor":
            tensors = replace(prior, done=step.index).tensors()
        elif step.kind == "assess":
            tensors = Asked(plan.shape, tally_plan_of(plan.study)).tensors()
        elif (step.kind, plan.phase(step).name) not in seen:
            seen.add((step.kind, plan.phase(step).name))
            tensors = {f"parts.{name}": value for name, value in at_prior(plan.study).state.items()}
            if step.kind == "train":
                shares = torch.full((plan.shape.n_labels,), 1 / plan.shape.n_labels)
                tensors = {**tensors, "label_shares": shares, "seen_units": torch.ones(1)}
                if strength := plan.study.training.consolidation:
                    private = private_parameters(plan.family.build(plan.shape, prior), plan.phase(step))
                    tensors |= Consolidation.none_yet(private, strength=strength).tensors()
        if tensors:
            yield Order("", plan.digest, number, tensors), step
