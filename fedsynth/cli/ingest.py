"""`fedsynth ingest` and `fedsynth site ingest`: a hospital's recordings become windows in the site's folder."""

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

_Study = Annotated[Path, typer.Argument(help="the study file")]
_Unit = Annotated[
    Literal["uV", "mV", "V"] | None, typer.Option(help="unit of all recordings, whatever their files say")
]
_Links = Annotated[bool, typer.Option("--follow-links", help="read what links that lead out of the folder lead to")]
_Processes = Annotated[int | None, typer.Option(min=1, help="read so many recordings at once")]
_DryRun = Annotated[bool, typer.Option("--dry-run", help="read and check, write nothing")]
_AsJson = Annotated[bool, typer.Option("--json", help="answer as JSON")]


def ingest(
    site: Annotated[Path, typer.Argument(metavar="SITE.toml", help="the site's site.toml, or its folder")],
    study: _Study,
    recordings: Annotated[
        Path | None, typer.Option(help="the hospital's folder of recordings, if not where site.toml says")
    ] = None,
    unit: _Unit = None,
    follow_links: _Links = False,
    processes: _Processes = None,
    dry_run: _DryRun = False,
    as_json: _AsJson = False,
) -> None:
    """Read, check and cut a hospital's recordings into the windows that a study asks for.

    They stay in the site's folder, beside a page on their quality. What is held already is not read again, and
    what was broken off goes on. Nothing of it leaves the site.
    """
    from fedsynth.errors import StudyError
    from fedsynth.site.policy import load_policy

    folder = site.parent if site.is_file() else site
    if site.is_file() and site.name != "site.toml":
        raise StudyError(f"{site.name} is not a site.toml; name the site's own, or its folder")
    named = load_policy(folder).recordings
    if recordings is None and not named:
        raise typer.BadParameter('name the recordings: --recordings DIR, or recordings = "DIR" in site.toml')
    _carry_out(
        folder,
        recordings or folder / named,
        study=study,
        unit=unit,
        follow_links=follow_links,
        processes=processes,
        dry_run=dry_run,
        as_json=as_json,
    )


def site_ingest(
    folder: Site,
    study: _Study,
    recordings: Annotated[Path, typer.Argument(help="the hospital's folder of recordings, which is only read")],
    unit: _Unit = None,
    follow_links: _Links = False,
    processes: _Processes = None,
    dry_run: _DryRun = False,
    as_json: _AsJson = False,
) -> None:
    """Read, check and cut recordings into the windows that a study asks for. Nothing of it leaves the site."""
    _carry_out(
        folder,
        recordings,
        study=study,
        unit=unit,
        follow_links=follow_links,
        processes=processes,
        dry_run=dry_run,
        as_json=as_json,
    )


def _carry_out(
    folder: Path,
    recordings: Path,
    *,
    study: Path,
    unit: Literal["uV", "mV", "V"] | None,
    follow_links: bool,
    processes: int | None,
    dry_run: bool,
    as_json: bool,
) -> None:
    from fedsynth.recordings.options import SiteOptions
    from fedsynth.site.ingest import ingest as carry_out
    from fedsynth.study import parse_study

    what = parse_study(read_study(study), source=str(study))
    options = SiteOptions(unit=unit, follow_links=follow_links)
    kept = "what the site held before, it holds still. Give the same command again and it goes on from there"
    with progress() as tell, when_stopped(lambda: kept):
        found = carry_out(
            folder,
            recordings,
            study=what,
            options=options,
            progress=tell,
            dry_run=dry_run,
            processes=processes,
        )
    if as_json:
        sys.stdout.write(json.dumps(asdict(found), indent=2) + "\n")
        return
    labels = ", ".join(f"{count} {label}" for label, count in found.windows_by_label.items())
    would = "would hold" if dry_run else "holds"
    sys.stdout.write(
        f"The site {would} {found.recordings} recordings of {found.people} people, {found.hours:.1f} hours, "
        f"{found.windows} windows: {labels}. {found.read} recordings were read now.\n"
        "These numbers are for this site alone.\n"
    )
    if found.page:
        sys.stdout.write(f"How good the recordings are is shown by {found.page}, which must not leave the site.\n")
