"""StepWork: what an order's step asks of the windows, checked and tried out before anything is charged.

`prepare` looks at everything that came with an order, does it once with made-up windows, and returns a function of
the windows and of the allowance that the charge buys. What that returns is a private sum nobody has read yet, or
parts trained by private sums.
"""

import copy
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from fedsynth.anchors.anchor import Anchor
from fedsynth.errors import MachineError, WireError
from fedsynth.evaluation.asked import Asked
from fedsynth.evaluation.private_scores import tally_size
from fedsynth.evaluation.tally_plan import tally_plan_of
from fedsynth.families.protocol import Phase
from fedsynth.plan import Plan, Step
from fedsynth.privacy.allowance import Allowance
from fedsynth.privacy.private_sum import PrivateSum
from fedsynth.progress import Progress
from fedsynth.recordings.recording import Windows
from fedsynth.site.probe import probe
from fedsynth.study import PrivacyUnit
from fedsynth.training.consolidation import Consolidation
from fedsynth.training.fisher import fisher_sum, squared_gradient
from fedsynth.training.minibatches import Round, train_plainly
from fedsynth.training.private_gradient import (
    Batch,
    GradientMethod,
    choose_method,
    gradient_rows,
    gradient_sum,
    is_checked,
    log_zeros,
    train,
)
from fedsynth.training.trainer import StepScale, Trainer, private_parameters
from fedsynth.wire.arrays import check_like
from fedsynth.wire.order import Order

log = logging.getLogger("fedsynth.site")
_PROBED: set[tuple[str, ...]] = set()  # gradients that this process has taken of made-up windows
Answer = PrivateSum | dict[str, Tensor]


@dataclass(frozen=True)
class StepWork:
    """What to do with the windows. `size` is that of the private sum that comes out, 0 where parts come out."""

    run: Callable[[Windows, Allowance], Answer]
    size: int = 0


def prepare(
    order: Order,
    plan: Plan,
    step: Step,
    *,
    device: torch.device,
    progress: Progress | None = None,
) -> StepWork:
    """Check what came with the order, try it on made-up windows, and return what to do with people's.

    Args:
        order: without messages of secure aggregation.
        plan: as approved.
        step: the order's.
        device: for gradients.
        progress: called with (what, done, all).

    Raises:
        WireError: tensors that are not what the step needs.
        MachineError: made-up windows fail already.
    """
    if step.kind == "anchor":
        return _anchor(order, plan, step)
    if step.kind == "train":
        return _train(order, plan, step, device=device, progress=progress)
    if step.kind == "gradient":
        return _gradient(order, plan, step, device=device)
    if step.kind == "fisher":
        return _fisher(order, plan, step, device=device)
    return _assess(order, plan, step)


def _anchor(order: Order, plan: Plan, step: Step) -> StepWork:
    shape, estimator = plan.shape, plan.estimator
    check_like(order.tensors, estimator.prior(shape).tensors(), sender="the coordinator")
    anchor = Anchor.from_tensors(dict(order.tensors))
    if anchor.done != step.index:
        raise WireError(f"the anchor sent is at step {anchor.done}, the order is for step {step.index}")

    def contribution(windows: Tensor, labels: Tensor, covariates: Tensor) -> Tensor:
        return estimator.statistics(anchor, shape, signal=windows, labels=labels, covariates=covariates)

    size = estimator.statistic_size(shape, step=step.index)
    return _sum_of_units(contribution, plan=plan, step=step, size=size)


