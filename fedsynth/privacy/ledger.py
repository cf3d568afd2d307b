"""The ledger of a site: what was ever asked of whom, charged before data is opened, never refunded.

One SQLite file per site (WAL, synchronous=FULL, append only, chained by HMAC under a key that stays there).
A charge names the people it concerns by keyed tokens of their recordings' contents, so that importing the same
recordings under another name finds the same people. Everything charged to overlapping sets of people composes
in sequence. The head is also written beside the database's folder or elsewhere; a ledger that is shorter than
its head was restored from a backup and is frozen.
"""

import hashlib
import hmac
import json
import os
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from fedsynth.errors import BudgetError, LedgerError
from fedsynth.privacy.accountant import epsilon_pld
from fedsynth.privacy.mechanism import UNITS, Mechanism

_SCHEMA = """
CREATE TABLE IF NOT EXISTS charges (
    number INTEGER PRIMARY KEY, nonce TEXT NOT NULL UNIQUE, study TEXT NOT NULL, people TEXT NOT NULL,
    mechanism TEXT NOT NULL, link TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS people (people TEXT NOT NULL, token TEXT NOT NULL, PRIMARY KEY (people, token));
CREATE TABLE IF NOT EXISTS replies (nonce TEXT PRIMARY KEY REFERENCES charges(nonce), reply BLOB NOT NULL);
CREATE TRIGGER IF NOT EXISTS charges_keep BEFORE UPDATE ON charges BEGIN SELECT RAISE(ABORT, 'append only'); END;
CREATE TRIGGER IF NOT EXISTS charges_stay BEFORE DELETE ON charges BEGIN SELECT RAISE(ABORT, 'append only'); END;
CREATE TRIGGER IF NOT EXISTS people_keep BEFORE UPDATE ON people BEGIN SELECT RAISE(ABORT, 'append only'); END;
CREATE TRIGGER IF NOT EXISTS people_stay BEFORE DELETE ON people BEGIN SELECT RAISE(ABORT, 'append only'); END;
CREATE TRIGGER IF NOT EXISTS replies_keep BEFORE UPDATE ON replies BEGIN SELECT RAISE(ABORT, 'append only'); END;
"""


@dataclass(frozen=True)
class Charge:
    """One line of the ledger. `link` is the HMAC over this line and the one before, 64 hexadecimal digits."""

    number: int
    nonce: str
    study: str
    people: str
    mechanism: Mechanism
    link: str


@dataclass(frozen=True)
class Ticket:
    """Proof that a charge was written; holdings open for nothing else."""

    nonce: str
    number: int
    mechanism: Mechanism


