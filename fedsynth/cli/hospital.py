"""`fedsynth site init`, `request`, `approver`, `preflight`: a hospital's folder, its keys and its machine."""

import json
import math
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

Site = Annotated[Path, typer.Argument(help="the site's folder")]


def init(
    folder: Site,
    name: Annotated[str | None, typer.Option(help="the site's name, to begin a folder")] = None,
    kit: Annotated[Path | None, typer.Option(help="the authority's kit, or a later notice, to take in")] = None,
    authority: Annotated[
        str | None, typer.Option(help="the authority's twelve words, as its people read them to you")
    ] = None,
) -> None:
    """Begin a site's folder, with rules to be read and changed, or take a kit of the federation's authority in.

    First --name, then `fedsynth site request`, and once the kit is there --kit. The authority's words are compared
    the first time; without them no kit is taken in.
    """
    from fedsynth.cli.federation import ask_for_words
    from fedsynth.errors import RunError
    from fedsynth.site.consent import FEDERATION
    from fedsynth.site.folder import make_site, take_kit

    if (name is None) == (kit is None):
        raise RunError("give --name to begin a site's folder, or --kit to take a kit in; nothing was done")
    if name is not None:
        make_site(folder, name=name)
        sys.stdout.write(
            f"{folder} is made. Read {folder / 'site.toml'} and set its limits, then make the request:\n"
        )
        sys.stdout.write(f"    fedsynth site request {folder} --out {name}.request.json\n")
    if kit is not None:
        roster = take_kit(folder, kit, words=authority or ask_for_words(folder / FEDERATION))
        sys.stdout.write(f"Edition {roster.edition} of federation {roster.name}: {', '.join(roster.members)}\n")
        sys.stdout.write(f"Next: fedsynth site preflight {folder}\n")


def request(
    folder: Site, out: Annotated[Path, typer.Option("--out", help="the file to send to the authority")]
) -> None:
    """Make this site's own keys and its request to be certified. The private keys stay in the site's folder."""
    from fedsynth.cli.federation import say_words
    from fedsynth.federation.files import write_new
    from fedsynth.site.folder import request_membership

    made, data = request_membership(folder)
    write_new(out, data)
    say_words(made.words, out=out)


def approver(
    name: Annotated[str, typer.Argument(help="the person's name, as site.toml shall have it")],
    key: Annotated[Path, typer.Option(help="where the person's private key is to be; for that person alone")],
) -> None:
    """Make the key of a person who approves studies, and print the line for `[approvers]` in site.toml."""
    from fedsynth.federation import keys
    from fedsynth.federation.names import check_name
    from fedsynth.toml import dumps

    check_name(name)
    keys.new_signing_key(key)
    public = keys.load_signing_key(key, what="the approver's key").public_key().public_bytes_raw()
    sys.stdout.write(f"The line for [approvers] in site.toml:\n\n{dumps({name: public.hex()})}")


def preflight(
    folder: Site,
    offline: Annotated[
        bool, typer.Option("--offline", help="ask the coordinator nothing, not even its date")
    ] = False,
    room: Annotated[float, typer.Option(help="gigabytes (GiB) that each disk must have left")] = 2.0,
    as_json: Annotated[bool, typer.Option("--json", help="answer as JSON")] = False,
) -> None:
    """Look at this machine before anything runs: authority, name, clock, proxy, rights, disk, ledger, versions.

    Each line says what was found; one that fails says what to do (exit code 1).
    """
    from fedsynth.errors import RefusedError, RunError
    from fedsynth.site.preflight import preflight as look
    from fedsynth.site.preflight import this_machine

    if not 0 <= room < math.inf:
        raise RunError(f"--room is {room:g}; it is a number of gigabytes")
    checks = look(this_machine(folder, offline=offline, least_room=round(room * 1024**3)))
    failed = [check for check in checks if not check.passed]
    if as_json:
        sys.stdout.write(json.dumps({"checks": [asdict(check) for check in checks]}, indent=2) + "\n")
    else:
        for check in checks:
            sys.stdout.write(f"{'ok  ' if check.passed else 'FAIL'}  {check.name:<12} {check.said}\n")
    if failed:
        raise RefusedError(f"{len(failed)} of {len(checks)} checks failed: {', '.join(one.name for one in failed)}")