def _train(order: Order, plan: Plan, step: Step, *, device: torch.device, progress: Progress | None) -> StepWork:
    study, shape, family, phase = plan.study, plan.shape, plan.family, plan.phase(step)
    public = {"seen_units": torch.zeros(1), "label_shares": torch.zeros(shape.n_labels)}
    parts = _parts(order, plan, phase).to(device)
    strength = study.training.consolidation
    if strength:
        private = private_parameters(parts, phase)
        public |= Consolidation.none_yet([value.cpu() for value in private], strength=strength).tensors()
    rest = {name: value for name, value in order.tensors.items() if not name.startswith("parts.")}
    check_like(rest, public, sender="the coordinator")
    held = Consolidation.from_tensors(rest, strength=strength) if strength else None
    if held is not None and not bool((held.fisher >= 0).all()):
        raise WireError("the coordinator sent Fisher information that is below zero or no number")
    if float(rest["label_shares"].min()) < 0 or float(rest["label_shares"].sum()) <= 0:
        raise WireError("the coordinator sent label shares that are no shares")
    method = choose_method(parts, phase=phase, study=study)
    scale = StepScale(
        expected_units=float(study.cohort.expected_units),
        seen_units=float(rest["seen_units"][0]),
        label_shares=rest["label_shares"],
    )
    name = step.mechanism.purpose
    _probe_gradient(plan, step, parts, method=method, device=device, scale=scale)

    def work(windows: Windows, allowance: Allowance) -> dict[str, Tensor]:
        batch = _batch(windows, unit=study.privacy.unit, device=device)
        told = None if progress is None else (lambda done, total: progress(f"{name}, steps at a site", done, total))
        if study.learns_plainly:
            which = Round(plan.round_of(step), study.n_rounds, study.training.minibatch_windows)
            how: dict[str, Any] = {"batch": batch, "mechanism": allowance.mechanism, "round_": which}
            how["consolidation"] = held
            train_plainly(family, parts, phase=phase, shape=shape, progress=told, **how)
            return dict(parts.state_dict())
        trainer = Trainer(
            family, parts, phase=phase, shape=shape, mechanism=step.mechanism, scale=scale, consolidation=held
        )
        train(trainer, batch=batch, allowance=allowance, method=method, progress=told)
        return dict(parts.state_dict())

    return StepWork(work)


def _gradient(order: Order, plan: Plan, step: Step, *, device: torch.device) -> StepWork:
    family, phase = plan.family, plan.phase(step)
    parts = _parts(order, plan, phase).to(device)
    method = choose_method(parts, phase=phase, study=plan.study)
    if any(not name.startswith("parts.") for name in order.tensors):
        raise WireError("the coordinator sent more than the parts that a gradient is taken of")
    _probe_gradient(plan, step, parts, method=method, device=device)

    def work(windows: Windows, allowance: Allowance) -> PrivateSum:
        batch = _batch(windows, unit=plan.study.privacy.unit, device=device)
        return gradient_sum(
            family,
            parts,
            phase=phase,
            shape=plan.shape,
            batch=batch,
            rows=batch.rows(),
            allowance=allowance,
            method=method,
            check=is_checked(step.index),
        )

    return StepWork(work, size=sum(parameter.numel() for parameter in private_parameters(parts, phase)))


def _fisher(order: Order, plan: Plan, step: Step, *, device: torch.device) -> StepWork:
    family, phase, shape = plan.family, plan.phase(step), plan.shape
    parts = _parts(order, plan, phase).to(device)
    if any(not name.startswith("parts.") for name in order.tensors):
        raise WireError("the coordinator sent more than the parts that Fisher information is asked of")
    size = sum(parameter.numel() for parameter in private_parameters(parts, phase))

    def contribution(batch: Batch) -> Tensor:
        windows, labels = batch.windows, batch.labels
        return squared_gradient(family, parts, phase=phase, shape=shape, windows=windows, labels=labels)[None]

    probe(contribution, study=plan.study, step=step, size=size, device=device)

    def work(windows: Windows, allowance: Allowance) -> PrivateSum:
        batch = _batch(windows, unit=plan.study.privacy.unit, device=device)
        return fisher_sum(family, parts, phase=phase, shape=shape, batch=batch, allowance=allowance)

    return StepWork(work, size=size)


def _probe_gradient(
    plan: Plan,
    step: Step,
    parts: nn.ModuleDict,
    *,
    method: GradientMethod,
    device: torch.device,
    scale: StepScale | None = None,
) -> None:
    """Take a gradient of made-up windows, once in a process for each phase, and with `scale` a step along nothing.

    Raises:
        MachineError: it fails.
    """
    study, phase = plan.study, plan.phase(step)
    key = (plan.digest, phase.name, method, str(device))
    if key in _PROBED:
        return
    tried = copy.deepcopy(parts)

    def contribute(batch: Batch) -> Tensor:
        rows = gradient_rows(plan.family, tried, phase=phase, shape=plan.shape, batch=batch, method=method)
        if scale is not None:
            with torch.random.fork_rng(devices=[]):
                trainer = Trainer(
                    plan.family, tried, phase=phase, shape=plan.shape, mechanism=step.mechanism, scale=scale
                )
                for _ in range(phase.private_steps):  # the last of them moves the public part too
                    trainer.step(torch.zeros_like(rows[0]))
        return rows

    size = sum(parameter.numel() for parameter in private_parameters(parts, phase))
    units = study.cohort.expected_units if method == "factored" else 1
    probe(contribute, study=study, step=step, size=size, device=device, units=units)
    _PROBED.add(key)


