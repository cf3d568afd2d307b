"""Settling a frozen ledger: what can be proven is rebuilt, and what cannot is counted at its worst.

A ledger is frozen when its lines do not lead to the head that is kept elsewhere, when a line or a set of people was
edited, or when database or head are gone. Lost lines are charges that may have been answered. Two things can be
said of them, and a person decides which:

* **proven.** The head is the HMAC over every line up to it. If the lines that are missing are the next steps of one
  approved plan, then writing them again leads to that very head, and nothing else was lost.
* **counted.** Otherwise every step of every plan that was ever approved here and is not in the ledger is charged in
  full; and unless a person states that no other plan was approved since the copy was made, one more line is charged
  to everybody, without noise: it has no finite epsilon, so that nobody can be asked again under any cap.

Nothing is ever taken away. The database that was found is kept beside the new one.
"""

import shutil
import sqlite3
from collections.abc import Callable, Iterable, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from fedsynth.errors import LedgerError
from fedsynth.ledger import disk as disk
from fedsynth.ledger.chain import EVERYBODY, NOTHING, Chain, Row, people_key
from fedsynth.privacy.mechanism import Mechanism

Verdict = Literal["whole", "proven", "counted", "unknown"]
COLUMNS = "number, nonce, study, people, mechanism, link"
UNKNOWN = "settled: charges that nobody knows"


@dataclass(frozen=True)
class PlannedCharge:
    """A charge that an approved plan may have written: what `Ledger.charge` would be given."""

    nonce: str
    study: str
    mechanism: Mechanism
    tokens: tuple[str, ...]


@dataclass(frozen=True)
class Finding:
    """What stands in a ledger's folder, and what would be counted.

    `cause` is empty where nothing is wrong. `lines` verify, from the first one on; `head` is what the head's file
    says, None where it is gone or damaged. `planned` are charges of approved plans that are not among the lines.
    With `verdict` "proven", `rebuilt` are the lost lines, in order; with "counted" lost lines can be charges of
    `planned` alone, if nothing else was approved; with "unknown" they cannot.
    """

    cause: str
    lines: int
    head: disk.Head | None
    planned: tuple[PlannedCharge, ...]
    rebuilt: tuple[PlannedCharge, ...]
    verdict: Verdict


@dataclass(frozen=True)
class Settled:
    """What was written: so many lines, whether everybody was charged without noise, and the new head."""

    added: int
    everybody: bool
    head: disk.Head


def examine(
    folder: Path,
    *,
    head_file: Path | None,
    plans: Sequence[Sequence[PlannedCharge]],
    marks: Sequence[str] = (),
) -> Finding:
    """Look at a ledger, frozen or not; writes nothing.

    Args:
        folder: the ledger's.
        head_file: the second place of the head, where it is not in that folder.
        plans: the steps of every plan that was approved here, withdrawn ones too, each in order.
        marks: that those approvals left in the ledger.

    Raises:
        LedgerError: the key is gone or damaged: nobody can be recognised again, and nothing can be settled.
    """
    key = _key(folder)
    with disk.lock(folder):
        found = _read(folder, key)
    head, head_cause = _head(head_file or folder / disk.HEAD)
    cause = found.cause or head_cause or _disagreement(found.chain, head)
    if not cause and not set(marks) <= found.marks:
        cause = "an approval left a mark that this ledger does not bear: an old copy was restored, with its head"
    planned = _different(one for plan in plans for one in plan if found.chain.find(one.nonce) is None)
    lines = len(found.chain.lines)
    if not cause:
        return Finding("", lines, head, planned, (), "whole")
    if head is not None:
        for plan in plans:
            rebuilt = _rebuilt(key, found, head, plan)
            if rebuilt is not None:
                return Finding(cause, lines, head, planned, rebuilt, "proven")
    beyond = head is not None and head.number - lines > len(planned)
    return Finding(cause, lines, head, planned, (), "unknown" if beyond else "counted")


