"""Approval: a site agrees to one plan for one run, by digest, after its own policy and ledger were asked.

What was approved is kept in `approved/` of the site's folder, with the roster of sites that secure aggregation
pins, a mark that the ledger bears since then and the signatures of those who agreed, and is read again for every
order. Nothing here loads torch but the comparison of a plan with the site's own.
"""

import hashlib
import json
import logging
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fedsynth.errors import BudgetError, ConsentError, LedgerError
from fedsynth.ledger.disk import sync_folder, write_durably
from fedsynth.ledger.ledger import Ledger
from fedsynth.plan import Plan, plan_of, secure_cohort_of
from fedsynth.privacy.accountant import epsilon_pld
from fedsynth.privacy.mechanism import Group
from fedsynth.privacy.statement import LARGEST_EPSILON
from fedsynth.site.consent import APPROVED, Consent, check_consent, keep_withdrawal
from fedsynth.site.holdings import Holdings, load_holdings
from fedsynth.site.policy import Policy, check_people, check_plan, check_studies, check_switch, load_policy
from fedsynth.site.standing import open_ledger
from fedsynth.source_code import code_in_use

if TYPE_CHECKING:
    from fedsynth.wire.order import PackedOrder

log = logging.getLogger("fedsynth.site")


@dataclass(frozen=True)
class Approval:
    """A plan that this site agreed to.

    `mark` was left in the ledger then; `roster` maps the sites of secure aggregation to their public keys, 32 bytes
    each, and is empty under trust in the site.
    """

    plan: Plan
    mark: str
    roster: Mapping[str, bytes] = field(default_factory=dict)


def approve(
    folder: Path,
    *,
    run: str,
    plan: Plan,
    roster: Mapping[str, bytes] | None = None,
    moves_to: Path | None = None,
    consent: Consent | None = None,
) -> None:
    """Approve a plan for one run.

    Args:
        folder: the site's.
        run: the name of the run.
        plan: what is asked for; the site computes its own from the study and compares.
        roster: every site's public key, where the study asks for secure aggregation.
        moves_to: where the site's folder will be, if it is still being prepared elsewhere.
        consent: of the people whom the policy names, which the site signs here.

    Raises:
        ConsentError: the policy forbids it, or the plan is not what its study leads to here; the message names
            the field, for the site's own eyes. Or a signature that the policy asks for is missing.
        PrivacyError: the roster's keys are no keys, or two sites share one.
        BudgetError: the people of this site cannot afford it, or its ledger, whoever was asked.
        MachineError: this machine cannot do one of the steps even with made-up windows, or holds too few windows in
            memory.
    """
    from fedsynth.site.plan_probe import probe_plan  # these load torch, which a gate that reads approvals does not
    from fedsynth.site.probe import check_memory
    from fedsynth.site.steps import choose_device

    policy = load_policy(folder)
    holdings = load_holdings(folder / "holdings")
    check_switch(policy, folder)
    if consent is not None:
        consent.check_people(policy, run=run, plan=plan.digest)
    elif policy.needs_signatures:
        raise ConsentError(
            "this site approves requests under signatures alone (signed_approvals, approvers); use fedsynth site "
            "approve"
        )
    check_plan(policy, plan)
    holdings.check()
    check_people(policy, plan, subjects=holdings.subjects)
    own = plan_of(plan.study)
    if plan.code != own.code:
        raise ConsentError(f"the plan is for code {plan.code}, this site runs {own.code}")
    if plan.steps != own.steps:
        raise ConsentError(
            "the plan's private steps are not those that its study leads to; nothing was approved. "
            f"First difference: {next(_differences(plan, own))}"
        )
    _check_roster(roster or {}, plan, me=policy.name)
    check_memory(holdings)
    probe_plan(plan, device=choose_device(policy.device))
    _remark_labels(plan, holdings)
    with open_ledger(folder, policy) as ledger:
        check_studies(policy, ledger, plan, tokens=holdings.tokens)
        check_told(ledger, plan, run=run)
        mark = ledger.mark()
        place = _place(folder, run)
        later = None if moves_to is None else moves_to / place.relative_to(folder)
        cap = cap_of(policy, plan)
        _reserve(ledger, plan, holdings.tokens, run=run, cap=cap, while_there=place, moves_to=later)
    place.parent.mkdir(exist_ok=True)
    keys = {site: key.hex() for site, key in (roster or {}).items()}
    body: dict[str, Any] = {"run": run, "plan": plan.to_json(), "mark": mark, "roster": keys}
    if consent is not None:
        sealed = consent.sealed(folder, policy, run=run, plan=plan.digest, mark=mark, roster=keys)
        body["consent"] = sealed.to_plain()
        # Whom the steps may be charged to, should the ledger be lost: holdings can be others by then.
        body["people"] = {group: list(tokens) for group, tokens in holdings.tokens.items()}
    # It names people by their tokens, and a plan that is answered must not be half approved after a crash.
    write_durably(place, json.dumps(body).encode("utf-8"), like=folder)


