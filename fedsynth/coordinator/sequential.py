"""One site after the other: each trains what the last one left, held where earlier sites need the weights.

No recording is kept or sent for those who come later. What a later site knows of an earlier one is the parts it
left and, with consolidation, its Fisher information: a private sum like any other, for which the last is not asked.
"""

from collections.abc import Mapping, Sequence
from typing import Protocol

import torch
from torch import Tensor, nn

from fedsynth.coordinator.aggregation import State, add_sums
from fedsynth.plan import Plan, Step
from fedsynth.training.consolidation import Consolidation, fisher_estimate
from fedsynth.training.trainer import private_parameters


class Trained(Protocol):
    """Have sites train parts, and return those that training can have led to."""

    def __call__(
        self, number: int, step: Step, sites: Sequence[str], *, start: State, more: State
    ) -> Mapping[str, State]:
        """Ask for step `number`, from parts `start`, with `more` in the order."""
        ...


class Ask(Protocol):
    """Send sites what `tensors` holds for them, and return the answers that look like `wanted`."""

    def __call__(self, number: int, tensors: Mapping[str, State], step: Step, wanted: State) -> Mapping[str, State]:
        """Ask for step `number`."""
        ...


def in_turn(alive: Sequence[str], named: Sequence[str]) -> tuple[str, ...]:
    """Return the sites in the order in which the study names them; by name where it names none.

    >>> in_turn(["north", "east"], ["west", "north", "east"]), in_turn(["north", "east"], [])
    (('north', 'east'), ('east', 'north'))
    """
    return tuple(site for site in (named or sorted(alive)) if site in alive)


def train_in_turn(
    plan: Plan,
    number: int,
    sites: Sequence[str],
    parts: nn.ModuleDict,
    *,
    units: Mapping[str, float],
    trained: Trained,
    ask: Ask,
) -> None:
    """Have one site after the other train `parts`, in place; who does not answer changes nothing.

    Args:
        plan: as approved.
        number: of the step that trains; the one behind it asks for Fisher information, if the plan does.
        sites: in order.
        parts: as the first site shall start from.
        units: public numbers of units by site.
        trained: asks sites to train.
        ask: asks sites for a sum.
    """
    step, fisher = plan.steps[number], plan.fisher_of(number)
    private = private_parameters(parts, plan.phase(step))
    held = Consolidation.none_yet(private, strength=plan.study.training.consolidation)
    size = len(held.centre)
    for site in sites:
        more = held.tensors() if fisher else {}
        left = trained(number, step, (site,), start=_copy(parts), more=more).get(site)
        if left is None:
            continue
        parts.load_state_dict(dict(left))
        if fisher is None or site == sites[-1]:
            continue
        sent = {site: {f"parts.{name}": value for name, value in _copy(parts).items()}}
        answers = ask(fisher[0], sent, fisher[1], {"sum": torch.zeros(size, dtype=torch.float64)})
        if site in answers:
            total = add_sums({site: answers[site]["sum"]}, mechanism=fisher[1].mechanism)
            found = fisher_estimate(total.values, noise_std=total.noise_std, units=units[site])
            held = held.after(private, fisher=found)


def _copy(parts: nn.ModuleDict) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in parts.state_dict().items()}
