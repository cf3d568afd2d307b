"""A rehearsal: a whole study on one machine, with every site's folder, ledger and approval as in a hospital.

Nothing is written under the run's folder, and nothing charged, until every site's recordings have passed the
gate and every ledger can afford the plan.
"""

import secrets
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fedsynth.coordinator.run_folder import RunFacts, RunFolder
from fedsynth.engines.registry import engine_of
from fedsynth.errors import RefusedError, RunError, StudyError
from fedsynth.evaluation.classifier import windows_to_train_on
from fedsynth.evaluation.exact_scores import Drawn, Reference, reference_scores
from fedsynth.evaluation.score import Score, dump_scores, load_scores
from fedsynth.ledger.disk import refuse_a_lost_database
from fedsynth.ledger.ledger import Ledger
from fedsynth.places import is_vacant, place_for, settle, staging_for
from fedsynth.plan import Plan, plan_of
from fedsynth.progress import Progress
from fedsynth.rehearsal.places import alone_at_its_place, check_room
from fedsynth.rehearsal.sites import Held, cut_windows, make_site, policy_for, read_sites, site_names
from fedsynth.release.releasable import check_releasable
from fedsynth.site.approval import afford, approve, check_told
from fedsynth.site.holdings import groups_of, holdings_of
from fedsynth.site.identity import make_identity
from fedsynth.site.policy import Policy
from fedsynth.study import Study, parse_study

THIS_RUN = "this run only: a rehearsal begins with empty ledgers"
CONTINUED = "every line of the ledgers given, whoever was asked: a bound that tells nothing of who was asked before"


@dataclass(frozen=True)
class Rehearsal:
    """What to rehearse. `sites` is the folder of recordings, or None for the toy cohort.

    `ledgers` holds the ledgers that go on, one folder a site, and `heads` the second place of their heads, one file
    a site; without `ledgers` every site begins one inside the run.
    """

    study_text: str
    source: str
    sites: Path | None
    out: Path
    ledgers: Path | None = None
    heads: Path | None = None
    engine: str = "in-process"
    people: float = 1.0


@alone_at_its_place
def rehearse(what: Rehearsal, *, progress: Progress) -> RunFolder:
    """Rehearse a study; a finished run of the same study is left as it is.

    Raises:
        StudyError: the study, that it can never be released, or what the toy cohort needs of it.
        RunError: the run has no place to go, or the machine too little memory; nothing was opened.
        RecordingError: a site's recordings; nothing was written or charged.
        BudgetError: a ledger that cannot afford the plan; nothing was trained.
        RefusedError: the run's folder holds something else, or too few sites answered.
    """
    study = parse_study(what.study_text, source=what.source)
    carry_out = engine_of(what.engine)
    run = RunFolder(what.out)
    if _already(run, study, what):
        return run
    _check_ahead(what, study)
    plan = _plan(study, progress)
    with staging_for(what.out) as staging:
        reference = _prepare(what, plan, RunFolder(staging), progress)
        settle(staging, what.out, last="run.json")
    carry_out(what.out, progress)
    _keep_reference(run, reference, progress)
    return run


def dry_rehearse(what: Rehearsal, *, progress: Progress) -> Plan:
    """Check everything that `rehearse` checks before it trains, ledgers included, and leave nothing behind.

    Raises:
        FedsynthError: as `rehearse`.
    """
    study = parse_study(what.study_text, source=what.source)
    _check_ahead(what, study)
    plan = _plan(study, progress)
    with tempfile.TemporaryDirectory(prefix="fedsynth-") as staging:
        held = _hold(what, study, Path(staging), progress)
        for name, one in held.items():
            head = _head(what, name)
            if what.ledgers is not None and (what.ledgers / name / "ledger.sqlite").exists():
                with Ledger(what.ledgers / name, head_file=head) as ledger:
                    afford(ledger, plan, holdings_of(one.recordings, study=study, key=ledger.key).tokens)
                    check_told(ledger, plan)
                continue
            if what.ledgers is not None:
                refuse_a_lost_database(what.ledgers / name, head_file=head)
            holdings_of(one.recordings, study=study, key=secrets.token_bytes(32))
    return plan


def _check_ahead(what: Rehearsal, study: Study) -> None:
    """Refuse what would fail in the end, before anything is opened or charged."""
    names = () if what.sites is None else site_names(what.sites, study)
    check_releasable(study, what.study_text, sites=names)
    # A dry run need not say where the run would go.
    place = place_for(what.out, apart_from=what.sites if what.out != Path() else None)
    for folder in (what.ledgers, what.heads):
        if folder is not None:
            place_for(folder, apart_from=what.sites)
    check_room(study, sites=what.sites, people=what.people, place=place)


