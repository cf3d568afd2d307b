"""The ledger of a site: what was ever asked of whom, charged before data is opened, never refunded.

One SQLite file per site (WAL, synchronous=FULL, append only, chained by HMAC under a key that stays there).
A charge names the people it concerns by keyed tokens of their recordings' contents, so that importing the same
recordings under another name finds the same people. Everything charged to overlapping sets of people composes
in sequence. The head is also written beside the database or, better, on another disk; a ledger that is shorter
than its head was restored from a backup and is frozen. No clock is ever read. `docs/ledger.md` tells what is
promised and how it was tested.
"""

import hashlib
import hmac
import json
import math
import secrets
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fedsynth.errors import BudgetError, LedgerError
from fedsynth.ledger import disk as disk
from fedsynth.ledger.chain import Chain, Charge, mac, people_key
from fedsynth.privacy.accountant import epsilon_pld
from fedsynth.privacy.mechanism import Mechanism

_COLUMNS = "number, nonce, study, people, mechanism, link"


@dataclass(frozen=True)
class Ticket:
    """Proof that a charge was written; holdings open for nothing else, and once.

    `opening` is the ticket's own number in its ledger. `seal` is an HMAC under the ledger's key, 64 hexadecimal
    digits: whoever holds that key can tell a ticket from an imitation without the ledger. That it opens once, only
    `Ledger.redeem` can tell.
    """

    nonce: str
    number: int
    mechanism: Mechanism
    opening: int
    seal: str

    def is_sealed_by(self, key: bytes) -> bool:
        """Whether a ledger with this key gave the ticket for this very nonce, line and mechanism."""
        right = _seal_of(key, self.nonce, self.number, self.mechanism, self.opening)
        return hmac.compare_digest(self.seal.encode(), right.encode())


