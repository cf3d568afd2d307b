"""Aggregation: what the robust rules bear, what the validator drops, and that no private count weighs anything."""

import json
import struct
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from fedsynth.anchors.estimator import estimator_of
from fedsynth.coordinator import rounds
from fedsynth.coordinator.aggregation import Rule, add_sums, aggregate, mean_state, within_reach
from fedsynth.coordinator.rounds import Result, run_plan
from fedsynth.coordinator.transport import InProcess
from fedsynth.errors import RefusedError
from fedsynth.families.registry import family_of
from fedsynth.modalities.shape import shape_of
from fedsynth.plan import Plan, plan_of
from fedsynth.privacy.mechanism import Mechanism
from fedsynth.recordings.recording import Recording
from fedsynth.site.approval import approve
from fedsynth.site.holdings import Holdings
from fedsynth.site.session import SiteSession
from fedsynth.study import parse_study
from fedsynth.training.trainer import largest_move
from fedsynth.wire.arrays import pack
from fedsynth.wire.last_word import LastWord
from fedsynth.wire.order import Order
from fedsynth.wire.update import Update

Handler = Callable[[bytes], bytes]
ROBUST: tuple[Rule, ...] = ("trimmed-mean", "median", "krum")
TRAIN = 2  # the step of the tiny plan that trains


