"""An audit: canaries in one run of the real pipeline, and the epsilon that the bytes of its answers contradict.

Canaries are made-up people spread over the sites, each in or out by a coin, beside the sites' other people. Then
everything goes the real way: holdings, approval, ledger (thrown away afterwards), orders of a real coordinator.
The adversary stands at the coordinator. It has every byte that sites answer (`fedsynth.audit.wire`), knows all
other people, what every canary would contribute, and the parameters at which it was asked. It sees nothing that
stays inside a site.
"""

import math
import secrets
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from fedsynth.anchors.anchor import Anchor
from fedsynth.anchors.estimator import Estimator
from fedsynth.audit.bounds import METHODS, BoundMethod, Finding, bounds, ceiling
from fedsynth.audit.canaries import Canary, Unit, make_canaries, training_units
from fedsynth.audit.evidence import Evidence
from fedsynth.audit.rounds import round_scores
from fedsynth.audit.wire import Heard, Tap, check_answers, heard
from fedsynth.coordinator.rounds import run_plan
from fedsynth.coordinator.transport import InProcess
from fedsynth.errors import StudyError
from fedsynth.families.protocol import Family, Phase
from fedsynth.modalities.shape import Shape
from fedsynth.plan import Plan, Step, plan_of
from fedsynth.privacy.noise import NoiseSource, system_noise
from fedsynth.progress import Progress
from fedsynth.recordings.recording import Recording
from fedsynth.rehearsal.sites import cut_windows, make_site, policy_for, read_sites
from fedsynth.rng import numpy_generator
from fedsynth.site.approval import approve
from fedsynth.site.identity import make_identity
from fedsynth.site.policy import load_policy
from fedsynth.site.session import SiteSession
from fedsynth.site.standing import open_ledger
from fedsynth.study import Study
from fedsynth.training.consolidation import Consolidation
from fedsynth.training.private_gradient import LossNoise
from fedsynth.training.trainer import StepScale, Trainer, flat, private_parameters

Contribution = Callable[[Unit], Tensor]
Answers = Callable[[Callable[[bytes], bytes]], Callable[[bytes], bytes]]
"""What a site's handler of orders is wrapped in; something else than itself only to show what an audit sees."""
_GRADIENT_ANSWERS = 24  # of one site that are looked at, evenly spread; the others are let go for time
_SAMPLE = 24  # other people who stand for all, where sampling hides who was drawn anyway
_TOY_SITE = 100  # people at the smallest site of a toy cohort of scale 1


@dataclass(frozen=True)
class Audit:
    """What to audit: `sites` holds a folder of recordings per site, or is None for a small toy cohort.

    `seed` names the canaries and their coins; privacy noise has none.
    """

    study: Study
    sites: Path | None = None
    canaries: int = 500
    seed: str = "audit"


def as_they_are(handle: Callable[[bytes], bytes]) -> Callable[[bytes], bytes]:
    """Return a handler as it is."""
    return handle


def audit(
    what: Audit, *, progress: Progress, noise: NoiseSource = system_noise, answers: Answers = as_they_are
) -> Finding:
    """Run a study once with canaries and bound its epsilon from below.

    Args:
        what: the study and who takes part.
        progress: called with (what, done, all).
        noise: something else only to show what an audit sees of a faulty pipeline; the claim stays.
        answers: likewise, of what is done to answers on their way out of a site.

    Raises:
        StudyError: the study promises nothing, or the toy cohort cannot serve it.
        RecordingError: a site's recordings.
        PrivacyError: fewer than two canaries, or a site's answer holds more than was asked for and paid for.
        RefusedError: a site refused.
    """
    plan = dry_audit(what)[0]
    with tempfile.TemporaryDirectory(prefix="fedsynth-audit-") as folder:
        others = _cohort(what, Path(folder), progress)
        canaries = make_canaries(what.study, count=what.canaries, seed=what.seed, sites=tuple(others))
        coins = numpy_generator("audit coins", what.seed).random(len(canaries)) < 0.5
        there = [canary for canary, coin in zip(canaries, coins, strict=True) if coin]
        everybody = {
            site: [*people, *(one for canary in there if canary.site == site for one in canary.recordings)]
            for site, people in others.items()
        }
        trail = _carry_out(plan, Path(folder), everybody, answers=answers, noise=noise, progress=progress)
    known = {site: training_units(people, what.study) for site, people in others.items()}
    scores, answered = _attack(plan, trail, canaries, known, seed=what.seed, tell=progress)
    privacy = what.study.privacy
    return Finding(
        study=what.study.name,
        claimed=plan.epsilon(),
        delta=privacy.delta,
        unit=privacy.unit,
        trust=privacy.trust,
        canaries=len(canaries),
        included=int(coins.sum()),
        answers=answered,
        bounds=bounds(scores, coins, delta=privacy.delta),
    )


def dry_audit(what: Audit) -> tuple[Plan, dict[BoundMethod, float]]:
    """Return the plan and the ceiling of each method, without reading or running anything.

    Raises:
        StudyError: the study promises nothing.
        PrivacyError: fewer than two canaries.
    """
    if not what.study.privacy.is_private:
        raise StudyError(f"{what.study.name} promises nothing (privacy.epsilon is inf); there is no claim to audit")
    delta = what.study.privacy.delta
    ceilings = {method: ceiling(what.canaries, method=method, delta=delta) for method in METHODS}
    return plan_of(what.study), ceilings


