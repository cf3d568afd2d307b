"""Secure aggregation through the whole product: real sites, a coordinator, and messages that get lost between."""

import json
import shutil
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from fedsynth.anchors.estimator import estimator_of
from fedsynth.coordinator.aggregation import Total
from fedsynth.coordinator.rounds import run_plan
from fedsynth.coordinator.secure_sums import SecureSums
from fedsynth.errors import ConsentError, PrivacyError, RefusedError
from fedsynth.ledger.ledger import Ledger
from fedsynth.modalities.shape import shape_of
from fedsynth.plan import Plan, context_of, plan_of, secure_cohort_of
from fedsynth.privacy.noise import NoiseSource, system_noise
from fedsynth.privacy.private_sum import lattice_step
from fedsynth.recordings.recording import Recording
from fedsynth.secure_aggregation.messages import SiteState, pack_message
from fedsynth.secure_aggregation.roster import SecureCohort, Session
from fedsynth.site.approval import approve
from fedsynth.site.holdings import Holdings
from fedsynth.site.identity import make_identity
from fedsynth.site.secure_sums import SecureSumParticipant
from fedsynth.site.session import SiteSession
from fedsynth.study import parse_study
from fedsynth.synthesis.generator import at_prior
from fedsynth.wire.message import as_tensors, message_in
from fedsynth.wire.order import SETUP_STEP, Order
from fedsynth.wire.update import Update

SITES = ("east", "north", "south", "west")
WITHOUT_SOUTH = ("east", "north", "west")
GRADIENT = 2  # the step of the plan that adds gradients
STAGES = {"keys": SETUP_STEP, "shares": SETUP_STEP, "": 0, "agree": 0, "unmask": 0}
"""The five messages of secure aggregation and the step in which these tests lose one."""


def text_of(text: str, *, dropouts: int = 1, least_sites: int = 3) -> str:
    """Return the tiny study for four sites; everybody is drawn, so that a sum without noise can be repeated."""
    text = text.replace("delta = 1e-5", 'delta = 1e-5\ntrust = "aggregate"')
    text = text.replace("least_sites = 2", f"least_sites = {least_sites}\ndropouts = {dropouts}")
    text = text.replace("[cohort]", f"[cohort]\nsites = {json.dumps(SITES)}")
    return text.replace("local_steps = 2", "local_steps = 1\nsampling_probability = 1.0")


def silence(count: int) -> NDArray[np.int64]:
    """Stand in for the noise, so that totals can be compared."""
    return np.zeros(count, dtype=np.int64)


@dataclass
class Wire:
    """Carries orders to sites that start anew for every message; keeps what passes and loses what it is told."""

    folder: Path
    noise: NoiseSource = system_noise
    lost: Mapping[tuple[str, int, str], str] = field(default_factory=dict)
    updates: list[tuple[str, Order, Update]] = field(default_factory=list)
    plain: dict[tuple[str, int], Tensor] = field(default_factory=dict)

    def sites(self) -> tuple[str, ...]:
        return SITES

    def exchange(self, orders: Mapping[str, bytes]) -> Iterator[tuple[str, bytes]]:
        for site, data in orders.items():
            order = Order.from_bytes(data)
            fate = self.lost.get((site, order.step, order.stage), "arrives")
            if fate == "order lost":
                continue
            answer = self.ask(site, order)
            if fate != "answer lost":
                yield site, b"garbage" if fate == "answer spoiled" else answer

    def ask(self, site: str, order: Order) -> bytes:
        seen: list[Tensor] = []
        answer = SiteSession(self.folder / site, noise=self.noise, observe=seen.append).handle(order.to_bytes())
        self.updates.append((site, order, Update.from_bytes(answer)))
        if seen:
            self.plain[site, order.step] = seen[0]
        return answer

    def as_exchange(self, orders: Mapping[str, bytes], _: str) -> dict[str, Update]:
        updates = {}
        for site, data in self.exchange(orders):
            updates[site] = Update(refused="garbage") if data == b"garbage" else Update.from_bytes(data)
        return updates

    def refusals(self) -> list[str]:
        return [update.refused for _, _, update in self.updates if update.refused]


@pytest.fixture(scope="module")
def plan(tiny_text: str) -> Plan:
    return plan_of(parse_study(text_of(tiny_text)))


MakeRun = Callable[..., tuple[Wire, dict[str, bytes]]]


