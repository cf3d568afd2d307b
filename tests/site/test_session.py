"""A site's session: charged before opened, answered once, and nothing else leaves."""

import json
import logging
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from fedsynth.anchors.estimator import estimator_of
from fedsynth.errors import BudgetError, ConsentError, LedgerError, PrivacyError
from fedsynth.evaluation.classifier import Classifier
from fedsynth.ledger.ledger import Ledger, Ticket
from fedsynth.modalities.shape import shape_of
from fedsynth.plan import Plan, plan_of
from fedsynth.privacy.mechanism import Mechanism
from fedsynth.recordings.recording import Recording
from fedsynth.recordings.windows import windows_of
from fedsynth.site import holdings as holdings_module
from fedsynth.site import worker as worker_module
from fedsynth.site.approval import approve
from fedsynth.site.holdings import Holdings, group_of_person, keep, load_holdings, read_windows
from fedsynth.site.session import SiteSession
from fedsynth.study import Study
from fedsynth.wire.order import STATEMENT_STEP, Order
from fedsynth.wire.update import REFUSED, Update

People = Callable[..., list[Recording]]
MakeSite = Callable[..., Holdings]


@pytest.fixture(scope="module")
def plan(tiny: Study) -> Plan:
    return plan_of(tiny)


@pytest.fixture
def site(tmp_path: Path, make_site: MakeSite, make_people: People, plan: Plan) -> Path:
    folder = tmp_path / "east"
    make_site(folder, make_people(12, seed=1))
    approve(folder, run="run", plan=plan)
    return folder


def first_order(approved: Plan, **changes: object) -> Order:
    order = Order("run", approved.digest, 0, approved.estimator.prior(approved.shape).tensors())
    return replace(order, **changes)  # type: ignore[arg-type]


def ask(folder: Path, order: Order) -> Update:
    return Update.from_bytes(SiteSession(folder).handle(order.to_bytes()))


def lines(folder: Path) -> int:
    with Ledger(folder / "ledger") as ledger:
        return len(ledger)


def test_an_answer_is_a_private_sum_and_one_ledger_line(site: Path, plan: Plan) -> None:
    update = ask(site, first_order(plan))

    assert update.refused == ""
    size = estimator_of(plan.study).statistic_size(shape_of(plan.study), step=0)
    assert update.tensors["sum"].shape == (size,)
    assert update.word is not None
    assert update.word.ledger_length == update.word.charged == lines(site) == 1


