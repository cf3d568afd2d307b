"""`fedsynth verify`: check a release offline, on a machine that never saw the data."""

import json
import os
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from fedsynth.errors import FedsynthError


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
    as_json: Annotated[bool, typer.Option("--json", help="answer as JSON")] = False,
) -> None:
    """Check every file of a release, its signatures and its ledger heads. Needs no network and no torch."""
    from fedsynth.release.verify import verify_release

    verified = verify_release(release, key=key, seen=seen)
    if as_json:
        body = asdict(verified) | {"made": verified.made.as_json()}
        _answer(json.dumps(body, indent=2, default=str))
        return
    made = verified.made
    lines = [
        f"{release}: verified, {verified.files} files, signed by {verified.fingerprint}",
        verified.promise,
        f"How it was made: {made.training}; {made.setting}; {made.people}.",
    ]
    if not verified.pinned:
        lines.append(
            "The key came with the release. Compare its fingerprint with one the publisher gave you elsewhere, "
            "or pass --key."
        )
    _answer("\n".join(map(_printable, lines)))


def _printable(line: str) -> str:
    """Escape what a terminal would obey or cannot show: a publisher's words and a folder's name hold anything."""
    safe = "".join(letter if letter.isprintable() else ascii(letter)[1:-1] for letter in line)
    encoding = getattr(sys.stdout, "encoding", None) or "ascii"
    return safe.encode(encoding, errors="backslashreplace").decode(encoding)


def _answer(text: str) -> None:
    """Write to standard output, to the end; a full disk or a reader that left is one sentence."""
    if sys.stdout is None:
        raise FedsynthError("the release verified, and standard output is closed, so that the answer has no place")
    try:
        sys.stdout.write(text + "\n")
        sys.stdout.flush()
    except OSError as error:
        # What is left in the buffer would fail again when Python ends.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        cause = error.strerror or type(error).__name__
        raise FedsynthError(f"the release verified, and the answer cannot be written ({cause})") from error
