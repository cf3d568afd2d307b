"""The ledger's chain: rows in, verified charges out; nothing here touches a disk.

Every line carries an HMAC over itself and the line before, under a key that stays at the site, so that a line
edited, left out, added or moved is found at that line. What is priced is what was verified: the sets of people
are held against the digests in the lines, and histories are read from here and never from the database.
"""

import hashlib
import hmac
import json
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from fedsynth.errors import LedgerError, PrivacyError
from fedsynth.privacy.mechanism import Mechanism

NOTHING = "0" * 64
"""The head of a ledger without lines."""

EVERYBODY = "*"
"""In the place of a token: a line that names it concerns whoever is asked for. Only a settlement writes it."""

Row = tuple[int, str, str, str, str, str]
"""A line as it is stored: number, nonce, study, people, mechanism as JSON, link."""


@dataclass(frozen=True)
class Charge:
    """One line of the ledger. `link` is the HMAC over this line and the one before, 64 hexadecimal digits."""

    number: int
    nonce: str
    study: str
    people: str
    mechanism: Mechanism
    link: str


class Chain:
    """The verified lines of one ledger, and the people that they name."""

    def __init__(self, key: bytes) -> None:
        """Begin without lines.

        Args:
            key: the site's secret, 32 bytes.
        """
        self._key = key
        self._lines: list[Charge] = []
        self._numbers: dict[str, int] = {}
        self._sets: dict[str, frozenset[str]] = {}
        self._mechanisms: dict[str, Mechanism] = {}

    @property
    def lines(self) -> Sequence[Charge]:
        """Every charge, oldest first."""
        return self._lines

    @property
    def head(self) -> str:
        """The last link."""
        return self._lines[-1].link if self._lines else NOTHING

    def find(self, nonce: str) -> Charge | None:
        """Return the charge of an order, or None."""
        number = self._numbers.get(nonce)
        return None if number is None else self._lines[number - 1]

    def knows(self, people: str) -> bool:
        """Whether any line names this very set of people."""
        return people in self._sets

    def tokens(self, people: str) -> frozenset[str]:
        """Return the people of a set that a line names."""
        return self._sets[people]

    def next_row(self, *, nonce: str, study: str, people: str, mechanism: Mechanism) -> Row:
        """Return the row that a new charge would be."""
        number, body = len(self._lines) + 1, json.dumps(mechanism.as_json(), sort_keys=True)
        return number, nonce, study, people, body, self._link(self.head, number, nonce, study, people, body)

    def extend(self, rows: Iterable[Row], tokens_of: Callable[[str], Iterable[str]]) -> None:
        """Verify the rows that follow, and take them in.

        Args:
            rows: in order, from the first line that is not here yet.
            tokens_of: reads the tokens stored for a set of people; asked once for each set.

        Raises:
            LedgerError: an edited, missing, repeated or added line, or an edited set of people.
        """
        for row in rows:
            expected = len(self._lines) + 1
            charge = self._verified(row, expected)
            if charge.people not in self._sets:
                self._sets[charge.people] = _verified_set(charge.people, tokens_of(charge.people))
            self._lines.append(charge)
            self._numbers[charge.nonce] = charge.number

    def touching(self, tokens: Iterable[str]) -> list[Charge]:
        """Return every charge to a set of people that shares anybody with `tokens`, oldest first.

        An empty group is a group too: what was asked of nobody is found again under nobody.
        """
        mine = frozenset(tokens)
        touched = {
            people
            for people, theirs in self._sets.items()
            if not mine.isdisjoint(theirs) or not (mine or theirs) or EVERYBODY in theirs
        }
        return [charge for charge in self._lines if charge.people in touched]

    def _verified(self, row: Row, expected: int) -> Charge:
        number, nonce, study, people, body, link = row
        try:
            right = self._link(self.head, number, nonce, study, people, body)
            same = hmac.compare_digest(link, right)
        except TypeError:  # a column that is no longer text
            same = False
        if not same or number != expected or nonce in self._numbers:
            raise LedgerError(f"line {expected} of the ledger was edited or is missing; the site is frozen")
        return Charge(number, nonce, study, people, self._mechanism(body, number), link)

    def _mechanism(self, body: str, number: int) -> Mechanism:
        # A study repeats the same few mechanisms; each is read once.
        if body not in self._mechanisms:
            try:
                # Lines older than secure aggregation do not say that their noise was drawn by one site.
                said = {"noise_shares": 1} | json.loads(body)
                mechanism = Mechanism.from_json(said)
                understood = mechanism.as_json() == said
            except (ValueError, KeyError, TypeError, PrivacyError):
                understood = False
            if not understood:
                raise LedgerError(
                    f"line {number} of the ledger says something that this version of fedsynth cannot price; "
                    "nothing was charged or opened. Use the version that wrote it, or a later one"
                )
            self._mechanisms[body] = mechanism
        return self._mechanisms[body]

    def _link(self, previous: str, *line: Any) -> str:
        return mac(self._key, previous, *line).hex()


def mac(key: bytes, *what: Any) -> bytes:
    """Return the HMAC-SHA-256 of a list of numbers and texts, 32 bytes."""
    return hmac.digest(key, json.dumps(what).encode(), "sha256")


def people_key(tokens: Iterable[str]) -> str:
    """Return the digest of a set of people, 64 hexadecimal digits.

    >>> people_key(["b", "a"]) == people_key(["a", "b", "a"])
    True
    """
    return hashlib.sha256("\n".join(sorted(set(tokens))).encode()).hexdigest()


def _verified_set(people: str, tokens: Iterable[str]) -> frozenset[str]:
    # The sets of one site overlap: interned, a token is held once.
    try:
        found = frozenset(sys.intern(token) for token in tokens)
        same = people_key(found) == people
    except TypeError:
        same = False
    if not same:
        raise LedgerError("a set of people in the ledger was edited; the site is frozen")
    return found
