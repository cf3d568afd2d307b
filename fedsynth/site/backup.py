"""Backup and restore of a site's state, while it runs: one moment of the ledger, with rules, approvals and keys.

The copy of a ledger comes without its head, so that whoever brings it back has a frozen site until a person has
decided (`fedsynth site settle`), or until a head that was kept on another disk shows that nothing is missing.
A charge that had no answer yet is closed in the copy, for its answer may have left since. Secrets of runs in course
(`secure/`) are never copied, and windows only where asked: a site can cut them again.
"""

import hashlib
import json
import os
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

from fedsynth.errors import RefusedError, RunError
from fedsynth.federation.files import check_vacant, make_folder, read, write_new
from fedsynth.ledger import disk as disk
from fedsynth.site.policy import load_policy

MANIFEST = "backup.json"
_FOLDERS = ("approved", "requests", "federation")
_FILES = ("site.toml", "identity.key")
_LEDGER = "ledger"


@dataclass(frozen=True)
class Copied:
    """How many files a copy holds, and how many lines its ledger."""

    files: int
    lines: int


def back_up(folder: Path, place: Path, *, windows: bool = False) -> Copied:
    """Copy a site's state into a new folder, for its owner alone.

    Args:
        folder: the site's; it may be running.
        place: new, best on another machine; it holds private keys.
        windows: copy the holdings too, which hold recordings.

    Raises:
        RefusedError: something stands there, or it is within the site's folder.
        RunError: no ledger to copy.
        LedgerError: another process has held the ledger for a minute.
    """
    check_vacant(place)
    if place.resolve().is_relative_to(folder.resolve()):
        raise RefusedError(
            "a copy within the site's folder is lost with it; name a place on another disk or machine"
        )
    ledger = folder / load_policy(folder).ledger
    if not (ledger / disk.DATABASE).exists():
        raise RunError("this site has no ledger yet, so that there is nothing to keep")
    with _whole_or_nothing(place):
        make_folder(place)
        # Approvals first: one that comes between says more than its ledger, never less.
        for path in _state(folder, windows=windows):
            target = place / path.relative_to(folder)
            make_folder(target.parent)
            write_new(target, path.read_bytes(), private=True)
        make_folder(place / _LEDGER)
        with disk.lock(ledger):
            write_new(place / _LEDGER / disk.KEY, read(ledger / disk.KEY, what="the ledger's key"), private=True)
            lines = _copy_database(ledger / disk.DATABASE, place / _LEDGER / disk.DATABASE)
        sums = _sums(place)
        body = {"lines": lines, "files": sums}
        write_new(place / MANIFEST, json.dumps(body, indent=1).encode("utf-8") + b"\n", private=True)
    return Copied(len(sums), lines)


def restore(place: Path, folder: Path) -> Copied:
    """Bring a copy back into a folder in which no ledger stands.

    Raises:
        RefusedError: a ledger or rules stand there; nothing is written over.
        RunError: the copy is damaged.
    """
    try:
        body = json.loads(read(place / MANIFEST, what="the backup's list"))
        sums, lines = dict(body["files"]), int(body["lines"])
    except (ValueError, KeyError, TypeError) as error:
        raise RunError("the backup's list of files cannot be read; nothing was restored") from error
    if _sums(place) != sums:
        raise RunError(
            "the backup is not what was written: a file was changed, added or lost; nothing was restored"
        )
    check_vacant(folder)
    policy = load_policy(place)
    ledger = folder / policy.ledger
    if ledger.exists():
        raise RefusedError(f"a ledger stands at {policy.ledger} (site.toml); it was left as it is")
    with _whole_or_nothing(folder, ledger):
        make_folder(folder)
        for name in sums:
            inside = Path(name)
            target = ledger / inside.name if inside.parts[0] == _LEDGER else folder / inside
            make_folder(target.parent)
            write_new(target, (place / inside).read_bytes(), private=True)
    return Copied(len(sums), lines)


@contextmanager
def _whole_or_nothing(*made: Path) -> Iterator[None]:
    """Remove folders that are being made where that fails: half a copy is none, and would stand in the way."""
    try:
        yield
    except BaseException:
        for folder in made:
            shutil.rmtree(folder, ignore_errors=True)
        raise


def _state(folder: Path, *, windows: bool) -> Iterator[Path]:
    yield from (folder / name for name in _FILES if (folder / name).exists())
    for name in (*_FOLDERS, *(("holdings",) if windows else ())):
        # Files that others write meanwhile have a name with a dot in front until they are whole.
        yield from (path for path in _files(folder / name) if not path.name.startswith("."))


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file() and not path.is_symlink())


def _copy_database(source: Path, target: Path) -> int:
    """Copy a database at one moment, log included, and return how many lines it has."""
    os.close(os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
    with closing(sqlite3.connect(source)) as live, closing(sqlite3.connect(target)) as copy:
        live.backup(copy)
        copy.execute("PRAGMA journal_mode=DELETE")
        disk.close_unanswered(copy)
        copy.commit()
        lines = copy.execute("SELECT count(*) FROM charges").fetchone()[0]
    for suffix in ("-wal", "-shm"):
        target.with_name(f"{target.name}{suffix}").unlink(missing_ok=True)
    return int(lines)


def _sums(place: Path) -> dict[str, str]:
    """Return the digest of every file of a copy but its list."""
    return {str(path.relative_to(place)): _digest(path) for path in _files(place) if path != place / MANIFEST}


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
