"""What an approved plan will cost is set aside: nobody pays for a plan that another one starves."""

from collections.abc import Sequence
from pathlib import Path

import pytest

from fedsynth.errors import BudgetError, LedgerError
from fedsynth.ledger.ledger import Ledger
from fedsynth.privacy.mechanism import Mechanism

PEOPLE, OTHERS = ("ann", "bob"), ("carl",)


@pytest.fixture(autouse=True)
def _count_for_a_price(monkeypatch: pytest.MonkeyPatch) -> None:
    """Price a history by its number of sums, so that caps are checked by counting."""

    def count(mechanisms: Sequence[Mechanism], *, delta: float) -> float:  # noqa: ARG001
        return float(sum(one.steps for one in mechanisms))

    monkeypatch.setattr("fedsynth.ledger.ledger.epsilon_pld", count)


@pytest.fixture
def approval(tmp_path: Path) -> Path:
    path = tmp_path / "approved.json"
    path.touch()
    return path


def sums(run: str, count: int, people: tuple[str, ...] = PEOPLE) -> list[tuple[str, Mechanism, tuple[str, ...]]]:
    return [(f"{run}:{number}", Mechanism(f"sum {number}", 1.0, 1.0, 1, 1.0), people) for number in range(count)]


def reserve(ledger: Ledger, approval: Path, run: str, count: int, people: tuple[str, ...] = PEOPLE) -> None:
    ledger.reserve(sums(run, count, people), cap=4.0, delta=1e-5, unit="subject", while_there=approval)


def charge(ledger: Ledger, run: str, number: int, people: tuple[str, ...] = PEOPLE) -> None:
    nonce, mechanism, tokens = sums(run, number + 1, people)[number]
    ledger.charge(mechanism, nonce=nonce, study=run, tokens=tokens, cap=4.0, delta=1e-5, unit="subject")


def test_a_second_plan_on_the_same_people_is_refused_before_anybody_pays(tmp_path: Path, approval: Path) -> None:
    with Ledger(tmp_path / "ledger") as ledger:
        reserve(ledger, approval, "first", 3)
        with pytest.raises(BudgetError, match="or reserved by an approved plan"):
            reserve(ledger, approval.with_name("another.json"), "second", 2)

        assert len(ledger) == 0
        for number in range(3):
            charge(ledger, "first", number)


def test_a_reserved_step_is_charged_whoever_was_asked_since(tmp_path: Path, approval: Path) -> None:
    """At the order nobody looks at people: a refusal there would tell who was asked before."""
    with Ledger(tmp_path / "ledger") as ledger:
        reserve(ledger, approval, "first", 4)
        with pytest.raises(BudgetError):
            charge(ledger, "unreserved", 0)
        charge(ledger, "first", 0)
        charge(ledger, "elsewhere", 0, OTHERS)

        assert len(ledger) == 2


def test_a_plan_whose_approval_is_gone_has_lapsed(tmp_path: Path, approval: Path) -> None:
    with Ledger(tmp_path / "ledger") as ledger:
        reserve(ledger, approval, "first", 3)
        approval.unlink()
        again = approval.with_name("again.json")
        again.touch()
        reserve(ledger, again, "second", 4)

        assert len(ledger) == 0


def test_an_approval_given_anew_replaces_what_it_had_reserved(tmp_path: Path, approval: Path) -> None:
    with Ledger(tmp_path / "ledger") as ledger:
        reserve(ledger, approval, "first", 3)
        reserve(ledger, approval, "other plan", 4)


def test_what_was_charged_is_not_counted_twice(tmp_path: Path, approval: Path) -> None:
    second = approval.with_name("second.json")
    second.touch()
    with Ledger(tmp_path / "ledger") as ledger:
        reserve(ledger, approval, "first", 2)
        charge(ledger, "first", 0)
        charge(ledger, "first", 1)
        reserve(ledger, second, "second", 2)
        with pytest.raises(BudgetError):
            reserve(ledger, approval.with_name("third.json"), "third", 1)


def test_people_who_share_nobody_reserve_apart(tmp_path: Path, approval: Path) -> None:
    second = approval.with_name("second.json")
    second.touch()
    with Ledger(tmp_path / "ledger") as ledger:
        reserve(ledger, approval, "first", 4)
        reserve(ledger, second, "second", 4, OTHERS)
        with pytest.raises(BudgetError):
            reserve(ledger, approval.with_name("third.json"), "third", 1, ("bob", "carl"))


def test_a_reserved_nonce_charges_nothing_but_what_was_reserved(tmp_path: Path, approval: Path) -> None:
    with Ledger(tmp_path / "ledger") as ledger:
        reserve(ledger, approval, "first", 1)
        dear = Mechanism("sum 0", 1.0, 1.0, 9, 1.0)
        with pytest.raises(BudgetError):
            ledger.charge(dear, nonce="first:0", study="first", tokens=PEOPLE, cap=4.0, delta=1e-5, unit="subject")


def test_an_edited_reservation_freezes_the_ledger(tmp_path: Path, approval: Path) -> None:
    with Ledger(tmp_path / "ledger") as ledger:
        reserve(ledger, approval, "first", 3)
        ledger._db.execute("DROP TRIGGER reservations_keep")
        ledger._db.execute("UPDATE reservations SET while_there = '/nowhere'")

        with pytest.raises(LedgerError, match="a reservation was edited"):
            reserve(ledger, approval.with_name("second.json"), "second", 4)


def test_an_approval_whose_folder_is_renamed_keeps_what_it_reserved(tmp_path: Path) -> None:
    """A rehearsal approves in a folder that is renamed when it is whole."""
    staging, final = tmp_path / "staging", tmp_path / "run"
    staging.mkdir()
    (staging / "approved.json").touch()
    with Ledger(tmp_path / "ledger") as ledger:
        ledger.reserve(
            sums("first", 3),
            cap=4.0,
            delta=1e-5,
            unit="subject",
            while_there=staging / "approved.json",
            moves_to=final / "approved.json",
        )
        staging.rename(final)
        with pytest.raises(BudgetError, match="or reserved by an approved plan"):
            reserve(ledger, tmp_path / "another.json", "second", 2)
        (final / "approved.json").unlink()
        reserve(ledger, tmp_path / "another.json", "second", 2)