class Ledger:
    """The ledger of one site, in `folder/ledger.sqlite`, keyed by `folder/ledger.key`."""

    def __init__(self, folder: Path, *, head_file: Path | None = None) -> None:
        """Open or begin a ledger.

        Args:
            folder: where the database and its key live; made when missing, for its owner alone.
            head_file: the second place of the head; a hospital puts it on another disk.

        Raises:
            LedgerError: damaged, edited, older than its head, or held by another process for a minute.
        """
        self._folder = folder
        self._head_file = head_file or folder / disk.HEAD
        self._given_up = False
        try:
            disk.make_folder(folder)
            with disk.lock(folder):
                disk.refuse_a_lost_database(folder, head_file=self._head_file)
                self._key = disk.open_key(folder)
                self._db = disk.open_database(folder)
                try:
                    self._identity = self._on_disk()
                    self._chain = self._read()
                    self._compare_head()
                    if not self._chain.lines:
                        # Whoever made these may have died before their names were durable; no line comes first.
                        disk.sync_names(folder, self._head_file)
                except BaseException:
                    self._db.close()
                    raise
        except (sqlite3.Error, OSError) as error:
            raise LedgerError(f"the ledger cannot be read ({error}); nothing was charged or opened") from error

    def close(self) -> None:
        """Close the database."""
        with ExitStack() as stack:
            # SQLite's own locks are enough to close by; ours is only a further guard, and may have been removed.
            with suppress(OSError, LedgerError):
                stack.enter_context(disk.lock(self._folder))
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
        return self._fresh().head

    def __len__(self) -> int:
        """Return the number of charges."""
        return len(self._fresh().lines)

    def charges(self) -> tuple[Charge, ...]:
        """Return every charge, oldest first."""
        return tuple(self._fresh().lines)

    def history(self, tokens: Iterable[str], *, at_most: int | None = None) -> tuple[Mechanism, ...]:
        """Return everything charged to a set of people that shares anybody with `tokens`, oldest first.

        Args:
            tokens: of the people.
            at_most: look at this many lines only, from the first.
        """
        limit = math.inf if at_most is None else at_most
        return tuple(charge.mechanism for charge in self._fresh().touching(tokens) if charge.number <= limit)

    def everything(self, *, apart_from: frozenset[str] = frozenset()) -> tuple[Mechanism, ...]:
        """Return all that was ever charged, oldest first, and all that is reserved, whoever was asked.

        Args:
            apart_from: nonces that are left out.
        """
        charged = [(charge.nonce, charge.mechanism) for charge in self._fresh().lines]
        every = [*charged, *((nonce, mechanism) for nonce, _, mechanism in self._reservations())]
        return tuple(mechanism for nonce, mechanism in every if nonce not in apart_from)

    def charges_touching(self, charge: Charge) -> tuple[Charge, ...]:
        """Return every charge to a set of people that shares anybody with that of `charge`, itself included."""
        chain = self._fresh()
        return tuple(chain.touching(chain.tokens(charge.people)))

    def studies(self, tokens: Iterable[str]) -> frozenset[str]:
        """Return the digests of all studies that were ever charged to anybody of these people."""
        return frozenset(charge.study for charge in self._fresh().touching(tokens))

    def afford(
        self,
        mechanisms: Sequence[Mechanism],
        *,
        tokens: Iterable[str],
        cap: float,
        delta: float,
        unit: str,
        own: frozenset[str] = frozenset(),
    ) -> float:
        """Return epsilon after `mechanisms`, without charging; what others have reserved counts as spent.

        Args:
            mechanisms: what is asked for.
            tokens: of the people.
            cap: the largest epsilon that they may reach at `delta`.
            delta: of the promise.
            unit: the unit that `cap` is per.
            own: nonces whose reservations are this request's own.

        Raises:
            BudgetError: it would exceed `cap`.
        """
        before = [*self.history(tokens), *self._reserved_by_others(tokens, own=own)]
        # A finer bound promises nothing per person; and who gets one window more has what a sum clipped per person
        # says of them replaced, which moves it by up to twice its bound.
        others = [item for item in before if item.unit != unit]
        if others:
            raise BudgetError(
                f"{len(others)} private sums on the same people were bounded per {others[0].unit}; that has no "
                f"price per {unit}. Nothing was opened or charged; keep to one unit, or ask other people"
            )
        after = epsilon_pld([*before, *mechanisms], delta=delta)
        if not after <= cap * (1 + 1e-9):
            spent = epsilon_pld(before, delta=delta)
            raise BudgetError(
                f"this would bring epsilon to {after:.3f} at delta {delta:g} (unit: {unit}), of which {spent:.3f} "
                f"is already spent on the same people, or reserved by an approved plan that has not ended; "
                f"{cap:.3f} is allowed. Nothing was opened or charged; "
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

        Check and charge are one exclusive transaction. The line is on the disk before the head names it, and the
        head before the ticket exists; so a crash can only over-count.

        A charge whose answer was never kept is opened again, under the same line: an answer is kept before it
        leaves, so that nobody has seen anything of it.

        Args:
            mechanism: what will be done.
            nonce: the order's; the same one is never charged twice.
            study: the digest of what was approved.
            tokens: keyed tokens of the people asked.
            cap: the largest epsilon these people may reach at `delta`.
            delta: of the promise.
            unit: the unit that `cap` is per.

        Raises:
            BudgetError: the cap would be exceeded; or the nonce was answered before, or charged for something else.
            LedgerError: the ledger changed under our feet, or the disk refused. The charge may stand then; no data
                was opened.
        """
        people = people_key(tokens)
        with self._writing("the charge could not be written, and no data was opened"):
            with self._transaction():
                self._compare_head()
                charged = self._fresh().find(nonce)
                if charged is not None:
                    self._refuse_to_reopen(charged, study=study, people=people, mechanism=mechanism)
                else:
                    if not self._is_reserved(nonce, people=people, mechanism=mechanism):
                        self.afford([mechanism], tokens=tokens, cap=cap, delta=delta, unit=unit)
                    self._name_people(people, tokens)
                    row = self._chain.next_row(nonce=nonce, study=study, people=people, mechanism=mechanism)
                    self._db.execute(f"INSERT INTO charges ({_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?)", row)
                number = row[0] if charged is None else charged.number
                ticket = self._db.execute("INSERT INTO tickets (number) VALUES (?)", (number,))
            with self._transaction():
                chain = self._fresh()
                disk.write_head(self._head_file, disk.Head(len(chain.lines), chain.head), like=self._folder)
        opening = int(ticket.lastrowid or 0)
        return Ticket(nonce, number, mechanism, opening, _seal_of(self._key, nonce, number, mechanism, opening))

    def reserve(
        self,
        requests: Sequence[tuple[str, Mechanism, Sequence[str]]],
        *,
        cap: float,
        delta: float,
        unit: str,
        while_there: Path,
        moves_to: Path | None = None,
    ) -> None:
        """Set aside what an approved plan will cost, so that none of its steps is refused for want of epsilon.

        A reserved step is charged without another look at who was asked before. What is reserved and not yet
        charged counts as spent against every other request, as long as the file `while_there` is: a plan whose
        approval is gone has lapsed.

        Args:
            requests: for each step its nonce, what it does, and the tokens of the people asked.
            cap: the largest epsilon that anybody may reach at `delta`.
            delta: of the promise.
            unit: the unit that `cap` is per.
            while_there: the approval's file.
            moves_to: where that file will be, if the folder it is in is renamed; either place keeps it.

        Raises:
            BudgetError: the cap would be exceeded; nothing was reserved.
            LedgerError: the disk refused.
        """
        place = "\n".join(str(path.resolve()) for path in (while_there, moves_to) if path is not None)
        # An approval that is given anew replaces the old one.
        replaced = self._query("SELECT nonce FROM reservations WHERE while_there = ?", place)
        nonces = frozenset(nonce for nonce, _, _ in requests) | {str(nonce) for (nonce,) in replaced}
        sets = {people_key(tokens): tokens for _, _, tokens in requests}
        with self._writing("nothing could be reserved"), self._transaction():
            for people, tokens in sets.items():
                mine = [what for nonce, what, asked in requests if people_key(asked) == people]
                self.afford(mine, tokens=tokens, cap=cap, delta=delta, unit=unit, own=nonces)
            for nonce, mechanism, tokens in requests:
                people, body = people_key(tokens), json.dumps(mechanism.as_json(), sort_keys=True)
                self._name_people(people, tokens)
                seal = mac(self._key, "reservation", nonce, people, body, place)
                self._db.execute(
                    "INSERT OR IGNORE INTO reservations VALUES (?, ?, ?, ?, ?)", (nonce, people, body, place, seal)
                )

    def redeem(self, ticket: Ticket) -> Charge:
        """Use a ticket up and return its line; to be called before data is opened.

        Raises:
            LedgerError: no line of this ledger has this nonce, number and mechanism, another key sealed it, or it
                was used before, by whatever process.
        """
        with self._writing("the ticket could not be used, and no data was opened"), self._unsynced():
            charge = self._fresh().find(ticket.nonce)
            real = charge is not None and (charge.number, charge.mechanism) == (ticket.number, ticket.mechanism)
            if charge is None or not real or not ticket.is_sealed_by(self._key):
                raise LedgerError("this ticket is for no charge of this ledger; no data was opened")
            if self._db.execute("SELECT 1 FROM openings WHERE opening = ?", (ticket.opening,)).fetchone():
                raise LedgerError(f"the ticket of line {charge.number} was used before; no data was opened")
            self._db.execute("INSERT INTO openings VALUES (?)", (ticket.opening,))
        return charge

    def keep_reply(self, nonce: str, reply: bytes) -> bytes:
        """Keep the answer to a charged order, and return the one that may be sent: the first that was kept.

        Of two computations for one order, in whatever processes, the first to come here is the answer to both.

        Raises:
            LedgerError: nothing was charged for it, or the disk refused; nothing may be sent then.
        """
        with self._writing("the answer could not be kept, and must not be sent"), self._transaction():
            if self._fresh().find(nonce) is None:
                raise LedgerError("this order was never charged; nothing was kept, and nothing may be sent")
            first = self.reply(nonce)
            if first is not None:
                return first
            self._db.execute("INSERT INTO replies VALUES (?, ?)", (nonce, self._reply_seal(nonce, reply) + reply))
        return reply

    def reply(self, nonce: str) -> bytes | None:
        """Return the answer kept for `nonce`, or None.

        Raises:
            LedgerError: it is not what was kept.
        """
        rows = self._query("SELECT CAST(reply AS BLOB) FROM replies WHERE nonce = ?", nonce)
        if not rows:
            return None
        sealed: bytes = rows[0][0]
        if not hmac.compare_digest(sealed[:32], self._reply_seal(nonce, sealed[32:])):
            raise LedgerError("the answer kept for this order was damaged; nothing may be sent for it")
        return sealed[32:]

    def mark(self) -> str:
        """Leave a random mark, 32 hexadecimal digits, which no earlier copy and no other ledger bears.

        Raises:
            LedgerError: the disk refused.
        """
        mark = secrets.token_hex(16)
        with self._writing("the ledger could not be marked"), self._transaction():
            self._db.execute("INSERT INTO marks VALUES (?)", (mark,))
        return mark

    def bears(self, mark: str) -> bool:
        """Whether a mark was left in this ledger."""
        return bool(self._query("SELECT 1 FROM marks WHERE mark = ?", mark))

    def answered(self) -> frozenset[str]:
        """Return the nonces whose answer is kept; a charge without one was cut short, and may be opened again."""
        return frozenset(str(nonce) for (nonce,) in self._query("SELECT nonce FROM replies"))

    def verify(self) -> None:
        """Read the chain anew, compare it with the people it names and with the head kept elsewhere.

        Raises:
            LedgerError: an edited, missing or added line, or a ledger shorter than its head.
        """
        with self._writing("the ledger cannot be read"):
            self._chain = self._read()
            self._compare_head()

    def _refuse_to_reopen(self, charged: Charge, *, study: str, people: str, mechanism: Mechanism) -> None:
        """Refuse a second ticket for a line that was answered, or that is about something else.

        Raises:
            BudgetError: it was, or is.
        """
        if (charged.study, charged.people, charged.mechanism) != (study, people, mechanism):
            raise BudgetError("this order was charged before, for something else; nothing was charged or opened")
        if self._db.execute("SELECT 1 FROM replies WHERE nonce = ?", (charged.nonce,)).fetchone():
            raise BudgetError("this order was charged before and answered; only the answer kept may be sent again")
        if disk.is_closed(self._db, charged.nonce):
            raise BudgetError(
                "this order was charged before the ledger was settled or restored from a copy, and may have been "
                "answered then; there are no refunds. Begin a new run"
            )

    def _name_people(self, people: str, tokens: Iterable[str]) -> None:
        """Write whom a set of people consists of, once."""
        rows = [(people, one) for one in set(tokens)]
        self._db.executemany("INSERT OR IGNORE INTO people VALUES (?, ?)", rows)

    def _reservations(self) -> Iterator[tuple[str, str, Mechanism]]:
        """Yield nonce, people and mechanism of what is reserved, has not lapsed and was not charged yet."""
        rows = self._query("SELECT nonce, people, mechanism, while_there, CAST(seal AS BLOB) FROM reservations")
        for nonce, people, body, place, seal in rows:
            if not hmac.compare_digest(seal, mac(self._key, "reservation", nonce, people, body, place)):
                raise LedgerError("a reservation was edited or is of another ledger; the site is frozen")
            if self._fresh().find(nonce) is None and any(Path(one).exists() for one in place.split("\n")):
                yield nonce, people, Mechanism.from_json(json.loads(body))

    def _reserved_by_others(self, tokens: Iterable[str], *, own: frozenset[str]) -> list[Mechanism]:
        mine = frozenset(tokens)
        return [
            mechanism
            for nonce, people, mechanism in self._reservations()
            if nonce not in own and not mine.isdisjoint(self._tokens_of(people))
        ]

    def _is_reserved(self, nonce: str, *, people: str, mechanism: Mechanism) -> bool:
        return (nonce, people, mechanism) in self._reservations()

    def _read(self) -> Chain:
        """Return the chain from its first line on."""
        chain = Chain(self._key)
        self._extend(chain)
        if self._db.execute("SELECT 1 FROM charges WHERE number < 1").fetchone():
            raise LedgerError("a line was added before the first one of the ledger; the site is frozen")
        return chain

    def _fresh(self) -> Chain:
        """Return the chain with what other processes have added since."""
        self._refuse_when_given_up()
        try:
            self._extend(self._chain)
        except sqlite3.Error as error:
            raise LedgerError(f"the ledger cannot be read ({error}); nothing was charged or opened") from error
        return self._chain

    def _extend(self, chain: Chain) -> None:
        after = len(chain.lines)
        rows = self._db.execute(f"SELECT {_COLUMNS} FROM charges WHERE number > ? ORDER BY number", (after,))
        chain.extend(rows.fetchall(), self._tokens_of)

    def _tokens_of(self, people: str) -> list[str]:
        return [one for (one,) in self._db.execute("SELECT token FROM people WHERE people = ?", (people,))]

    def _query(self, statement: str, *values: str) -> list[tuple[Any, ...]]:
        self._refuse_when_given_up()
        try:
            return self._db.execute(statement, values).fetchall()
        except sqlite3.Error as error:
            raise LedgerError(f"the ledger cannot be read ({error}); nothing was charged or opened") from error

    def _compare_head(self) -> None:
        head, lines = disk.read_head(self._head_file), self._chain.lines
        if head is None:
            if lines:
                raise LedgerError(
                    f"the ledger's head file is missing ({self._head_file}); the site is frozen. If it is kept "
                    "elsewhere, say where (ledger_head in site.toml, --heads, --head)"
                )
            disk.write_head(self._head_file, disk.Head(0, self._chain.head), like=self._folder)
            return
        if head.number > len(lines):
            lines = self._fresh().lines
        # More lines than the head says is what crashes between the two writes leave; it over-counts, as it should.
        if head.number and not (0 < head.number <= len(lines) and lines[head.number - 1].link == head.link):
            raise LedgerError(
                f"the ledger has {len(lines)} lines, but its head names line {head.number}: an old copy was "
                "restored, or a line replaced. The site is frozen until a person decides"
            )

    def _on_disk(self) -> tuple[int, int]:
        found = (self._folder / disk.DATABASE).stat()
        return found.st_dev, found.st_ino

    def _refuse_when_given_up(self) -> None:
        if self._given_up:
            raise LedgerError("the disk refused the ledger before; open it again to see what it holds")

    @contextmanager
    def _writing(self, failed: str) -> Iterator[None]:
        """Hold the ledger; after an error of the disk nothing held in memory counts, and the ledger is given up."""
        self._refuse_when_given_up()
        try:
            with disk.lock(self._folder):
                if self._on_disk() != self._identity:
                    raise LedgerError(
                        "the ledger's file was replaced while it was open; nothing was charged or opened"
                    )
                yield
        except (sqlite3.Error, OSError) as error:
            self._given_up = True
            with suppress(sqlite3.Error):
                self._db.close()
            raise LedgerError(f"{failed} ({error}); open the ledger again to see what it holds") from error

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        try:
            self._db.execute("BEGIN IMMEDIATE")
            yield
            self._db.execute("COMMIT")
        except BaseException:
            with suppress(sqlite3.Error):
                self._db.rollback()
            raise

    @contextmanager
    def _unsynced(self) -> Iterator[None]:
        """A transaction that waits for no sync, for what need not outlast the process: tickets do not."""
        self._db.execute("PRAGMA synchronous=NORMAL")
        try:
            with self._transaction():
                yield
        finally:
            self._db.execute("PRAGMA synchronous=FULL")

    def _reply_seal(self, nonce: str, reply: bytes) -> bytes:
        return mac(self._key, "reply", nonce, hashlib.sha256(reply).hexdigest())


def token(key: bytes, kind: str, what: str) -> str:
    """Return the keyed token of a recording's content or a subject's name; without the key it says nothing."""
    return hmac.new(key, f"{kind}\x1f{what}".encode(), hashlib.sha256).hexdigest()


def _seal_of(key: bytes, nonce: str, number: int, mechanism: Mechanism, opening: int) -> str:
    return mac(key, "ticket", nonce, number, json.dumps(mechanism.as_json(), sort_keys=True), opening).hex()
