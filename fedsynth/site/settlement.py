"""A site's decision about its frozen ledger: what is found is shown, a person signs, and the worst is counted."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from fedsynth.errors import ConsentError, FedsynthError, RunError
from fedsynth.federation.files import canonical, text_of
from fedsynth.ledger import disk as disk
from fedsynth.ledger.settlement import Finding, PlannedCharge, Settled, examine, settle
from fedsynth.plan import Plan
from fedsynth.site.approval import nonce_of
from fedsynth.site.consent import identity_of, kept_bodies
from fedsynth.site.holdings import load_holdings
from fedsynth.site.policy import Policy, load_policy

_DECISIONS = "settlements"
_PURPOSE = b"fedsynth settlement v1\n"


@dataclass(frozen=True)
class Frozen:
    """What was found, with the plans that were approved here, for a person to decide."""

    finding: Finding
    runs: tuple[str, ...]


def look(folder: Path) -> Frozen:
    """Examine a site's ledger; writes nothing.

    Raises:
        LedgerError: the key is gone, and nothing can be settled.
        RunError: there is no ledger yet; or an approval says no run or people, so that what it may have cost is not
            known.
    """
    policy, plans = load_policy(folder), _plans(folder)
    place, head = _places(folder, policy)
    if not plans and not place.exists() and not (head and head.exists()):
        raise RunError("this site has no ledger yet, and nothing was approved here; there is nothing to settle")
    finding = examine(place, head_file=head, plans=[*plans.values()], marks=_marks(folder))
    return Frozen(finding, tuple(plans))


def decide(
    folder: Path,
    *,
    person: str,
    key: Ed25519PrivateKey | None = None,
    nothing_else_was_approved: bool = False,
    now: datetime | None = None,
) -> Settled:
    """Settle a site's ledger by a person's signed decision, which is kept beside the ledger.

    Args:
        folder: the site's; its processes are stopped.
        person: who decides; one of the policy's approvers, where it names any.
        key: that person's; the site's own where the policy names nobody.
        nothing_else_was_approved: what the person states.
        now: the time, for the record; no price depends on it.

    Raises:
        ConsentError: a person or key that the policy does not name.
        LedgerError: nothing is frozen, the key is gone, or the statement cannot be true.
        RunError: as `look`.
    """
    policy = load_policy(folder)
    signing = _signer(folder, policy, person, key)
    place, head = _places(folder, policy)
    found = look(folder)
    body = {
        "site": policy.name,
        "decided_by": person,
        "on": text_of(now or datetime.now(UTC)),
        "nothing_else_was_approved": nothing_else_was_approved,
        "cause": found.finding.cause,
        "verdict": found.finding.verdict,
        "lines": found.finding.lines,
        "head": None if found.finding.head is None else asdict(found.finding.head),
        "planned": len(found.finding.planned),
        "runs": list(found.runs),
    }
    return settle(
        place,
        head_file=head,
        plans=[*_plans(folder).values()],
        nothing_else_was_approved=nothing_else_was_approved,
        marks=_marks(folder),
        before_writing=lambda: _keep(place, body, signing),
    )


def _keep(place: Path, body: Mapping[str, Any], key: Ed25519PrivateKey) -> None:
    decisions = place / _DECISIONS
    disk.make_folder(decisions)
    said = canonical({**body, "signed_with": key.public_key().public_bytes_raw().hex()})
    record = {**json.loads(said), "signature": key.sign(_PURPOSE + said).hex()}
    number = 1 + sum(1 for _ in decisions.glob("*.json"))
    data = json.dumps(record, indent=1).encode("ascii") + b"\n"
    disk.write_durably(decisions / f"{number:04}.json", data, like=place)


def _signer(folder: Path, policy: Policy, person: str, key: Ed25519PrivateKey | None) -> Ed25519PrivateKey:
    if not policy.approvers:
        return key or identity_of(folder)
    public = policy.approvers.get(person)
    if key is None or public is None or key.public_key().public_bytes_raw().hex() != public:
        raise ConsentError(
            f"this site's policy lets {' or '.join(policy.approvers)} decide, each with a key of their own; "
            "nothing was settled"
        )
    return key


def _places(folder: Path, policy: Policy) -> tuple[Path, Path | None]:
    return folder / policy.ledger, folder / policy.ledger_head if policy.ledger_head else None


def _marks(folder: Path) -> tuple[str, ...]:
    return tuple(str(body["mark"]) for body in kept_bodies(folder))


def _plans(folder: Path) -> dict[str, tuple[PlannedCharge, ...]]:
    """Return what every plan that was approved here may have been charged, by its run."""
    return {
        f"{body.get('run')} ({number})": tuple(_charges(folder, body))
        for number, body in enumerate(kept_bodies(folder), start=1)
    }


def _charges(folder: Path, body: Mapping[str, Any]) -> Iterator[PlannedCharge]:
    plan = Plan.from_json(body["plan"])
    if "run" not in body:
        raise RunError(
            "an approval of an earlier version is kept in approved/, which does not say its run; it cannot be "
            "priced. Move it elsewhere, if its run ended before the copy of the ledger was made, and settle again"
        )
    people = body.get("people")
    tokens = {group: tuple(named) for group, named in people.items()} if people else _held(folder)
    for number, step in enumerate(plan.steps):
        nonce = nonce_of(run=str(body["run"]), plan=plan, step=number)
        yield PlannedCharge(nonce, plan.digest, step.mechanism, tokens[step.mechanism.group])


def _held(folder: Path) -> Mapping[Any, tuple[str, ...]]:
    try:
        return load_holdings(folder / "holdings").tokens
    except FedsynthError as error:
        raise RunError(
            "an approval does not say whom it was for, and the holdings are gone; bring them back from a backup"
        ) from error


def price_of(finding: Finding, *, delta: float) -> float:
    """Return epsilon of everything that would be counted for the lines that nobody has, over all plans."""
    from fedsynth.privacy.accountant import epsilon_pld

    counted = finding.rebuilt if finding.verdict == "proven" else finding.planned
    return epsilon_pld([one.mechanism for one in counted], delta=delta) if counted else 0.0
