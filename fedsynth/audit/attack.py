"""The attack: from what is heard at the coordinator to how likely each canary was in.

Everybody who is no canary is known, and read again for every answer, a unit at a time (`fedsynth.audit.known`).
"""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial

import numpy as np
import torch
from torch import Tensor, nn

from fedsynth.anchors.anchor import Anchor
from fedsynth.anchors.estimator import Estimator
from fedsynth.audit.bounds import Floats
from fedsynth.audit.canaries import Canary, Unit
from fedsynth.audit.evidence import Evidence
from fedsynth.audit.known import KnownUnits
from fedsynth.audit.rounds import round_scores
from fedsynth.audit.wire import Heard
from fedsynth.families.protocol import Family, Phase
from fedsynth.modalities.shape import Shape
from fedsynth.plan import Plan, Step
from fedsynth.progress import Progress
from fedsynth.rng import numpy_generator
from fedsynth.training.consolidation import Consolidation
from fedsynth.training.private_gradient import LossNoise
from fedsynth.training.trainer import StepScale, Trainer, flat, private_parameters

Contribution = Callable[[Unit], Tensor]
_GRADIENT_ANSWERS = 24  # of one site that are looked at, evenly spread; the others are let go for time
_SAMPLE = 24  # other people who stand for all, where sampling hides who was drawn anyway


