"""`fedsynth rehearse`: a whole study on one machine."""

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer
from click import Choice

from fedsynth.cli.answer import when_stopped
from fedsynth.cli.differences import differences
from fedsynth.cli.progress import progress, remark, say
from fedsynth.cli.study_file import read_study
from fedsynth.engines.registry import ENGINES

if TYPE_CHECKING:
    from fedsynth.plan import Plan


def rehearse(
    study: Annotated[Path, typer.Argument(help="the study file")],
    out: Annotated[Path | None, typer.Option(help="folder of the run; must be new, or hold this very run")] = None,
    sites: Annotated[Path | None, typer.Option(help="folder with one folder of recordings per hospital")] = None,
    cohort: Annotated[Literal["toy"] | None, typer.Option(help="simulate people instead of --sites")] = None,
    engine: Annotated[str, typer.Option(click_type=Choice(list(ENGINES)), help="what carries the messages")] = next(
        iter(ENGINES)
    ),
    ledgers: Annotated[
        Path | None,
        typer.Option(
            help="folder of the sites' ledgers; by default those that know the recordings go on, and new ones "
            "begin in $XDG_STATE_HOME/fedsynth (~/.local/state/fedsynth). Made-up people have theirs in the run"
        ),
    ] = None,
    heads: Annotated[
        Path | None,
        typer.Option(help="keep the heads of the ledgers in this folder, best on another disk"),
    ] = None,
    gather_seconds: Annotated[
        float | None, typer.Option(help="how long to wait for sites to connect, for engines with processes [300]")
    ] = None,
    round_seconds: Annotated[
        float | None, typer.Option(help="how long to wait for the answers to one order, likewise [1800]")
    ] = None,
    unit: Annotated[
        Literal["uV", "mV", "V"] | None, typer.Option(help="unit of all recordings, whatever their files say")
    ] = None,
    follow_links: Annotated[
        bool, typer.Option("--follow-links", help="read what links that lead out of a site's folder lead to")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="check everything, write and charge nothing")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="answer as JSON")] = False,
) -> None:
    """Train a generator across several hospitals on this machine, with ledgers and approvals as in a deployment.

    A run that was interrupted, however that came, goes on with the same command; nothing is charged twice.

    The exact scores that it prints are computed on real held-out people; they stay in RUN/internal.
    """
    from fedsynth.engines.protocol import Patience
    from fedsynth.recordings.options import SiteOptions
    from fedsynth.rehearsal.rehearse import Rehearsal, dry_rehearse, internal_scores
    from fedsynth.rehearsal.rehearse import rehearse as carry_out

    if (sites is None) == (cohort is None):
        raise typer.BadParameter("give either --sites DIR or --cohort toy")
    if out is None and not dry_run:
        raise typer.BadParameter("give --out RUN, or --dry-run")
    if heads is not None and ledgers is None and sites is None:
        raise typer.BadParameter("--heads goes with --sites DIR or --ledgers DIR; made-up people need none")
    if heads is not None and not heads.is_dir():
        raise typer.BadParameter(f"--heads: {heads} is not a folder; make it, or mount its disk")
    patience = {"gather_seconds": gather_seconds, "round_seconds": round_seconds}
    given = {name: seconds for name, seconds in patience.items() if seconds is not None}
    if given and engine == "in-process":
        raise typer.BadParameter("--gather-seconds and --round-seconds go with --engine deployment or simulation")
    text = read_study(study)
    what = Rehearsal(
        study_text=text,
        source=str(study),
        sites=sites,
        out=out or Path(),
        ledgers=ledgers,
        heads=heads,
        engine=engine,
        patience=Patience(**given),
        options=SiteOptions(unit=unit, follow_links=follow_links),
    )
    went_on: list[str] = []

    def resumed(where: str) -> None:
        went_on.append(where)
        say(f"fedsynth: {where}\n")

    with progress() as tell, when_stopped(lambda: _left(None if dry_run else out)):
        if dry_run:
            plan = dry_rehearse(what, progress=tell)
            remark(differences(plan).sentences())
            _answer_dry(plan, as_json=as_json)
            return
        run = carry_out(
            what, progress=tell, resumed=resumed, planned=lambda plan: remark(differences(plan).sentences())
        )
    statement, scores = run.statement(), internal_scores(run)
    if as_json:
        body = {
            "run": str(run.path),
            "resumed": went_on[0] if went_on else None,
            "epsilon": statement.epsilon if statement.is_private else "inf",
            "delta": statement.delta,
            "unit": statement.unit,
            "scores": [{"name": s.name, "value": s.value, "low": s.low, "high": s.high} for s in scores],
        }
        sys.stdout.write(json.dumps(body, indent=2) + "\n")
        return
    sys.stdout.write(statement.sentence() + "\n")
    inside = "made-up people, exact" if run.facts().cohort == "toy" else "exact, for this machine only"
    for score in scores:
        sys.stdout.write(f"  {score.name}: {score.value:.3f} [{score.low:.3f}, {score.high:.3f}] ({inside})\n")
    sys.stdout.write(f"The run is in {run.path}; next: fedsynth release {run.path} --out RELEASE\n")


def _answer_dry(plan: "Plan", *, as_json: bool) -> None:
    privacy, epsilon = plan.study.privacy, plan.epsilon()
    if as_json:
        body = {
            "dry_run": True,
            "study": plan.study.name,
            "plan": plan.digest,
            "epsilon": epsilon if privacy.is_private else "inf",
            "delta": privacy.delta,
            "unit": privacy.unit,
        }
        sys.stdout.write(json.dumps(body, indent=2) + "\n")
        return
    sys.stdout.write(f"{plan.study.name}: everything is in order; epsilon would be {epsilon:.3f}\n")
    if not privacy.is_private:
        sys.stdout.write("Without privacy it can be rehearsed, and never be released.\n")


def _left(out: Path | None) -> str:
    """Say what a rehearsal that was cut short leaves."""
    if out is not None and (out / "run.json").exists():
        return (
            f"the run as far as it came is in {out}. Give the same command again and it goes on from there; what "
            "was charged stays charged, and is not charged again"
        )
    return "nothing was kept, and nobody was charged. Give the same command again"