class Ledger:
    """The ledger of one site, in `folder/ledger.sqlite`, keyed by `folder/ledger.key`."""

    def __init__(self, folder: Path, *, head_file: Path | None = None) -> None:
        """Open or begin a ledger.

        Args:
            folder: where the database and its key live; made when missing.
            head_file: the second place of the head; a hospital puts it on another disk.

        Raises:
            LedgerError: damaged, edited, or older than its head.
        """
        folder.mkdir(parents=True, exist_ok=True)
        self._key = _load_key(folder / "ledger.key", begin=not (folder / "ledger.sqlite").exists())
        self._head_file = head_file or folder / "ledger.head"
        try:
            self._db = sqlite3.connect(folder / "ledger.sqlite", timeout=60, isolation_level=None)
            self._db.execute("PRAGMA journal_mode=WAL")
            self._db.execute("PRAGMA synchronous=FULL")
            self._db.executescript(_SCHEMA)
            self.verify()
        except sqlite3.DatabaseError as error:
            raise LedgerError(f"the ledger cannot be read ({error}); nothing was charged or opened") from error

    def close(self) -> None:
        """Close the database."""
        self._db.close()

    def __enter__(self) -> "Ledger":
        """Use as a context manager."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close on the way out."""
        self.close()

    @property
    def key(self) -> bytes:
        """The site's secret for tokens of people, 32 bytes."""
        return self._key

    @property
    def head(self) -> str:
        """The last link, or 64 zeros for an empty ledger."""
        row = self._db.execute("SELECT link FROM charges ORDER BY number DESC LIMIT 1").fetchone()
        return str(row[0]) if row else "0" * 64

    def __len__(self) -> int:
        """Return the number of charges."""
        return int(self._db.execute("SELECT COUNT(*) FROM charges").fetchone()[0])

    def charges(self) -> tuple[Charge, ...]:
        """Return every charge, oldest first."""
        rows = self._db.execute("SELECT number, nonce, study, people, mechanism, link FROM charges ORDER BY number")
        return tuple(
            Charge(number, nonce, study, people, Mechanism.from_json(json.loads(body)), link)
            for number, nonce, study, people, body, link in rows
        )

    def history(self, tokens: Iterable[str], *, at_most: int | None = None) -> tuple[Mechanism, ...]:
        """Return everything charged to a set of people that shares anybody with `tokens`.

        Args:
            tokens: of the people.
            at_most: look at this many lines only, from the first.
        """
        mine = set(tokens)
        # An empty group is a group too: what was asked of nobody is found again under nobody.
        touched: set[str] = set() if mine else {_people_key([])}
        for people, token in self._db.execute("SELECT people, token FROM people"):
            if token in mine:
                touched.add(people)
        return tuple(charge.mechanism for charge in self.charges()[:at_most] if charge.people in touched)

    def afford(
        self, mechanisms: Sequence[Mechanism], *, tokens: Iterable[str], cap: float, delta: float, unit: str
    ) -> float:
        """Return epsilon after `mechanisms`, without charging.

        Raises:
            BudgetError: it would exceed `cap`.
        """
        before = self.history(tokens)
        finer = [item for item in before if UNITS.index(item.unit) < UNITS.index(unit)]
        if finer:
            raise BudgetError(
                f"{len(finer)} private sums on the same people were bounded per {finer[0].unit}, which promises "
                f"nothing per {unit}. Nothing was opened or charged; keep to the finer unit, or ask other people"
            )
        after = epsilon_pld([*before, *mechanisms], delta=delta)
        if after > cap * (1 + 1e-9):
            spent = epsilon_pld(before, delta=delta)
            raise BudgetError(
                f"this would bring epsilon to {after:.3f} at delta {delta:g} (unit: {unit}), of which {spent:.3f} "
                f"is already spent on the same people; {cap:.3f} is allowed. Nothing was opened or charged; "
                "release what you have, or ask for less"
            )
        return after

    def charge(
        self,
        mechanism: Mechanism,
        *,
        nonce: str,
        study: str,
        tokens: Sequence[str],
        cap: float,
        delta: float,
        unit: str,
    ) -> Ticket:
        """Write one charge and return the ticket that opens the data.

        The whole check happens in one exclusive transaction. A crash can only over-count.

        Args:
            mechanism: what will be done.
            nonce: the order's; the same one is never charged twice.
            study: the digest of what was approved.
            tokens: keyed tokens of the people asked.
            cap: the largest epsilon these people may reach at `delta`.
            delta: of the promise.
            unit: the unit that `cap` is per.

        Raises:
            BudgetError: the cap would be exceeded, or the nonce was charged before.
            LedgerError: the ledger changed under our feet, or the disk refused.
        """
        people = _people_key(tokens)
        try:
            with self._exclusive():
                if self._db.execute("SELECT 1 FROM charges WHERE nonce = ?", (nonce,)).fetchone():
                    raise BudgetError(
                        "this order was charged before and its answer is gone; there are no refunds. "
                        "Begin a new run"
                    )
                self.afford([mechanism], tokens=tokens, cap=cap, delta=delta, unit=unit)
                self._db.executemany(
                    "INSERT OR IGNORE INTO people VALUES (?, ?)", [(people, token) for token in tokens]
                )
                number, previous = len(self) + 1, self.head
                body = json.dumps(mechanism.as_json(), sort_keys=True)
                link = self._link(previous, number, nonce, study, people, body)
                self._db.execute(
                    "INSERT INTO charges VALUES (?, ?, ?, ?, ?, ?)", (number, nonce, study, people, body, link)
                )
            with self._exclusive():
                self._write_head(len(self), self.head)
        except (sqlite3.Error, OSError) as error:
            raise LedgerError(f"the charge could not be written ({error}); no data was opened") from error
        return Ticket(nonce=nonce, number=number, mechanism=mechanism)

    def keep_reply(self, nonce: str, reply: bytes) -> None:
        """Keep the answer to a charged order, so that a retry returns the same bytes."""
        with self._exclusive():
            self._db.execute("INSERT INTO replies VALUES (?, ?)", (nonce, reply))

    def reply(self, nonce: str) -> bytes | None:
        """Return the answer kept for `nonce`, or None."""
        row = self._db.execute("SELECT reply FROM replies WHERE nonce = ?", (nonce,)).fetchone()
        return bytes(row[0]) if row else None

    def verify(self) -> None:
        """Walk the chain, compare it with the people it names and with the head kept elsewhere.

        Raises:
            LedgerError: an edited, missing or added line, or a ledger shorter than its head.
        """
        previous, count = "0" * 64, 0
        rows = self._db.execute("SELECT number, nonce, study, people, mechanism, link FROM charges ORDER BY number")
        for count, row in enumerate(rows, start=1):
            number, nonce, study, people, body, link = row
            if number != count or not hmac.compare_digest(
                link, self._link(previous, number, nonce, study, people, body)
            ):
                raise LedgerError(f"line {count} of the ledger was edited or is missing; the site is frozen")
            previous = link
        for people in {charge.people for charge in self.charges()}:
            rows = self._db.execute("SELECT token FROM people WHERE people = ?", (people,))
            if _people_key([token for (token,) in rows]) != people:
                raise LedgerError("a set of people in the ledger was edited; the site is frozen")
        self._compare_head(count)

    def _compare_head(self, count: int) -> None:
        try:
            kept = json.loads(self._head_file.read_text(encoding="ascii"))
            number, link = int(kept["number"]), str(kept["link"])
        except FileNotFoundError:
            if count:
                raise LedgerError("the ledger's head file is missing; the site is frozen") from None
            return
        except (ValueError, KeyError, TypeError) as error:
            raise LedgerError("the ledger's head file is damaged; the site is frozen") from error
        row = self._db.execute("SELECT link FROM charges WHERE number = ?", (number,)).fetchone()
        # One line more than the head is what a crash between the two writes leaves; it over-counts, as it should.
        if number and (row is None or row[0] != link):
            raise LedgerError(
                f"the ledger has {count} lines, but its head names line {number}: an old copy was restored, or a "
                "line replaced. The site is frozen until a person decides"
            )

    def _write_head(self, number: int, link: str) -> None:
        partial = self._head_file.with_suffix(".partial")
        with partial.open("w", encoding="ascii") as file:
            json.dump({"number": number, "link": link}, file)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(self._head_file)

    def _link(self, previous: str, number: int, nonce: str, study: str, people: str, body: str) -> str:
        line = json.dumps([previous, number, nonce, study, people, body])
        return hmac.new(self._key, line.encode(), hashlib.sha256).hexdigest()

    @contextmanager
    def _exclusive(self) -> Iterator[None]:
        self._db.execute("BEGIN IMMEDIATE")
        try:
            yield
        except BaseException:
            self._db.execute("ROLLBACK")
            raise
        self._db.execute("COMMIT")


def token(key: bytes, kind: str, what: str) -> str:
    """Return the keyed token of a recording's content or a subject's name; without the key it says nothing."""
    return hmac.new(key, f"{kind}\x1f{what}".encode(), hashlib.sha256).hexdigest()


def _people_key(tokens: Iterable[str]) -> str:
    return hashlib.sha256("\n".join(sorted(set(tokens))).encode()).hexdigest()


def _load_key(path: Path, *, begin: bool) -> bytes:
    if path.exists():
        key = path.read_bytes()
        if len(key) != 32:
            raise LedgerError("the ledger's key is damaged; the site is frozen")
        return key
    if not begin:
        raise LedgerError("the ledger's key is missing; the site is frozen")
    key = os.urandom(32)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(key)
    return key
