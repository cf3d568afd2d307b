"""A long ledger asks no more of a charge than a short one: what was verified once is not looked at again."""

import hashlib
import sqlite3
from collections import Counter
from pathlib import Path

import pytest

from fedsynth.ledger import chain, ledger
from fedsynth.ledger.chain import Chain, people_key
from fedsynth.ledger.disk import Head, write_head
from fedsynth.ledger.ledger import Ledger
from fedsynth.privacy.mechanism import Mechanism

LINES = 10_000
TOKENS = [hashlib.sha256(str(n).encode()).hexdigest() for n in range(5000)]
"""Two thousand people, with a name and one or two recordings each."""
SETS = [TOKENS[50 * n :] for n in range(10)] + [TOKENS[: 50 * n] for n in range(1, 11)]
"""Each import of the site's recordings found a few people more or fewer."""
SUMS = [Mechanism(f"gradients: round {n}", 3.0, 0.2, 1 + n, 1.0) for n in range(5)]


@pytest.fixture(scope="module")
def long_ledger(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a ledger of many lines, written in one transaction."""
    folder = tmp_path_factory.mktemp("long") / "ledger"
    with Ledger(folder) as one:
        key = one.key
    lines, sets = Chain(key), {people_key(tokens): tokens for tokens in SETS}
    with sqlite3.connect(folder / "ledger.sqlite") as db:
        for people, tokens in sets.items():
            db.executemany("INSERT INTO people VALUES (?, ?)", [(people, token) for token in tokens])
        names = list(sets)
        for n in range(LINES):
            row = lines.next_row(
                nonce=f"run:plan:{n}", study=f"s{n % 7}", people=names[n % len(names)], mechanism=SUMS[n % 5]
            )
            lines.extend([row], sets.__getitem__)
            db.execute("INSERT INTO charges VALUES (?, ?, ?, ?, ?, ?)", row)
    db.close()
    write_head(folder / "ledger.head", Head(LINES, lines.head), like=folder)
    return folder


@pytest.fixture
def work(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """Count the lines that are verified, the sets of people that are, and the mechanisms that are read."""
    done: Counter[str] = Counter()

    def counted(where: object, name: str, what: str) -> None:
        plain = getattr(where, name)

        def wrapped(*args: object, **options: object) -> object:
            done[what] += 1
            return plain(*args, **options)

        monkeypatch.setattr(where, name, wrapped)

    counted(chain.Chain, "_verified", "lines")
    counted(chain, "_verified_set", "sets")
    counted(Mechanism, "from_json", "mechanisms")
    monkeypatch.setattr(ledger, "epsilon_pld", lambda mechanisms, **_: float(len(mechanisms)))
    return done


def test_opening_verifies_every_line_once_and_every_set_and_mechanism_once(
    long_ledger: Path, work: Counter[str]
) -> None:
    with Ledger(long_ledger) as one:
        lines = len(one)

    assert lines >= LINES
    assert work == {"lines": lines, "sets": len(SETS), "mechanisms": len(SUMS)}


def test_a_charge_after_ten_thousand_others_verifies_its_own_line_alone(
    long_ledger: Path, work: Counter[str]
) -> None:
    with Ledger(long_ledger) as one:
        work.clear()
        for n in range(3):
            ticket = one.charge(
                SUMS[0], nonce=f"step {n}", study="new", tokens=TOKENS, cap=1e9, delta=1e-5, unit="subject"
            )
            one.redeem(ticket)
            one.keep_reply(f"step {n}", bytes(1000))

        assert work == {"lines": 3}
