"""Study requests at a site: taken in when the coordinator signed them, and approved by people of the site.

`requests/` of the site's folder holds each request as it came, and beside it the signatures of those who have
approved while others still have to. Nothing here loads torch until the last signature is there and the plan is
computed anew.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from fedsynth.errors import ConsentError, FederationError, FedsynthError, RefusedError
from fedsynth.federation.files import check_size, make_folder, read, replace
from fedsynth.federation.proposal import StudyRequest, read_request
from fedsynth.federation.roster import load_roster
from fedsynth.federation.standing import standing
from fedsynth.plan import Plan
from fedsynth.site.approval import approve, withdraw
from fedsynth.site.consent import FEDERATION, Consent, coordinator_of
from fedsynth.site.policy import load_policy
from fedsynth.site.standing import approved_runs

REQUESTS = "requests"
_LEAST_DIGITS = 12
_MOST_REQUESTS = 100


@dataclass(frozen=True)
class Pending:
    """A request that is here, read and verified; `consent` holds who has signed, where somebody has."""

    request: StudyRequest
    plan: Plan
    consent: Consent | None


def take_in(folder: Path, data: bytes, *, now: datetime | None = None) -> StudyRequest:
    """Keep a request that came as a file or over the network, once it is verified; nobody has approved it by that.

    Raises:
        FederationError: not signed by the federation's coordinator, or for another federation.
        FederationFileError, RunError: malformed, or too large.
        RefusedError: so many are here already that no person reads them.
    """
    check_size(data, what="the request")
    request = _verified(folder, data, now=now).request
    make_folder(folder / REQUESTS)
    place = _place(folder, request)
    if not place.exists() and len([*_paths(folder)]) >= _MOST_REQUESTS:
        raise RefusedError(
            f"{_MOST_REQUESTS} requests are here already; the new one was not kept. Remove from {REQUESTS}/ those "
            "that nobody will approve"
        )
    replace(place, data, private=True)
    return request


def waiting(folder: Path, *, now: datetime | None = None) -> tuple[list[Pending], list[str]]:
    """Return the requests that are here, by the date on which they were asked, and why others are not shown.

    Raises:
        FederationError: the coordinator is not in good standing; nothing it asked is shown.
        FederationFileError: the site has no kit.
        StudyError: the folder is no site's.
    """
    load_policy(folder)
    coordinator_of(folder, now=now)
    found, objections = list[Pending](), list[str]()
    for path in sorted(_paths(folder)):
        try:
            found.append(_verified(folder, read(path, what="a request"), now=now))
        except FedsynthError as error:
            objections.append(f"{path.name}: {error}")
    return sorted(found, key=lambda one: (one.request.asked, one.request.digest)), objections


def find(folder: Path, digest: str, *, now: datetime | None = None) -> Pending:
    """Return the request whose digest begins with the digits given.

    Raises:
        RefusedError: fewer than 12 digits, or none or two requests that begin so.
        FederationError, FederationFileError, RunError: it does not verify.
        StudyError: the folder is no site's.
    """
    load_policy(folder)
    if len(digest) < _LEAST_DIGITS:
        raise RefusedError(
            f"give at least {_LEAST_DIGITS} digits of the request's digest, as fedsynth site requests shows it"
        )
    paths = [path for path in _paths(folder) if path.name.startswith(digest[:32])]
    found = [_verified(folder, read(path, what="a request"), now=now) for path in paths]
    found = [one for one in found if one.request.digest.startswith(digest)]
    if len(found) != 1:
        raise RefusedError(
            f"{len(found)} requests here have a digest that begins with {digest[:64]}; nothing was approved"
        )
    return found[0]


def approve_request(
    folder: Path, pending: Pending, *, person: str | None = None, key: Ed25519PrivateKey | None = None
) -> tuple[str, ...]:
    """Approve a request: sign for one person, and approve for the site once nobody is missing.

    Args:
        folder: the site's.
        pending: as `find` returned it.
        person: who approves, as the policy names them; None where it names nobody.
        key: that person's.

    Returns:
        Who still has to approve; empty once the site has approved.

    Raises:
        ConsentError: a person or key that the policy does not name, or what `approve` refuses.
        FederationError: a site's public key is not the roster's.
        RefusedError: the run is approved already.
    """
    policy, request, plan = load_policy(folder), pending.request, pending.plan
    if request.run in approved_runs(folder):
        raise RefusedError(
            f"run {request.run} is approved here already; it was left as it is. To approve something else for it, "
            "take that back first (--withdraw)"
        )
    _check_identities(folder, pending)
    consent = pending.consent or Consent.begin(folder, request)
    statement = consent.statement(site=policy.name, run=request.run, plan=plan.digest)
    if policy.approvers:
        if person is None or person not in policy.approvers or key is None:
            raise ConsentError(
                f"this site's policy lets {' and '.join(policy.approvers)} approve, each with a key of their own; "
                "nothing was approved"
            )
        consent = consent.signed_by(person, key, statement)
        missing = consent.missing(policy, statement)
        if person in missing:
            raise ConsentError(f"that is not the key of {person} in this site's policy; nothing was approved")
        if missing:
            replace(_signatures(folder, request), json.dumps(consent.to_plain()).encode("ascii"), private=True)
            return missing
    elif person is not None:
        raise ConsentError("this site's policy names nobody who approves (approvers); nothing was approved")
    roster = request.identities if plan.is_aggregate else {}
    approve(folder, run=request.run, plan=plan, roster=roster, consent=consent)
    _signatures(folder, request).unlink(missing_ok=True)
    return ()


def withdraw_run(folder: Path, *, run: str) -> bool:
    """Take back what was approved for a run, and what people have signed for it so far.

    Returns:
        Whether there was anything to take back.

    Raises:
        StudyError: the folder is no site's.
    """
    load_policy(folder)
    signed = False
    for path in _paths(folder):
        beside = path.with_suffix(".signatures")
        if beside.exists() and json.loads(path.read_text(encoding="utf-8"))["run"] == run:
            beside.unlink()
            signed = True
    return withdraw(folder, run=run) or signed


def withdraw_all(folder: Path) -> tuple[str, ...]:
    """Take everything back, and return the runs that stood approved."""
    runs = approved_runs(folder)
    for run in runs:
        withdraw_run(folder, run=run)
    for path in _paths(folder):
        path.with_suffix(".signatures").unlink(missing_ok=True)
    return runs


def _verified(folder: Path, data: bytes, *, now: datetime | None) -> Pending:
    request = read_request(data, coordinator=coordinator_of(folder, now=now))
    federation = load_roster(folder / FEDERATION).name
    if request.federation != federation:
        raise FederationError(
            f"the request is for federation {request.federation}, and this site is a member of {federation}"
        )
    plan = Plan.from_json(request.plan)
    if plan.to_json() != request.plan:
        raise ConsentError(
            "the request's plan is not written in the one way that fedsynth writes it; it is not shown"
        )
    path = _signatures(folder, request)
    consent = Consent.from_plain(json.loads(path.read_text(encoding="utf-8"))) if path.exists() else None
    return Pending(request, plan, consent)


def _check_identities(folder: Path, pending: Pending) -> None:
    """Hold the public keys that a request brings against the roster: they decide who sums in secret."""
    sites = load_roster(folder / FEDERATION).sites
    for name, identity in pending.request.identities.items():
        if name not in sites or sites[name].identity != identity:
            raise FederationError(
                f"the request gives {name[:64]} a key that the roster does not; nothing was approved. Ask the "
                "coordinator which edition of the roster it used"
            )
        standing(folder / FEDERATION, name=name)
    named = set(pending.plan.study.cohort.sites)
    if named and named != set(pending.request.identities):
        raise FederationError("the request and its study name different sites; nothing was approved")


def _paths(folder: Path) -> Iterator[Path]:
    return (folder / REQUESTS).glob("*.json")


def _place(folder: Path, request: StudyRequest) -> Path:
    return folder / REQUESTS / f"{request.digest[:32]}.json"


def _signatures(folder: Path, request: StudyRequest) -> Path:
    return _place(folder, request).with_suffix(".signatures")
