"""Kits: the folder that the authority hands to a participant. There is nothing secret in it.

A kit holds roster and list of revoked with their signatures, the authority's certificate, the participant's own,
the revocation list and node keys for a coordinator, the lock of packages where there is one, and one page to read.
"""

import shutil
from datetime import datetime
from pathlib import Path

from fedsynth.errors import FederationError, RefusedError
from fedsynth.federation import keys
from fedsynth.federation.authority import Authority, Certified
from fedsynth.federation.files import make_folder, read, replace, write_new
from fedsynth.federation.membership import TLS_KEY
from fedsynth.federation.roster import (
    AUTHORITY,
    REVOKED,
    ROSTER,
    Revoked,
    Roster,
    authority_words,
    load_authority,
    load_certificate,
    load_revoked,
    load_roster,
    signed,
)
from fedsynth.federation.words import same_words

CERTIFICATE, REVOCATION_LIST, NODES, LOCK, README = "tls.pem", "revoked.pem", "nodes", "lock.txt", "README.md"
REVOKED_NODES = "revoked-nodes.txt"
_MAY_STAND = frozenset({ROSTER, REVOKED, AUTHORITY, CERTIFICATE, REVOCATION_LIST, LOCK, README, REVOKED_NODES})


def write_notice(folder: Path, *, authority: Authority, roster: Roster, revoked: Revoked, now: datetime) -> None:
    """Write what everybody needs after a change of membership: roster, list of revoked, and both for nginx."""
    make_folder(folder)
    for name, text in ((ROSTER, roster.to_toml()), (REVOKED, revoked.to_toml())):
        write_new(folder / name, signed(name, text, key=authority.key))
    write_new(folder / AUTHORITY, read(authority.folder / AUTHORITY, what=AUTHORITY))
    write_new(folder / REVOCATION_LIST, authority.revocation_list(revoked.entries, now=now))
    nodes = "".join(f"{entry.node}\n" for entry in revoked.entries if entry.node)
    write_new(folder / REVOKED_NODES, nodes.encode("ascii"))
    make_folder(folder / NODES)
    for name, member in roster.sites.items():
        write_new(folder / NODES / f"{name}.pub", f"{member.node}\n".encode("ascii"))


def write_kit(
    folder: Path,
    certified: Certified,
    *,
    authority: Authority,
    roster: Roster,
    revoked: Revoked,
    lock: Path | None,
    now: datetime,
) -> None:
    """Write one participant's kit: a notice, its certificate and a page."""
    write_notice(folder, authority=authority, roster=roster, revoked=revoked, now=now)
    write_new(folder / CERTIFICATE, certified.certificate.encode("ascii"))
    if lock is not None:
        write_new(folder / LOCK, read(lock, what="the lock file"))
    write_new(folder / README, _page(certified, roster=roster, words=authority.words).encode("utf-8"))


def accept_kit(kit: Path, folder: Path, *, words: str | None) -> Roster:
    """Take a kit or a notice into a participant's folder, beside the private keys that it made.

    The first kit pins the authority, once its words were compared; a later one must be by the same and not be
    older.

    Args:
        kit: from the authority.
        folder: of the participant's federation files.
        words: the authority's, as its people said them; needed where none is pinned.

    Raises:
        FederationError: words that are missing or wrong, another authority, an older edition, another's kit, or a
            signature that does not hold; nothing was taken in.
        FederationFileError: a file is missing or malformed.
        RefusedError: the kit holds something that no kit does.
    """
    certificate = load_authority(kit)
    found = authority_words(certificate)
    if (folder / AUTHORITY).exists():
        if load_authority(folder) != certificate:
            raise FederationError(
                f"the kit is by another authority ({found}) than the one pinned here; nothing was taken in. Ask "
                "who sent it"
            )
    elif words is None or not same_words(words, found):
        heard = "nobody compared it" if words is None else "you were told other words"
        raise FederationError(
            f"the kit's authority reads {found}, and {heard}; nothing was taken in. Ask the authority's people for "
            "its words, on another way than the kit came"
        )
    roster, revoked = load_roster(kit), load_revoked(kit)
    if revoked.edition < roster.edition:
        raise FederationError("the kit's list of revoked members is older than its roster; nothing was taken in")
    if (folder / ROSTER).exists():
        there, gone = load_roster(folder).edition, load_revoked(folder).edition
        if roster.edition < there or revoked.edition < gone:
            raise FederationError(
                f"the kit is of edition {roster.edition} and edition {there} is here; nothing was taken in. Use "
                "the newest"
            )
    _check_contents(kit)
    if (kit / CERTIFICATE).exists():
        _check_certificate(kit, folder)
    make_folder(folder)
    _take(kit, folder)
    return roster


