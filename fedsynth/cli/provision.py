"""`fedsynth provision`, and revoke, renew and rotate: what the people do who run a federation's authority."""

import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from fedsynth.federation.membership import MembershipRequest
    from fedsynth.federation.provision import Provisioner

AuthorityFolder = Annotated[
    Path,
    typer.Option("--authority", help="the authority's folder, on a machine without network; made when missing"),
]
OutFolder = Annotated[
    Path, typer.Option("--out", help="a new folder for the kits, one folder each, and the notice")
]
_CHARTER, _LOCK = "FEDERATION.toml", "lock.txt"


def provision(
    charter: Annotated[Path, typer.Argument(help="FEDERATION.toml: name, sites, coordinator, validity")],
    authority: AuthorityFolder,
    out: OutFolder,
    requests: Annotated[
        Path | None, typer.Option(help="a folder with the participants' requests, as they sent them")
    ] = None,
    confirm: Annotated[
        list[str] | None,
        typer.Option(help='NAME=words, as the participant read them to you; once for each, e.g. "north=babi-..."'),
    ] = None,
    lock: Annotated[
        Path | None, typer.Option(help="the lock file of pinned packages, to be compared by every preflight")
    ] = None,
) -> None:
    """Certify the participants of a federation whose words you heard, and write a kit for each.

    A request is certified only if its twelve words were said by the participant itself, on another way than the
    request came: by telephone, or face to face. Without --confirm you are asked at the terminal. Whoever is
    certified already keeps its certificate, and nobody else is certified by mistake.
    """
    from fedsynth.federation.files import read, replace
    from fedsynth.federation.provision import waiting

    work = _provisioner(authority, charter=charter, lock=lock, out=out)
    found = work.read_requests(requests) if requests else {}
    confirmed = _said(confirm or [], found)
    if found and not confirmed:
        _refuse_unconfirmed(found)
    register = work.authority.load_register()
    if not confirmed and not register.certified:
        _refuse_idle(requests)
    if confirmed:
        register = work.certify(found, confirmed)
    replace(authority / _CHARTER, read(charter, what=charter.name))
    if lock is not None:
        replace(authority / _LOCK, read(lock, what="the lock file"))
    # Everybody's: a roster with one site more is news for those who were there before.
    work.hand_out(register, out=out, kits_for=sorted(register.certified))
    write = sys.stdout.write
    write(f"Edition {register.edition} of federation {work.charter.name}. The authority reads:\n\n")
    write(f"    {work.authority.words}\n\nTell every participant these words yourself. Certified")
    write(" now:\n" if confirmed else " before, and nobody now:\n")
    for name in confirmed or register.certified:
        member = register.certified[name].member
        write(f"  {name:<24} {member.role:<12} until {member.not_after:%d %B %Y}\n")
    missing = waiting(work.charter, register)
    if missing:
        write(f"Still without a certificate: {', '.join(missing)}\n")
    write(f"Kits are in {out / 'kits'}. Keep {authority} offline, and a copy of it in a safe.\n")


def revoke(
    name: Annotated[str, typer.Argument(help="the participant")],
    authority: AuthorityFolder,
    out: OutFolder,
    reason: Annotated[str, typer.Option(help="why, in words that everybody may read")] = "not stated",
) -> None:
    """Take a participant out of the federation: its certificate and its keys hold no more.

    Hand the notice to everybody. Who has taken it in refuses the participant at the next exchange.
    """
    work = _provisioner(authority, out=out)
    register = work.revoke(name, reason=reason)
    work.hand_out(register, out=out, kits_for=[])
    sys.stdout.write(f"{name} is revoked from edition {register.edition} on. Hand everybody {out / 'notice'}:\n")
    sys.stdout.write("a site takes it in by `fedsynth site init SITE --kit NOTICE`, the coordinator by\n")
    sys.stdout.write("`fedsynth federation join NOTICE --federation FOLDER`, and then reloads nginx.\n")


