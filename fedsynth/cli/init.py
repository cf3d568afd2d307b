"""`fedsynth init`: from a folder of recordings to the draft of a study, without a word about a person."""

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fedsynth.cli.progress import progress

if TYPE_CHECKING:
    from fedsynth.recordings.survey.survey import Survey


def init(
    folder: Annotated[
        Path, typer.Argument(help="folder of recordings: one hospital's, or one with a folder for each hospital")
    ],
    out: Annotated[Path, typer.Option("--out", "-o", help="the study file to write; must not be there yet")] = Path(
        "study.toml"
    ),
    follow_links: Annotated[
        bool, typer.Option("--follow-links", help="look at what links that lead out of the folder lead to")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="answer as JSON")] = False,
) -> None:
    """Look at a folder of recordings and write a commented study.toml to begin with. Reads headers and tables only.

    What cannot be known stays in the file as a question that begins with CHOOSE; `fedsynth check` names them all.

    Names of people and files and exact counts do not go into the study. What is printed is for this machine.
    """
    from fedsynth.errors import RefusedError
    from fedsynth.recordings.survey.draft import draft
    from fedsynth.recordings.survey.survey import survey

    there = f"{out}: something is there, and nothing is overwritten; name another file with -o, or move it away"
    if out.exists() or out.is_symlink():
        raise RefusedError(there)
    if not out.absolute().parent.is_dir():
        raise typer.BadParameter(f"--out: there is no folder {out.absolute().parent}; make it first")
    with progress() as tell:
        found = survey(
            folder, follow_links=follow_links, progress=lambda done, of: tell("reading headers", done, of)
        )
    text = draft(found)
    open_choices = _open_choices(text, out)
    try:
        with out.open("x", encoding="utf-8") as file:
            file.write(text)
    except FileExistsError:
        raise RefusedError(there) from None
    sites = folder if found.below else folder.absolute().parent
    if as_json:
        body = {
            "study": str(out),
            "format": found.form,
            "preset": found.known.name if found.known else None,
            "sites": list(found.sites),
            "people": list(found.people),
            "recordings": list(found.recordings),
            "labels": dict(found.labels.counts),
            "choices": open_choices,
        }
        sys.stdout.write(json.dumps(body, indent=2) + "\n")
        return
    sys.stdout.write(_told(found) + _next(out, sites, open_choices))


def _open_choices(text: str, out: Path) -> str:
    """Return what `check` will say of choices that are left open, "" where there are none.

    Raises:
        StudyError: there are none, and yet it is no study.
    """
    from fedsynth.errors import StudyError
    from fedsynth.study import CHOICE, parse_study

    try:
        parse_study(text, source=str(out))
    except StudyError as error:
        if CHOICE not in text:
            raise StudyError(
                f"no study can be made of these recordings as they are: {str(error).removeprefix(f'{out}: ')}. "
                "Nothing was written"
            ) from None
        return str(error)
    return ""


def _told(found: "Survey") -> str:
    """Say what was found, for the eyes of the recordings' owner."""
    lines = [f"Found, for your eyes only (only {found.form} files were looked at):"]
    if found.known:
        lines.append(f"  a copy of a public data set, or a part of one: preset {found.known.name!r}")
    for name, people, recordings in zip(found.sites, found.people, found.recordings, strict=True):
        lines.append(f"  {name}: {recordings} recordings, {people} people")
    for label, count in found.labels.counts.items():
        lines.append(f"  label {label}: {count} people")
    if found.labels.left_out:
        lines.append(f"  {found.labels.left_out} people have no label that at least 5 have; they are left out")
    channels = found.channels
    if channels.sfreq is not None:
        lines.append(f"  {len(channels.names)} channel{'s' * (len(channels.names) != 1)} at {channels.sfreq:g} Hz")
    if channels.other_rates:
        lines.append(
            f"  {channels.other_rates} recordings have another rate, and will be refused: resample them or move "
            "them away"
        )
    if found.unread:
        lines.append(f"  {found.unread} headers cannot be read; `fedsynth rehearse --dry-run` says which, and why")
    if not channels.has_unit and found.form not in ("text", "rows"):
        lines.append("  no unit: say --unit uV to `rehearse`, or unit in each hospital's recordings.toml")
    if not found.below:
        lines.append(
            "  one hospital. If folders below it are hospitals, put a participants.tsv or a recordings.toml into "
            "each, and say init again"
        )
    return "".join(f"{line}\n" for line in lines)


def _next(out: Path, sites: Path, open_choices: str) -> str:
    said = f"{out} is a draft: read it, and change what is not so.\n"
    if open_choices:
        return f"{said}{open_choices.removeprefix(f'{out}: ').capitalize()}.\n"
    return f"{said}Next: fedsynth check {out}\nthen: fedsynth rehearse {out} --sites {sites} --dry-run\n"
