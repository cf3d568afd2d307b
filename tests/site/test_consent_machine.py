"""A malicious coordinator says anything in any order: spent stays under the cap, released within what was charged.

The site is real, and the coordinator is hypothesis. `test_consent_together.py` plays on under secure aggregation.
"""

import json
import logging
import shutil
import struct
import tempfile
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

from fedsynth.errors import BudgetError, ConsentError, RefusedError
from fedsynth.evaluation.classifier import Classifier
from fedsynth.ledger.chain import Charge
from fedsynth.ledger.ledger import Ledger
from fedsynth.modalities.shape import shape_of
from fedsynth.plan import Plan, plan_of
from fedsynth.privacy.accountant import epsilon_pld
from fedsynth.recordings.recording import Recording
from fedsynth.site.approval import approve
from fedsynth.site.holdings import Holdings, load_holdings
from fedsynth.site.identity import make_identity
from fedsynth.site.session import SiteSession
from fedsynth.study import parse_study
from fedsynth.synthesis.generator import at_prior
from fedsynth.wire.arrays import pack
from fedsynth.wire.order import STATEMENT_STEP, Order
from fedsynth.wire.update import REFUSED, Update

CAP, DELTA, ME, RUNS = 8.0, 1e-5, "east", ("r1", "r2")
KINDS_OF_REFUSAL = {"WireError", "ConsentError", "PrivacyError", "BudgetError", "RefusedError"}
runs, which, numbers = st.sampled_from(RUNS), st.sampled_from(["A", "B"]), st.integers(0, 3)
CRAFTED: list[dict[str, Any]] = [
    {"noise_multiplier": 0.01},
    {"clipping_norm": 1e6},
    {"sampling_probability": 0.01},
    {"steps": 9},
    {"unit": "window"},
    {"group": "held-out"},
    {"noise_shares": 9},
]


@dataclass
class World:
    """What all examples of a machine share: a site as it is before anybody asks, and two plans, A and B."""

    template: Path
    plans: dict[str, Plan]
    identities: dict[str, Any] = field(default_factory=dict)
    roster: dict[str, bytes] = field(default_factory=dict)
    seen: Counter[str] = field(default_factory=Counter)


def inputs(plan: Plan, step: int) -> dict[str, torch.Tensor]:
    """Return what a right order for a step comes with."""
    kind, shape = plan.steps[step].kind, shape_of(plan.study)
    if kind == "anchor":
        return plan.estimator.prior(shape).tensors() | {"anchor.done": torch.tensor([plan.steps[step].index])}
    if kind == "assess":
        return dict(Classifier(2, 2).state_dict())
    parts = {f"parts.{name}": value for name, value in at_prior(plan.study).state.items()}
    return {**parts, "seen_units": torch.tensor([10.0]), "label_shares": torch.tensor([0.5, 0.5])}