def renew(
    name: Annotated[str, typer.Argument(help="the participant")], authority: AuthorityFolder, out: OutFolder
) -> None:
    """Give a participant a new certificate for the keys that it has; the old one runs out by itself."""
    work = _provisioner(authority, out=out)
    register = work.renew(name)
    work.hand_out(register, out=out, kits_for=[name])
    end = register.certified[name].member.not_after
    sys.stdout.write(f"{name} is certified until {end:%d %B %Y}. Its kit is {out / 'kits' / name};\n")
    sys.stdout.write(f"hand everybody else the notice {out / 'notice'}.\n")


def rotate(
    name: Annotated[str, typer.Argument(help="the participant")],
    authority: AuthorityFolder,
    out: OutFolder,
    request: Annotated[Path, typer.Option(help="its request with the new keys")],
    confirm: Annotated[str | None, typer.Option(help="the new request's words, as it read them to you")] = None,
) -> None:
    """Certify a participant's new keys, and revoke the old ones."""
    from fedsynth.errors import FederationError
    from fedsynth.federation.membership import load_membership

    work, asked = _provisioner(authority, out=out), load_membership(request)
    if asked.name != name:
        raise FederationError(f"the request is by {asked.name}, not by {name}; nothing was changed")
    said = confirm or _said([], {name: asked}).get(name)
    if said is None:
        _refuse_unconfirmed({name: asked})
        return
    register = work.rotate(asked, said)
    work.hand_out(register, out=out, kits_for=[name])
    sys.stdout.write(f"{name} has new keys from edition {register.edition} on, and the old ones are revoked.\n")
    sys.stdout.write(f"Its kit is {out / 'kits' / name}; hand everybody else the notice {out / 'notice'}.\n")


def _provisioner(
    folder: Path, *, out: Path, charter: Path | None = None, lock: Path | None = None
) -> "Provisioner":
    """Open the authority; what it was told once, charter and lock, it keeps beside its key."""
    from fedsynth.errors import FederationFileError
    from fedsynth.federation.authority import open_authority
    from fedsynth.federation.charter import load_charter
    from fedsynth.federation.files import check_vacant
    from fedsynth.federation.provision import Provisioner

    check_vacant(out)
    now = datetime.now(UTC)
    if charter is None and not (folder / _CHARTER).exists():
        raise FederationFileError("no authority of a federation is in that folder; fedsynth provision makes one")
    page = load_charter(charter or folder / _CHARTER)
    kept = folder / _LOCK
    authority = open_authority(folder, federation=page.name, now=now)
    return Provisioner(authority, page, now, lock or (kept if kept.exists() else None))


def _said(confirm: Sequence[str], found: "dict[str, MembershipRequest]") -> dict[str, str]:
    """Return who said which words: from --confirm, or else from whoever sits at the terminal."""
    from fedsynth.errors import FederationFileError

    if not confirm and sys.stdin.isatty():
        said = {}
        for name in found:
            sys.stderr.write(f"Have {name} read its twelve words to you.\n")
            said[name] = typer.prompt(f"Words of {name} (empty: not now)", default="", show_default=False, err=True)
        return {name: words for name, words in said.items() if words.strip()}
    pairs = [one.partition("=") for one in confirm]
    if any(not (name and sign and words.strip()) for name, sign, words in pairs):
        raise FederationFileError('--confirm takes NAME=words, as in "north=babi-bada-..."; nobody was certified')
    if len({name for name, _, _ in pairs}) != len(pairs):
        raise FederationFileError("--confirm names a participant twice; nobody was certified")
    return {name: words for name, _, words in pairs}


def _refuse_unconfirmed(found: "dict[str, MembershipRequest]") -> None:
    from fedsynth.errors import FederationError

    lines = "".join(f"  {name:<24} {request.words}\n" for name, request in found.items())
    sys.stdout.write(f"Requests that are here, and the words that their senders must read to you:\n{lines}")
    raise FederationError(
        f"{len(found)} requests wait for a comparison, and nobody was certified. Call each participant, have it "
        "read its words, and give them with --confirm NAME=words"
    )


def _refuse_idle(requests: Path | None) -> None:
    from fedsynth.errors import FederationError

    where = "no request was given (--requests)" if requests is None else f"{requests} holds no new request"
    raise FederationError(f"{where}, so that nobody was certified; participants make one by fedsynth site request")
