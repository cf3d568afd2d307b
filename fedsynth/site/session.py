"""A site's session: order bytes in, update bytes out, and nothing else leaves.

For every step of an approved plan, in this order: kill switch, approval, ledger charge, data opened, private sum,
answer kept. A retry of a step returns the same bytes and charges nothing. What is refused is refused with one
word; the reason stays in the site's own log.
"""

import hashlib
import json
import logging
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor

from fedsynth.errors import ConsentError, FedsynthError, LedgerError, WireError
from fedsynth.evaluation.tally import tallies, tally_size
from fedsynth.evaluation.transfer import Referee, answer
from fedsynth.families.anchor import Anchor, prior_anchor, statistic_size, statistics
from fedsynth.families.registry import family_of
from fedsynth.families.shape import shape_of
from fedsynth.privacy.ledger import Ledger
from fedsynth.privacy.mechanism import Group
from fedsynth.privacy.private_sum import PrivateSum
from fedsynth.signals.recording import Windows
from fedsynth.site.holdings import Holdings, load_holdings
from fedsynth.site.policy import Policy, check_plan, check_switch, load_policy
from fedsynth.site.stepper import Batch, Scale, choose_device, train
from fedsynth.wire.arrays import check_like
from fedsynth.wire.order import STATEMENT, Order
from fedsynth.wire.plan import Plan, Step, code_version, plan_of
from fedsynth.wire.update import Update

log = logging.getLogger("fedsynth.site")
Progress = Callable[[str, int, int], None]


def approve(folder: Path, *, run: str, plan: Plan) -> None:
    """Approve a plan for one run, after the site's own policy and ledger were asked.

    Raises:
        ConsentError: the policy forbids it.
        BudgetError: the people of this site cannot afford it.
    """
    policy = load_policy(folder)
    holdings = load_holdings(folder / "holdings")
    check_switch(policy, folder)
    check_plan(policy, plan, subjects=holdings.subjects)
    own = plan_of(plan.study)
    if plan.code != own.code:
        raise ConsentError(f"the plan is for code {plan.code}, this site runs {own.code}")
    if plan.steps != own.steps:
        raise ConsentError("the plan's private steps are not those that its study leads to; nothing was approved")
    with open_ledger(folder, policy) as ledger:
        seen = [len(ledger), ledger.head]
        afford(ledger, plan, holdings.tokens, cap=_cap(policy, plan))
    approvals = folder / "approved"
    approvals.mkdir(exist_ok=True)
    body = json.dumps({"plan": plan.to_json(), "ledger": seen})
    (approvals / f"{_file_name(run)}.json").write_text(body, encoding="utf-8")


def afford(ledger: Ledger, plan: Plan, tokens: Mapping[Group, Sequence[str]], *, cap: float = math.inf) -> None:
    """Ask a ledger whether the people of each group can afford a plan, without charging.

    Raises:
        BudgetError: they cannot.
    """
    privacy = plan.study.privacy
    for group, people in tokens.items():
        ledger.afford(
            plan.mechanisms(group),
            tokens=people,
            cap=min(cap, privacy.epsilon),
            delta=privacy.delta,
            unit=privacy.unit,
        )