def test_the_charge_is_written_before_the_data_is_opened(
    site: Path, plan: Plan, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[int] = []
    read = worker_module.read_windows
    monkeypatch.setattr(worker_module, "read_windows", lambda file: (seen.append(lines(site)), read(file))[1])

    ask(site, first_order(plan))

    assert seen == [1]


def test_a_label_that_nobody_has_here_is_for_the_sites_own_eyes(
    tmp_path: Path, make_site: MakeSite, make_people: People, plan: Plan, caplog: pytest.LogCaptureFixture
) -> None:
    """Whether a site answers must not tell of its people: it does, and only its log speaks."""
    everybody = make_people(24, seed=1)
    resting = [person for person in everybody if person.label == "rest"]
    for name, recordings in (("east", resting), ("west", everybody)):
        make_site(tmp_path / name, recordings)
        with caplog.at_level(logging.WARNING):
            approve(tmp_path / name, run="run", plan=plan)
        assert ("nobody who trains here has the label task" in caplog.text) == (name == "east")
        assert ask(tmp_path / name, first_order(plan)).refused == ""
        caplog.clear()


def test_a_failure_after_the_charge_is_not_refunded(
    site: Path, plan: Plan, monkeypatch: pytest.MonkeyPatch, site_log: Any
) -> None:
    def burst(_: object) -> None:
        raise OSError("CANARY-1-3.npz cannot be read")

    monkeypatch.setattr(worker_module, "read_windows", burst)
    answer = SiteSession(site).handle(first_order(plan).to_bytes())

    assert lines(site) == 1
    assert site_log.kinds == ["InternalError"]
    assert answer == Update(refused=REFUSED).to_bytes()


def test_a_retry_returns_the_same_bytes_and_charges_once(site: Path, plan: Plan) -> None:
    data = first_order(plan).to_bytes()

    first, second = SiteSession(site).handle(data), SiteSession(site).handle(data)

    assert first == second
    assert lines(site) == 1


def test_two_sites_with_the_same_people_and_one_torch_seed_answer_differently(
    tmp_path: Path, make_site: MakeSite, make_people: People, plan: Plan
) -> None:
    sums = []
    for name in ("east", "west"):
        make_site(tmp_path / name, make_people(12, seed=1))
        approve(tmp_path / name, run="run", plan=plan)
        torch.manual_seed(3)
        sums.append(ask(tmp_path / name, first_order(plan)).tensors["sum"])

    assert not torch.isclose(sums[0], sums[1]).any()


@pytest.mark.parametrize(
    ("changes", "refusal"),
    [
        pytest.param({"plan": "0" * 64}, "ConsentError", id="another plan"),
        pytest.param({"run": "other"}, "ConsentError", id="a run nobody approved"),
        pytest.param({"step": 99}, "ConsentError", id="a round too many"),
        pytest.param({"step": -2}, "ConsentError", id="a step below zero"),
        pytest.param({"tensors": {}}, "WireError", id="no tensors"),
        pytest.param({"step": 1}, "WireError", id="an anchor of another step"),
        pytest.param({"step": 2}, "WireError", id="tensors of another kind"),
    ],
)
def test_what_was_not_approved_is_refused_uncharged_and_unopened(
    site: Path,
    plan: Plan,
    changes: dict[str, object],
    refusal: str,
    monkeypatch: pytest.MonkeyPatch,
    site_log: Any,
) -> None:
    monkeypatch.setattr(worker_module, "read_windows", lambda _: pytest.fail("data was opened"))

    update = ask(site, first_order(plan, **changes))

    assert update == Update(refused=REFUSED)
    assert site_log.kinds == [refusal]
    assert lines(site) == 0


def test_garbage_is_refused_with_the_one_word(site: Path, site_log: Any) -> None:
    assert SiteSession(site).handle(b"garbage") == Update(refused=REFUSED).to_bytes()
    assert site_log.kinds == ["WireError"]


def test_the_kill_switch_stops_everything(site: Path, plan: Plan, site_log: Any) -> None:
    (site / "STOP").touch()

    assert ask(site, first_order(plan)).refused == REFUSED
    assert site_log.kinds == ["RefusedError"]
    assert lines(site) == 0


@pytest.mark.parametrize(
    ("policy", "said"),
    [
        pytest.param("largest_epsilon = 1.0", "epsilon 8 exceeds", id="epsilon"),
        pytest.param("largest_delta = 1e-6", "delta 1e-05 exceeds", id="delta"),
        pytest.param("least_subjects = 50", "fewer subjects", id="subjects"),
        pytest.param('families = ["wavegan"]', "not allowed", id="family"),
    ],
)
def test_a_site_approves_nothing_beyond_its_policy(
    tmp_path: Path, make_site: MakeSite, make_people: People, plan: Plan, policy: str, said: str
) -> None:
    make_site(tmp_path / "east", make_people(12, seed=1), policy=policy)

    with pytest.raises(ConsentError, match=said):
        approve(tmp_path / "east", run="run", plan=plan)


@pytest.mark.parametrize(("folder", "refusal"), [("approved", "ConsentError"), ("holdings", "RunError")])
def test_without_approval_or_holdings_a_run_stops_uncharged(
    site: Path, plan: Plan, folder: str, refusal: str, site_log: Any
) -> None:
    shutil.rmtree(site / folder)

    assert ask(site, first_order(plan)).refused == REFUSED
    assert site_log.kinds == [refusal]
    assert lines(site) == 0


def anew(ledger: Path, _: Path) -> None:
    shutil.rmtree(ledger)


def anew_with_the_old_key(ledger: Path, _: Path) -> None:
    for path in (*ledger.glob("ledger.sqlite*"), ledger / "ledger.head"):
        path.unlink()


def from_last_night(ledger: Path, backup: Path) -> None:
    shutil.rmtree(ledger)
    shutil.copytree(backup, ledger)


@pytest.mark.parametrize("change", [anew, anew_with_the_old_key, from_last_night])
def test_another_ledger_than_the_approved_one_freezes_the_site(
    tmp_path: Path,
    make_site: MakeSite,
    make_people: People,
    plan: Plan,
    site_log: Any,
    change: Callable[[Path, Path], None],
) -> None:
    east = tmp_path / "east"
    make_site(east, make_people(12, seed=1))
    shutil.copytree(east / "ledger", tmp_path / "backup")
    approve(east, run="run", plan=plan)
    assert ask(east, first_order(plan)).refused == ""
    assert lines(east) == 1
    change(east / "ledger", tmp_path / "backup")
    assert lines(east) == 0

    update = ask(east, first_order(plan))

    assert update == Update(refused=REFUSED)
    assert site_log.kinds == ["LedgerError"]
    assert "another ledger than the plan was approved with" in site_log.text
    assert lines(east) == 0


def test_people_who_spent_their_budget_approve_no_second_run(site: Path, plan: Plan) -> None:
    ask(site, first_order(plan))

    with pytest.raises(BudgetError, match="already spent on the same people"):
        approve(site, run="second", plan=plan)


def test_the_same_people_under_other_names_share_one_budget(
    site: Path, tmp_path: Path, make_site: MakeSite, make_people: People, plan: Plan
) -> None:
    ask(site, first_order(plan))
    renamed = [replace(item, subject=f"NEW-{n}") for n, item in enumerate(make_people(12, seed=1))]
    shutil.copytree(site / "ledger", tmp_path / "again" / "ledger")
    shutil.rmtree(site)
    make_site(tmp_path / "new", renamed)
    shutil.rmtree(tmp_path / "new" / "ledger")
    shutil.move(tmp_path / "again" / "ledger", tmp_path / "new" / "ledger")
    shutil.rmtree(tmp_path / "new" / "holdings")
    with Ledger(tmp_path / "new" / "ledger") as ledger:
        windows = windows_of(renamed, study=plan.study)
        keep(tmp_path / "new" / "holdings", recordings=renamed, windows=windows, study=plan.study, key=ledger.key)

    with pytest.raises(BudgetError, match="already spent on the same people"):
        approve(tmp_path / "new", run="second", plan=plan)


def test_a_recording_in_both_groups_is_refused_before_anything_is_kept_or_charged(
    tmp_path: Path, make_site: MakeSite, make_people: People, plan: Plan
) -> None:
    """The held-out sum would be charged to somebody who has trained: refused then, all was spent for nothing."""
    people = make_people(12, seed=1)
    fraction = plan.study.training.held_out
    first = next(item for item in people if group_of_person(item.subject, held_out=fraction) == "train")
    names = (f"ALIAS-{number}" for number in range(1000))
    alias = next(name for name in names if group_of_person(name, held_out=fraction) == "held-out")

    with pytest.raises(PrivacyError, match="the same samples stand under two names") as refused:
        make_site(tmp_path / "east", [*people, replace(first, subject=alias)])

    assert "ALIAS" not in str(refused.value)
    assert "CANARY" not in str(refused.value)
    assert not (tmp_path / "east" / "holdings").exists()


def test_holdings_that_share_somebody_between_groups_are_not_approved(site: Path, plan: Plan) -> None:
    path = site / "holdings" / "people.json"
    body = json.loads(path.read_text())
    body["tokens"]["held-out"].append(body["tokens"]["train"][0])
    path.write_text(json.dumps(body))

    with pytest.raises(PrivacyError, match="one trains and one is held out"):
        approve(site, run="second", plan=plan)


def test_nothing_in_an_answer_names_a_subject(site: Path, plan: Plan) -> None:
    for step in (0, STATEMENT_STEP):
        answer = SiteSession(site).handle(first_order(plan, step=step).to_bytes())
        assert b"CANARY" not in answer


def test_nothing_kept_at_the_site_for_a_study_names_a_subject(site: Path) -> None:
    for path in site.rglob("*"):
        if path.is_file():
            assert b"CANARY" not in path.read_bytes()


def test_a_statement_lists_everything_charged_in_this_run(site: Path, plan: Plan) -> None:
    ask(site, first_order(plan))

    update = ask(site, Order("run", plan.digest, STATEMENT_STEP, {}))

    assert update.word is not None
    assert update.word.train_history == (plan.steps[0].mechanism,)
    assert update.word.held_out_history == ()
    assert lines(site) == 1


def charged(ledger: Ledger, tokens: tuple[str, ...]) -> Ticket:
    mechanism = Mechanism("sum", 5.0, 1.0, 1, 1.0)
    return ledger.charge(mechanism, nonce="n", study="s", tokens=tokens, cap=20.0, delta=1e-5, unit="subject")


def test_holdings_open_once_for_a_ticket_of_their_own_people(site: Path) -> None:
    holdings = load_holdings(site / "holdings")
    with Ledger(site / "ledger") as ledger:
        with pytest.raises(PrivacyError, match="charge first"):
            holdings.open(None, ledger=ledger)  # type: ignore[arg-type]

        ticket = charged(ledger, holdings.tokens["train"])
        with holdings.open(ticket, ledger=ledger) as file:
            assert len(read_windows(file).labels) > 0
        with pytest.raises(LedgerError, match="used before"):
            holdings.open(ticket, ledger=ledger)


def test_an_imitated_ticket_opens_nothing(site: Path) -> None:
    holdings = load_holdings(site / "holdings")
    with Ledger(site / "ledger") as ledger:
        ticket = charged(ledger, holdings.tokens["train"])
        cheap = replace(ticket, mechanism=replace(ticket.mechanism, noise_multiplier=500.0))
        with pytest.raises(LedgerError, match="no charge of this ledger"):
            holdings.open(cheap, ledger=ledger)


def test_a_ticket_charged_to_other_people_opens_nothing(site: Path) -> None:
    with Ledger(site / "ledger") as ledger:
        ticket = charged(ledger, ("somebody else",))
        with pytest.raises(PrivacyError, match="other people"):
            load_holdings(site / "holdings").open(ticket, ledger=ledger)


def test_a_person_is_in_one_group_whoever_else_is_there(make_people: People) -> None:
    recordings = make_people(40, seed=2, per_person=2)
    everybody = holdings_module.groups_of(recordings, held_out=0.2)
    without = holdings_module.groups_of(recordings[2:], held_out=0.2)

    assert everybody[2:] == without
    assert all(everybody[i] == everybody[i + 1] for i in range(0, len(everybody), 2))
    assert {"train", "held-out"} == set(everybody)


def test_a_fifth_of_people_is_held_out() -> None:
    groups = [group_of_person(f"sub-{n:04d}", held_out=0.2) for n in range(4000)]

    assert groups.count("held-out") / 4000 == pytest.approx(0.2, abs=0.02)


def test_held_out_scores_are_a_sum_over_the_held_out_group(site: Path, plan: Plan) -> None:
    number = len(plan.steps) - 1
    classifier = Classifier(2, 2)

    update = ask(site, Order("run", plan.digest, number, classifier.state_dict()))

    assert update.refused == ""
    assert update.tensors["sum"].shape == (4 + 32,)
    with Ledger(site / "ledger") as ledger:
        assert [line.mechanism.group for line in ledger.charges()] == ["held-out"]
