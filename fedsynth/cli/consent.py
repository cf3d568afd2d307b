"""`fedsynth site requests`, `approve` and `leave`: what a hospital agrees to, and how it takes that back."""

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fedsynth.cli.hospital import Site

if TYPE_CHECKING:
    from fedsynth.site.wording import Wording


def requests(
    folder: Site,
    add: Annotated[Path | None, typer.Option(help="a request that came as a file; it is verified and kept")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="answer as JSON")] = False,
) -> None:
    """Show what the coordinator asks for, in plain words and against what was approved last.

    Only requests that the coordinator of your roster signed are shown. What is said of your people, their number
    and what was spent on them, is for you alone and goes nowhere.
    """
    from fedsynth.federation.files import read
    from fedsynth.site.requests import take_in, waiting
    from fedsynth.site.wording import word

    if add is not None:
        take_in(folder, read(add, what="the request"))
    pending, hidden = waiting(folder)
    found = [word(folder, one) for one in pending]
    if as_json:
        body = {"requests": [one.to_json() for one in found], "not_shown": hidden}
        sys.stdout.write(json.dumps(body, indent=2) + "\n")
        return
    sys.stdout.write(f"{len(found)} request{'s' * (len(found) != 1)}\n")
    for one in found:
        sys.stdout.write(_text(one))
    sys.stdout.write("".join(f"Not shown: {_safe(said)}\n" for said in hidden))


def approve(
    folder: Site,
    what: Annotated[
        str, typer.Argument(help="the first 12 digits or more of a request's digest; with --withdraw a run's name")
    ],
    person: Annotated[str | None, typer.Option("--as", help="who approves, as site.toml names them")] = None,
    key: Annotated[Path | None, typer.Option(help="that person's private key")] = None,
    withdraw: Annotated[bool, typer.Option("--withdraw", help="take the approval of a run back")] = False,
) -> None:
    """Approve a request for this site, under the site's signature and of those whom its policy names.

    The digest says which request you read. The plan is computed anew from its study and compared, and the ledger
    sets its cost aside. With --withdraw every further order of the run is refused; sums that were told stay told.
    """
    from fedsynth.errors import RefusedError
    from fedsynth.federation.keys import load_signing_key
    from fedsynth.site.requests import approve_request, find, withdraw_run

    if withdraw:
        if not withdraw_run(folder, run=what):
            raise RefusedError(
                "nothing is approved here for a run of that name; fedsynth site requests shows names"
            )
        sys.stdout.write(
            f"Withdrawn: every order of run {what} is refused from now on. What was charged stays so.\n"
        )
        return
    pending = find(folder, what)
    own = load_signing_key(key, what="the approver's key") if key else None
    missing = approve_request(folder, pending, person=person, key=own)
    run = pending.request.run
    if missing:
        sys.stdout.write(f"Signed by {person}. Run {run} is approved once {' and '.join(missing)} approve too.\n")
    else:
        sys.stdout.write(f"Approved: run {run}, plan {pending.request.plan_digest}\n")


def leave(folder: Site) -> None:
    """Leave: take every approval back and throw the kill switch; then say what remains, and why.

    Nothing that was told can be taken back, and nothing is deleted.
    """
    from fedsynth.site.leave import leave_federation

    left = leave_federation(folder)
    write = sys.stdout.write
    write(f"The kill switch is thrown ({left.switch}): nothing is answered from now on.\n")
    write(f"Approvals withdrawn: {', '.join(left.withdrawn) or 'none stood'}\n\nWhat remains, and until when:\n")
    for what, why in left.remains:
        write(f"  {what}\n      {why}\n")


def _text(one: "Wording") -> str:
    out = f"\n{'=' * 72}\nRequest {one.digest[:12]}  (run {_safe(one.run)})\n"
    out += "".join(f"  {name + ':':<26} {_safe(said)}\n" for name, said in one.lines)
    if not one.last:
        out += "  Nothing was approved here before; there is nothing to compare it with.\n"
    elif not one.changes:
        out += f"  The same as run {_safe(one.last)}, which was approved last.\n"
    else:
        out += f"  Against run {_safe(one.last)}, which was approved last:\n"
        for name, old, new in one.changes:
            out += f"    - {_safe(name)} = {_safe(old)}\n    + {_safe(name)} = {_safe(new)}\n"
    out += "".join(f"  REFUSED AS IT IS: {_safe(said)}\n" for said in one.objections)
    return out + f"  To approve it: fedsynth site approve SITE {one.digest[:12]}\n"


def _safe(text: str) -> str:
    """Escape what a terminal would obey: a coordinator's words hold anything."""
    return "".join(letter if letter.isprintable() else ascii(letter)[1:-1] for letter in text)