def _already(run: RunFolder, study: Study, what: Rehearsal) -> bool:
    """Whether the same run is there and finished.

    Raises:
        RefusedError: something else is there.
    """
    if is_vacant(run.path):
        return False
    try:
        same = run.study().digest == study.digest and run.facts().engine == what.engine
    except (RunError, StudyError):
        same = False
    complete = run.finished and (run.internal / "scores.json").exists()
    if same and complete and what.ledgers is None:
        return True
    state = ("a finished run" if complete else "an unfinished run") if same else "something else"
    within = any(run.path.glob("sites/*/ledger/ledger.sqlite"))
    advice = (
        "Name another --out. It holds the sites' ledgers: with it goes what was spent on their people"
        if within and _on_people(run)
        else "Name another --out, or remove it"
    )
    raise RefusedError(f"{run.path} holds {state}; nothing was touched. {advice}")


def _on_people(run: RunFolder) -> bool:
    """Whether a run may have asked about real people: where its facts cannot be read, it may have."""
    try:
        return run.facts().cohort != "toy"
    except RunError:
        return True


def _prepare(what: Rehearsal, plan: Plan, run: RunFolder, progress: Progress) -> Reference:
    """Read, check and window every site's recordings, then make the sites' folders and have them approve."""
    study = plan.study
    held = _hold(what, study, run.path, progress)
    name_of_run = secrets.token_hex(8)
    for name, one in held.items():
        make_site(run.site(name), _policy(name, what, study), one, study=study)
    roster = {name: make_identity(run.site(name)) for name in held}
    for index, name in enumerate(held):
        there = RunFolder(what.out).site(name)
        summing = roster if plan.is_aggregate else None
        approve(run.site(name), run=name_of_run, plan=plan, roster=summing, moves_to=there)
        progress("approvals", index + 1, len(held))
    facts = RunFacts(
        run=name_of_run,
        engine=what.engine,
        cohort="toy" if what.sites is None else "recordings",
        sites=tuple(held),
        composes=CONTINUED if what.ledgers else THIS_RUN,
        roster={name: key.hex() for name, key in roster.items()},
    )
    run.begin(facts=facts, plan=plan, study_text=what.study_text)
    return _reference(list(held.values()), study)


def _hold(what: Rehearsal, study: Study, staging: Path, progress: Progress) -> dict[str, Held]:
    """Read, check and window every site's recordings."""
    sites = read_sites(what.sites, study=study, people=what.people, staging=staging, progress=progress)
    return cut_windows(sites, study=study, progress=progress)


def _policy(name: str, what: Rehearsal, study: Study) -> Policy:
    """Return a site's rules, with its ledger and head where the rehearsal keeps them."""
    places = {"ledger": what.ledgers and what.ledgers / name, "ledger_head": _head(what, name)}
    update = {field: str(place.resolve()) for field, place in places.items() if place is not None}
    return policy_for(name, study).model_copy(update=update)


def _head(what: Rehearsal, name: str) -> Path | None:
    return (what.heads / f"{name}.head").resolve() if what.heads is not None else None


def _plan(study: Study, progress: Progress) -> Plan:
    progress("budget", 0, 1)
    plan = plan_of(study)
    progress("budget", 1, 1)
    return plan


def _reference(held: list[Held], study: Study) -> Reference:
    """Part the windows of all sites by group, as the sites themselves do."""
    train = np.concatenate([_trains(one, study) for one in held])
    signal = np.concatenate([one.windows.signal for one in held])
    labels = np.concatenate([one.windows.labels for one in held])
    before = np.cumsum([0, *(int(one.windows.subjects.max(initial=-1)) + 1 for one in held)])
    people = np.concatenate([one.windows.subjects + first for one, first in zip(held, before, strict=False)])
    return Reference(signal[train], labels[train], signal[~train], labels[~train], people[~train])


def _trains(held: Held, study: Study) -> NDArray[np.bool_]:
    groups = groups_of(held.recordings, held_out=study.training.held_out)
    return np.array([group == "train" for group in groups])[held.windows.recordings]


def _keep_reference(run: RunFolder, reference: Reference, progress: Progress) -> None:
    """Score the generator exactly, beside train-real, on held-out people; only this machine may know.

    The toy cohort's people are made up, so its exact scores may also be published.
    """
    toy = run.facts().cohort == "toy"
    generator, windows = run.generator(), run.windows()
    exact = reference_scores(
        generator,
        reference,
        source="public simulation" if toy else "real",
        progress=progress,
        released=Drawn(windows_to_train_on(windows, shape=generator.shape), run.statement().made.windows),
    )
    run.internal.mkdir(exist_ok=True)
    dump_scores(exact, run.internal / "scores.json")
    if toy:
        dump_scores([*exact, *run.scores()], run.path / "scores.json")


def internal_scores(run: RunFolder) -> list[Score]:
    """Return the exact scores kept inside."""
    return load_scores(run.internal / "scores.json")
