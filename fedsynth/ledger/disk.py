"""The ledger's files: a folder goes in; key, database, head and lock come out durable and its owner's alone.

They are born in this order: folder, key, database, head. Each is synced, and so is the folder that names it,
before the next begins, so that a crash or a power cut leaves a beginning of that list and never a line without
its key. A file that is replaced is written beside its place, synced, renamed, and then its folder is synced
(Pillai et al. 2014, "All file systems are not created equal", on what goes wrong otherwise).
"""

import fcntl
import json
import os
import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from fedsynth.errors import LedgerError

DATABASE, KEY, HEAD, LOCK = "ledger.sqlite", "ledger.key", "ledger.head", "ledger.lock"
PATIENCE = 60.0
"""Seconds to wait for another process."""
_VERSION = 5
_SCHEMA = """
CREATE TABLE IF NOT EXISTS charges (
    number INTEGER PRIMARY KEY, nonce TEXT NOT NULL UNIQUE, study TEXT NOT NULL, people TEXT NOT NULL,
    mechanism TEXT NOT NULL, link TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS people (people TEXT NOT NULL, token TEXT NOT NULL, PRIMARY KEY (people, token));
CREATE TABLE IF NOT EXISTS replies (nonce TEXT PRIMARY KEY REFERENCES charges(nonce), reply BLOB NOT NULL);
DROP TABLE IF EXISTS opened;
DROP TABLE IF EXISTS openings;
CREATE TABLE IF NOT EXISTS tickets (
    opening INTEGER PRIMARY KEY, number INTEGER NOT NULL REFERENCES charges(number));
CREATE TABLE IF NOT EXISTS openings (opening INTEGER PRIMARY KEY REFERENCES tickets(opening));
CREATE TABLE IF NOT EXISTS marks (mark TEXT PRIMARY KEY);
CREATE TABLE IF NOT EXISTS reservations (
    nonce TEXT PRIMARY KEY, people TEXT NOT NULL, mechanism TEXT NOT NULL, while_there TEXT NOT NULL,
    seal BLOB NOT NULL);
CREATE TRIGGER IF NOT EXISTS charges_keep BEFORE UPDATE ON charges BEGIN SELECT RAISE(ABORT, 'append only'); END;
CREATE TRIGGER IF NOT EXISTS charges_stay BEFORE DELETE ON charges BEGIN SELECT RAISE(ABORT, 'append only'); END;
CREATE TRIGGER IF NOT EXISTS people_keep BEFORE UPDATE ON people BEGIN SELECT RAISE(ABORT, 'append only'); END;
CREATE TRIGGER IF NOT EXISTS people_stay BEFORE DELETE ON people BEGIN SELECT RAISE(ABORT, 'append only'); END;
CREATE TRIGGER IF NOT EXISTS replies_keep BEFORE UPDATE ON replies BEGIN SELECT RAISE(ABORT, 'append only'); END;
CREATE TRIGGER IF NOT EXISTS openings_keep BEFORE UPDATE ON openings BEGIN SELECT RAISE(ABORT, 'append only'); END;
CREATE TRIGGER IF NOT EXISTS openings_stay BEFORE DELETE ON openings BEGIN SELECT RAISE(ABORT, 'append only'); END;
CREATE TRIGGER IF NOT EXISTS tickets_keep BEFORE UPDATE ON tickets BEGIN SELECT RAISE(ABORT, 'append only'); END;
CREATE TRIGGER IF NOT EXISTS tickets_stay BEFORE DELETE ON tickets BEGIN SELECT RAISE(ABORT, 'append only'); END;
CREATE TRIGGER IF NOT EXISTS marks_keep BEFORE UPDATE ON marks BEGIN SELECT RAISE(ABORT, 'append only'); END;
CREATE TRIGGER IF NOT EXISTS reservations_keep BEFORE UPDATE ON reservations
    BEGIN SELECT RAISE(ABORT, 'append only'); END;
CREATE TRIGGER IF NOT EXISTS marks_stay BEFORE DELETE ON marks BEGIN SELECT RAISE(ABORT, 'append only'); END;
"""


_CLOSED = "closed:"


def close_unanswered(db: sqlite3.Connection) -> None:
    """Mark every line without a kept answer as closed: no ticket is given for it again.

    An answer is kept before it leaves, so that a line without one may be opened again. That is true of the ledger
    and of no copy of it: after the copy was made, an answer may have been kept and sent.
    """
    unanswered = "SELECT ? || nonce FROM charges WHERE nonce NOT IN (SELECT nonce FROM replies)"
    db.execute(f"INSERT OR IGNORE INTO marks {unanswered}", (_CLOSED,))


def is_closed(db: sqlite3.Connection, nonce: str) -> bool:
    """Whether `close_unanswered` marked a line."""
    return db.execute("SELECT 1 FROM marks WHERE mark = ?", (_CLOSED + nonce,)).fetchone() is not None


@dataclass(frozen=True)
class Head:
    """Where a ledger stood when its head was last written: the number of its lines and the last link."""

    number: int
    link: str


def make_folder(folder: Path) -> None:
    """Make a folder that only its owner may enter, and what is missing above it."""
    missing = [place for place in folder.parents if not place.exists()]
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    for made in reversed(missing):
        sync_folder(made.parent)


