"""A frozen ledger is settled at its worst: what it says afterwards is never less than what was spent."""

import math
import os
import shutil
import sqlite3
import tempfile
from collections import Counter
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedsynth.errors import BudgetError, LedgerError
from fedsynth.ledger.ledger import Ledger
from fedsynth.ledger.settlement import PlannedCharge, Settled, examine, settle
from fedsynth.privacy.accountant import epsilon_pld
from fedsynth.privacy.mechanism import Mechanism

PEOPLE = {"one": ("ann", "bob"), "two": ("bob", "carl"), "three": ("dora",)}


def plan(run: str, steps: int = 4) -> tuple[PlannedCharge, ...]:
    """Return the steps of a plan; each purpose is different, so that lines can be told apart."""
    return tuple(
        PlannedCharge(f"{run}:{number}", run * 8, Mechanism(f"{run} {number}", 20.0, 1.0, 1, 1.0), PEOPLE[run])
        for number in range(steps)
    )


PLANS = {run: plan(run) for run in PEOPLE}


def charge(place: Path, charges: Sequence[PlannedCharge]) -> None:
    with Ledger(place, head_file=place.parent / "head") as ledger:
        for one in charges:
            ledger.charge(
                one.mechanism,
                nonce=one.nonce,
                study=one.study,
                tokens=one.tokens,
                cap=math.inf,
                delta=1e-5,
                unit="subject",
            )


def history(place: Path, person: str) -> Counter[str]:
    with Ledger(place, head_file=place.parent / "head") as ledger:
        return Counter(one.purpose for one in ledger.history([person]))


def settled(place: Path, *runs: str, nothing_else: bool = False) -> Settled:
    plans = [PLANS[run] for run in runs]
    return settle(place, head_file=place.parent / "head", plans=plans, nothing_else_was_approved=nothing_else)


def spoil(place: Path, statement: str) -> None:
    """Change a database as somebody with SQL would."""
    with closing(sqlite3.connect(place / "ledger.sqlite")) as db:
        for trigger in ("charges_keep", "charges_stay", "people_keep", "people_stay"):
            db.execute(f"DROP TRIGGER {trigger}")
        db.execute(statement)
        db.commit()


@pytest.fixture
def place(tmp_path: Path) -> Path:
    return tmp_path / "ledger"


@pytest.fixture
def older(place: Path) -> Path:
    """Return a ledger of four lines that was set back to its first two; the head elsewhere names the fourth."""
    charge(place, PLANS["one"][:2])
    shutil.copytree(place, place.parent / "copy")
    charge(place, PLANS["one"][2:])
    shutil.rmtree(place)
    shutil.move(place.parent / "copy", place)
    return place


def frozen(place: Path) -> bool:
    try:
        Ledger(place, head_file=place.parent / "head").close()
    except LedgerError:
        return True
    return False


def test_an_old_copy_is_frozen_until_it_is_settled(older: Path) -> None:
    assert frozen(older)

    settled(older, "one")

    assert not frozen(older)


def test_lines_that_the_head_proves_are_written_again_and_no_more(older: Path) -> None:
    done = settled(older, "two", "one")

    assert (done.added, done.everybody) == (2, False)
    assert history(older, "ann") == Counter(one.mechanism.purpose for one in PLANS["one"])
    assert history(older, "carl") == Counter()


def test_what_the_head_does_not_prove_concerns_everybody(older: Path) -> None:
    done = settled(older, "two")

    assert done.everybody
    with Ledger(older, head_file=older.parent / "head") as ledger:
        for person in ("ann", "dora", "somebody new"):
            assert math.isinf(epsilon_pld(ledger.history([person]), delta=1e-5))
        with pytest.raises(BudgetError):
            ledger.afford([PLANS["three"][0].mechanism], tokens=["new"], cap=20.0, delta=1e-5, unit="subject")


def test_with_a_statement_every_step_of_every_plan_is_counted(older: Path) -> None:
    (older.parent / "head").unlink()

    done = settled(older, "one", "three", nothing_else=True)

    assert (done.added, done.everybody) == (2 + 4, False)
    assert history(older, "dora") == Counter(one.mechanism.purpose for one in PLANS["three"])


def test_a_statement_that_cannot_be_true_is_refused(place: Path) -> None:
    charge(place, PLANS["one"])
    shutil.copytree(place, place.parent / "copy")
    charge(place, [*PLANS["two"], *PLANS["three"]])
    shutil.rmtree(place)
    shutil.move(place.parent / "copy", place)
    before = (place / "ledger.sqlite").read_bytes()

    with pytest.raises(LedgerError, match="more were charged than the 4 steps"):
        settled(place, "one", "two", nothing_else=True)
    assert (place / "ledger.sqlite").read_bytes() == before


@pytest.mark.parametrize(
    "damage",
    [
        pytest.param(lambda place: (place / "ledger.sqlite").unlink(), id="database lost"),
        pytest.param(lambda place: (place / "ledger.sqlite").write_bytes(b"nothing" * 999), id="database damaged"),
        pytest.param(
            lambda place: spoil(place, "UPDATE charges SET study = 'x' WHERE number = 2"), id="a line edited"
        ),
        pytest.param(lambda place: spoil(place, "DELETE FROM people WHERE token = 'ann'"), id="a person taken out"),
        pytest.param(
            lambda place: spoil(place, "DELETE FROM charges WHERE number = 4"), id="the last line removed"
        ),
        pytest.param(lambda place: (place.parent / "head").unlink(), id="head lost"),
        pytest.param(lambda place: (place.parent / "head").write_text("x"), id="head damaged"),
    ],
)
def test_every_way_to_freeze_is_settled_without_a_loss(place: Path, damage: object) -> None:
    charge(place, PLANS["one"])
    truth = history(place, "ann")
    damage(place)  # type: ignore[operator]
    assert frozen(place)

    settled(place, "one", nothing_else=True)

    assert not frozen(place)
    assert history(place, "ann") >= truth
    assert examine(place, head_file=place.parent / "head", plans=[]).verdict == "whole"