class SiteSession:
    """Answers orders for one site's folder."""

    def __init__(self, folder: Path, *, progress: Progress | None = None) -> None:
        """Open the site's folder; nothing about people is read yet."""
        self._folder = folder
        self._progress = progress

    def handle(self, data: bytes) -> bytes:
        """Answer one order."""
        try:
            return self._answer(Order.from_bytes(data))
        except FedsynthError as error:
            log.warning("refused: %s", error)
            return Update(refused=type(error).__name__).to_bytes()
        except Exception:  # whatever broke may name a file or a value: it stays here
            log.exception("an order failed")
            return Update(refused="InternalError").to_bytes()

    def _answer(self, order: Order) -> bytes:
        policy = load_policy(self._folder)
        check_switch(policy, self._folder)
        plan, seen = self._approved(order)
        holdings = load_holdings(self._folder / "holdings")
        check_plan(policy, plan, subjects=holdings.subjects)
        with open_ledger(self._folder, policy) as ledger:
            _check_seen(ledger, *seen)
            if order.step == STATEMENT:
                return _statement(ledger, holdings)
            if not 0 <= order.step < len(plan.steps):
                raise ConsentError(
                    f"the approved plan has {len(plan.steps)} steps; step {order.step} is none of them"
                )
            # The site makes the nonce: one per approved step, so that no order can be charged or answered twice.
            nonce = f"{order.run}:{order.plan}:{order.step}"
            kept = ledger.reply(nonce)
            if kept is not None:
                return kept
            step = plan.steps[order.step]
            work = _prepare(order, plan, step, device=choose_device(policy.device), progress=self._progress)
            ticket = ledger.charge(
                step.mechanism,
                nonce=nonce,
                study=plan.digest,
                tokens=holdings.tokens[step.mechanism.group],
                cap=_cap(policy, plan),
                delta=plan.study.privacy.delta,
                unit=plan.study.privacy.unit,
            )
            tensors = work(holdings.open(ticket))
            reply = Update(tensors, ledger_head=ledger.head, ledger_length=len(ledger)).to_bytes()
            ledger.keep_reply(nonce, reply)
            return reply

    def _approved(self, order: Order) -> tuple[Plan, tuple[int, str]]:
        """Return the plan approved for the order's run, and where the ledger stood then."""
        path = self._folder / "approved" / f"{_file_name(order.run)}.json"
        if not path.exists():
            raise ConsentError("no plan was approved here for this run")
        body = json.loads(path.read_text(encoding="utf-8"))
        plan = Plan.from_json(body["plan"])
        if plan.digest != order.plan:
            raise ConsentError(f"the order is for plan {order.plan[:12]}, this site approved {plan.digest[:12]}")
        if plan.code != code_version():
            raise ConsentError(f"this site approved code {plan.code} and now runs {code_version()}")
        return plan, (int(body["ledger"][0]), str(body["ledger"][1]))


def open_ledger(folder: Path, policy: Policy) -> Ledger:
    """Open a site's ledger where its policy keeps it, with its head where the policy keeps that."""
    head = folder / policy.ledger_head if policy.ledger_head else None
    return Ledger(folder / policy.ledger, head_file=head)


def _check_seen(ledger: Ledger, length: int, head: str) -> None:
    """Refuse a ledger that was deleted or set back since the plan was approved.

    Raises:
        LedgerError: the line that was the last one then is not there.
    """
    lines = ledger.charges()
    if len(lines) < length or (length and lines[length - 1].link != head):
        raise LedgerError("the ledger lacks lines that it had when the plan was approved; the site is frozen")


Work = Callable[[Windows], dict[str, Tensor]]


def _prepare(order: Order, plan: Plan, step: Step, *, device: torch.device, progress: Progress | None) -> Work:
    """Check what came with the order, before anything is charged; return what to do with the windows.

    Raises:
        WireError: tensors that are not what the step needs.
    """
    if step.kind == "anchor":
        return _anchor_work(order, plan, step)
    if step.kind == "train":
        return _train_work(order, plan, step, device=device, progress=progress)
    return _assess_work(order, plan, step)


def _anchor_work(order: Order, plan: Plan, step: Step) -> Work:
    shape = shape_of(plan.study)
    check_like(order.tensors, prior_anchor(shape).tensors(), sender="the coordinator")
    anchor = Anchor.from_tensors(dict(order.tensors))
    if anchor.done != step.index:
        raise WireError(f"the anchor sent is at step {anchor.done}, the order is for step {step.index}")

    def contribution(windows: Tensor, labels: Tensor) -> Tensor:
        return statistics(anchor, shape, signal=windows, labels=labels).mean(dim=0)

    size = statistic_size(shape, step=step.index)
    return lambda windows: {"sum": _sum_of_units(contribution, windows, plan, step, size=size)}


