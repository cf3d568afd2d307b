"""A request in plain words, and as a difference from the last one that this site approved.

What depends on people, their number and what was spent on them, is for the site's own eyes and is shown nowhere
else.
"""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fedsynth.errors import FedsynthError
from fedsynth.plan import Plan, gradient_steps_of
from fedsynth.site.approval import nonce_of
from fedsynth.site.consent import kept_bodies
from fedsynth.site.holdings import load_holdings
from fedsynth.site.policy import check_plan, load_policy
from fedsynth.site.requests import Pending
from fedsynth.site.standing import open_ledger
from fedsynth.source_code import code_in_use

_MISSING = "nothing"


@dataclass(frozen=True)
class Wording:
    """One request as it is shown.

    `lines` are (question, answer) in the order of reading; `changes` are (field, before, after) against `last`, the
    run that was approved last, or empty where there was none; `objections` say why the site would refuse as it is.
    """

    digest: str
    run: str
    lines: tuple[tuple[str, str], ...]
    last: str
    changes: tuple[tuple[str, str, str], ...]
    objections: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """Return what `--json` writes."""
        return {
            "request": self.digest,
            "run": self.run,
            "said": dict(self.lines),
            "compared_with": self.last,
            "changes": [{"field": name, "before": old, "after": new} for name, old, new in self.changes],
            "objections": list(self.objections),
        }


def word(folder: Path, pending: Pending) -> Wording:
    """Put a request into words.

    Args:
        folder: the site's; its ledger is read.
        pending: a request that was verified.
    """
    request, plan = pending.request, pending.plan
    policy = load_policy(folder)
    objections = [*_objections(folder, plan)]
    try:
        check_plan(policy, plan)
    except FedsynthError as error:
        objections.insert(0, str(error))
    if not all(step.mechanism.is_private for step in plan.steps):
        objections.insert(0, "a step of this plan adds no noise, and promises nothing to anybody")
    before = max(
        (body for body in kept_bodies(folder) if body.get("consent")),
        key=lambda body: int(body["consent"]["order"]),
        default=None,
    )
    signed = ", ".join(pending.consent.people) if pending.consent else ""
    lines = [
        (
            "who asks",
            f"the coordinator of federation {request.federation}, on {request.asked}, for run {request.run}",
        ),
        ("which sites take part", ", ".join(sorted(request.identities)) or "not said"),
        ("its words", request.note or "none"),
        ("for which people", _people(folder, plan)),
        ("what is trained", _trained(plan)),
        ("how often they are asked", _often(plan)),
        ("epsilon of this study", _epsilon(plan.epsilon(), plan)),
        ("epsilon in all", _in_all(folder, request.run, plan)),
        ("what leaves", _leaves(plan)),
        ("which code", _code(plan)),
        ("approved so far by", signed or "nobody"),
    ]
    changes = [] if before is None else differences(_facts(before), _facts(_body(pending)))
    return Wording(
        digest=request.digest,
        run=request.run,
        lines=tuple(lines),
        last="" if before is None else str(before["run"]),
        changes=tuple(changes),
        objections=tuple(objections),
    )


def differences(before: Mapping[str, str], after: Mapping[str, str]) -> list[tuple[str, str, str]]:
    """Return every field that is not the same, sorted, with both values.

    >>> differences({"epsilon": "1.0", "family": "a"}, {"epsilon": "8.0", "family": "a", "title": "t"})
    [('epsilon', '1.0', '8.0'), ('title', 'nothing', 't')]
    """
    names = sorted({*before, *after})
    found = [(name, before.get(name, _MISSING), after.get(name, _MISSING)) for name in names]
    return [(name, old, new) for name, old, new in found if old != new]


def _body(pending: Pending) -> dict[str, Any]:
    roster = {name: key.hex() for name, key in pending.request.identities.items()}
    return {"plan": pending.request.plan, "consent": {"sites": roster}}


def _facts(body: Mapping[str, Any]) -> dict[str, str]:
    """Return everything that a plan says, as "study.privacy.epsilon": "8.0", its steps by purpose included."""
    plan = json.loads(body["plan"])
    facts = dict(_flat("study", plan["study"]))
    facts["code"] = plan["code"]
    for number, step in enumerate(plan["steps"]):
        facts |= dict(_flat(f"step {number}", step))
    for name, key in body["consent"]["sites"].items():
        facts[f"key of {name}"] = key
    return facts


