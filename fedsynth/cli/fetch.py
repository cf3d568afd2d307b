"""`fedsynth fetch`: a public set of recordings, with checksums."""

import json
import sys
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from fedsynth.cli.answer import when_stopped
from fedsynth.cli.progress import progress


def fetch(
    name: Annotated[
        str | None, typer.Argument(help="of the set; without one those that are known are listed")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="folder to fetch it to; by default ./NAME")] = None,
    files: Annotated[
        list[str] | None, typer.Option(help='only files like this, as in "chb01/*"; may be given again')
    ] = None,
    registry: Annotated[Path | None, typer.Option(help="a page of sets of your own (TOML)")] = None,
    unpinned: Annotated[
        bool,
        typer.Option(
            "--unpinned",
            help="trust the checksums of a set that nobody pinned, once; from then on the folder pins them",
        ),
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="answer as JSON")] = False,
) -> None:
    """Fetch a public set of recordings, and hold every file against its checksum.

    A download that was broken off goes on with the same command.
    """
    from fedsynth.errors import FetchError
    from fedsynth.recordings.fetch import fetch as carry_out
    from fedsynth.recordings.public_sets import public_sets

    sets = public_sets(registry)
    if name is None:
        if as_json:
            sys.stdout.write(json.dumps({one: what.model_dump() for one, what in sets.items()}, indent=2) + "\n")
        else:
            sys.stdout.write("".join(f"{one:<18} {what.title}\n" for one, what in sets.items()))
        return
    if name not in sets:
        raise FetchError(f"there is no set {name!r}; there are: {', '.join(sets)}. Nothing was fetched")
    what, folder = sets[name], out or Path(name)
    with progress() as tell, when_stopped(lambda: "what was fetched is kept. Give the same command again"):
        found = carry_out(
            what, folder, patterns=tuple(files or ()), unpinned=unpinned, progress=partial(tell, f"fetching {name}")
        )
    if as_json:
        sys.stdout.write(json.dumps({"folder": str(folder), **asdict(found)}, indent=2) + "\n")
        return
    pin = ""
    if found.trusted_now:
        pin = (
            "Its checksums were taken on trust, this once: the folder's lock holds them from now on. To pin it "
            f'everywhere: sums_sha256 = "{found.sums_sha256}"\n'
        )
    layout = f' Its layout: preset = "{what.preset}" in [recordings] of a study.' if what.preset else ""
    sys.stdout.write(
        f"{what.title}: {found.files} files are in {folder}, {found.fetched} fetched now.{layout}\n{pin}"
    )