def _train_work(order: Order, plan: Plan, step: Step, *, device: torch.device, progress: Progress | None) -> Work:
    study, shape = plan.study, shape_of(plan.study)
    family = family_of(study.family)
    phase = family.phases[step.index // study.plan.rounds]
    parts = family.build(shape, prior_anchor(shape))
    state = {
        name.removeprefix("parts."): value for name, value in order.tensors.items() if name.startswith("parts.")
    }
    check_like(state, parts.state_dict(), sender="the coordinator")
    public = {"seen_units": torch.zeros(1), "label_shares": torch.zeros(shape.n_labels)}
    rest = {name: value for name, value in order.tensors.items() if not name.startswith("parts.")}
    check_like(rest, public, sender="the coordinator")
    if float(rest["label_shares"].min()) < 0 or float(rest["label_shares"].sum()) <= 0:
        raise WireError("the coordinator sent label shares that are no shares")
    parts.load_state_dict(state)
    scale = Scale(
        expected_units=float(study.cohort.expected_units),
        seen_units=float(rest["seen_units"][0]),
        label_shares=rest["label_shares"],
    )
    name = step.mechanism.purpose

    def work(windows: Windows) -> dict[str, Tensor]:
        batch = Batch(
            windows=torch.from_numpy(windows.signal).to(device),
            labels=torch.from_numpy(windows.labels).to(device),
            units=torch.from_numpy(windows.units(study.privacy.unit)),
        )
        told = None if progress is None else (lambda done, total: progress(f"{name}, steps at a site", done, total))
        trained = parts.to(device)
        train(
            family,
            trained,
            phase=phase,
            shape=shape,
            batch=batch,
            mechanism=step.mechanism,
            scale=scale,
            progress=told,
        )
        return dict(trained.state_dict())

    return work


def _assess_work(order: Order, plan: Plan, step: Step) -> Work:
    study = plan.study
    referee = Referee(len(study.signal.channels), len(study.labels.names))
    check_like(order.tensors, referee.state_dict(), sender="the coordinator")
    referee.load_state_dict(dict(order.tensors))
    positive = study.labels.names.index(study.labels.positive)

    def contribution(windows: Tensor, labels: Tensor) -> Tensor:
        given = answer(referee.eval(), windows.numpy())
        return tallies(given, labels.numpy(), positive=positive).mean(dim=0)

    size = tally_size(len(study.labels.names))
    return lambda windows: {"sum": _sum_of_units(contribution, windows, plan, step, size=size)}


def _sum_of_units(
    contribution: Callable[[Tensor, Tensor], Tensor], windows: Windows, plan: Plan, step: Step, *, size: int
) -> Tensor:
    """Return the private sum of what each unit contributes, shape (size,).

    One unit at a time: kernels round a row differently in a batch of another size, so that evaluating people
    together would let one of them move what another contributes. A unit whose contribution fails counts as zero,
    because a failure that anybody can see would be an answer without noise.
    """
    mechanism = step.mechanism
    if mechanism.sampling_probability != 1 or mechanism.steps != 1:
        raise ConsentError(f"{step.kind} is one sum over the whole group, not {mechanism.steps} sampled ones")
    units = torch.from_numpy(windows.units(plan.study.privacy.unit))
    signal, labels = torch.from_numpy(windows.signal), torch.from_numpy(windows.labels)
    sums = PrivateSum(size, clipping_norm=mechanism.clipping_norm, noise_multiplier=mechanism.noise_multiplier)
    for unit in torch.unique(units):
        mine = torch.nonzero(units == unit)[:, 0]
        try:
            sums.add(contribution(signal[mine], labels[mine])[None])
        except Exception:
            log.exception("a unit counts as zero")
    return sums.read()


def _statement(ledger: Ledger, holdings: Holdings) -> bytes:
    return Update(
        ledger_head=ledger.head,
        ledger_length=len(ledger),
        train_history=ledger.history(holdings.tokens["train"]),
        held_out_history=ledger.history(holdings.tokens["held-out"]),
    ).to_bytes()


def _cap(policy: Policy, plan: Plan) -> float:
    return min(plan.study.privacy.epsilon, policy.largest_epsilon) if plan.study.privacy.is_private else math.inf


def _file_name(run: str) -> str:
    return hashlib.sha256(run.encode()).hexdigest()[:32]
