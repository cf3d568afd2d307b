"""`fedsynth verify`: check a release offline, on a machine that never saw the data."""

import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer


def verify(
    release: Annotated[Path, typer.Argument(help="the release folder")],
    key: Annotated[
        Path | None,
        typer.Option(
            help="the publisher's public key, got elsewhere: .pub, or allowed_signers as OpenSSH reads it"
        ),
    ] = None,
    seen: Annotated[
        Path | None, typer.Option(help="a file that remembers the ledger heads of releases verified before")
    ] = None,
    sites: Annotated[
        Path | None,
        typer.Option(
            help="the folder of the federation's roster and authority, as in a kit, for countersignatures"
        ),
    ] = None,
    threshold: Annotated[
        int | None, typer.Option(help="so many sites must have countersigned; all of the roster, if not said")
    ] = None,
    countersignatures: Annotated[
        Path | None, typer.Option(help="the folder of the sites' files; RELEASE.countersignatures, if not said")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="answer as JSON")] = False,
) -> None:
    """Check every file of a release, its signatures and its ledger heads. Needs no network and no torch."""
    from fedsynth.privacy import repricing
    from fedsynth.release.remarks import remarks
    from fedsynth.release.verify import verify_release

    if sites is None and (threshold is not None or countersignatures is not None):
        raise typer.BadParameter("countersignatures are counted with --sites, the roster that names who may sign")
    verified = verify_release(release, key=key, seen=seen, reprice=repricing.installed())
    told = remarks(release)
    signed, authority = None, ""
    if sites is not None:
        from fedsynth.federation.roster import authority_words, load_authority, load_roster
        from fedsynth.release.countersignature import check_countersignatures

        roster = load_roster(sites)
        authority = authority_words(load_authority(sites))
        place = countersignatures or release.with_name(f"{release.name}.countersignatures")
        least = len(roster.sites) if threshold is None else threshold
        signed = check_countersignatures(release, roster=roster, place=place, threshold=least)
    if as_json:
        body = asdict(verified) | {"made": verified.made.as_json(), "priced": verified.priced, "remarks": told}
        if signed is not None:
            body["countersigned"] = asdict(signed) | {"authority": authority}
        sys.stdout.write(json.dumps(body, indent=2, default=str) + "\n")
        return
    made = verified.made
    lines = [
        f"{release}: verified, {verified.files} files, signed by {verified.fingerprint}",
        verified.promise,
        f"Epsilon held against the events behind it: {verified.priced}.",
        f"How it was made: {made.training}; {made.setting}; {made.people}.",
    ]
    lines += told
    if not verified.pinned:
        lines.append(
            "The key came with the release. Compare its fingerprint with one the publisher gave you elsewhere, "
            "or pass --key."
        )
    if signed is not None:
        lines.append(f"Countersigned by {len(signed.signed)} of {signed.sites} sites: {', '.join(signed.signed)}.")
        lines += [f"Not by {name}: {why}." for name, why in signed.missing.items()]
        lines.append(f"The roster is by an authority that reads {authority}; compare the words with its people.")
    sys.stdout.write("".join(f"{_printable(line)}\n" for line in lines))


def _printable(line: str) -> str:
    """Escape what a terminal would obey or cannot show: a publisher's words and a folder's name hold anything."""
    safe = "".join(letter if letter.isprintable() else ascii(letter)[1:-1] for letter in line)
    encoding = getattr(sys.stdout, "encoding", None) or "ascii"
    return safe.encode(encoding, errors="backslashreplace").decode(encoding)
