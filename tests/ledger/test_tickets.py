"""Tickets: real only when their line is in the ledger, and good for one opening."""

import json
import signal
import sqlite3
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from fedsynth.errors import BudgetError, LedgerError
from fedsynth.ledger.ledger import Ledger, Ticket
from fedsynth.privacy.mechanism import Mechanism

SUM = Mechanism("sum", 2.0, 1.0, 1, 1.0)


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    with Ledger(tmp_path / "ledger") as ledger:
        yield ledger


def charge(ledger: Ledger, nonce: str) -> Ticket:
    return ledger.charge(SUM, nonce=nonce, study="s", tokens=["anna"], cap=100, delta=1e-5, unit="subject")


def test_a_ticket_is_redeemed_for_its_line(ledger: Ledger) -> None:
    charge(ledger, "zero")
    ticket = charge(ledger, "one")

    assert ledger.redeem(ticket) == ledger.charges()[1]


def test_a_ticket_opens_once(ledger: Ledger) -> None:
    ticket = charge(ledger, "one")
    ledger.redeem(ticket)

    with pytest.raises(LedgerError, match="ticket of line 1 was used before"):
        ledger.redeem(ticket)


def test_a_ticket_opens_once_whichever_process_asks(ledger: Ledger, tmp_path: Path) -> None:
    ticket = charge(ledger, "one")
    with Ledger(tmp_path / "ledger") as other:
        other.redeem(ticket)
        ledger.close()

    with Ledger(tmp_path / "ledger") as again, pytest.raises(LedgerError, match="used before"):
        again.redeem(ticket)


def test_one_ticket_does_not_use_up_another(ledger: Ledger) -> None:
    first, second = charge(ledger, "one"), charge(ledger, "two")
    ledger.redeem(second)

    assert ledger.redeem(first).nonce == "one"


def test_a_charge_without_an_answer_is_opened_again_under_its_line(ledger: Ledger, tmp_path: Path) -> None:
    ledger.redeem(charge(ledger, "one"))
    head = ledger.head

    with Ledger(tmp_path / "ledger") as again:
        ticket = charge(again, "one")

        assert again.redeem(ticket).number == 1
        assert (len(again), again.head) == (1, head)
        with pytest.raises(LedgerError, match="used before"):
            again.redeem(ticket)


def test_two_tickets_of_one_line_open_once_each(ledger: Ledger) -> None:
    first, second = charge(ledger, "one"), charge(ledger, "one")

    assert ledger.redeem(second) == ledger.redeem(first)
    for ticket in (first, second):
        with pytest.raises(LedgerError, match="used before"):
            ledger.redeem(ticket)


def test_a_charge_that_was_answered_is_never_opened_again(ledger: Ledger) -> None:
    charge(ledger, "one")
    ledger.keep_reply("one", b"bytes")

    with pytest.raises(BudgetError, match="charged before and answered"):
        charge(ledger, "one")


OTHERS = [
    pytest.param({"mechanism": replace(SUM, noise_multiplier=0.1)}, id="less noise"),
    pytest.param({"mechanism": replace(SUM, purpose="another")}, id="another purpose"),
    pytest.param({"tokens": ["anna", "bert"]}, id="other people"),
    pytest.param({"study": "t"}, id="another study"),
]


@pytest.mark.parametrize("change", OTHERS)
def test_a_charge_is_opened_again_for_the_very_same_only(ledger: Ledger, change: dict[str, object]) -> None:
    charge(ledger, "one")
    same = {"nonce": "one", "study": "s", "tokens": ["anna"], "cap": 100, "delta": 1e-5, "unit": "subject"}

    with pytest.raises(BudgetError, match="charged before, for something else"):
        ledger.charge(**{"mechanism": SUM, **same, **change})  # type: ignore[arg-type]
    assert len(ledger) == 1


