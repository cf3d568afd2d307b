"""An audit: canaries in one run of the real pipeline, and the epsilon that the run's noisy sums contradict.

Canaries are made-up people spread over the sites, each in or out by a coin, beside the sites' other people. Then
everything goes the real way: holdings, approval, ledger (thrown away afterwards), orders of a real coordinator.
The adversary is the one that the accountant assumes: it sees every noisy sum, knows all other people, what every
canary would contribute, and the parameters at which it was asked. It never sees a Poisson draw.
"""

import math
import secrets
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
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
from fedsynth.coordinator.rounds import run_plan
from fedsynth.coordinator.transport import InProcess
from fedsynth.errors import RunError, StudyError
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
from fedsynth.site.session import SiteSession
from fedsynth.study import Study
from fedsynth.training.private_gradient import LossNoise
from fedsynth.training.trainer import StepScale, Trainer, flat, private_parameters
from fedsynth.wire.message import without_message
from fedsynth.wire.order import Order
from fedsynth.wire.update import Update

_GRADIENT_SUMS = 24  # of one site that are looked at, evenly spread; the others are let go for time
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


def audit(what: Audit, *, progress: Progress, noise: NoiseSource = system_noise) -> Finding:
    """Run a study once with canaries and bound its epsilon from below.

    Args:
        what: the study and who takes part.
        progress: called with (what, done, all).
        noise: something else only to show what an audit sees of a faulty pipeline; the claim stays.

    Raises:
        StudyError: the study promises nothing, or the toy cohort cannot serve it.
        RecordingError: a site's recordings.
        PrivacyError: fewer than two canaries.
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
        trail = _carry_out(plan, Path(folder), everybody, noise=noise, progress=progress)
    known = {site: training_units(people, what.study) for site, people in others.items()}
    scores, sums = _attack(plan, trail, canaries, known, progress)
    privacy = what.study.privacy
    return Finding(
        study=what.study.name,
        claimed=plan.epsilon(),
        delta=privacy.delta,
        unit=privacy.unit,
        trust=privacy.trust,
        canaries=len(canaries),
        included=int(coins.sum()),
        sums=sums,
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


Contribution = Callable[[Unit], Tensor]


@dataclass
class _Asked:
    """One order that was answered by private sums of one site, or by shares of one sum over several."""

    sites: tuple[str, ...]
    order: Order
    totals: list[Tensor]
    generator_states: list[
        Tensor
    ]  # torch's public generator as each sum was read: it draws the synthetic side of a loss
    answer: Mapping[str, Tensor]


class _Watched:
    """A site's session, with every noisy sum written down."""

    def __init__(self, folder: Path, *, noise: NoiseSource, is_aggregate: bool, trail: list[_Asked]) -> None:
        """Open the session; sums go to the end of `trail`, and are added up there if `together`."""
        self._session = SiteSession(folder, noise=noise, observe=self._see)
        self._site, self._is_aggregate, self._trail = folder.name, is_aggregate, trail
        self._totals: list[Tensor] = []
        self._generator_states: list[Tensor] = []

    def handle(self, data: bytes) -> bytes:
        """Answer one order."""
        self._totals, self._generator_states = [], []
        reply = self._session.handle(data)
        if self._totals:
            self._note(Order.from_bytes(data), Update.from_bytes(reply))
        return reply

    def _see(self, total: Tensor) -> None:
        self._totals.append(total.detach().cpu().clone())
        self._generator_states.append(torch.get_rng_state())

    def _note(self, order: Order, update: Update) -> None:
        if self._is_aggregate and self._trail and self._trail[-1].order.step == order.step:
            last = self._trail[-1]
            last.sites += (self._site,)
            last.totals = [last.totals[0] + self._totals[0]]
            return
        order = replace(order, tensors=without_message(order.tensors))
        self._trail.append(_Asked((self._site,), order, self._totals, self._generator_states, update.tensors))


def _cohort(what: Audit, folder: Path, progress: Progress) -> dict[str, list[Recording]]:
    """Read everybody who is not a canary, by site."""
    people = what.study.cohort.least_subjects / _TOY_SITE
    return read_sites(what.sites, study=what.study, people=people, staging=folder, progress=progress)


def _carry_out(
    plan: Plan, folder: Path, there: Mapping[str, list[Recording]], *, noise: NoiseSource, progress: Progress
) -> list[_Asked]:
    """Make the sites, have them approve, carry the plan out, and return every noisy sum in order."""
    for site, held in cut_windows(dict(there), study=plan.study, progress=progress).items():
        # One device, so that rounds can be replayed to the last bit.
        policy = policy_for(site, plan.study).model_copy(update={"device": "cpu"})
        make_site(folder / site, policy, held, study=plan.study)
    is_aggregate, run, trail = plan.is_aggregate, secrets.token_hex(8), list[_Asked]()
    roster = {site: make_identity(folder / site) for site in there}
    for site in there:
        approve(folder / site, run=run, plan=plan, roster=roster if is_aggregate else None)
    watched = {
        site: _Watched(folder / site, noise=noise, is_aggregate=is_aggregate, trail=trail).handle for site in there
    }
    run_plan(plan, run=run, transport=InProcess(watched), composes="an audit", progress=progress, roster=roster)
    return trail