class Kinds(logging.Handler):
    """What a site's own log says of its refusals: the kind of each."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.seen += [record.kind] if hasattr(record, "kind") else []


class SiteMachine(RuleBasedStateMachine):
    """One site, seen from outside: every answer is held against its ledger and the sums that were read."""

    world: World

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp(prefix="consent-")) / ME
        shutil.copytree(self.world.template, self.folder)
        self.tokens = load_holdings(self.folder / "holdings").tokens
        self.reads: list[torch.Tensor] = []
        self.approved: dict[str, str] = {}
        self.answers: dict[str, bytes] = {}
        self.lines: tuple[Charge, ...] = ()
        self.kinds = Kinds()
        logging.getLogger("fedsynth.site").addHandler(self.kinds)
        self.restart()
        self.approve("r1", "A")

    def teardown(self) -> None:
        logging.getLogger("fedsynth.site").removeHandler(self.kinds)
        shutil.rmtree(self.folder.parent, ignore_errors=True)

    # What the site's own people do.

    @rule()
    def restart(self) -> None:
        self.session = SiteSession(self.folder, observe=self.reads.append)

    @rule(run=runs, step=st.integers(-2, 4))
    def throw_the_switch_for_a_while(self, run: str, step: int) -> None:
        (self.folder / "STOP").touch()
        plan = self.world.plans[self.approved.get(run, "A")]
        assert self.send(Order(run, plan.digest, step, inputs(plan, max(0, min(step, 2)))).to_bytes()).refused
        with pytest.raises(RefusedError):
            approve(self.folder, run=run, plan=plan, roster=self.world.roster)
        (self.folder / "STOP").unlink()

    @rule(run=runs, name=which)
    def approve(self, run: str, name: str) -> None:
        with suppress(BudgetError):
            approve(self.folder, run=run, plan=self.world.plans[name], roster=self.world.roster)
            self.approved[run] = name

    @rule(run=runs, name=which, place=st.integers(0, 2), changes=st.sampled_from(CRAFTED), more=st.booleans())
    def approve_what_was_crafted(
        self, run: str, name: str, place: int, changes: dict[str, Any], more: bool
    ) -> None:
        plan, before = self.world.plans[name], self.kept_approvals()
        steps = list(plan.steps)
        steps[place] = replace(steps[place], mechanism=replace(steps[place].mechanism, **changes))
        crafted = replace(plan, steps=(*plan.steps, plan.steps[0]) if more else tuple(steps))
        if crafted.digest == plan.digest:
            return
        with pytest.raises(ConsentError):
            approve(self.folder, run=run, plan=crafted, roster=self.world.roster)
        assert self.kept_approvals() == before
        assert self.send(self.order(run, plan, 0, digest=crafted.digest)).refused

    # What the coordinator says; `send` judges every answer.

    @rule(run=runs)
    def go_on_as_agreed(self, run: str) -> None:
        """Say what an honest coordinator would say next, so that the lies do not all fall on deaf ears."""
        name = self.approved.get(run, "A")
        done = {int(nonce.rsplit(":")[-1]) for nonce in self.answers if nonce.startswith(f"{run}:")}
        self.order_a_step(run, name, next(step for step in range(6) if step not in done), -1)

    @rule(run=runs, name=which, step=numbers, tensors_of=st.integers(-1, 3))
    def order_a_step(self, run: str, name: str, step: int, tensors_of: int) -> None:
        plan = self.world.plans[name]
        right = tensors_of in (-1, step)
        update = self.send(self.order(run, plan, step, like=step if right else tensors_of))
        if right and self.may(run, name, step):
            assert not update.refused

    @rule(run=runs, name=which, step=numbers)
    def repeat_an_order_to_a_site_that_restarted(self, run: str, name: str, step: int) -> None:
        data = self.order(run, self.world.plans[name], step)
        first = self.send(data)
        self.restart()
        again = self.send(data)
        assert again.refused == first.refused
        assert not first.tensors or set(again.tensors) == set(first.tensors)

    @rule(run=runs, name=which, step=numbers)
    def order_while_the_disk_fails(self, run: str, name: str, step: int) -> None:
        """A charge whose data could not be read stays a charge, and is answered once they can be."""
        if not self.may(run, name, step) or self.nonce(run, name, step) in self.answers:
            return
        nonce, before = self.nonce(run, name, step), self.lines
        (self.folder / "holdings").rename(self.folder / "away")
        (self.folder / "holdings").mkdir()
        shutil.copy(self.folder / "away" / "people.json", self.folder / "holdings")
        answer = self.session.handle(self.order(run, self.world.plans[name], step))
        shutil.rmtree(self.folder / "holdings")
        (self.folder / "away").rename(self.folder / "holdings")
        assert answer == Update(refused=REFUSED).to_bytes()
        assert self.kinds.seen[-1] == "InternalError"
        known = nonce in {line.nonce for line in before}
        assert [line.nonce for line in self.news()] == ([] if known else [nonce])
        if step % 2:  # else it is left without an answer for a while
            assert not self.send(self.order(run, self.world.plans[name], step)).refused

    @rule(
        run=runs,
        step=st.integers(-4, 7),
        header=st.dictionaries(
            st.sampled_from(["run", "plan", "step", "stage", "noise_multiplier", "rounds"]),
            st.one_of(st.none(), st.booleans(), st.integers(), st.text(max_size=5), st.just("unmask"), st.just([])),
            min_size=1,
            max_size=2,
        ),
    )
    def order_with_another_header(self, run: str, step: int, header: dict[str, Any]) -> None:
        plan = self.world.plans[self.approved.get(run, "A")]
        said = {"run": run, "plan": plan.digest, "step": step, "stage": ""} | header
        text = json.dumps({name: value for name, value in said.items() if value is not None}).encode()
        self.send(b"fedsynth1" + struct.pack(">I", len(text)) + text + pack(inputs(plan, max(0, min(step, 2)))))

    @rule(run=runs, step=st.integers(0, 2), how=st.sampled_from(["less", "more", "name", "shape", "type", "nan"]))
    def order_with_other_tensors(self, run: str, step: int, how: str) -> None:
        name = self.approved.get(run, "A")
        plan = self.world.plans[name]
        tensors = inputs(plan, step)
        key = sorted(key for key, value in tensors.items() if value.is_floating_point())[0]
        value = tensors.pop(key)
        other = {"shape": value[..., None], "type": value.half(), "nan": value * torch.nan, "more": value}
        tensors |= {key: other[how].clone()} if how in other else {}
        tensors |= {f"{key}.more": value.clone()} if how in ("more", "name") else {}
        update = self.send(Order(run, plan.digest, step, tensors).to_bytes())
        assert update.refused or self.nonce(run, name, step) in self.answers

    @rule(run=runs, step=st.integers(0, 2), cut=st.floats(0, 0.999), flip=st.none() | st.integers(0, 7))
    def order_that_was_cut_or_has_one_bit_turned(self, run: str, step: int, cut: float, flip: int | None) -> None:
        data = bytearray(self.order(run, self.world.plans[self.approved.get(run, "A")], step))
        place = int(cut * (400 if flip is not None else len(data)))
        if flip is None:
            assert self.send(bytes(data[:place])).refused
        else:
            data[place] ^= 1 << flip
            self.send(bytes(data))

    @rule(data=st.binary(max_size=60), is_sealed=st.booleans())
    def say_nonsense(self, data: bytes, is_sealed: bool) -> None:
        assert self.send(b"fedsynth1" * is_sealed + data).refused
        assert self.kinds.seen[-1] == "WireError"

    @rule(run=runs, name=which)
    def ask_for_a_statement(self, run: str, name: str) -> None:
        update = self.send(Order(run, self.world.plans[name].digest, STATEMENT_STEP, {}).to_bytes())
        assert update.refused or self.approved[run] == name

    # What must be true whatever was said.

    @invariant()
    def spent_is_at_most_the_cap(self) -> None:
        self.news()
        for group in self.tokens:
            assert epsilon_pld([line.mechanism for line in self.of(group)], delta=DELTA) <= CAP * (1 + 1e-9)

    @invariant()
    def released_is_a_subset_of_charged(self) -> None:
        charged = [line.nonce for line in self.lines]
        assert len(set(charged)) == len(charged)
        assert set(self.answers) <= set(charged)
        assert len(self.reads) <= sum(line.mechanism.steps for line in self.lines)
        for line in self.lines:
            plan, step = line.nonce.split(":")[1:]
            assert line.mechanism == self.by_digest(plan).steps[int(step)].mechanism

    # How the two are known.

    def send(self, data: bytes) -> Update:
        """Give bytes to the site, and hold its answer against ledger and sums."""
        reads, before, answer = len(self.reads), self.lines, self.session.handle(data)
        update, news, read = Update.from_bytes(answer), self.news(), len(self.reads) - reads
        self.world.seen[self.kinds.seen[-1] if update.refused else "answered"] += 1
        if update.refused:
            assert answer == Update(refused=REFUSED).to_bytes()
            assert self.kinds.seen[-1] in KINDS_OF_REFUSAL
            assert (news, read) == ((), 0)
            return update
        order = Order.from_bytes(data)
        self.believe(order, update)
        assert order.plan == self.world.plans[self.approved[order.run]].digest
        if order.stage or order.step == STATEMENT_STEP:
            assert (news, read) == ((), 0)
            assert set(update.tensors) == ({"message"} if order.stage else set())
            self.watch(order, update)
            return update
        nonce = f"{order.run}:{order.plan}:{order.step}"
        if nonce in self.answers:
            assert (answer, news, read) == (self.answers[nonce], (), 0)
            return update
        assert update.tensors
        charged = [line for line in self.lines if line.nonce == nonce]
        # A charge that was never answered is opened again, and nothing is charged.
        assert news == (() if charged[0] in before else tuple(charged))
        assert read == charged[0].mechanism.steps
        spent = epsilon_pld([line.mechanism for line in self.of(charged[0].mechanism.group)], delta=DELTA)
        assert spent <= self.by_digest(order.plan).study.privacy.epsilon * (1 + 1e-9)
        self.answers[nonce] = answer
        self.watch(order, update)
        return update

    def believe(self, order: Order, update: Update) -> None:
        """Hold the word of an answer against the ledger as it was: a retry bears the word of its own time."""
        word = update.word
        assert word is not None
        assert word.is_signed(update.signature, key=make_identity(self.folder))
        lines = self.lines[: word.ledger_length]
        assert (word.run, word.plan, word.site) == (order.run, order.plan, ME)
        assert word.ledger_head == (lines[-1].link if lines else "0" * 64)
        mine = {line.nonce for line in lines if line.nonce.startswith(f"{order.run}:{order.plan}:")}
        assert word.charged == len(mine)
        for group, told in (("train", word.train_history), ("held-out", word.held_out_history)):
            counted = [c for c in lines if c.nonce not in mine or c.mechanism.group == group]
            assert told == tuple(line.mechanism for line in counted)

    def watch(self, order: Order, update: Update) -> None:
        """Look at what an answer carries."""
        if order.step == STATEMENT_STEP:
            assert not update.tensors
        elif self.by_digest(order.plan).steps[order.step].kind == "train":
            assert {f"parts.{name}" for name in update.tensors} == {
                n for n in order.tensors if n.startswith("parts.")
            }
        else:
            assert set(update.tensors) == {"sum"}

    def news(self) -> tuple[Charge, ...]:
        """Return the ledger's lines since the last look."""
        with Ledger(self.folder / "ledger") as ledger:
            lines = ledger.charges()
        assert lines[: len(self.lines)] == self.lines
        new, self.lines = lines[len(self.lines) :], lines
        return new

    def of(self, group: str) -> list[Charge]:
        return [line for line in self.lines if line.mechanism.group == group]

    def by_digest(self, digest: str) -> Plan:
        return next(plan for plan in self.world.plans.values() if plan.digest == digest)

    def nonce(self, run: str, name: str, step: int) -> str:
        return f"{run}:{self.world.plans[name].digest}:{step}"

    def order(self, run: str, plan: Plan, step: int, *, like: int | None = None, digest: str = "") -> bytes:
        tensors = inputs(plan, min(step if like is None else like, len(plan.steps) - 1))
        return Order(run, digest or plan.digest, step, tensors).to_bytes()

    def may(self, run: str, name: str, step: int) -> bool:
        """Whether a right order must be answered: approved, and affordable or charged before."""
        plan = self.world.plans[name]
        if self.approved.get(run) != name or step >= len(plan.steps):
            return False
        if self.nonce(run, name, step) in {line.nonce for line in self.lines}:
            return True
        asked = plan.steps[step].mechanism
        spent = [line.mechanism for line in self.of(asked.group)]
        return epsilon_pld([*spent, asked], delta=DELTA) <= plan.study.privacy.epsilon * (1 + 1e-9)

    def kept_approvals(self) -> dict[str, bytes]:
        return {path.name: path.read_bytes() for path in (self.folder / "approved").iterdir()}


