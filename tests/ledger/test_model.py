"""The ledger against a model that counts on its fingers: any sequence of charges, crashes and retries."""

import shutil
import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from fedsynth.errors import BudgetError, LedgerError
from fedsynth.ledger import ledger as module
from fedsynth.ledger.ledger import Ledger, Ticket
from fedsynth.privacy.mechanism import Mechanism

PEOPLE = ("anna", "bert", "carl", "dora")
groups = st.frozensets(st.sampled_from(PEOPLE))
CAP = 6


class LedgerModel(RuleBasedStateMachine):
    """Costs are whole numbers. The model: a list of (nonce, study, people, cost), and what became of each."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp(prefix="fedsynth-model-"))
        self.lines: list[tuple[str, str, frozenset[str], int]] = []
        self.tickets: dict[Ticket, bool] = {}  # whether it was used
        self.replies: dict[str, bytes] = {}

    @initialize()
    def begin(self) -> None:
        self.ledger = self.opened()

    def opened(self) -> Ledger:
        return Ledger(self.folder / "ledger", head_file=self.folder / "head")

    def cost(self, people: frozenset[str]) -> int:
        return sum(cost for _, _, theirs, cost in self.lines if theirs & people or theirs == people == frozenset())

    @rule(nonce=st.sampled_from("abcdefgh"), people=groups, cost=st.integers(1, 4), study=st.sampled_from("st"))
    def charge(self, nonce: str, people: frozenset[str], cost: int, study: str) -> None:
        before = [line for line in self.lines if line[0] == nonce]
        again = before == [(nonce, study, people, cost)] and nonce not in self.replies
        allowed = again or (not before and self.cost(people) + cost <= CAP)
        try:
            ticket = self.ledger.charge(
                Mechanism("sum", 2.0, 1.0, cost, 1.0),
                nonce=nonce,
                study=study,
                tokens=[*people, *people],
                cap=CAP,
                delta=1e-5,
                unit="subject",
            )
        except BudgetError:
            assert not allowed
            return
        assert allowed
        if not again:
            self.lines.append((nonce, study, people, cost))
        assert ticket.number == 1 + [line[0] for line in self.lines].index(nonce)
        assert ticket not in self.tickets
        self.tickets[ticket] = False

    @precondition(lambda self: self.tickets)
    @rule(data=st.data())
    def redeem(self, data: st.DataObject) -> None:
        ticket = data.draw(st.sampled_from([*self.tickets]))
        if self.tickets[ticket]:
            with pytest.raises(LedgerError, match="used before"):
                self.ledger.redeem(ticket)
        else:
            assert self.ledger.redeem(ticket).nonce == ticket.nonce
            self.tickets[ticket] = True

    @rule(nonce=st.sampled_from("abcdefgh"), reply=st.binary(max_size=9))
    def answer(self, nonce: str, reply: bytes) -> None:
        if nonce not in [line[0] for line in self.lines]:
            with pytest.raises(LedgerError):
                self.ledger.keep_reply(nonce, reply)
        else:
            assert self.ledger.keep_reply(nonce, reply) == self.replies.setdefault(nonce, reply)

    @rule(closed=st.booleans())
    def reopen(self, closed: bool) -> None:
        old, self.ledger = self.ledger, self.opened()
        if closed:
            old.close()

    @rule()
    def forget_the_last_head(self) -> None:
        """Undo what a crash between the charge and its head would not have done."""
        number = max(len(self.lines) - 1, 0)
        link = self.ledger.charges()[number - 1].link if number else "0" * 64
        (self.folder / "head").write_text(f'{{"number": {number}, "link": "{link}"}}')

    @invariant()
    def holds_what_the_model_holds(self) -> None:
        if not hasattr(self, "ledger"):
            return
        self.ledger.verify()
        assert [(c.nonce, c.study, c.mechanism.steps) for c in self.ledger.charges()] == [
            (nonce, study, cost) for nonce, study, _, cost in self.lines
        ]
        assert {nonce: self.ledger.reply(nonce) for nonce in "abcdefgh"} == {
            nonce: self.replies.get(nonce) for nonce in "abcdefgh"
        }
        for one in PEOPLE:
            person = frozenset([one])
            assert sum(m.steps for m in self.ledger.history(person)) == self.cost(person) <= CAP
            assert self.ledger.studies(person) == {study for _, study, theirs, _ in self.lines if one in theirs}

    def teardown(self) -> None:
        if hasattr(self, "ledger"):
            self.ledger.close()
        shutil.rmtree(self.folder)


def test_the_ledger_agrees_with_a_model_that_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "epsilon_pld", lambda mechanisms, **_: float(sum(one.steps for one in mechanisms)))
    run_state_machine_as_test(
        LedgerModel,
        settings=settings(
            max_examples=60,
            stateful_step_count=25,
            deadline=None,
            derandomize=True,
            suppress_health_check=list(HealthCheck),
        ),
    )
