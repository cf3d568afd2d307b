"""`fedsynth run` and `fedsynth federation start | status | pause | resume | stop`: the coordinator's side."""

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fedsynth.cli.answer import when_stopped
from fedsynth.cli.progress import progress, say
from fedsynth.cli.study_file import read_study

if TYPE_CHECKING:
    from fedsynth.coordinator.control import Wish
    from fedsynth.coordinator.run_folder import RunFacts

Federation = Annotated[Path, typer.Option("--federation", help="the coordinator's folder of keys and of the kit")]
Run = Annotated[Path, typer.Argument(help="the run's folder")]
AsJson = Annotated[bool, typer.Option("--json", help="answer as JSON")]
_PORT = 9091


def run(
    study: Annotated[Path, typer.Argument(help="the study file")],
    federation: Federation,
    out: Annotated[Path, typer.Option(help="folder of the run; new, or of this very run, which then goes on")],
    note: Annotated[str, typer.Option(help="a sentence for the people who approve at the sites")] = "",
    prepare_only: Annotated[
        bool, typer.Option("--prepare-only", help="write RUN/request.json for the sites, and ask nobody yet")
    ] = False,
    gather_seconds: Annotated[float, typer.Option(help="how long to wait for sites to connect", min=1)] = 300.0,
    approval_seconds: Annotated[
        float, typer.Option(help="how long to wait for all sites to approve", min=1)
    ] = 3600.0,
    round_seconds: Annotated[
        float, typer.Option(help="how long to wait for the answers to one order", min=1)
    ] = 1800.0,
    metrics: Annotated[
        int | None, typer.Option(help="serve metrics for Prometheus on this port of 127.0.0.1", min=1, max=65535)
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Run a study at the hospitals of a federation. The same command goes on with a run that was interrupted.

    Every site is sent RUN/request.json and approves it with `fedsynth site approve`; the service has to be running
    (`fedsynth federation start`). A run that ended early has charged what it has charged, and nobody is charged
    twice when it goes on.
    """
    from fedsynth.coordinator.asking import REQUEST
    from fedsynth.deployment.run import StudyRun, prepare, run_study

    what = StudyRun(
        study_text=read_study(study),
        source=str(study),
        federation=federation,
        out=out,
        note=note,
        gather_seconds=gather_seconds,
        approval_seconds=approval_seconds,
        round_seconds=round_seconds,
        metrics_port=metrics,
    )
    with progress() as tell, when_stopped(lambda: _left(out)):
        if prepare_only:
            made = prepare(what)
            _answer_prepared(made.facts(), made.path / REQUEST, as_json=as_json)
            return
        done = run_study(what, progress=tell)
    statement = done.statement()
    if as_json:
        body = {
            "run": str(done.path),
            "epsilon": statement.epsilon if statement.is_private else "inf",
            "delta": statement.delta,
            "unit": statement.unit,
            "sites": [site.site for site in statement.sites],
        }
        sys.stdout.write(json.dumps(body, indent=2) + "\n")
        return
    sys.stdout.write(f"{statement.sentence()}\n{done.path}: finished, {len(statement.sites)} sites\n")


def _answer_prepared(facts: "RunFacts", request: Path, *, as_json: bool) -> None:
    if as_json:
        body: dict[str, object] = {"run": facts.run, "request": str(request), "sites": list(facts.sites)}
        sys.stdout.write(json.dumps(body, indent=2) + "\n")
        return
    sys.stdout.write(
        f"Send {request} to {', '.join(facts.sites)}, and give the same command without --prepare-only.\n"
    )


def _left(out: Path) -> str:
    if not (out / "run.json").exists():
        return "nothing was begun"
    return "what was charged stays charged, and the same command goes on from there"


def start(
    federation: Federation,
    port: Annotated[int, typer.Option(help="of the loopback address, for nginx", min=1, max=65535)] = _PORT,
) -> None:
    """Run the coordinator's service in the foreground: Flower's SuperLink, and a node for every site of the roster.

    It listens on 127.0.0.1 alone. What hospitals reach is nginx, which asks for their certificates and passes the
    sites' interface only (deploy/nginx).
    """
    from fedsynth.deployment.membership import members
    from fedsynth.deployment.run import SERVICE
    from fedsynth.deployment.service import serve
    from fedsynth.federation.roster import load_roster

    load_roster(federation)  # refused at once, and not by an empty service
    with when_stopped(lambda: "the service has ended; runs go on when it is started again"):
        serve(
            federation / SERVICE,
            port=port,
            sites=lambda: members(federation),
            told=lambda said: say(f"fedsynth: {said}\n"),
        )


def status(run: Run, as_json: AsJson = False) -> None:
    """Show where a run stands: steps, sites, epsilon by site and step, time left."""
    from fedsynth.coordinator.run_folder import RunFolder
    from fedsynth.deployment.status import status_of

    found = status_of(RunFolder(run))
    if as_json:
        sys.stdout.write(json.dumps(found.as_json(), indent=2) + "\n")
        return
    lines = [f"{found.run}: {found.state}, step {found.step} of {found.steps}"]
    if found.now and found.state not in ("finished", "failed"):
        lines.append(f"now: {found.now}")
    if found.said:
        lines.append(f"it said: {found.said}")
    if found.seconds_left is not None and found.state == "running":
        lines.append(f"about {found.seconds_left / 60:.0f} minutes left")
    lines.append(f"epsilon at delta {found.delta:g}, of {found.epsilon_of_plan:.3f} for the whole plan:")
    for name, site in found.sites.items():
        away = "" if site.asked else ", not asked any more"
        lines.append(f"  {name}: {site.epsilon:.3f} after {site.answered} steps{away}")
    for purpose, epsilon in found.rounds:
        lines.append(f"  {epsilon:.3f} after {purpose}")
    sys.stdout.write("\n".join(lines) + "\n")


def pause(run: Run) -> None:
    """Let a run wait before its next exchange; its sites keep what they answered."""
    _wish(run, "pause", "waits before its next exchange; `fedsynth federation resume` lets it go on")


def resume(run: Run) -> None:
    """Let a run that was paused go on."""
    _wish(run, "run", "goes on")


def stop(run: Run) -> None:
    """End a run before its next exchange. What was charged stays charged; `fedsynth run` can go on with it."""
    _wish(run, "stop", "ends before its next exchange; the same `fedsynth run` goes on with it")


def _wish(run: Path, wanted: "Wish", words: str) -> None:
    from fedsynth.coordinator.control import DRIVER, ask, is_held
    from fedsynth.coordinator.run_folder import RunFolder
    from fedsynth.errors import RefusedError

    RunFolder(run).facts()
    if not is_held(run, DRIVER):
        raise RefusedError(f"nothing drives {run} now, so that there is nothing to {wanted}")
    ask(run, wanted)
    sys.stdout.write(f"{run} {words}\n")