def test_a_charge_that_is_opened_again_brings_its_head_up_to_date(ledger: Ledger, tmp_path: Path) -> None:
    """A crash between line and head leaves a head behind; no ticket may exist without it."""
    charge(ledger, "zero")
    before = (tmp_path / "ledger" / "ledger.head").read_bytes()
    charge(ledger, "one")
    (tmp_path / "ledger" / "ledger.head").write_bytes(before)

    with Ledger(tmp_path / "ledger") as again:
        charge(again, "one")

    assert json.loads((tmp_path / "ledger" / "ledger.head").read_text())["number"] == 2


def test_a_request_to_end_is_not_lost_while_the_ledger_waits_for_another(ledger: Ledger, tmp_path: Path) -> None:
    def end(*_: object) -> None:
        raise SystemExit(143)

    ticket = charge(ledger, "one")
    other = sqlite3.connect(tmp_path / "ledger" / "ledger.sqlite", isolation_level=None, check_same_thread=False)
    other.execute("BEGIN IMMEDIATE")
    before = signal.signal(signal.SIGALRM, end)
    release = threading.Timer(0.4, other.rollback)
    try:
        release.start()
        signal.setitimer(signal.ITIMER_REAL, 0.1)
        with pytest.raises(SystemExit):
            ledger.redeem(ticket)
    finally:
        signal.signal(signal.SIGALRM, before)
        release.join()
        other.close()

    assert ledger.redeem(ticket).nonce == "one"


FORGERIES = [
    pytest.param({"mechanism": replace(SUM, noise_multiplier=0.1)}, id="less noise"),
    pytest.param({"mechanism": replace(SUM, clipping_norm=9.0)}, id="a wider bound"),
    pytest.param({"mechanism": replace(SUM, group="held-out")}, id="other people"),
    pytest.param({"mechanism": replace(SUM, steps=2)}, id="more steps"),
    pytest.param({"mechanism": replace(SUM, purpose="another")}, id="another purpose"),
    pytest.param({"nonce": "two"}, id="another order that was charged"),
    pytest.param({"nonce": "none"}, id="an order that was not charged"),
    pytest.param({"number": 2}, id="another line"),
    pytest.param({"number": 0}, id="no line"),
    pytest.param({"opening": 99}, id="another opening"),
    pytest.param({"seal": "0" * 64}, id="no seal"),
    pytest.param({"seal": ""}, id="an empty seal"),
]


@pytest.mark.parametrize("change", FORGERIES)
def test_a_ticket_that_differs_from_its_line_opens_nothing(ledger: Ledger, change: dict[str, object]) -> None:
    ticket = charge(ledger, "one")
    charge(ledger, "two")
    forged = replace(ticket, **change)  # type: ignore[arg-type]

    assert not forged.is_sealed_by(ledger.key)
    with pytest.raises(LedgerError, match="for no charge of this ledger; no data was opened"):
        ledger.redeem(forged)
    assert ledger.redeem(ticket).nonce == "one"


def test_a_ticket_of_another_ledger_opens_nothing(ledger: Ledger, tmp_path: Path) -> None:
    charge(ledger, "one")
    with Ledger(tmp_path / "other") as other:
        foreign = charge(other, "one")

    with pytest.raises(LedgerError, match="for no charge of this ledger"):
        ledger.redeem(foreign)


def test_a_ticket_is_told_from_an_imitation_by_the_key_alone(ledger: Ledger) -> None:
    ticket = charge(ledger, "one")

    assert ticket.is_sealed_by(ledger.key)
    assert not ticket.is_sealed_by(bytes(32))
    assert not Ticket("one", 1, SUM, 1, seal="é" * 64).is_sealed_by(ledger.key)


def test_lines_of_tickets_that_were_used_cannot_be_removed_through_sql(ledger: Ledger) -> None:
    ledger.redeem(charge(ledger, "one"))

    for statement in ("DELETE FROM openings", "UPDATE openings SET opening = 2"):
        with pytest.raises(Exception, match="append only"):
            ledger._db.execute(statement)
