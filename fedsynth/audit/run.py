"""An audit: canaries in one run of the real pipeline, and the epsilon that the bytes of its answers contradict.

Canaries are made-up people spread over the sites, each in or out by a coin, beside the sites' other people. Then
everything goes the real way: intake, holdings, approval, ledger (thrown away afterwards), orders of a real
coordinator. Windows stand in files as they do at a site, and are opened a recording or a unit at a time.
The adversary stands at the coordinator. It has every byte that sites answer (`fedsynth.audit.wire`), knows all
other people, what every canary would contribute, and the parameters at which it was asked. It sees nothing that
stays inside a site.
"""

import secrets
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from fedsynth.audit.attack import attack
from fedsynth.audit.bounds import METHODS, BoundMethod, Finding, bounds, ceiling
from fedsynth.audit.canaries import make_canaries
from fedsynth.audit.known import KnownUnits, with_canaries
from fedsynth.audit.wire import Heard, Tap, check_answers, heard
from fedsynth.coordinator.rounds import run_plan
from fedsynth.coordinator.transport import InProcess
from fedsynth.errors import StudyError
from fedsynth.plan import Plan, plan_of
from fedsynth.privacy.noise import NoiseSource, system_noise
from fedsynth.progress import Progress
from fedsynth.rehearsal.sites import Held, make_site, policy_for, take_sites
from fedsynth.rng import numpy_generator
from fedsynth.site.approval import approve
from fedsynth.site.identity import make_identity
from fedsynth.site.policy import load_policy
from fedsynth.site.session import SiteSession
from fedsynth.site.standing import open_ledger
from fedsynth.study import Study

Answers = Callable[[Callable[[bytes], bytes]], Callable[[bytes], bytes]]
"""What a site's handler of orders is wrapped in; something else than itself only to show what an audit sees."""
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
    plan, study = dry_audit(what)[0], what.study
    with tempfile.TemporaryDirectory(prefix="fedsynth-audit-") as folder:
        others = _cohort(what, Path(folder) / "staging", progress)
        canaries = make_canaries(study, count=what.canaries, seed=what.seed, sites=tuple(others))
        coins = numpy_generator("audit coins", what.seed).random(len(canaries)) < 0.5
        there = [canary for canary, coin in zip(canaries, coins, strict=True) if coin]
        everybody = {
            site: with_canaries(held, [canary for canary in there if canary.site == site], study=study)
            for site, held in others.items()
        }
        sites = Path(folder) / "sites"
        trail = _carry_out(plan, sites, everybody, answers=answers, noise=noise, progress=progress)
        known = {site: KnownUnits(held, study=study) for site, held in others.items()}
        scores, answered = attack(plan, trail, canaries, known, seed=what.seed, tell=progress)
    privacy = study.privacy
    return Finding(
        study=study.name,
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


def _cohort(what: Audit, staging: Path, progress: Progress) -> dict[str, Held]:
    """Take in everybody who is not a canary, by site."""
    staging.mkdir()
    people = what.study.cohort.least_subjects / _TOY_SITE
    return take_sites(what.sites, study=what.study, people=people, staging=staging, progress=progress)


def _carry_out(
    plan: Plan,
    folder: Path,
    there: Mapping[str, Held],
    *,
    answers: Answers,
    noise: NoiseSource,
    progress: Progress,
) -> list[Heard]:
    """Make the sites, have them approve, carry the plan out, and return what could be heard at the coordinator."""
    for site, held in there.items():
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
