"""A rehearsal: a whole study on one machine, with every site's folder, ledger and approval as in a hospital.

Nothing is written under the run's folder, and nothing charged, until every site's recordings have passed the
gate and every ledger can afford the plan.
"""

import secrets
import shutil
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from fedsynth.coordinator.checkpoint import step_reached
from fedsynth.coordinator.run_folder import RunFacts, RunFolder
from fedsynth.engines.protocol import Patience
from fedsynth.engines.registry import engine_of
from fedsynth.errors import RefusedError, RunError, StudyError
from fedsynth.evaluation.classifier import windows_to_train_on
from fedsynth.evaluation.exact_scores import Drawn, Reference, reference_scores
from fedsynth.evaluation.score import Score, dump_scores, load_scores
from fedsynth.ledger.disk import refuse_a_lost_database
from fedsynth.ledger.ledger import Ledger
from fedsynth.ledger.register import register_of_user
from fedsynth.places import is_vacant, place_for, settle, settle_the_rest, staging_for
from fedsynth.plan import Plan, plan_of
from fedsynth.progress import Progress
from fedsynth.recordings.options import SiteOptions
from fedsynth.recordings.recording import Windows
from fedsynth.rehearsal.asked import asked_about, difference
from fedsynth.rehearsal.labels import refuse_labels_of_nobody
from fedsynth.rehearsal.ledgers import places_of_ledgers, registered
from fedsynth.rehearsal.places import alone_at_its_place, check_room, folders_of_recordings
from fedsynth.rehearsal.sites import PARTS, Held, make_site, policy_for, site_names, take_sites
from fedsynth.release.releasable import check_releasable
from fedsynth.site.approval import afford, approve, check_told
from fedsynth.site.holdings import holdings_of, load_holdings
from fedsynth.site.identity import make_identity
from fedsynth.site.policy import Policy
from fedsynth.source_code import code_in_use
from fedsynth.study import Study, parse_study

_There = Literal["nothing", "an unfinished run", "a finished run"]
THIS_RUN = "this run only: a rehearsal begins with empty ledgers"
CONTINUED = "every line of the sites' ledgers, whoever was asked: a bound that tells of nobody who was asked"


@dataclass(frozen=True)
class Rehearsal:
    """What to rehearse. `sites` is the folder of recordings, or None for the toy cohort.

    `options` say how the recordings are read, beside the study. `ledgers` holds the ledgers that go on, one folder
    a site, and `heads` the second place of their heads, one file a site. Without `ledgers` those go on that know
    the recordings, or new ones begin in the user's state folder (`fedsynth.ledger.register`); only made-up people
    have theirs inside the run.
    """

    study_text: str
    source: str
    sites: Path | None
    out: Path
    ledgers: Path | None = None
    heads: Path | None = None
    engine: str = "in-process"
    people: float = 1.0
    patience: Patience = field(default_factory=Patience)
    options: SiteOptions = field(default=SiteOptions())