def borne(rule: Rule, n: int) -> int:
    """Return how many of n sites may send nonsense, by the rule's own paper."""
    return {"trimmed-mean": max(1, n // 4), "median": (n - 1) // 2, "krum": (n - 3) // 2}[rule]


def states(rows: Any) -> dict[str, dict[str, Tensor]]:
    """Return one state per row: two arrays, so that nothing depends on a state being one vector."""
    return {
        f"site {place}": {"a": torch.tensor(row[:2]), "b": torch.tensor(row[2:]).reshape(1, -1)}
        for place, row in enumerate(np.asarray(rows, dtype=np.float32))
    }


def vector(state: Mapping[str, Tensor]) -> Tensor:
    return torch.cat([value.flatten() for value in state.values()])


@pytest.mark.parametrize("rule", ROBUST)
@settings(max_examples=60, deadline=None)
@given(
    n=st.integers(5, 11),
    poison=st.sampled_from([1e30, -1e30, 5.0, -5.0]),
    alike=st.booleans(),
    seed=st.integers(0, 2**32 - 1),
    data=st.data(),
)
def test_a_robust_rule_stays_among_honest_sites_whatever_the_others_send(
    rule: Rule, n: int, poison: float, alike: bool, seed: int, data: st.DataObject
) -> None:
    f = data.draw(st.integers(0, borne(rule, n)))
    rng = np.random.default_rng(seed)
    honest = rng.uniform(-1, 1, (n - f, 5)).astype(np.float32)
    odd = np.full((f, 5), poison, np.float32) * (1 if alike else rng.choice([-1, 1], (f, 5)))
    rows = np.concatenate([honest, odd]).astype(np.float32)[rng.permutation(n)]

    joined = vector(aggregate(states(rows), weights={}, rule=rule)).numpy()

    assert (joined >= honest.min(axis=0) - 1e-6).all()
    assert (joined <= honest.max(axis=0) + 1e-6).all()


def test_the_mean_does_not_bear_one_poisoned_site() -> None:
    """The companion of the property above: on a rule that is not robust it fails."""
    rows = [[0.0] * 4, [1.0] * 4, [1e30] * 4]

    joined = vector(aggregate(states(rows), weights=dict.fromkeys(states(rows), 1.0), rule="mean"))

    assert float(joined.max()) > 1e29


def test_the_trimmed_mean_leaves_out_a_quarter_on_either_side() -> None:
    """Of -9, 1, 2, 3, 4, 5, 6, 90 the two lowest and two highest go: the mean of 2, 3, 4, 5 is 3.5."""
    rows = [[value] * 4 for value in (90, 3, 1, -9, 2, 6, 4, 5)]

    assert vector(aggregate(states(rows), weights={}, rule="trimmed-mean")).tolist() == [3.5] * 4


@pytest.mark.parametrize(("values", "middle"), [((7, 1, 2), 2.0), ((7, 1, 2, 4), 3.0)])
def test_the_median_is_taken_coordinate_by_coordinate(values: tuple[int, ...], middle: float) -> None:
    rows = [[value, -value, 0, value] for value in values]

    assert vector(aggregate(states(rows), weights={}, rule="median")).tolist() == [middle, -middle, 0.0, middle]


def test_krum_takes_over_one_state_as_it_is() -> None:
    """Of five sites the nearest two neighbours count: 1.0 has 0.01 + 0.04, its rivals 0.05 and 0.13 or more."""
    rows = [[value, 0, 0, 0] for value in (1.0, 1.1, 0.8, 1.4, 900.0)]

    assert vector(aggregate(states(rows), weights={}, rule="krum")).tolist() == [1.0, 0.0, 0.0, 0.0]


@pytest.mark.parametrize("rule", ROBUST)
def test_a_robust_rule_needs_three_sites(rule: Rule) -> None:
    with pytest.raises(RefusedError, match=f'plan.aggregation = "{rule}" needs three sites'):
        aggregate(states([[0.0] * 4, [1.0] * 4]), weights={}, rule=rule)


@pytest.mark.parametrize("rule", ROBUST)
def test_a_robust_rule_looks_at_no_weight(rule: Rule) -> None:
    answers = states(np.random.default_rng(1).normal(size=(5, 6)))

    plain = aggregate(answers, weights=dict.fromkeys(answers, 1.0), rule=rule)
    heavy = aggregate(answers, weights=dict.fromkeys(answers, 1.0) | {"site 0": 1e9}, rule=rule)

    assert torch.equal(vector(plain), vector(heavy))


def test_the_mean_weighs_by_what_is_public() -> None:
    answers = states([[0.0] * 4, [8.0] * 4])

    assert vector(mean_state(answers, weights={"site 0": 3.0, "site 1": 1.0})).tolist() == [2.0] * 4


def test_sums_add_up_with_the_noise_of_every_site() -> None:
    sums = {"a": torch.tensor([1.0, -2.0]), "b": torch.tensor([0.5, 4.0]), "c": torch.tensor([0.0, 1.0])}

    total = add_sums(sums, mechanism=Mechanism("sum", 2.0, 1.0, 1, 0.5))

    assert total.values.tolist() == [1.5, 3.0]
    assert total.noise_std == pytest.approx(2.0 * 0.5 * 3**0.5)
    assert total.sites == ("a", "b", "c")
    assert set(total.by_site) == set(sums)
    assert add_sums(sums, mechanism=Mechanism("sum", 0.0, 1.0, 1, float("inf"))).noise_std == 0.0


@pytest.mark.parametrize(
    ("moved", "is_kept"),
    [
        pytest.param(1.0, True, id="as far as training goes"),
        pytest.param(1.01, False, id="a hundredth further"),
        pytest.param(1e30, False, id="to the end of the world"),
        pytest.param(float("inf"), False, id="beyond it"),
        pytest.param(float("nan"), False, id="nowhere"),
    ],
)
def test_a_state_that_moved_further_than_training_can_is_left_out_by_name(moved: float, is_kept: bool) -> None:
    start = states([[1.0, 2.0, 3.0, 4.0]])["site 0"]
    far = {name: value.clone() for name, value in start.items()}
    far["b"][0, 1] += moved

    kept, strange = within_reach({"near": start, "far": far}, start=start, largest_move=1.0)

    assert set(kept) == ({"near", "far"} if is_kept else {"near"})
    assert set(strange) == (set() if is_kept else {"far"})
    assert is_kept or "training can move them by 1" in strange["far"]


# A whole run, with real sites in process and one that misbehaves.


@pytest.fixture(scope="module")
def plan(tiny_text: str) -> Plan:
    """Return a plan whose sites are joined by the mean, so that nothing but the validator protects it."""
    return plan_of(parse_study(tiny_text.replace("least_sites = 2", "least_sites = 3")))


@pytest.fixture
def handlers(
    tmp_path: Path, make_site: Callable[..., Holdings], make_people: Callable[..., list[Recording]], plan: Plan
) -> dict[str, Handler]:
    """Return four sites of 4, 8, 16 and 32 people."""
    out: dict[str, Handler] = {}
    for seed, name in enumerate(("east", "north", "south", "west")):
        make_site(tmp_path / name, make_people(4 * 2**seed, seed=seed))
        approve(tmp_path / name, run="run", plan=plan)
        out[name] = SiteSession(tmp_path / name).handle
    return out


def spoiled(
    handler: Handler, change: Callable[[dict[str, Tensor]], dict[str, Tensor]], say: Callable[..., bytes]
) -> Handler:
    """Return a site that changes what it trained, and signs that."""

    def handle(data: bytes) -> bytes:
        answer = handler(data)
        if Order.from_bytes(data).step != TRAIN:
            return answer
        return say(answer, tensors=change(dict(Update.from_bytes(answer).tensors)))

    return handle


Run = Callable[[Plan, Mapping[str, Handler]], Result]


@pytest.fixture
def run(tmp_path: Path, pinned: Callable[..., dict[str, bytes]]) -> Run:
    """Return a function that runs a plan with the keys of the sites pinned."""

    def carry(plan: Plan, handlers: Mapping[str, Handler]) -> Result:
        transport, roster = InProcess(handlers), pinned(tmp_path)
        return run_plan(plan, run="run", transport=transport, composes="this run only", roster=roster)

    return carry


HEAD = "critic.head.4.bias"
SPOILS: dict[str, Callable[[dict[str, Tensor]], dict[str, Tensor]]] = {
    "one key less": lambda state: {name: value for name, value in state.items() if name != HEAD},
    "one key more": lambda state: {**state, "count": torch.ones(1)},
    "another shape": lambda state: {**state, HEAD: torch.zeros(2)},
    "another type": lambda state: {**state, HEAD: state[HEAD].double()},
    "not a number": lambda state: {**state, HEAD: state[HEAD] * torch.nan},
    "too far away": lambda state: {**state, HEAD: state[HEAD] + 1e6},
}


@pytest.mark.parametrize("spoil", SPOILS)
def test_a_site_whose_parts_do_not_validate_is_left_out_and_the_run_goes_on(
    plan: Plan,
    handlers: dict[str, Handler],
    run: Run,
    said_anew: Callable[..., bytes],
    tmp_path: Path,
    spoil: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    joined: list[set[str]] = []
    monkeypatch.setattr(
        rounds, "aggregate", lambda answers, **how: (joined.append(set(answers)), aggregate(answers, **how))[1]
    )
    handlers["west"] = spoiled(handlers["west"], SPOILS[spoil], partial(said_anew, folder=tmp_path / "west"))

    result = run(plan, handlers)

    assert joined == [{"east", "north", "south"}]
    move = largest_move(
        family_of(plan.study.family).phases[0],
        steps=plan.study.training.local_steps,
        size=sum(value.numel() for value in result.generator.state.values()),
    )
    assert all(bool(torch.isfinite(value).all()) for value in result.generator.state.values())
    assert float(result.generator.state[HEAD].abs().max()) <= move + 1
    # Whoever contributed before, and was charged, stays in the statement.
    assert [site.site for site in result.statement.sites] == ["east", "north", "south", "west"]


def headed(text: bytes) -> bytes:
    """Return an update with this header, whatever it says."""
    return b"fedsynth1" + struct.pack(">I", len(text)) + text + pack({})


SAID = {"refused": "", "signature": "00" * 64, "word": LastWord("run", "", "west", "0" * 64, 1, 1).as_json()}
HEADER = json.dumps(SAID).encode()
REFUND = {**Mechanism("sum", 1.0, 1.0, 1, 1.0).as_json(), "steps": -5, "times": 1}
UNREADABLE = {
    "a history of refunds": headed(HEADER.replace(b'train": []', b'train": [%b]' % json.dumps(REFUND).encode())),
    "a ledger of infinite length": headed(HEADER.replace(b'length": 1', b'length": 1e999')),
    "a header nested without end": headed(b"[" * 200_000),
    "a number of 5000 digits": headed(b'{"a": ' + b"9" * 5000 + b"}"),
    "no header at all": b"fedsynth1" + struct.pack(">I", 2**32 - 1),
}


@pytest.mark.parametrize("answer", UNREADABLE.values(), ids=list(UNREADABLE))
def test_a_site_whose_answer_cannot_be_read_is_left_out_and_the_run_goes_on(
    plan: Plan, handlers: dict[str, Handler], run: Run, answer: bytes
) -> None:
    assert Update.from_bytes(headed(HEADER)).word is not None
    handlers["west"] = lambda _: answer

    result = run(plan, handlers)

    assert [site.site for site in result.statement.sites] == ["east", "north", "south"]


def test_no_private_count_weighs_a_site(
    plan: Plan,
    handlers: dict[str, Handler],
    run: Run,
    said_anew: Callable[..., bytes],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Sites of 4 to 32 people that say the same noisy sum weigh the same, and say nothing else to weigh them by."""
    weighed: list[dict[str, float]] = []
    seen: list[set[str]] = []

    def noted(answers: Mapping[str, Any], *, weights: Mapping[str, float], rule: Rule) -> dict[str, Tensor]:
        weighed.append({site: weights[site] for site in answers})
        return aggregate(answers, weights=weights, rule=rule)

    def saying(name: str, handler: Handler, same: Tensor) -> Handler:
        def handle(data: bytes) -> bytes:
            answer, step = handler(data), Order.from_bytes(data).step
            update = Update.from_bytes(answer)
            seen.append(set(update.tensors) - set(Order.from_bytes(data).tensors) - {"sum"})
            said = {"sum": same.to(update.tensors["sum"])} if step == 0 else None
            return said_anew(answer, tmp_path / name, tensors=said)

        return handle

    monkeypatch.setattr(rounds, "aggregate", noted)
    size = estimator_of(plan.study).statistic_size(shape_of(plan.study), step=0)
    same = torch.linspace(10.0, 20.0, size)

    run(plan, {name: saying(name, handler, same) for name, handler in handlers.items()})

    assert len(weighed) == 1
    assert set(weighed[0]) == set(handlers)
    assert len(set(weighed[0].values())) == 1
    trained = {name for names in seen for name in names}
    assert all(name.startswith(("generator.", "critic.")) for name in trained)
