"""`fedsynth release`: from a finished run to a signed release."""

import json
import sys
from pathlib import Path
from typing import Annotated

import typer

from fedsynth.cli.answer import when_stopped
from fedsynth.cli.progress import progress


def release(
    run: Annotated[Path, typer.Argument(help="the run folder that `fedsynth rehearse` wrote")],
    out: Annotated[Path, typer.Option(help="folder of the release; must be new, or hold this very release")],
    key: Annotated[
        Path | None, typer.Option(help="private key, OpenSSH Ed25519; without it the run's own key is made")
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="compare ledgers and statement, write nothing")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="answer as JSON")] = False,
) -> None:
    """Hold a run's statement against its ledgers, draw synthetic windows, and write a signed release."""
    from fedsynth.coordinator.run_folder import RunFolder
    from fedsynth.rehearsal.publish import publish

    with progress() as tell, when_stopped(lambda: f"the run is as it was, and nothing was written to {out}"):
        done = publish(RunFolder(run), out, key=key, progress=tell, dry_run=dry_run)
    if as_json:
        body = {"release": str(out), "windows": done.windows, "signed_by": done.fingerprint, "dry_run": dry_run}
        sys.stdout.write(json.dumps(body, indent=2) + "\n")
        return
    sys.stdout.write(done.statement.sentence() + "\n")
    if dry_run:
        sys.stdout.write(
            f"Ledgers and statement agree; {done.windows} windows would be drawn. Nothing was written.\n"
        )
        return
    sys.stdout.write(f"{out}: {done.windows} synthetic windows, signed by {done.fingerprint}\n")
    sys.stdout.write(f"Report: {out / 'report' / 'index.html'}\n")
