"""`fedsynth site settle`, `backup` and `restore`: a hospital's ledger after an accident, and before one."""

import json
import sys
from pathlib import Path
from typing import Annotated

import typer

from fedsynth.cli.hospital import Site


def settle(
    folder: Site,
    decide: Annotated[bool, typer.Option("--decide", help="settle, after you read what was found")] = False,
    person: Annotated[
        str, typer.Option("--as", help="who decides; one of the approvers, where site.toml names any")
    ] = "",
    key: Annotated[Path | None, typer.Option(help="that person's private key")] = None,
    nothing_else: Annotated[
        bool,
        typer.Option(
            "--nothing-else-was-approved",
            help="you state that no plan was approved here but those that are listed, since the lines were written",
        ),
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="answer as JSON")] = False,
) -> None:
    """Bring a frozen ledger back by a person's signed decision, counting the worst case.

    Without --decide it says what was found and what would be counted. Lines that can be proven by the head, which
    is kept elsewhere, are written again. Otherwise all steps of every plan that was approved here count as spent;
    and unless you state that nothing else was approved, nobody here can be asked again. Stop the site's processes
    first, and look for a newer copy of the ledger before you decide.
    """
    from fedsynth.errors import RunError
    from fedsynth.federation.keys import load_signing_key
    from fedsynth.site import settlement

    found = settlement.look(folder)
    finding = found.finding
    body = {
        "cause": finding.cause,
        "verdict": finding.verdict,
        "lines": finding.lines,
        "head_names_line": None if finding.head is None else finding.head.number,
        "runs": list(found.runs),
        "would_be_counted": len(finding.rebuilt if finding.verdict == "proven" else finding.planned),
    }
    if decide:
        if not person:
            raise RunError("say with --as who decides; the decision is kept with the name")
        own = load_signing_key(key, what="that person's key") if key else None
        settled = settlement.decide(folder, person=person, key=own, nothing_else_was_approved=nothing_else)
        body |= {"added": settled.added, "everybody": settled.everybody, "head": settled.head.link}
    if as_json:
        sys.stdout.write(json.dumps(body, indent=2) + "\n")
        return
    write = sys.stdout.write
    if finding.verdict == "whole":
        write(f"The ledger is whole: {finding.lines} lines, as its head says. There is nothing to settle.\n")
        return
    write(f"The ledger is frozen: {finding.cause}.\n")
    write(f"{finding.lines} lines verify; its head names line {body['head_names_line'] or '(none)'}.\n")
    write(f"Plans that were approved here: {', '.join(found.runs) or 'none'}.\n")
    write(f"{_verdict(finding.verdict, body['would_be_counted'])}\n")
    if decide:
        write(f"Settled by {person}: {body['added']} lines were added")
        write(", the last of which concerns everybody and has no finite epsilon.\n" if body["everybody"] else ".\n")
        write("Approve anew what shall go on; the coordinator needs a new run for what was lost.\n")
    else:
        write("Nothing was changed. To settle it: fedsynth site settle SITE --decide --as NAME\n")


def backup(
    folder: Site,
    place: Annotated[Path, typer.Argument(help="a new folder; keep it as you keep the site's keys")],
    windows: Annotated[bool, typer.Option("--windows", help="copy the windows too, which hold recordings")] = False,
) -> None:
    """Copy a site's state while it runs: rules, keys, approvals, requests, and the ledger at one moment.

    The copy has no head: a ledger that is restored from it is frozen until `fedsynth site settle`, unless the head
    is kept on another disk and shows that nothing is missing.
    """
    from fedsynth.site.backup import back_up

    copied = back_up(folder, place, windows=windows)
    sys.stdout.write(f"{place}: {copied.files} files, {copied.lines} lines of the ledger. It holds private keys.\n")


def restore(
    place: Annotated[Path, typer.Argument(help="the folder that fedsynth site backup made")],
    folder: Annotated[Path, typer.Argument(help="the site's folder, new")],
) -> None:
    """Bring a backup back into a new folder. The site is frozen until its ledger is settled."""
    from fedsynth.site.backup import restore as bring_back

    copied = bring_back(place, folder)
    sys.stdout.write(f"{folder}: {copied.files} files, {copied.lines} lines of the ledger.\n")
    sys.stdout.write(f"Whatever was charged since the copy is not in it. Next: fedsynth site settle {folder}\n")


def _verdict(verdict: str, count: object) -> str:
    if verdict == "proven":
        return f"The {count} missing lines are proven by the head and would be written again; no more is lost."
    said = f"What is missing cannot be proven. {count} steps of those plans would be charged in full"
    if verdict == "unknown":
        return f"{said}; and more is missing than they have, so that nobody here could be asked again."
    return (
        f"{said}. Unless you state --nothing-else-was-approved, everybody is charged without noise besides, so "
        "that nobody here could be asked again."
    )