def settle(
    folder: Path,
    *,
    head_file: Path | None,
    plans: Sequence[Sequence[PlannedCharge]],
    nothing_else_was_approved: bool,
    marks: Sequence[str] = (),
    before_writing: Callable[[], None] = lambda: None,
) -> Settled:
    """Bring a frozen ledger back, so that no price is below what was spent.

    Args:
        folder: the ledger's.
        head_file: the second place of the head, where it is not in that folder.
        plans: as `examine`.
        nothing_else_was_approved: a person states that `plans` are all that were approved since the lines that are
            here were written.
        marks: as `examine`.
        before_writing: keeps the decision; called once it is sure that something will be written.

    Raises:
        LedgerError: nothing is frozen; the key is gone; or the head names more lines than the plans have, so that
            the statement cannot be true.
    """
    finding = examine(folder, head_file=head_file, plans=plans, marks=marks)
    if finding.verdict == "whole":
        raise LedgerError("this ledger is not frozen; nothing was changed")
    if finding.verdict == "unknown" and nothing_else_was_approved:
        raise LedgerError(
            f"the head names {finding.head.number if finding.head else 0} lines and the ledger has "
            f"{finding.lines}: more were charged than the {len(finding.planned)} steps of the plans that are known "
            "here. Nothing was changed; look for the other approvals, or settle without that statement"
        )
    proven = finding.verdict == "proven"
    charges = list(finding.rebuilt if proven else finding.planned)
    everybody = not proven and not nothing_else_was_approved
    key, path = _key(folder), head_file or folder / disk.HEAD
    with disk.lock(folder):
        found = _read(folder, key)
        if len(found.chain.lines) != finding.lines:
            raise LedgerError("the ledger changed while it was settled; nothing was written. Stop the site first")
        if everybody:
            number = len(found.chain.lines) + len(charges) + 1
            nothing = Mechanism(UNKNOWN, 0.0, 1.0, 1, float("inf"))
            charges.append(PlannedCharge(f"settled:{number}", NOTHING, nothing, (EVERYBODY,)))
        before = len(found.chain.lines)
        before_writing()
        _write(folder, found, charges, marks)
        head = disk.Head(len(found.chain.lines), found.chain.head)
        disk.write_head(path, head, like=folder)
    return Settled(head.number - before, everybody, head)


@dataclass(frozen=True)
class _Found:
    """The lines that verify, the sets of people that they name, the marks there, and why no more is believed."""

    chain: Chain
    rows: list[Row]
    people: dict[str, tuple[str, ...]]
    marks: set[str]
    cause: str


def _key(folder: Path) -> bytes:
    if not (folder / disk.KEY).exists():
        raise LedgerError(
            "the ledger's key is gone, and without it nobody can be recognised again; nothing can be settled. "
            "Bring ledger.key back from a backup first"
        )
    return disk.open_key(folder)


def _read(folder: Path, key: bytes) -> _Found:
    """Read every line from the first that verifies."""
    found = _Found(Chain(key), [], {}, set(), "")
    if not (folder / disk.DATABASE).exists():
        aside = sorted(folder.glob(f"{disk.DATABASE}.frozen-*"))
        if aside:
            raise LedgerError(
                f"a settlement was cut short, or the ledger was lost after one: rename {aside[-1].name} and what "
                f"begins with that name back to {disk.DATABASE}, then settle again. Nothing was changed"
            )
        return replace(found, cause="the ledger's database is gone")
    try:
        with closing(disk.open_database(folder)) as db:
            found.marks.update(str(mark) for (mark,) in db.execute("SELECT mark FROM marks"))
            for row in db.execute(f"SELECT {COLUMNS} FROM charges ORDER BY number").fetchall():
                told = db.execute("SELECT token FROM people WHERE people = ?", (row[3],)).fetchall()
                found.people.setdefault(str(row[3]), tuple(str(one) for (one,) in told))
                found.chain.extend([row], lambda named: found.people[named])
                found.rows.append(row)
    except sqlite3.Error as error:
        return replace(found, cause=f"the ledger's database is damaged ({error})")
    except LedgerError as error:
        return replace(found, cause=str(error))
    return found