def _attack(
    plan: Plan, trail: list[_Asked], canaries: list[Canary], others: Mapping[str, list[Unit]], progress: Progress
) -> tuple[NDArray[np.float64], int]:
    """Score every canary by the noisy sums that it could be in; return scores and the number of sums used."""
    homes = {canary.site for canary in canaries}
    trail = [a for a in trail if plan.steps[a.order.step].mechanism.group == "train" and homes & {*a.sites}]
    who = {asked.sites: [n for n, one in enumerate(canaries) if one.site in asked.sites] for asked in trail}
    evidence = {sites: Evidence(len(mine)) for sites, mine in who.items()}
    gradients = dict.fromkeys(who, 0)
    stride = -(-sum(step.mechanism.steps for step in plan.steps if _is_gradient(step)) // _GRADIENT_SUMS)
    for done, asked in enumerate(trail, start=1):
        step, sites = plan.steps[asked.order.step], asked.sites
        for contribution, total in _sums(plan, step, asked):
            if _is_gradient(step):
                gradients[sites] += 1
                if (gradients[sites] - 1) % stride:
                    continue
            people = [unit for site in sites for unit in others[site]]
            some = people if step.mechanism.sampling_probability == 1 else people[:: 1 + len(people) // _SAMPLE]
            evidence[sites].add(
                total.double().numpy(),
                _clipped(contribution, [canaries[n].unit for n in who[sites]], step, size=len(total)),
                sampling_probability=step.mechanism.sampling_probability,
                noise_std=_noise_std(step, sites=len(sites)),
                others=_clipped(contribution, some, step, size=len(total)),
                n_others=len(people),
            )
        progress("looking for canaries, orders", done, len(trail))
    scores = np.zeros(len(canaries))
    for sites, mine in who.items():
        scores[mine] = evidence[sites].scores()
    return scores, sum(one.sums for one in evidence.values())


def _sums(plan: Plan, step: Step, asked: _Asked) -> Iterator[tuple[Contribution, Tensor]]:
    """Yield for each noisy sum of an order what a unit contributed to it, to be asked at once, and the sum."""
    shape, family = plan.shape, plan.family
    tensors = asked.order.tensors
    if step.kind == "anchor":
        anchor = Anchor.from_tensors(dict(tensors))
        yield partial(_statistic, plan.estimator, anchor, shape), asked.totals[0]
        return
    phase = plan.phase(step)
    parts = family.build(shape, plan.estimator.prior(shape))
    parts.load_state_dict({n.removeprefix("parts."): v for n, v in tensors.items() if n.startswith("parts.")})
    contribution = partial(_gradient, family, parts, phase, shape)
    if step.kind == "gradient":
        yield contribution, asked.totals[0]
        return
    scale = StepScale(
        expected_units=float(plan.study.cohort.expected_units),
        seen_units=float(tensors["seen_units"][0]),
        label_shares=tensors["label_shares"],
    )
    trainer = Trainer(family, parts, phase=phase, shape=shape, mechanism=step.mechanism, scale=scale)
    for total, generator_states in zip(asked.totals, asked.generator_states, strict=True):
        yield contribution, total
        with torch.random.fork_rng(devices=[]):
            torch.set_rng_state(generator_states)
            trainer.step(total)
    if not all(torch.equal(value, asked.answer[name]) for name, value in parts.state_dict().items()):
        raise RunError("a round replayed from its noisy sums does not end where the site did: something was missed")


def _statistic(estimator: Estimator, anchor: Anchor, shape: Shape, unit: Unit) -> Tensor:
    return estimator.statistics(anchor, shape, signal=unit.signal, labels=unit.labels)


def _gradient(family: Family, parts: nn.ModuleDict, phase: Phase, shape: Shape, unit: Unit) -> Tensor:
    private = private_parameters(parts, phase)
    noise = LossNoise.of(private, width=family.example_noise_width(shape, phase)).draw(unit.signal)
    loss = family.example_loss(parts, phase, unit.signal, unit.labels, noise).mean()
    return flat(torch.autograd.grad(loss, private, allow_unused=True), private)


def _clipped(contribution: Contribution, units: list[Unit], step: Step, *, size: int) -> NDArray[np.float64]:
    """Return what units contribute, clipped here and not by the code that is audited, shape (unit, size)."""
    rows = np.array([contribution(unit).detach().double().numpy() for unit in units]).reshape(len(units), size)
    norms = np.linalg.norm(rows, axis=1, keepdims=True)
    clipped: NDArray[np.float64] = rows * np.minimum(1.0, step.mechanism.clipping_norm / np.maximum(norms, 1e-300))
    return clipped


def _noise_std(step: Step, *, sites: int) -> float:
    """Return the standard deviation that was promised for a sum over so many sites."""
    mechanism = step.mechanism
    return mechanism.noise_multiplier * mechanism.clipping_norm * math.sqrt(sites / mechanism.noise_shares)


def _is_gradient(step: Step) -> bool:
    return step.kind in ("train", "gradient")