def attack(
    plan: Plan,
    trail: list[Heard],
    canaries: list[Canary],
    others: Mapping[str, KnownUnits],
    *,
    seed: str,
    tell: Progress,
) -> tuple[Floats, int]:
    """Score every canary by the answers that it could be in.

    Args:
        plan: as approved.
        trail: what was heard, in order.
        canaries: those that were in and those that were not.
        others: everybody else who trains, by site.
        seed: for the adversary's own coins.
        tell: called with (what, done, all).

    Returns:
        Log odds of each canary's being in, shape (canary,), and the number of answers used.
    """
    homes = {canary.site for canary in canaries}
    trail = [one for one in trail if one.step.mechanism.group == "train" and homes & {*one.sites}]
    who = {one.sites: [n for n, canary in enumerate(canaries) if canary.site in one.sites] for one in trail}
    evidence = {sites: Evidence(len(mine)) for sites, mine in who.items()}
    scores, rounds = np.zeros(len(canaries)), 0
    every = -(-sum(_is_gradient(step) for step in plan.steps) // _GRADIENT_ANSWERS)
    rng = numpy_generator("audit plays", seed)
    for done, one in enumerate(trail, start=1):
        tell("looking for canaries, answers", done, len(trail))
        mechanism, mine = one.step.mechanism, who[one.sites]
        if _is_gradient(one.step) and one.step.index % every:
            continue
        q, noise_std = mechanism.sampling_probability, _noise_std(one.step, sites=len(one.sites))
        contributions = _contributions(plan, one)
        rows = np.stack([_clipped(contributions, canaries[n].unit, one.step) for n in mine])
        people = [others[site] for site in one.sites]
        n_others = sum(map(len, people))
        stride = 1 if q == 1 else 1 + n_others // _SAMPLE
        company = (_clipped(contributions, unit, one.step) for unit in _every(people, stride))
        # Where everybody is drawn nothing but the sum of all others counts, which needs one of them at a time.
        beside = _mean(company, like=rows) if q == 1 else np.array([*company]).reshape(-1, rows.shape[1])
        if one.total is None:
            moved, play = _moved(plan, one), partial(_played, plan, one)
            scores[mine] += round_scores(
                moved,
                rows,
                play=play,
                steps=mechanism.steps,
                sampling_probability=q,
                noise_std=noise_std,
                others=beside,
                n_others=n_others,
                rng=rng,
            )
            rounds += 1
            continue
        evidence[one.sites].add(
            one.total.double().numpy(),
            rows,
            sampling_probability=q,
            noise_std=noise_std,
            others=beside,
            n_others=n_others,
        )
    for sites, mine in who.items():
        scores[mine] += evidence[sites].scores()
    return scores, rounds + sum(one.sums for one in evidence.values())


def _every(people: Sequence[KnownUnits], stride: int) -> Iterator[Unit]:
    """Yield every so-manieth unit of some sites together."""
    first = 0
    for some in people:
        yield from some.every(stride, first=first)
        first = (first - len(some)) % stride


def _mean(rows: Iterable[Floats], *, like: Floats) -> Floats:
    """Return the mean of rows, shape (1, size), of which none is kept; zeros where there are none."""
    total, count = np.zeros(like.shape[1]), 0
    for row in rows:
        total += row
        count += 1
    return total[None] / max(1, count)


def _contributions(plan: Plan, one: Heard) -> tuple[Contribution, ...]:
    """Return what a unit contributes to the sums behind an answer; of a round, to the first and to the last."""
    if one.step.kind == "anchor":
        anchor = Anchor.from_tensors(dict(one.order.tensors))
        return (partial(_statistic, plan.estimator, anchor, plan.shape),)
    if one.step.kind == "fisher":
        return (partial(_squares, plan.family, _parts(plan, one), plan.phase(one.step), plan.shape),)
    places = [_parts(plan, one)]
    if one.parts:
        places.append(_parts(plan, one))
        places[1].load_state_dict(dict(one.parts))
    return tuple(partial(_gradient, plan.family, parts, plan.phase(one.step), plan.shape) for parts in places)


def _parts(plan: Plan, one: Heard) -> nn.ModuleDict:
    """Return the parts that an order sent."""
    parts = plan.family.build(plan.shape, plan.estimator.prior(plan.shape))
    sent = {n.removeprefix("parts."): v for n, v in one.order.tensors.items() if n.startswith("parts.")}
    parts.load_state_dict(sent)
    return parts


def _moved(plan: Plan, one: Heard) -> Floats:
    """Return by how much a site says that it moved the private parameters."""
    parts, phase = _parts(plan, one), plan.phase(one.step)
    before = _flat(parts, phase)
    parts.load_state_dict(dict(one.parts))
    return _flat(parts, phase) - before


def _played(plan: Plan, one: Heard, sums: list[Tensor]) -> Floats:
    """Play a round from these noisy sums, with public draws of its own."""
    parts, phase = _parts(plan, one), plan.phase(one.step)
    scale = StepScale(
        expected_units=float(plan.study.cohort.expected_units),
        seen_units=float(one.order.tensors["seen_units"][0]),
        label_shares=one.order.tensors["label_shares"],
    )
    strength = plan.study.training.consolidation
    trainer = Trainer(
        plan.family,
        parts,
        phase=phase,
        shape=plan.shape,
        mechanism=one.step.mechanism,
        scale=scale,
        consolidation=Consolidation.from_tensors(one.order.tensors, strength=strength) if strength else None,
    )
    before = _flat(parts, phase)
    for total in sums:
        trainer.step(total)
    return _flat(parts, phase) - before


def _flat(parts: nn.ModuleDict, phase: Phase) -> Floats:
    vector: Floats = (
        torch.cat([value.detach().flatten() for value in private_parameters(parts, phase)]).double().numpy()
    )
    return vector


def _statistic(estimator: Estimator, anchor: Anchor, shape: Shape, unit: Unit) -> Tensor:
    return estimator.statistics(anchor, shape, signal=unit.signal, labels=unit.labels, covariates=unit.covariates)


def _gradient(family: Family, parts: nn.ModuleDict, phase: Phase, shape: Shape, unit: Unit) -> Tensor:
    private = private_parameters(parts, phase)
    noise = LossNoise.of(private, width=family.example_noise_width(shape, phase)).draw(unit.signal)
    loss = family.example_loss(parts, phase, unit.signal, unit.labels, noise).mean()
    return flat(torch.autograd.grad(loss, private, allow_unused=True), private)


def _squares(family: Family, parts: nn.ModuleDict, phase: Phase, shape: Shape, unit: Unit) -> Tensor:
    return _gradient(family, parts, phase, shape, unit).square()


def _clipped(contributions: tuple[Contribution, ...], unit: Unit, step: Step) -> Floats:
    """Return what a unit contributes on average, clipped here and not by the code that is audited, (size,)."""
    rows = np.array([one(unit).detach().double().numpy() for one in contributions])
    norms = np.linalg.norm(rows, axis=-1, keepdims=True)
    clipped: Floats = rows * np.minimum(1.0, step.mechanism.clipping_norm / np.maximum(norms, 1e-300))
    mean: Floats = clipped.mean(axis=0)
    return mean


def _noise_std(step: Step, *, sites: int) -> float:
    """Return the standard deviation that was promised for a sum over so many sites."""
    mechanism = step.mechanism
    return mechanism.noise_multiplier * mechanism.clipping_norm * math.sqrt(sites / mechanism.noise_shares)


def _is_gradient(step: Step) -> bool:
    return step.kind in ("train", "gradient")