def withdraw(folder: Path, *, run: str) -> bool:
    """Take an approval back: from now on every order of the run is refused, and what it had reserved lapses.

    What was charged stays charged, and sums that were told cannot be taken back.

    Returns:
        Whether there was an approval.

    Raises:
        OSError: the disk refused; the approval stands, and the kill switch stops it.
    """
    place = _place(folder, run)
    if not place.exists():
        return False
    body = json.loads(place.read_text(encoding="utf-8"))
    if body.get("consent"):
        keep_withdrawal(folder, Consent.from_plain(body["consent"]), body)
    place.unlink()
    sync_folder(place.parent)
    return True


def _remark_labels(plan: Plan, holdings: Holdings) -> None:
    """Tell the site, and nobody else, which of the study's labels nobody has who trains here."""
    missing = [label for label in plan.study.labels.names if label not in holdings.labels]
    if missing:
        log.warning(
            "nobody who trains here has the label %s. The site answers all the same, for a refusal would tell of "
            "its people; if no site has anybody, windows released under it come from the public prior",
            ", ".join(missing),
        )


def nonce_of(*, run: str, plan: Plan, step: int) -> str:
    """Return the nonce of a step, which the site makes: no order can be charged or answered twice."""
    return f"{run}:{plan.digest}:{step}"


def nonces_of(*, run: str, plan: Plan) -> frozenset[str]:
    """Return the nonces of all steps of a run."""
    first = nonce_of(run=run, plan=plan, step=0).removesuffix("0")
    return frozenset(f"{first}{number}" for number in range(len(plan.steps)))


def _reserve(
    ledger: Ledger,
    plan: Plan,
    tokens: Mapping[Group, Sequence[str]],
    *,
    run: str,
    cap: float,
    while_there: Path,
    moves_to: Path | None,
) -> None:
    privacy = plan.study.privacy
    ledger.reserve(
        [
            (nonce_of(run=run, plan=plan, step=number), step.mechanism, tokens[step.mechanism.group])
            for number, step in enumerate(plan.steps)
        ],
        cap=cap,
        delta=privacy.delta,
        unit=privacy.unit,
        while_there=while_there,
        moves_to=moves_to,
    )


def approval_for(folder: Path, order: "PackedOrder") -> Approval:
    """Return what this site approved for the order's run.

    Raises:
        ConsentError: nothing, another plan, or other code; not signed as the policy asks, or withdrawn.
    """
    path = _place(folder, order.run)
    if not path.exists():
        raise ConsentError("no plan was approved here for this run")
    body = json.loads(path.read_text(encoding="utf-8"))
    plan = Plan.from_json(body["plan"])
    if plan.digest != order.plan:
        raise ConsentError(f"the order is for plan {order.plan[:12]}, this site approved {plan.digest[:12]}")
    if plan.code != str(code_in_use()):
        raise ConsentError(f"this site approved code {plan.code} and now runs {code_in_use()}")
    check_consent(
        folder,
        load_policy(folder),
        body.get("consent"),
        run=order.run,
        plan=plan.digest,
        mark=str(body["mark"]),
        roster=body["roster"],
    )
    roster = {site: bytes.fromhex(key) for site, key in body["roster"].items()}
    return Approval(plan, str(body["mark"]), roster)


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