@alone_at_its_place
def rehearse(
    what: Rehearsal,
    *,
    progress: Progress,
    resumed: Callable[[str], None] = lambda _: None,
    planned: Callable[[Plan], None] = lambda _: None,
) -> RunFolder:
    """Rehearse a study; a finished run of the same question is left as it is, an interrupted one goes on.

    Args:
        what: to rehearse.
        progress: called with (what, done, all).
        resumed: told in words where an interrupted run goes on.
        planned: told the plan of a new run, before anything is opened.

    Raises:
        StudyError: the study, that it can never be released, or what the toy cohort needs of it.
        RunError: the run has no place to go, or the machine too little memory; nothing was opened.
        RecordingError: a site's recordings; nothing was written or charged.
        BudgetError: a ledger that cannot afford the plan; nothing was trained.
        RefusedError: the run's folder holds something else, the run of another question included; or too few
            sites answered.
    """
    study = parse_study(what.study_text, source=what.source)
    carry_out = engine_of(what.engine)
    run = RunFolder(what.out)
    there = _already(run, study, what, progress)
    if there == "a finished run":
        return run
    if there == "an unfinished run":
        _check_code(run)
        resumed(_where(run))
    else:
        _check_ahead(what, study)
        plan = _plan(study, progress)
        planned(plan)
        with staging_for(what.out) as staging:
            _prepare(what, plan, RunFolder(staging), progress)
            settle(staging, what.out, last="run.json")
    if not run.finished:
        carry_out(what.out, progress, what.patience)
    _keep_reference(run, progress)
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
        held = _hold(what, study, Path(staging), progress, dry=True)
        places = places_of_ledgers(held, sites=what.sites, ledgers=what.ledgers)
        for name, one in held.items():
            head, place = _head(what, name), places.get(name)
            if place is not None and (place / "ledger.sqlite").exists():
                with Ledger(place, head_file=head) as ledger:
                    afford(ledger, plan, holdings_of(one.recordings, study=study, key=ledger.key).tokens)
                    check_told(ledger, plan)
                continue
            if place is not None:
                refuse_a_lost_database(place, head_file=head)
            holdings_of(one.recordings, study=study, key=secrets.token_bytes(32))
    return plan


def _check_ahead(what: Rehearsal, study: Study) -> None:
    """Refuse what would fail in the end, before anything is opened or charged."""
    names = () if what.sites is None else site_names(what.sites, study)
    check_releasable(study, what.study_text, sites=names)
    # A dry run need not say where the run would go.
    recordings = folders_of_recordings(what)
    place = place_for(what.out, apart_from=recordings if what.out != Path() else ())
    for folder in (what.ledgers, what.heads):
        if folder is not None:
            place_for(folder, apart_from=recordings)
    if what.sites is not None:
        register_of_user().check()
    check_room(study, sites=what.sites, people=what.people, place=place)


def _already(run: RunFolder, study: Study, what: Rehearsal, progress: Progress) -> _There:
    """Return how far this very run has come.

    Raises:
        RecordingError: there are no such recordings.
        RefusedError: something else is there, or a run that was asked about something else.
    """
    if what.sites is not None:
        site_names(what.sites, study)
    settle_the_rest(run.path, last="run.json")
    if is_vacant(run.path):
        return "nothing"
    complete = run.finished and (run.internal / "scores.json").exists()
    state: _There = "a finished run" if complete else "an unfinished run"
    try:
        facts = run.facts()
        same = run.study().digest == study.digest and facts.engine == what.engine
        other = difference(facts.asked, what, study, progress=progress) if same else ""
    except (RunError, StudyError):
        same = False
    if same and not other:
        return state
    found = f"{state} about {other}" if same else "something else"
    within = any(run.path.glob("sites/*/ledger/ledger.sqlite"))
    advice = (
        "Name another --out. It holds the sites' ledgers: with it goes what was spent on their people"
        if within and _on_people(run)
        else "Name another --out, or remove it"
    )
    raise RefusedError(f"{run.path} holds {found}; nothing was touched. {advice}")


def _check_code(run: RunFolder) -> None:
    """Refuse to go on with other code than the sites approved.

    Raises:
        RefusedError: the code that runs here is another.
    """
    begun, here = run.plan().code, str(code_in_use())
    if begun != here:
        raise RefusedError(
            f"the run in {run.path} was approved for the code {begun[:20]}, and {here[:20]} would go on with it; "
            "nothing was charged. Use the version that began it"
        )


def _where(run: RunFolder) -> str:
    """Return in words where an interrupted run goes on."""
    if run.finished:
        return f"the run in {run.path} goes on: its exact scores are missing"
    steps, step = len(run.plan().steps), step_reached(run.path) or 0
    at = f"at step {step + 1} of {steps}" if step < steps else "at its statement, after all steps"
    return f"the run in {run.path} goes on {at}; what was charged is not charged again"


