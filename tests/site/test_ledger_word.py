"""A site's word on its ledger: every line counts, whoever was asked, and the groups of one run apart."""

import hashlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from fedsynth.errors import BudgetError
from fedsynth.ledger.chain import Charge, people_key
from fedsynth.ledger.ledger import Ledger
from fedsynth.plan import Plan, plan_of
from fedsynth.privacy.mechanism import Group, Mechanism
from fedsynth.recordings.recording import Recording
from fedsynth.site.approval import approve, check_told, nonce_of
from fedsynth.site.holdings import Holdings
from fedsynth.site.ledger_word import histories
from fedsynth.study import parse_study

HELD = Holdings(Path("nowhere"), {"train": ("a", "b"), "held-out": ("c",)}, 3)


@pytest.fixture(scope="module")
def plan(tiny_text: str) -> Plan:
    return plan_of(parse_study(tiny_text.replace("rounds = 1", "rounds = 0")))


def line(nonce: str, purpose: str, group: Group, people: tuple[str, ...]) -> Charge:
    mechanism = Mechanism(purpose, 2.0, 1.0, 1, 1.0, group)
    link = hashlib.sha256(nonce.encode()).hexdigest()
    return Charge(1, nonce, "study", people_key(people), mechanism, link)


def told(plan: Plan, *lines: Charge, run: str = "run") -> dict[Group, list[str]]:
    found = histories(lines, run=run, plan=plan, holdings=HELD)
    return {group: [event.purpose for event in events] for group, events in found.items()}


def test_lines_of_this_run_count_for_their_group_and_every_other_line_for_both(plan: Plan) -> None:
    mine = nonce_of(run="run", plan=plan, step=0), nonce_of(run="run", plan=plan, step=1)

    assert told(
        plan,
        line("other 1", "of strangers", "train", ("x", "y")),
        line(mine[0], "sum", "train", ("a", "b")),
        line("other 2", "of those held out now", "train", ("c",)),
        line(mine[1], "scores", "held-out", ("c",)),
        line("other 3", "of nobody", "held-out", ()),
    ) == {
        "train": ["of strangers", "sum", "of those held out now", "of nobody"],
        "held-out": ["of strangers", "of those held out now", "scores", "of nobody"],
    }


@pytest.mark.parametrize(
    "nonce",
    [
        pytest.param("run:{digest}:0:0", id="a longer nonce"),
        pytest.param("run:{digest}:99", id="a step that the plan has not"),
        pytest.param("run:{digest}:{digest}:0", id="a run that is named like this one and its plan"),
        pytest.param("run 2:{digest}:0", id="the same plan in another run"),
        pytest.param("run:0000:0", id="another plan in a run of the same name"),
    ],
)
def test_a_line_that_only_looks_like_one_of_this_run_counts_for_both_groups(plan: Plan, nonce: str) -> None:
    other = line(nonce.format(digest=plan.digest), "sum", "train", ("a", "b"))

    assert told(plan, other) == {"train": ["sum"], "held-out": ["sum"]}


@pytest.mark.parametrize(
    ("train", "held_out"),
    [
        pytest.param(("a", "b", "c"), ("c",), id="one who has trained is held out now"),
        pytest.param(("a",), ("c",), id="one who was not there has come"),
        pytest.param(("a", "b"), ("c", "d"), id="one who was held out is gone"),
    ],
)
def test_where_people_changed_in_mid_run_every_line_counts_for_both(
    plan: Plan, train: tuple[str, ...], held_out: tuple[str, ...]
) -> None:
    """Who was asked in one group may be in the other by now, and nothing outward may say whether it is so."""
    mine = nonce_of(run="run", plan=plan, step=0), nonce_of(run="run", plan=plan, step=1)

    found = told(plan, line(mine[0], "sum", "train", train), line(mine[1], "scores", "held-out", held_out))

    assert found == {"train": ["sum", "scores"], "held-out": ["sum", "scores"]}


# What a statement could not be released with is said when a plan is approved, and not when all was spent.


@pytest.fixture
def site(tmp_path: Path, make_site: Callable[..., Holdings], make_people: Callable[..., list[Recording]]) -> Path:
    make_site(tmp_path / "east", make_people(12, seed=1))
    return tmp_path / "east"


def charge(site: Path, mechanism: Mechanism, *, nonce: str) -> None:
    """Let another study ask people who are not here."""
    with Ledger(site / "ledger") as ledger:
        unit = mechanism.unit
        ledger.charge(mechanism, nonce=nonce, study=nonce, tokens=[nonce], cap=1e9, delta=1e-5, unit=unit)


LOUD = Mechanism("sum", 0.4, 1.0, 1, 1.0)
"""Costs about epsilon 13 at delta 1e-5."""


def test_a_study_that_would_bring_the_statement_above_twenty_is_not_approved(site: Path, plan: Plan) -> None:
    charge(site, LOUD, nonce="1")
    approve(site, run="first", plan=plan)
    charge(site, LOUD, nonce="2")

    with pytest.raises(BudgetError, match="whoever was asked, the study's statement would come to epsilon"):
        approve(site, run="second", plan=plan)
    assert len(list((site / "approved").iterdir())) == 1


def test_what_other_plans_have_reserved_counts_too(site: Path, plan: Plan, tmp_path: Path) -> None:
    (tmp_path / "approval").touch()
    with Ledger(site / "ledger") as ledger:
        check_told(ledger, plan)
        for name in ("1", "2"):
            requests = [(name, LOUD, [name])]
            ledger.reserve(requests, cap=1e9, delta=1e-5, unit="subject", while_there=tmp_path / "approval")
            assert len(ledger.everything()) == int(name)
        with pytest.raises(BudgetError, match="nothing is called private"):
            check_told(ledger, plan)
        (tmp_path / "approval").unlink()
        check_told(ledger, plan)


def test_a_plan_that_is_approved_again_is_not_counted_twice(site: Path, plan: Plan) -> None:
    charge(site, LOUD, nonce="1")

    for _ in range(3):
        approve(site, run="run", plan=plan)


def test_lines_of_another_unit_have_no_price_whoever_was_asked(site: Path, plan: Plan) -> None:
    charge(site, replace(LOUD, unit="window"), nonce="1")

    with pytest.raises(BudgetError, match="bounded per window, which have no price per subject"):
        approve(site, run="run", plan=plan)


def test_a_study_that_promises_nothing_is_not_held_to_a_price(site: Path, tiny_text: str) -> None:
    charge(site, replace(LOUD, unit="window"), nonce="1")
    text = tiny_text.replace("rounds = 1", "rounds = 0").replace("epsilon = 8.0", "epsilon = inf")
    with Ledger(site / "ledger") as ledger:
        check_told(ledger, plan_of(parse_study(text)))