def check_told(ledger: Ledger, plan: Plan, *, run: str = "") -> None:
    """Refuse a study whose statement could not be released: it will hold all that the ledger holds.

    A statement counts every line of a ledger, for either group and whoever was asked, so that it tells of nobody.
    What other approved plans have reserved counts, too.

    Raises:
        BudgetError: lines bounded per another unit, or an epsilon that nothing private has.
    """
    privacy = plan.study.privacy
    before = ledger.everything(apart_from=nonces_of(run=run, plan=plan))
    if not before or not privacy.is_private:
        return
    others = {event.unit for event in before} - {privacy.unit}
    if others:
        raise BudgetError(
            f"this ledger holds sums bounded per {' and per '.join(sorted(others))}, which have no price per "
            f"{privacy.unit}; a statement counts every line, whoever was asked. Nothing was approved; keep to one "
            "unit"
        )
    groups: tuple[Group, ...] = ("train", "held-out")
    told = max(epsilon_pld([*before, *plan.mechanisms(group)], delta=privacy.delta) for group in groups)
    if told > LARGEST_EPSILON:
        raise BudgetError(
            f"with all that this ledger holds, whoever was asked, the study's statement would come to epsilon "
            f"{told:.3f} at delta {privacy.delta:g}; above {LARGEST_EPSILON:g} nothing is called private or "
            "released. Nothing was approved; ask for less"
        )


def check_seen(ledger: Ledger, approval: Approval) -> None:
    """Refuse a ledger that was begun anew, or set back to a copy made before the plan was approved.

    Raises:
        LedgerError: it does not bear the mark that was left then.
    """
    if not ledger.bears(approval.mark):
        raise LedgerError(
            "this is another ledger than the plan was approved with, or an older copy of it; the site is frozen"
        )


def cap_of(policy: Policy, plan: Plan) -> float:
    """Return the largest epsilon that people here may reach for this plan."""
    return min(plan.study.privacy.epsilon, policy.largest_epsilon) if plan.study.privacy.is_private else math.inf


def run_file(run: str) -> str:
    """Return a name for a run's files that no run can bend into a path."""
    return hashlib.sha256(run.encode()).hexdigest()[:32]


def _place(folder: Path, run: str) -> Path:
    return folder / APPROVED / f"{run_file(run)}.json"


def _check_roster(roster: Mapping[str, bytes], plan: Plan, *, me: str) -> None:
    wanted = set(plan.study.cohort.sites) if plan.is_aggregate else set()
    if set(roster) != wanted:
        raise ConsentError(
            f"the roster names {len(roster)} sites, secure aggregation needs {len(wanted)}; nothing was approved"
        )
    if plan.is_aggregate and me not in roster:
        raise ConsentError(f"this site's policy calls it {me!r}, which the study's cohort does not name")
    secure_cohort_of(plan.study, roster)  # two sites with one key, or a key that is none, protect nobody


def _differences(plan: Plan, own: Plan) -> Iterator[str]:
    """Yield where two plans part, as "step 3: noise_multiplier is 0.1, this site computes 1.9"."""
    for number, (theirs, ours) in enumerate(zip(plan.steps, own.steps, strict=False)):
        asked: dict[str, Any] = {"kind": theirs.kind, "index": theirs.index, **theirs.mechanism.as_json()}
        computed: dict[str, Any] = {"kind": ours.kind, "index": ours.index, **ours.mechanism.as_json()}
        for name, value in asked.items():
            if value != computed[name]:
                yield f"step {number}: {name} is {value!r}, this site computes {computed[name]!r}"
    yield f"the plan has {len(plan.steps)} steps, this site computes {len(own.steps)}"