def _cohort(what: Audit, folder: Path, progress: Progress) -> dict[str, list[Recording]]:
    """Read everybody who is not a canary, by site."""
    people = what.study.cohort.least_subjects / _TOY_SITE
    return read_sites(what.sites, study=what.study, people=people, staging=folder, progress=progress)


def _carry_out(
    plan: Plan,
    folder: Path,
    there: Mapping[str, list[Recording]],
    *,
    answers: Answers,
    noise: NoiseSource,
    progress: Progress,
) -> list[Heard]:
    """Make the sites, have them approve, carry the plan out, and return what could be heard at the coordinator."""
    for site, held in cut_windows(dict(there), study=plan.study, progress=progress).items():
        policy = policy_for(site, plan.study).model_copy(update={"device": "cpu"})
        make_site(folder / site, policy, held, study=plan.study)
    run, tap = secrets.token_hex(8), Tap()
    roster = {site: make_identity(folder / site) for site in there}
    for site in there:
        approve(folder / site, run=run, plan=plan, roster=roster if plan.is_aggregate else None)
    handlers = {site: tap.on(site, answers(SiteSession(folder / site, noise=noise).handle)) for site in there}
    try:
        run_plan(
            plan, run=run, transport=InProcess(handlers), composes="an audit", progress=progress, roster=roster
        )
    finally:
        # Also where the coordinator left a site out for what it sent.
        links = {site: _links(folder / site) for site in there}
        check_answers(tap.passed, plan, run=run, links=links, roster=roster)
    return list(heard(tap.passed, plan, run=run, roster=roster))


def _links(folder: Path) -> list[str]:
    with open_ledger(folder, load_policy(folder)) as ledger:
        return [line.link for line in ledger.charges()]


def _attack(
    plan: Plan,
    trail: list[Heard],
    canaries: list[Canary],
    others: Mapping[str, list[Unit]],
    *,
    seed: str,
    tell: Progress,
) -> tuple[NDArray[np.float64], int]:
    """Score every canary by the answers that it could be in; return scores and the number of answers used."""
    homes = {canary.site for canary in canaries}
    trail = [one for one in trail if one.step.mechanism.group == "train" and homes & {*one.sites}]
    who = {one.sites: [n for n, canary in enumerate(canaries) if canary.site in one.sites] for one in trail}
    evidence = {sites: Evidence(len(mine)) for sites, mine in who.items()}
    scores, rounds = np.zeros(len(canaries)), 0
    stride = -(-sum(_is_gradient(step) for step in plan.steps) // _GRADIENT_ANSWERS)
    rng = numpy_generator("audit plays", seed)
    for done, one in enumerate(trail, start=1):
        tell("looking for canaries, answers", done, len(trail))
        mechanism, mine = one.step.mechanism, who[one.sites]
        if _is_gradient(one.step) and one.step.index % stride:
            continue
        people = [unit for site in one.sites for unit in others[site]]
        some = people if mechanism.sampling_probability == 1 else people[:: 1 + len(people) // _SAMPLE]
        contributions = _contributions(plan, one)
        rows, beside = (
            _clipped(contributions, units, one.step) for units in ([canaries[n].unit for n in mine], some)
        )
        q, noise_std = mechanism.sampling_probability, _noise_std(one.step, sites=len(one.sites))
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
                n_others=len(people),
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
            n_others=len(people),
        )
    for sites, mine in who.items():
        scores[mine] += evidence[sites].scores()
    return scores, rounds + sum(one.sums for one in evidence.values())


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


def _moved(plan: Plan, one: Heard) -> NDArray[np.float64]:
    """Return by how much a site says that it moved the private parameters."""
    parts, phase = _parts(plan, one), plan.phase(one.step)
    before = _flat(parts, phase)
    parts.load_state_dict(dict(one.parts))
    return _flat(parts, phase) - before


def _played(plan: Plan, one: Heard, sums: list[Tensor]) -> NDArray[np.float64]:
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


def _flat(parts: nn.ModuleDict, phase: Phase) -> NDArray[np.float64]:
    vector: NDArray[np.float64] = (
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


def _clipped(contributions: tuple[Contribution, ...], units: list[Unit], step: Step) -> NDArray[np.float64]:
    """Return what units contribute on average, clipped here and not by the code that is audited, (unit, size)."""
    rows = np.array([[one(unit).detach().double().numpy() for unit in units] for one in contributions])
    norms = np.linalg.norm(rows, axis=-1, keepdims=True)
    clipped: NDArray[np.float64] = rows * np.minimum(1.0, step.mechanism.clipping_norm / np.maximum(norms, 1e-300))
    mean: NDArray[np.float64] = clipped.mean(axis=0)
    return mean


def _noise_std(step: Step, *, sites: int) -> float:
    """Return the standard deviation that was promised for a sum over so many sites."""
    mechanism = step.mechanism
    return mechanism.noise_multiplier * mechanism.clipping_norm * math.sqrt(sites / mechanism.noise_shares)


def _is_gradient(step: Step) -> bool:
    return step.kind in ("train", "gradient")