def _on_people(run: RunFolder) -> bool:
    """Whether a run may have asked about real people: where its facts cannot be read, it may have."""
    try:
        return run.facts().cohort != "toy"
    except RunError:
        return True


def _prepare(what: Rehearsal, plan: Plan, run: RunFolder, progress: Progress) -> None:
    """Read, check and window every site's recordings, then make the sites' folders and have them approve."""
    study = plan.study
    asked = asked_about(what, study, progress=progress)
    held = _hold(what, study, run.path, progress)
    name_of_run = secrets.token_hex(8)
    with registered(held, sites=what.sites, ledgers=what.ledgers) as places:
        for name, one in held.items():
            make_site(run.site(name), _policy(name, what, study, places.get(name)), one, study=study)
        shutil.rmtree(run.path / PARTS)
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
        composes=CONTINUED if places else THIS_RUN,
        roster={name: key.hex() for name, key in roster.items()},
        asked=asked,
    )
    run.begin(facts=facts, plan=plan, study_text=what.study_text)


def _hold(
    what: Rehearsal, study: Study, staging: Path, progress: Progress, *, dry: bool = False
) -> dict[str, Held]:
    """Read, check and window every site's recordings; each label has to be somebody's."""
    held = take_sites(
        what.sites,
        study=study,
        people=what.people,
        staging=staging,
        progress=progress,
        options=what.options,
        dry=dry,
    )
    refuse_labels_of_nobody(held, study)
    return held


def _policy(name: str, what: Rehearsal, study: Study, ledger: Path | None) -> Policy:
    """Return a site's rules, with its ledger and head where the rehearsal keeps them."""
    places = {"ledger": ledger, "ledger_head": _head(what, name)}
    update = {field: str(place.resolve()) for field, place in places.items() if place is not None}
    return policy_for(name, study).model_copy(update=update)


def _head(what: Rehearsal, name: str) -> Path | None:
    return (what.heads / f"{name}.head").resolve() if what.heads is not None else None


def _plan(study: Study, progress: Progress) -> Plan:
    progress("budget", 0, 1)
    plan = plan_of(study)
    progress("budget", 1, 1)
    return plan


def _reference(run: RunFolder) -> Reference:
    """Return the windows of all sites by group, as the sites hold them."""
    held = [load_holdings(run.site(name) / "holdings") for name in run.facts().sites]
    train, test = ([one.at_home(group) for one in held] for group in ("train", "held-out"))
    before = np.cumsum([0, *(int(windows.subjects.max(initial=-1)) + 1 for windows in test)])
    people = [windows.subjects + first for windows, first in zip(test, before, strict=False)]
    return Reference(*_joined(train), *_joined(test), np.concatenate(people))


def _joined(sites: Sequence[Windows]) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    signal, labels = [one.signal for one in sites], [one.labels for one in sites]
    return np.concatenate(signal), np.concatenate(labels)


def _keep_reference(run: RunFolder, progress: Progress) -> None:
    """Score the generator exactly, beside train-real, on held-out people; only this machine may know.

    The toy cohort's people are made up, so its exact scores may also be published.
    """
    toy = run.facts().cohort == "toy"
    generator, windows = run.generator(), run.windows()
    exact = reference_scores(
        generator,
        _reference(run),
        source="public simulation" if toy else "real",
        progress=progress,
        released=Drawn(windows_to_train_on(windows, shape=generator.shape), run.statement().made.windows),
    )
    if toy:
        private = [score for score in run.scores() if score.source == "private sum"]
        dump_scores([*exact, *private], run.path / "scores.json")
    run.internal.mkdir(exist_ok=True)
    dump_scores(exact, run.internal / "scores.json")  # the last of a run: with it, the run is finished


def internal_scores(run: RunFolder) -> list[Score]:
    """Return the exact scores kept inside."""
    return load_scores(run.internal / "scores.json")