def _assess(order: Order, plan: Plan, step: Step) -> StepWork:
    study, shape, tally = plan.study, plan.shape, tally_plan_of(plan.study)
    asked = Asked(shape, tally)
    check_like(order.tensors, asked.tensors(), sender="the coordinator")
    asked.take(order.tensors)
    positive = study.labels.names.index(study.labels.positive)

    def contribution(windows: Tensor, labels: Tensor, covariates: Tensor) -> Tensor:  # noqa: ARG001
        return asked.tell(windows, labels.numpy(), positive=positive).mean(dim=0)

    size = tally_size(len(study.labels.names), compared=tally.compared)
    return _sum_of_units(contribution, plan=plan, step=step, size=size)


def _sum_of_units(
    contribution: Callable[[Tensor, Tensor, Tensor], Tensor], *, plan: Plan, step: Step, size: int
) -> StepWork:
    """Return the work of adding up what each unit contributes, shape (size,), after trying it on a made-up unit.

    One unit at a time: kernels round a row differently in a batch of another size, so that evaluating people
    together would let one of them move what another contributes. A unit whose contribution fails counts as zero,
    because a failure that anybody can see would be an answer without noise.
    """
    unit = plan.study.privacy.unit
    probe(
        lambda batch: contribution(batch.windows, batch.labels, _covariates(batch))[None],
        study=plan.study,
        step=step,
        size=size,
        device=torch.device("cpu"),
    )

    def work(windows: Windows, allowance: Allowance) -> PrivateSum:
        batch = _batch(windows, unit=unit, device=torch.device("cpu"))
        rows, covariates = batch.rows(), _covariates(batch)
        taken = allowance.step(n_units=len(rows), size=size)
        failed = 0
        for drawn in taken.units:
            mine = rows[int(drawn)]
            if not len(mine):  # all its windows were left out: it adds zero, and MKL refuses an empty transform
                continue
            try:
                taken.sum.add(contribution(batch.windows[mine], batch.labels[mine], covariates[mine])[None])
            except Exception:
                log.exception("a unit counts as zero")
                failed += 1
        log_zeros(failed, len(taken.units))
        return taken.sum

    return StepWork(work, size=size)


def _batch(windows: Windows, *, unit: PrivacyUnit, device: torch.device) -> Batch:
    return Batch(
        windows=torch.from_numpy(windows.signal).to(device),
        labels=torch.from_numpy(windows.labels).to(device),
        units=torch.from_numpy(windows.units(unit)),
        covariates=None if windows.covariates is None else torch.from_numpy(windows.covariates),
    )


def _covariates(batch: Batch) -> Tensor:
    """Return each window's covariates, all 0 where a study has none."""
    return torch.zeros_like(batch.labels)[:, None] if batch.covariates is None else batch.covariates


def _parts(order: Order, plan: Plan, phase: Phase) -> nn.ModuleDict:
    """Return the family's parts as the coordinator sent them.

    Raises:
        WireError: of other names or shapes, or a private part outside the set that the family keeps it in.
    """
    shape, family = plan.shape, plan.family
    parts = family.build(shape, plan.estimator.prior(shape))
    state: Mapping[str, Tensor] = {
        name.removeprefix("parts."): value for name, value in order.tensors.items() if name.startswith("parts.")
    }
    check_like(state, parts.state_dict(), sender="the coordinator")
    parts.load_state_dict(state)
    family.constrain(parts, phase)
    for name, value in parts.state_dict().items():
        if not torch.equal(value, state[name]):
            raise WireError(f"the coordinator sent {name} outside the set that {family.name} keeps it in")
    return parts


def choose_device(name: str) -> torch.device:
    """Return the device for "auto", "cpu" or "cuda".

    Raises:
        MachineError: CUDA is asked for and is not there.
    """
    if name == "cuda" and not torch.cuda.is_available():
        raise MachineError(
            'site.toml asks for device = "cuda", and torch can use none here. Nothing was charged; '
            'repair the driver, or write device = "auto"'
        )
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    return torch.device(name)