def _flat(name: str, value: Any) -> list[tuple[str, str]]:
    if isinstance(value, dict):
        return [pair for key, one in value.items() for pair in _flat(f"{name}.{key}", one)]
    return [(name, json.dumps(value, ensure_ascii=True))]


def _objections(folder: Path, plan: Plan) -> list[str]:
    own, found = str(code_in_use()), []
    if plan.code != own:
        found.append(f"the request is for code {plan.code}, and this site runs {own}")
    if (folder / load_policy(folder).kill_switch).exists():
        found.append("the kill switch is thrown")
    return found


def _people(folder: Path, plan: Plan) -> str:
    signal, labels = plan.study.signal, plan.study.labels
    kind = f"{signal.modality.upper()}, {len(signal.channels)} channels at {signal.sfreq:g} Hz, "
    kind += f"{len(labels.names)} labels"
    told = [*plan.study.conditions, *(["statements"] if plan.study.statements else [])]
    if told:
        kind += f", with their {', '.join(told)}"
    try:
        held = load_holdings(folder / "holdings").subjects
    except FedsynthError:
        return f"those whose recordings are ingested for it ({kind}); none are ingested yet"
    return f"the {held} people whose recordings are ingested here ({kind}); their number does not leave"


def _trained(plan: Plan) -> str:
    family, training = plan.study.family, plan.study.training
    options = ", ".join(f"{name} {value}" for name, value in family.options.items())
    steps = gradient_steps_of(plan)
    anchor = f"an anchor by {training.estimator}" if training.anchor else "no anchor"
    said = f"{family.name}{f' ({options})' if options else ''}: {anchor}, {steps} private gradient steps"
    if training.order == "sequential":
        said += ", one site after the other: the next one starts from what this one made of the parts"
    if training.consolidation:
        said += f"; Fisher information of its weights holds what was learned (strength {training.consolidation:g})"
    return said


def _often(plan: Plan) -> str:
    sums = sum(step.mechanism.steps for step in plan.steps)
    return f"{len(plan.steps)} charges, {sums} private sums in all, each bounded per {plan.study.privacy.unit}"


def _epsilon(epsilon: float, plan: Plan) -> str:
    privacy = plan.study.privacy
    said = f"{_up(epsilon)} at delta {privacy.delta:g} per {privacy.unit}, computed here from its steps"
    return f"{said}; it says {privacy.epsilon:g}"


def _in_all(folder: Path, run: str, plan: Plan) -> str:
    """Return epsilon with everything that was ever charged, or is reserved, to any of the same people."""
    privacy, policy = plan.study.privacy, load_policy(folder)
    try:
        tokens = load_holdings(folder / "holdings").tokens
        own = frozenset(nonce_of(run=run, plan=plan, step=number) for number in range(len(plan.steps)))
        with open_ledger(folder, policy) as ledger:
            after = max(
                ledger.afford(
                    plan.mechanisms(group),
                    tokens=people,
                    cap=math.inf,
                    delta=privacy.delta,
                    unit=privacy.unit,
                    own=own,
                )
                for group, people in tokens.items()
            )
    except FedsynthError as error:
        return f"cannot be said: {error}"
    return (
        f"{_up(after)} at delta {privacy.delta:g} for these people, with all that was charged or reserved before; "
        f"this site allows {policy.largest_epsilon:g}"
    )


def _leaves(plan: Plan) -> str:
    said = (
        "totals alone, under masks that only the sum of all sites takes off"
        if plan.is_aggregate
        else "sums with all of the noise in them"
    )
    return (
        f"{said}; parameters trained on such sums; the ledger's newest link, its length, and every charge that was "
        "ever made to these people. No recording, window, name, or count without noise"
    )


def _code(plan: Plan) -> str:
    same = (
        "the code that is installed here"
        if plan.code == str(code_in_use())
        else "OTHER code than is installed here"
    )
    return f"{plan.code}: {same}"


def _up(value: float) -> str:
    return "infinite" if not math.isfinite(value) else f"{math.ceil(value * 1000) / 1000:.3f}"
