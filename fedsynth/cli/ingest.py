"""`fedsynth site ingest`: a hospital's recordings become windows that stay in the site's folder."""

import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Literal

import typer

from fedsynth.cli.answer import when_stopped
from fedsynth.cli.hospital import Site
from fedsynth.cli.progress import progress
from fedsynth.cli.study_file import read_study


def ingest(
    folder: Site,
    study: Annotated[Path, typer.Argument(help="the study file")],
    recordings: Annotated[Path, typer.Argument(help="the hospital's folder of recordings, which is only read")],
    unit: Annotated[
        Literal["uV", "mV", "V"] | None, typer.Option(help="unit of all recordings, whatever their files say")
    ] = None,
    follow_links: Annotated[
        bool, typer.Option("--follow-links", help="read what links that lead out of the folder lead to")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="read and check, write nothing")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="answer as JSON")] = False,
) -> None:
    """Read, check and cut recordings into the windows that a study asks for. Nothing of it leaves the site."""
    from fedsynth.recordings.options import SiteOptions
    from fedsynth.site.ingest import ingest as carry_out
    from fedsynth.study import parse_study

    what = parse_study(read_study(study), source=str(study))
    options = SiteOptions(unit=unit, follow_links=follow_links)
    with progress() as tell, when_stopped(lambda: "what the site held before, it holds still"):
        found = carry_out(folder, recordings, study=what, options=options, progress=tell, dry_run=dry_run)
    if as_json:
        sys.stdout.write(json.dumps(asdict(found), indent=2) + "\n")
        return
    labels = ", ".join(f"{count} {label}" for label, count in found.windows_by_label.items())
    would = "would hold" if dry_run else "holds"
    sys.stdout.write(
        f"The site {would} {found.recordings} recordings of {found.people} people, {found.windows} windows: "
        f"{labels}.\nThese numbers are for this site alone.\n"
    )