MakeSite, People = Callable[..., Holdings], Callable[..., list[Recording]]


def world_of(text: str, folder: Path) -> World:
    """Return two plans for a site that is still to be made; the second asks for epsilon 4 and takes no gradient."""
    first = text.replace("rounds = 1", "rounds = 1\nsampling_probability = 1.0")
    second = text.replace("rounds = 1", "rounds = 0").replace("epsilon = 8.0", "epsilon = 4.0")
    return World(folder / ME, {"A": plan_of(parse_study(first)), "B": plan_of(parse_study(second))})


def play(machine: type[SiteMachine], world: World, *, examples: int) -> None:
    """Play: few examples say the same at every run, many say something new."""
    checks = [HealthCheck.too_slow, HealthCheck.filter_too_much, HealthCheck.data_too_large]
    run_state_machine_as_test(
        type(machine.__name__, (machine,), {"world": world}),
        settings=settings(
            max_examples=examples,
            stateful_step_count=40,
            deadline=None,
            derandomize=examples < 100,
            database=None,
            suppress_health_check=checks,
            phases=[Phase.generate, Phase.shrink][: 1 + (examples >= 100)],  # to shrink a failure takes minutes
        ),
    )


FEW_OR_MANY = [pytest.param(12, id="few"), pytest.param(150, marks=pytest.mark.long, id="many")]


@pytest.mark.parametrize("examples", FEW_OR_MANY)
def test_whatever_a_coordinator_says_spent_stays_under_the_cap_and_released_within_charged(
    examples: int, tmp_path: Path, tiny_text: str, make_site: MakeSite, make_people: People
) -> None:
    world = world_of(tiny_text, tmp_path)
    make_site(world.template, make_people(6, seed=1))

    play(SiteMachine, world, examples=examples)

    # It went deep enough to mean something. Few examples are the same every time until the code changes, and then
    # others, so that how deep they go varies.
    assert {"answered", "ConsentError", "RefusedError", "WireError"} <= set(world.seen)
    assert world.seen["answered"] > (1 if examples < 100 else 2) * examples