def _check_certificate(kit: Path, folder: Path) -> None:
    """Refuse a kit of somebody else."""
    if not (folder / TLS_KEY).exists():
        raise FederationError(
            "no request to be certified was made here, and a kit answers one; nothing was taken in. Make it by "
            "fedsynth site request, or at a coordinator by fedsynth federation request"
        )
    own = keys.load_ec(folder / TLS_KEY, what="the TLS key")
    if load_certificate(kit / CERTIFICATE).public_key() != own.public_key():
        raise FederationError(
            "the kit's certificate is not for the key that was made here; nothing was taken in. "
            "Ask for your own kit"
        )


def _take(kit: Path, folder: Path) -> None:
    # The list of revoked first: a crash between the two leaves more revoked, never fewer.
    rest = sorted(path.name for path in kit.iterdir() if path.is_file() and path.name != REVOKED)
    for name in (REVOKED, *rest):
        replace(folder / name, read(kit / name, what=name))
    if (kit / NODES).is_dir():
        shutil.rmtree(folder / NODES, ignore_errors=True)
        make_folder(folder / NODES)
        for path in sorted((kit / NODES).iterdir()):
            write_new(folder / NODES / path.name, read(path, what=f"{NODES}/{path.name}"))


def _check_contents(kit: Path) -> None:
    """Refuse what no kit holds: a file named like a private key would lie where a party's own one is looked for."""
    for path in kit.rglob("*"):
        inside = path.relative_to(kit)
        node = inside.parts[0] == NODES and len(inside.parts) <= 2
        if path.is_symlink() or not (node or (len(inside.parts) == 1 and inside.name in _MAY_STAND)):
            raise RefusedError(f"the kit holds {inside}, which no kit does; nothing was taken in. Ask who sent it")


def _page(certified: Certified, *, roster: Roster, words: str) -> str:
    member = certified.member
    end = member.not_after.strftime("%d %B %Y, %H:%M UTC")
    return f"""# {member.name}: your kit for the federation {roster.name}

**It expires on {end}.** After that nothing is exchanged with you. Ask the authority for a new kit some weeks
earlier; your keys can stay as they are.

There is nothing secret in this folder. Your private keys are where you made them, and nobody else has them.

## Before you use it

Ask the people who run the authority, by telephone or face to face, for the authority's words. They must be:

    {words}

If they are others, somebody exchanged this kit. Do not use it.

## Use it

{_use(member.role, words=words)}

## What is in it

| file | what it is |
|---|---|
| `{ROSTER}` | who takes part, with which keys, until when (edition {roster.edition}); the last line signs it |
| `{REVOKED}` | whose certificates hold no more; the last line signs it |
| `{AUTHORITY}` | the authority's certificate, by which both are verified |
| `{CERTIFICATE}` | your own certificate, serial {member.serial} |
| `{REVOCATION_LIST}`, `{REVOKED_NODES}`, `{NODES}/` | for the coordinator's nginx and SuperLink |

The coordinator is at {", ".join(roster.addresses)}. Sites: {", ".join(sorted(roster.sites)) or "none yet"}.

## If a key was lost or stolen

Tell the authority at once. It revokes you (`fedsynth federation revoke {member.name}`) and sends everybody a
notice; then you make new keys and ask again.
"""


def _use(role: str, *, words: str) -> str:
    if role == "site":
        return (
            f'    fedsynth site init SITE --kit THIS_FOLDER --authority "{words}"\n'
            "    fedsynth site preflight SITE\n\n"
            "`SITE` is your site's folder, in which you made your request. A later kit or notice is taken in by "
            "the same command."
        )
    return (
        f'    fedsynth federation join THIS_FOLDER --federation FOLDER --authority "{words}"\n\n'
        f"`FOLDER` is where you made your request. nginx reads `{CERTIFICATE}`, `tls.key`, `{AUTHORITY}` and "
        f"`{REVOCATION_LIST}` there; reload it after every notice. Register each file of `{NODES}/` with the "
        "SuperLink."
    )
