"""Run: one study at the hospitals of a federation, driven from the coordinator's machine.

The same command begins a run and goes on with it. What is asked of the sites is a signed file in the run's folder,
which their people approve; the coordinator waits for them, and then carries out the plan over the service
(`fedsynth.deployment.service`). Where the coordinator's program, the SuperLink or this process ends, the checkpoint
holds everything and no site is charged again.
"""

import json
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from fedsynth.coordinator.asking import REQUEST, ask_sites
from fedsynth.coordinator.control import COORDINATOR, DRIVER, ask, held, is_held
from fedsynth.coordinator.run_folder import RunFacts, RunFolder
from fedsynth.deployment.metrics import served
from fedsynth.deployment.service import Running, is_running
from fedsynth.deployment.status import status_of
from fedsynth.engines.flower import CONNECTION, follow, forget_failure, raise_failure, write_app, write_settings
from fedsynth.engines.processes import Processes
from fedsynth.errors import RefusedError, RunError
from fedsynth.places import is_vacant, place_for, settle, settle_the_rest, staging_for
from fedsynth.plan import Plan, plan_of
from fedsynth.progress import Progress
from fedsynth.release.releasable import check_releasable
from fedsynth.study import parse_study

ENGINE = "federation"
SERVICE = "service"
"""The folder of the service within the coordinator's folder."""
_LOOK_SECONDS = 0.5
_START_SECONDS = 120.0
_TRIES = 6
_LEAST_ROOM = 2**20  # bytes
_PATIENCE = (1.0, 5.0, 15.0, 30.0, 60.0)
"""Seconds between two tries that brought no progress."""


@dataclass(frozen=True)
class StudyRun:
    """What to run: a study's text and the name of its file, the coordinator's folder, and the run's.

    The seconds bound the waiting: for sites to connect, for their approvals, and for the answers to one exchange.
    `metrics_port` is that of the run's metrics on loopback, if any.
    """

    study_text: str
    source: str
    federation: Path
    out: Path
    note: str = ""
    gather_seconds: float = 300.0
    approval_seconds: float = 3600.0
    round_seconds: float = 1800.0
    metrics_port: int | None = None


def prepare(what: StudyRun) -> RunFolder:
    """Make the run's folder with the request to the sites in it; leave it where it is there already.

    Raises:
        StudyError: the study, or that it can never be released.
        FederationError: the coordinator or a site is not in good standing.
        RefusedError: the folder holds another run, or something else.
        RunError: the run has no place to go.
    """
    study = parse_study(what.study_text, source=what.source)
    check_releasable(study, what.study_text, sites=study.cohort.sites)
    run = RunFolder(what.out)
    plan = plan_of(study)
    settle_the_rest(what.out, last="run.json")
    if not is_vacant(what.out):
        _check_same(run, plan)
        return run
    place = place_for(what.out)
    request, data = ask_sites(what.federation, study=study, run=place.name, note=what.note)
    facts = RunFacts(
        run=request.run,
        engine=ENGINE,
        cohort="recordings",
        sites=tuple(sorted(request.identities)),
        composes="everything in the sites' own ledgers, earlier studies on the same people included",
        roster={site: key.hex() for site, key in request.identities.items()},
    )
    with staging_for(what.out) as staging:
        (staging / REQUEST).write_bytes(data)
        RunFolder(staging).begin(facts=facts, plan=plan, study_text=what.study_text)
        settle(staging, what.out, last="run.json")
    return run


def run_study(what: StudyRun, *, progress: Progress) -> RunFolder:
    """Carry out a study to its end, or go on with one that was interrupted.

    Raises:
        RefusedError: another process drives the run, too few sites approved or answered, or a person stopped it.
        RunError: no service runs, or the coordinator's program fails again and again.
        FedsynthError: as `prepare`, and as the coordinator said.
    """
    run = prepare(what)
    if run.finished:
        return run
    with (
        held(run.path, DRIVER, what="drives"),
        served(what.metrics_port, lambda: status_of(run)),
        Processes(run.path / "logs") as processes,
    ):
        ask(run.path, "run")
        _drive(what, run, processes, progress)
    return run