@pytest.fixture
def make_run(
    tmp_path: Path, plan: Plan, make_site: Callable[..., Holdings], make_people: Callable[..., list[Recording]]
) -> MakeRun:
    """Return a maker of four sites that approved the plan and pinned one another."""

    def make(folder: str = "run", *, approved: Plan = plan) -> tuple[Wire, dict[str, bytes]]:
        for seed, name in enumerate(SITES):
            make_site(tmp_path / folder / name, make_people(10, seed=seed))
        roster = {name: make_identity(tmp_path / folder / name) for name in SITES}
        for name in SITES:
            approve(tmp_path / folder / name, run="run", plan=approved, roster=roster)
        return Wire(tmp_path / folder), roster

    return make


def secure_sums_of(plan: Plan, wire: Wire, roster: Mapping[str, bytes]) -> SecureSums:
    return SecureSums(
        plan, run="run", secure_cohort=secure_cohort_of_study(plan, roster), exchange=wire.as_exchange
    )


def secure_cohort_of_study(plan: Plan, roster: Mapping[str, bytes]) -> SecureCohort:
    secure_cohort = secure_cohort_of(plan.study, roster)
    assert secure_cohort is not None
    return secure_cohort


def inputs(plan: Plan, step: int) -> tuple[dict[str, Tensor], int]:
    """Return what every site starts from, and the size of the sum."""
    shape = shape_of(plan.study)
    if step == GRADIENT:
        state = at_prior(plan.study).state
        size = sum(value.numel() for name, value in state.items() if name.startswith("critic."))
        return {f"parts.{name}": value for name, value in state.items()}, size
    anchor = plan.estimator.prior(shape).tensors() | {"anchor.done": torch.tensor([step])}
    return anchor, estimator_of(plan.study).statistic_size(shape, step=step)


def test_a_whole_run_ends_with_a_statement_of_shared_noise(plan: Plan, make_run: MakeRun) -> None:
    wire, roster = make_run()

    result = run_plan(plan, run="run", transport=wire, composes="this run only", roster=roster)

    statement = result.statement
    assert statement.trust == "aggregate"
    assert 7.9 < statement.epsilon <= plan.study.privacy.epsilon
    assert "4 sites" in statement.assumes
    for site in statement.sites:
        assert {event.noise_shares for event in (*site.events, *site.held_out)} == {2}
        assert site.events == plan.mechanisms("train")
        assert site.held_out == plan.mechanisms("held-out")
    assert set(result.ledger_lengths.values()) == {len(plan.steps)}
    assert all(bool(torch.isfinite(value).all()) for value in result.generator.state.values())
    assert wire.refusals() == []