def _head(path: Path) -> tuple[disk.Head | None, str]:
    try:
        head = disk.read_head(path)
    except LedgerError as error:
        return None, str(error)
    return head, "" if head else "the ledger's head is missing"


def _disagreement(chain: Chain, head: disk.Head | None) -> str:
    if head is None or not head.number:
        return ""
    if head.number <= len(chain.lines) and chain.lines[head.number - 1].link == head.link:
        return ""
    return (
        f"the ledger has {len(chain.lines)} lines, and its head names line {head.number}: an old copy was restored"
    )


def _rebuilt(
    key: bytes, found: _Found, head: disk.Head, plan: Sequence[PlannedCharge]
) -> tuple[PlannedCharge, ...] | None:
    """Return the next steps of a plan that lead to the head exactly, or None."""
    missing = [one for one in plan if found.chain.find(one.nonce) is None]
    count = head.number - len(found.chain.lines)
    if not 0 < count <= len(missing):
        return None
    chain = Chain(key)
    with suppress(LedgerError):
        chain.extend(found.rows, lambda named: found.people[named])
        for one in missing[:count]:
            _append(chain, one)
        if chain.head == head.link:
            return tuple(missing[:count])
    return None


def _different(charges: Iterable[PlannedCharge]) -> tuple[PlannedCharge, ...]:
    """Return each charge once; one nonce for other people, of a plan approved twice, is counted for both."""
    found: dict[tuple[str, str], PlannedCharge] = {}
    for one in charges:
        people = people_key(one.tokens)
        nonce = one.nonce if all(key[0] != one.nonce for key in found) else f"{one.nonce}:{people[:16]}"
        found.setdefault((one.nonce, people), replace(one, nonce=nonce))
    return tuple(found.values())


def _append(chain: Chain, one: PlannedCharge) -> Row:
    row = chain.next_row(nonce=one.nonce, study=one.study, people=people_key(one.tokens), mechanism=one.mechanism)
    chain.extend([row], lambda _: one.tokens)
    return row


def _write(folder: Path, found: _Found, charges: Sequence[PlannedCharge], marks: Sequence[str]) -> None:
    """Append charges, to a database that is whole or to a new one with all lines that verify."""
    place = folder
    if found.cause:
        place = folder / "settling"
        shutil.rmtree(place, ignore_errors=True)
        disk.make_folder(place)
    with closing(disk.open_database(place)) as db:
        db.execute("BEGIN IMMEDIATE")
        if found.cause:
            for row in found.rows:
                _insert(db, row, found.people[row[3]])
        for one in charges:
            if found.chain.find(one.nonce) is None:
                _insert(db, _append(found.chain, one), one.tokens)
        db.executemany("INSERT OR IGNORE INTO marks VALUES (?)", [(mark,) for mark in marks])
        disk.close_unanswered(db)
        db.execute("COMMIT")
    if found.cause:
        _exchange(folder, place)


def _insert(db: sqlite3.Connection, row: Row, tokens: Sequence[str]) -> None:
    db.executemany("INSERT OR IGNORE INTO people VALUES (?, ?)", [(row[3], token) for token in set(tokens)])
    db.execute(f"INSERT INTO charges ({COLUMNS}) VALUES (?, ?, ?, ?, ?, ?)", row)


def _exchange(folder: Path, place: Path) -> None:
    """Keep the database that was found under another name, with its log, and put the new one in its place."""
    disk.sync_folder(place)
    number = 1 + sum(1 for _ in folder.glob(f"{disk.DATABASE}.frozen-?"))
    for suffix in ("-wal", "-shm", ""):
        path = folder / f"{disk.DATABASE}{suffix}"
        if path.exists():
            path.rename(folder / f"{disk.DATABASE}.frozen-{number}{suffix}")
    (place / disk.DATABASE).rename(folder / disk.DATABASE)
    disk.sync_folder(folder)
    shutil.rmtree(place, ignore_errors=True)