def _check_same(run: RunFolder, plan: Plan) -> None:
    try:
        same = run.plan().digest == plan.digest and run.facts().engine == ENGINE
    except RunError:
        same = False
    if not same:
        raise RefusedError(
            f"{run.path} holds another run, or this study by other code; nothing was touched. Name another --out"
        )


def _drive(what: StudyRun, run: RunFolder, processes: Processes, progress: Progress) -> None:
    """Start the coordinator's program until the run is finished; give up where it gets no further."""
    app = write_app(processes.home / "app")
    news = follow(run.path / "progress.jsonl")
    vain = 0
    patience = 0.0  # for the first time somebody has to have started the service
    while True:
        forget_failure(run.path, progress=False)
        before = _records(run)
        service = _service(what.federation / SERVICE, seconds=patience)
        if _submit(what, run, processes, app=app, service=service):
            for told in _until_it_ends(run, news, service=what.federation / SERVICE):
                progress(*told)
        patience = what.gather_seconds
        raise_failure(run.path)
        if run.finished:
            return
        _check_room(run.path)
        vain = 0 if _records(run) != before else vain + 1
        if vain >= _TRIES:
            raise RunError(
                f"the coordinator's program ended {vain} times without getting any further; its last words are in "
                f"{what.federation / SERVICE / 'logs'}. What was charged stays charged; the same command goes on"
            )
        progress("starting again", vain, _TRIES)
        time.sleep(_PATIENCE[min(vain, len(_PATIENCE) - 1)])


def _check_room(folder: Path) -> None:
    """Name a full disk, of which the program that died could leave no word.

    Raises:
        RunError: the disk is full.
    """
    if shutil.disk_usage(folder).free < _LEAST_ROOM:
        raise RunError(
            f"the run could not keep what it has reached: the disk of {folder} is full. What was charged stays "
            "charged, and the sites keep their answers; make room, and give the same command again"
        )


def _service(folder: Path, *, seconds: float) -> Running:
    """Return how the service is reached, which may be starting again.

    Raises:
        RunError: none runs, nor within that time.
    """
    ends = time.monotonic() + seconds
    while True:
        try:
            return Running.load(folder)
        except RunError:
            if time.monotonic() >= ends:
                raise
        time.sleep(_LOOK_SECONDS)


def _submit(what: StudyRun, run: RunFolder, processes: Processes, *, app: Path, service: Running) -> bool:
    """Have the service start the coordinator's program; whether it was accepted."""
    settings = write_settings(
        processes.home / "run.toml",
        {
            "run": str(run.path.resolve()),
            "nodes": json.dumps(dict(service.nodes)),
            "gather-seconds": what.gather_seconds,
            "round-seconds": what.round_seconds,
            "approval-seconds": what.approval_seconds,
        },
    )
    command = ["flwr", "run", str(app), CONNECTION, "--run-config", str(settings)]
    return processes.start("submission", command, home=service.home).wait() == 0


def _until_it_ends(
    run: RunFolder, news: Iterator[list[tuple[str, int, int]]], *, service: Path
) -> Iterator[tuple[str, int, int]]:
    """Yield what the coordinator's program tells, until it has ended, or has not begun in time."""
    began = time.monotonic()
    while not is_held(run.path, COORDINATOR):
        ended = run.finished or (run.path / "failure.json").exists()
        if ended or not is_running(service) or time.monotonic() - began > _START_SECONDS:
            return
        time.sleep(_LOOK_SECONDS)
    while is_held(run.path, COORDINATOR):
        yield from next(news)
        time.sleep(_LOOK_SECONDS)
    yield from next(news)


def _records(run: RunFolder) -> tuple[str, ...]:
    """Return the names of a run's checkpoint records: they change whenever it gets further."""
    return tuple(sorted(path.name for path in (run.path / "checkpoint").glob("*")))