def test_a_mark_that_is_missing_shows_an_old_copy_whose_head_was_set_back_too(place: Path) -> None:
    charge(place, PLANS["one"][:2])
    finding = examine(place, head_file=place.parent / "head", plans=[PLANS["one"]], marks=["a" * 32])
    assert (finding.verdict, "mark" in finding.cause) == ("counted", True)

    settle(
        place,
        head_file=place.parent / "head",
        plans=[PLANS["one"]],
        nothing_else_was_approved=True,
        marks=["a" * 32],
    )

    assert examine(place, head_file=place.parent / "head", plans=[], marks=["a" * 32]).verdict == "whole"
    assert sum(history(place, "ann").values()) == 4


def test_a_ledger_that_is_whole_is_left_alone(place: Path) -> None:
    charge(place, PLANS["one"])

    with pytest.raises(LedgerError, match="not frozen"):
        settled(place, "one")


def test_without_its_key_nothing_can_be_settled(older: Path) -> None:
    (older / "ledger.key").unlink()

    with pytest.raises(LedgerError, match="nobody can be recognised"):
        settled(older, "one")


def test_what_was_found_is_kept(place: Path) -> None:
    charge(place, PLANS["one"])
    spoil(place, "UPDATE charges SET study = 'x' WHERE number = 2")

    settled(place, "one")

    assert (place / "ledger.sqlite.frozen-1").exists()
    assert not (place / "settling").exists()


def test_a_settlement_that_was_cut_short_is_not_taken_for_an_empty_ledger(place: Path) -> None:
    charge(place, PLANS["one"])
    (place / "ledger.sqlite").rename(place / "ledger.sqlite.frozen-1")

    with pytest.raises(LedgerError, match=r"rename ledger\.sqlite\.frozen-1"):
        settled(place, "one")


def test_a_step_that_was_counted_is_not_answered_any_more(older: Path) -> None:
    settled(older, "one")

    with pytest.raises(BudgetError, match="may have been answered then"):
        charge(older, PLANS["one"][3:])


def test_a_line_of_before_that_had_no_answer_is_closed_too(older: Path) -> None:
    """Its answer may have been kept, and have left, after the copy was made."""
    settled(older, "one")

    with pytest.raises(BudgetError, match="may have been answered then"):
        charge(older, PLANS["one"][:1])


def test_an_answer_that_is_kept_stays(place: Path) -> None:
    charge(place, PLANS["one"][:2])
    with Ledger(place, head_file=place.parent / "head") as ledger:
        ledger.keep_reply(PLANS["one"][0].nonce, b"answer")
    (place.parent / "head").unlink()
    settled(place, "one", nothing_else=True)

    with Ledger(place, head_file=place.parent / "head") as ledger:
        assert ledger.reply(PLANS["one"][0].nonce) == b"answer"


@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_epsilon_after_a_settlement_is_never_below_what_was_spent(data: st.DataObject) -> None:
    """Random runs, interleaved and cut short; a copy of some moment; approvals some of which got lost with it.

    The person states that nothing else was approved only where that is true.
    """
    runs = data.draw(st.lists(st.sampled_from(sorted(PLANS)), min_size=1, max_size=10), label="order of the steps")
    taken: Counter[str] = Counter()
    done: list[PlannedCharge] = []
    for run in runs:
        if taken[run] < len(PLANS[run]):
            done.append(PLANS[run][taken[run]])
            taken[run] += 1
    kept = data.draw(st.integers(0, len(done)), label="lines in the copy")
    head = data.draw(st.sampled_from(["newest", "lost", "of the copy"]), label="head")
    known = data.draw(st.sets(st.sampled_from(sorted(PLANS))), label="approvals that are known")
    lost = {one.nonce.split(":")[0] for one in done[kept:]}
    states = data.draw(st.booleans(), label="states that nothing else was approved") and lost <= known

    with tempfile.TemporaryDirectory(dir=os.environ.get("TMPDIR")) as folder:
        place = Path(folder) / "ledger"
        charge(place, done[:kept])
        shutil.copytree(place, Path(folder) / "copy")
        shutil.copy(Path(folder) / "head", Path(folder) / "copied head")
        charge(place, done[kept:])
        truth = {person: history(place, person) for group in PEOPLE.values() for person in group}
        shutil.rmtree(place)
        shutil.move(Path(folder) / "copy", place)
        if head == "lost":
            (Path(folder) / "head").unlink()
        elif head == "of the copy":
            shutil.copy(Path(folder) / "copied head", Path(folder) / "head")
        # An approval's mark tells of a copy whose head was set back with it; so say that one is missing.
        marks = ["a" * 32] if head == "of the copy" else []
        settle_it = examine(place, head_file=Path(folder) / "head", plans=[], marks=marks).verdict != "whole"
        if settle_it:
            settle(
                place,
                head_file=Path(folder) / "head",
                plans=[PLANS[run] for run in sorted(known)],
                nothing_else_was_approved=states,
                marks=marks,
            )
        after = {person: history(place, person) for person in truth}

    everybody = "settled: charges that nobody knows"
    assert [person for person in truth if not (truth[person] <= after[person] or after[person][everybody])] == []