@pytest.mark.parametrize("stage", STAGES)
def test_a_run_goes_on_without_a_site_that_drops_out_at_any_stage(
    plan: Plan, make_run: MakeRun, stage: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without noise: every total is what the survivors of its step put in, until the end of the run."""
    totals: list[Total] = []
    add = SecureSums.sum
    monkeypatch.setattr(SecureSums, "sum", lambda *a, **k: (totals.append(add(*a, **k)), totals[-1])[1])
    wire, roster = make_run()
    wire.noise, wire.lost = silence, {("south", STAGES[stage], stage): "answer lost"}

    result = run_plan(plan, run="run", transport=wire, composes="this run only", roster=roster)

    for_good = stage in ("keys", "shares")
    for step, total in enumerate(totals):
        gone = for_good or (stage == "" and step == 0)
        assert total.sites == (WITHOUT_SOUTH if gone else SITES)
        expected = torch.stack([wire.plain[site, step] for site in total.sites]).sum(dim=0)
        assert torch.allclose(total.values, expected, rtol=0, atol=1e-9)
    assert len(totals) == len(plan.steps)
    assert [site.site for site in result.statement.sites] == list(WITHOUT_SOUTH if for_good else SITES)
    assert result.statement.epsilon <= plan.study.privacy.epsilon


@pytest.mark.parametrize("fate", ["order lost", "answer spoiled"])
@pytest.mark.parametrize("stage", STAGES)
def test_a_total_is_the_sum_over_its_survivors_whoever_dropped_out(
    plan: Plan, make_run: MakeRun, stage: str, fate: str
) -> None:
    """Whether it never heard the order or said nonsense; it takes part in the next step if it has its shares."""
    wire, roster = make_run()
    wire.noise, wire.lost = silence, {("south", STAGES[stage], stage): fate}
    sums = secure_sums_of(plan, wire, roster)
    sums.set_up(list(SITES))

    for step in (0, 1):
        tensors, size = inputs(plan, step)
        total = sums.sum(step, plan.steps[step].mechanism, tensors, size=size)

        gone = stage in ("keys", "shares") or (stage == "" and step == 0)
        assert total.sites == (WITHOUT_SOUTH if gone else SITES)
        expected = torch.stack([wire.plain[site, step] for site in total.sites]).sum(dim=0)
        assert torch.allclose(total.values, expected, rtol=0, atol=1e-9)
        assert float(expected.norm()) > 1
        assert total.by_site == {}


@pytest.mark.parametrize("stage", STAGES)
def test_two_drop_outs_are_one_too_many_and_nothing_is_opened(plan: Plan, make_run: MakeRun, stage: str) -> None:
    wire, roster = make_run()
    wire.lost = {(site, STAGES[stage], stage): "answer lost" for site in ("south", "west")}

    with pytest.raises(RefusedError, match="What the sites were charged stays charged"):
        run_plan(plan, run="run", transport=wire, composes="this run only", roster=roster)

    opened = [site for site, order, _ in wire.updates if order.stage == "unmask"]
    assert opened == (list(SITES) if stage == "unmask" else [])
    charged = {0} if stage in ("", "agree", "unmask") else set()
    for name in SITES:
        with Ledger(wire.folder / name / "ledger") as ledger:
            assert {int(line.nonce.rsplit(":")[-1]) for line in ledger.charges()} == charged


def test_two_drop_outs_of_an_unmasking_leave_the_coordinator_with_two_shares_where_it_takes_three(
    plan: Plan, make_run: MakeRun
) -> None:
    """What the test above cannot see: of four answers to "unmask" two were lost, and the total stays shut."""
    wire, roster = make_run()
    wire.lost = {(site, 0, "unmask"): "order lost" for site in ("south", "west")}
    sums = secure_sums_of(plan, wire, roster)
    sums.set_up(list(SITES))
    tensors, size = inputs(plan, 0)

    with pytest.raises(RefusedError, match="a total of step 0 takes 3 replies"):
        sums.sum(0, plan.steps[0].mechanism, tensors, size=size)

    assert [site for site, order, _ in wire.updates if order.stage == "unmask"] == ["east", "north"]


def test_a_study_that_needs_four_sites_gets_no_total_of_three(tiny_text: str, make_run: MakeRun) -> None:
    """The drop-outs that secure aggregation could bear do not lower the study's own `least_sites`."""
    strict = plan_of(parse_study(text_of(tiny_text, least_sites=4)))
    wire, roster = make_run(approved=strict)
    wire.lost = {("south", 0, ""): "answer lost"}

    with pytest.raises(RefusedError, match="3 sites are left and the study needs 4"):
        run_plan(strict, run="run", transport=wire, composes="this run only", roster=roster)


def words_seen(wire: Wire, plan: Plan) -> int:
    """Count the words of sites' plain lattice vectors that stand anywhere in what reached the coordinator."""
    found = 0
    for (_, step), natural in wire.plain.items():
        mechanism = plan.steps[step].mechanism
        one = lattice_step(mechanism.clipping_norm, mechanism.noise_multiplier, noise_shares=mechanism.noise_shares)
        words = torch.round(natural / one).numpy().astype("<i8")
        assert len(set(words.tolist())) > 0.9 * len(words)
        for _, _, update in wire.updates:
            sent = b"".join(value.numpy().tobytes() for value in update.tensors.values())
            found += sum(word.tobytes() in sent for word in words)
    return found


def test_no_update_of_a_site_holds_a_word_of_its_unmasked_sum(plan: Plan, make_run: MakeRun) -> None:
    wire, roster = make_run()
    sums = secure_sums_of(plan, wire, roster)
    sums.set_up(list(SITES))
    for step in (0, 1):
        tensors, size = inputs(plan, step)
        sums.sum(step, plan.steps[step].mechanism, tensors, size=size)

    assert len(wire.plain) == 2 * len(SITES)
    assert words_seen(wire, plan) == 0
    assert {name for _, _, update in wire.updates for name in update.tensors} == {"message"}


def test_a_site_that_forgot_its_masks_would_be_seen(
    plan: Plan, make_run: MakeRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The companion of the test above: without masks it finds every word."""
    monkeypatch.setattr(SiteState, "masks", lambda *_: iter(()))
    wire, roster = make_run()
    sums = secure_sums_of(plan, wire, roster)
    sums.set_up(list(SITES))
    tensors, size = inputs(plan, 0)
    sums.sum(0, plan.steps[0].mechanism, tensors, size=size)

    assert words_seen(wire, plan) == size * len(SITES)


@pytest.mark.parametrize("survivors", [4, 3])
def test_the_noise_of_a_total_is_one_share_for_each_survivor(plan: Plan, make_run: MakeRun, survivors: int) -> None:
    """sigma C sqrt(survivors / shares); 23 857 coordinates give it to 0.5 % (one standard error)."""
    mechanism = plan.steps[GRADIENT].mechanism
    tensors, size = inputs(plan, GRADIENT)
    wire, roster = make_run()
    shutil.copytree(wire.folder, wire.folder.with_name("again"))
    lost = {("south", GRADIENT, ""): "answer lost"} if survivors == 3 else {}

    loud, quiet = [], []
    for folder, noise, kept in (("run", system_noise, loud), ("again", silence, quiet)):
        carried = Wire(wire.folder.with_name(folder), noise=noise, lost=lost)
        sums = secure_sums_of(plan, carried, roster)
        sums.set_up(list(SITES))
        kept.append(sums.sum(GRADIENT, mechanism, tensors, size=size))
    spread = float((loud[0].values - quiet[0].values).std())

    assert len(loud[0].sites) == survivors
    expected = (
        mechanism.noise_multiplier * mechanism.clipping_norm * (survivors / 2) ** 0.5
    )  # four sites, one drops out, one works against the others
    assert spread == pytest.approx(expected, rel=0.025)
    assert loud[0].noise_std == pytest.approx(expected)


def test_two_orders_at_once_get_one_list_signed(
    plan: Plan, make_run: MakeRun, monkeypatch: pytest.MonkeyPatch, site_log: Any
) -> None:
    """Two processes of one site, asked at the same moment to sign two lists: a total of each would show a site."""
    wire, roster = make_run()
    wire.lost = {(site, 0, "agree"): "order lost" for site in SITES}
    sums = secure_sums_of(plan, wire, roster)
    sums.set_up(list(SITES))
    tensors, size = inputs(plan, 0)
    with pytest.raises(RefusedError):
        sums.sum(0, plan.steps[0].mechanism, tensors, size=size)
    meeting, save = threading.Barrier(2), SecureSumParticipant._save

    def slow(participant: SecureSumParticipant, *what: object) -> None:
        with suppress(threading.BrokenBarrierError):
            meeting.wait(timeout=1)  # both have read the state, unless one of them holds it
        save(participant, *what)  # type: ignore[arg-type]

    monkeypatch.setattr(SecureSumParticipant, "_save", slow)
    answers: list[str] = []

    session = Session(
        secure_cohort_of_study(plan, roster), context_of(run="run", plan=plan.digest), len(plan.steps)
    )

    def ask(survivors: list[str]) -> None:
        message = as_tensors(pack_message("agree", session, step=0, survivors=survivors))
        answer = SiteSession(wire.folder / "east").handle(Order("run", plan.digest, 0, message, "agree").to_bytes())
        answers.append(Update.from_bytes(answer).refused)

    threads = [threading.Thread(target=ask, args=(names,)) for names in (list(SITES), list(SITES[:3]))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert sorted(answers) == ["", "refused"]
    assert site_log.kinds == ["PrivacyError"]


def test_a_run_that_is_approved_anew_with_another_plan_begins_with_keys_of_its_own(
    tiny_text: str, plan: Plan, make_run: MakeRun
) -> None:
    wire, roster = make_run()
    first = wire.ask("east", Order("run", plan.digest, SETUP_STEP, {}, "keys"))
    other = plan_of(parse_study(text_of(tiny_text).replace('"tiny"', '"tiny-again"')))
    approve(wire.folder / "east", run="run", plan=other, roster=roster)

    second = wire.ask("east", Order("run", other.digest, SETUP_STEP, {}, "keys"))

    assert wire.refusals() == []
    sent = [json.loads(message_in(Update.from_bytes(one).tensors).split(b"\n")[1]) for one in (first, second)]
    assert sent[0]["session"] != sent[1]["session"]
    assert sent[0]["keys"] != sent[1]["keys"]


def test_a_roster_in_which_two_sites_share_a_key_is_not_approved(plan: Plan, make_run: MakeRun) -> None:
    wire, roster = make_run()
    alike = roster | {"south": roster["west"]}

    with pytest.raises(PrivacyError, match="share one identity"):
        approve(wire.folder / "east", run="again", plan=plan, roster=alike)
    with pytest.raises(ConsentError, match="the roster names 3 sites, secure aggregation needs 4"):
        approve(wire.folder / "east", run="again", plan=plan, roster={n: roster[n] for n in SITES[:3]})
