"""Whatever leaves a site is noisy in every number, or does not depend on its people at all."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from fedsynth.evaluation.classifier import Classifier
from fedsynth.ledger.ledger import Ledger
from fedsynth.modalities.shape import shape_of
from fedsynth.plan import Plan, plan_of
from fedsynth.recordings.recording import Recording
from fedsynth.site.approval import approve
from fedsynth.site.holdings import Holdings
from fedsynth.site.session import SiteSession
from fedsynth.study import Study
from fedsynth.synthesis.generator import at_prior
from fedsynth.wire.order import STATEMENT_STEP, Order
from fedsynth.wire.update import Update

People = Callable[..., list[Recording]]
MakeSite = Callable[..., Holdings]
TRAIN, LAST = 2, 3  # steps of the tiny plan


@pytest.fixture(scope="module")
def plan(tiny: Study) -> Plan:
    return plan_of(tiny)


def order(plan: Plan, step: int) -> Order:
    study = plan.study
    shape = shape_of(study)
    if step == 0:
        tensors = plan.estimator.prior(shape).tensors()
    elif step == LAST:
        tensors = Classifier(2, 2).state_dict()
    else:
        parts = {f"parts.{name}": value for name, value in at_prior(study).state.items()}
        tensors = {**parts, "seen_units": torch.tensor([10.0]), "label_shares": torch.tensor([0.5, 0.5])}
    return Order("run", plan.digest, step, tensors)


def site(folder: Path, people: list[Recording], plan: Plan, make_site: MakeSite) -> Path:
    make_site(folder, people)
    approve(folder, run="run", plan=plan)
    return folder


def ask(folder: Path, asked: Order) -> Update:
    return Update.from_bytes(SiteSession(folder).handle(asked.to_bytes()))


@pytest.mark.parametrize("step", [0, LAST], ids=["anchor", "scores"])
def test_two_sites_with_the_same_people_agree_in_no_number(
    tmp_path: Path, plan: Plan, make_site: MakeSite, make_people: People, step: int
) -> None:
    one, two = (
        ask(site(tmp_path / name, make_people(30, seed=1), plan, make_site), order(plan, step)).tensors
        for name in ("east", "west")
    )

    assert set(one) == {"sum"}
    assert not torch.isclose(one["sum"], two["sum"], rtol=1e-6, atol=0).any()


def test_trained_parts_leave_with_the_names_they_came_with_and_no_other(
    tmp_path: Path, plan: Plan, make_site: MakeSite, make_people: People
) -> None:
    asked = order(plan, TRAIN)

    told = ask(site(tmp_path / "east", make_people(14, seed=1), plan, make_site), asked)

    assert {f"parts.{name}" for name in told.tensors} == {n for n in asked.tensors if n.startswith("parts.")}


@pytest.mark.parametrize("step", [0, TRAIN, LAST, STATEMENT_STEP])
def test_the_header_of_an_answer_does_not_depend_on_how_many_people_there_are(
    tmp_path: Path, plan: Plan, make_site: MakeSite, make_people: People, step: int
) -> None:
    few, many = (
        ask(site(tmp_path / str(count), make_people(count, seed=1), plan, make_site), order(plan, step))
        for count in (14, 40)
    )

    assert few.refused == many.refused == ""
    assert few.word is not None
    assert many.word is not None
    assert replace(few.word, site="", ledger_head="") == replace(many.word, site="", ledger_head="")
    with Ledger(tmp_path / "14" / "ledger") as ledger:
        assert few.word.ledger_length == len(ledger)
        assert few.word.ledger_head == ledger.head
    assert {name: value.shape for name, value in few.tensors.items()} == {
        name: value.shape for name, value in many.tensors.items()
    }