def sync_names(folder: Path, head_file: Path) -> None:
    """Make the names of a ledger's folder and of its head durable, whoever made them."""
    # Who may not read the folder above has not made this one.
    with suppress(PermissionError):
        sync_folder(folder.parent)
    sync_folder(head_file.parent)


@contextmanager
def lock(folder: Path) -> Iterator[None]:
    """Hold a ledger against every other process.

    SQLite's own locks keep transactions apart. This one also keeps checkpoints apart from writes, which SQLite
    before 3.51.3 gets wrong once in a great while (https://www.sqlite.org/wal.html#walresetbug).

    Raises:
        LedgerError: another process has held it for a minute.
    """
    descriptor = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        _give_to_owner(descriptor, folder)
        for _ in range(round(PATIENCE / 0.004)):
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                time.sleep(0.004)
        else:
            raise LedgerError(
                f"another process has held the ledger for {PATIENCE:g} s. Nothing was charged or opened; see what "
                "it is doing, then try again"
            )
        yield
    finally:
        os.close(descriptor)


def open_key(folder: Path) -> bytes:
    """Return the ledger's key, 32 bytes; a new ledger gets one from the operating system.

    Raises:
        LedgerError: missing although there is a database, or damaged.
    """
    path = folder / KEY
    if not path.exists():
        if (folder / DATABASE).exists():
            raise LedgerError("the ledger's key is missing; the site is frozen")
        write_durably(path, os.urandom(32), like=folder)
    key = path.read_bytes()
    if len(key) != 32:
        raise LedgerError("the ledger's key is damaged; the site is frozen")
    return key


def open_database(folder: Path) -> sqlite3.Connection:
    """Return a connection to a ledger's database, made when missing; to be called under `lock`.

    Raises:
        sqlite3.Error: no database, or one that cannot be read.
        LedgerError: written by a later version, or on a file system without shared memory.
    """
    path = folder / DATABASE
    if not path.exists():
        # SQLite gives its log and shared memory the mode and the owner of the database.
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        _give_to_owner(descriptor, folder)
        os.close(descriptor)
    _write_again(folder / f"{DATABASE}-wal")
    db = sqlite3.connect(f"{path.absolute().as_uri()}?mode=rw", uri=True, timeout=PATIENCE, isolation_level=None)
    try:
        if db.execute("PRAGMA journal_mode=WAL").fetchone()[0] != "wal":
            raise LedgerError("this file system cannot hold the ledger's log; keep the ledger on a local disk")
        db.execute("PRAGMA synchronous=FULL")
        version = db.execute("PRAGMA user_version").fetchone()[0]
        if version > _VERSION:
            raise LedgerError(f"the ledger was written by a later version ({version}, this one knows {_VERSION})")
        if version < _VERSION:
            db.executescript(f"BEGIN IMMEDIATE; {_SCHEMA} PRAGMA user_version={_VERSION}; COMMIT;")
        # The log's name must last before its lines do, and SQLite takes no notice when this sync fails.
        sync_folder(folder)
    except BaseException:
        db.close()
        raise
    return db


def read_head(path: Path) -> Head | None:
    """Return a head, or None where there is none.

    Raises:
        LedgerError: it is no head.
    """
    try:
        raw = json.loads(path.read_text(encoding="ascii"))
        return Head(number=int(raw["number"]), link=str(raw["link"]))
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError) as error:
        raise LedgerError("the ledger's head file is damaged; the site is frozen") from error


def refuse_a_lost_database(folder: Path, *, head_file: Path | None = None) -> None:
    """Refuse to begin a ledger where there was one; writes nothing.

    Raises:
        LedgerError: the head is there and names a line, and the database is not.
    """
    head = None if (folder / DATABASE).exists() else read_head(head_file or folder / HEAD)
    if head is not None and head.number:
        raise LedgerError(
            f"the ledger is gone, but its head names line {head.number}; the site is frozen. Find the ledger's "
            "folder; a new one would forget what was spent"
        )


def write_head(path: Path, head: Head, *, like: Path) -> None:
    """Replace a head by a later one, which belongs to the owner of the ledger's folder `like`."""
    write_durably(path, json.dumps({"number": head.number, "link": head.link}).encode("ascii"), like=like)


def write_durably(path: Path, data: bytes, *, like: Path) -> None:
    """Write a file that is there as a whole after any crash, or as it was before; mode 0600, owner as `like`."""
    partial = path.with_name(f"{path.name}.partial")
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW
    descriptor = os.open(partial, flags, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        _give_to_owner(descriptor, like)
        file.write(data)
        file.flush()
        os.fsync(descriptor)
    partial.replace(path)
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Make the names in a folder durable."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _write_again(path: Path) -> None:
    """Write a file's own bytes over it and sync them.

    After a sync that failed, Linux holds what it could not write for written (Rebello et al. 2020, "Can
    applications recover from fsync failures?"). Whoever finds a log that a crash left cannot tell; bytes written
    again must reach the disk before the next sync succeeds.
    """
    if path.exists():
        with path.open("r+b") as file:
            data = file.read()
            file.seek(0)
            file.write(data)
            file.flush()
            os.fsync(file.fileno())


def _give_to_owner(descriptor: int, like: Path) -> None:
    """Leave a file to whom the ledger belongs: root, who looks at a ledger, must not lock its site out."""
    if os.geteuid() == 0:
        there = like.stat()
        os.fchown(descriptor, there.st_uid, there.st_gid)
