"""The wire: what goes in comes out, and nothing else is taken."""

import pytest
import torch

from fedsynth.errors import WireError
from fedsynth.plan import Plan, plan_of
from fedsynth.privacy.mechanism import Mechanism
from fedsynth.study import Study
from fedsynth.wire.arrays import check_like, pack, unpack
from fedsynth.wire.envelope import seal, unseal
from fedsynth.wire.order import Order
from fedsynth.wire.update import Update


def test_an_order_survives_the_wire() -> None:
    order = Order("run", "plan", 3, {"a": torch.arange(3), "b": torch.tensor([0.5], dtype=torch.float64)})

    back = Order.from_bytes(order.to_bytes())

    assert (back.run, back.plan, back.step) == ("run", "plan", 3)
    assert torch.equal(back.tensors["a"], order.tensors["a"])
    assert back.tensors["b"].dtype == torch.float64


def test_an_update_survives_the_wire() -> None:
    events = (Mechanism("sum", 1.5, 0.2, 30, 2.0), Mechanism("scores", 0.6, 1.0, 1, 1.4, "held-out"))
    update = Update({"sum": torch.ones(2)}, "", "ab", 3, events[:1], events[1:])

    back = Update.from_bytes(update.to_bytes())

    assert (back.train_history, back.held_out_history) == (events[:1], events[1:])
    assert (back.refused, back.ledger_head, back.ledger_length) == ("", "ab", 3)


def test_a_long_training_fits_into_one_statement_and_no_step_is_lost() -> None:
    steps = [Mechanism(f"gradients: critic, step {number}", 3.0, 0.2, 1, 1.0) for number in range(1, 10_001)]
    events = (*steps, *steps[:2], steps[7], steps[7], *steps[9:12], Mechanism("sum, step 0", 1.0, 1.0, 1, 1.0))

    data = Update(train_history=events).to_bytes()

    assert Update.from_bytes(data).train_history == events
    assert len(data) < 4000


@pytest.mark.parametrize("times", [0, -1, True, 1.5, "2", 10**12, None])
def test_a_history_that_repeats_an_event_so_often_is_refused(times: object) -> None:
    header, payload = unseal(Update(train_history=(Mechanism("sum", 1.0, 1.0, 1, 1.0),)).to_bytes())
    header["train_history"][0]["times"] = times

    with pytest.raises(WireError, match="cannot be read"):
        Update.from_bytes(seal(header, payload))


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(b"", id="nothing"),
        pytest.param(b"\x80\x04K\x01.", id="a pickle"),
        pytest.param(b"fedsynth1\xff\xff\xff\xff", id="a header of 4 GiB"),
        pytest.param(b"fedsynth1\x00\x00\x00\x02[]", id="a header that is a list"),
        pytest.param(b"fedsynth1\x00\x00\x00\x02{]", id="a header that is no JSON"),
        pytest.param(seal({"run": "r", "plan": "p"}, pack({})), id="a field missing"),
        pytest.param(seal({"run": "r", "plan": "p", "step": 0, "sigma": 0}, pack({})), id="a field too many"),
        pytest.param(seal({"run": "r", "plan": "p", "step": True}, pack({})), id="a step that is no number"),
        pytest.param(seal({"run": "r", "plan": "p", "step": 0}, b"no tensors"), id="no tensors"),
        pytest.param(seal({"run": "r", "plan": "p", "step": 0}, b"\xff" * 64), id="a tensor header of 2^64"),
    ],
)
def test_a_malformed_order_is_refused(data: bytes) -> None:
    with pytest.raises(WireError):
        Order.from_bytes(data)


def test_an_update_with_more_than_its_schema_is_refused() -> None:
    header, payload = unseal(Update().to_bytes())

    with pytest.raises(WireError, match="missing or unknown"):
        Update.from_bytes(seal({**header, "loss": 0.5}, payload))


WANTED = {"a": torch.zeros(2, 3)}


@pytest.mark.parametrize(
    ("tensors", "said"),
    [
        pytest.param({}, "0 arrays", id="none"),
        pytest.param({"a": torch.zeros(2, 3), "b": torch.zeros(1)}, "2 arrays", id="one too many"),
        pytest.param({"a": torch.zeros(3, 2)}, r"\(3, 2\)", id="another shape"),
        pytest.param({"a": torch.zeros(2, 3, dtype=torch.int64)}, "int64", id="another type"),
        pytest.param({"a": torch.full((2, 3), torch.nan)}, "not finite", id="nan"),
    ],
)
def test_arrays_that_differ_are_refused(tensors: dict[str, torch.Tensor], said: str) -> None:
    with pytest.raises(WireError, match=said):
        check_like(tensors, WANTED, sender="east")


def test_safetensors_come_back_bit_for_bit() -> None:
    tensors = {"x": torch.randn(5), "n": torch.tensor([1])}

    assert all(torch.equal(unpack(pack(tensors))[name], value) for name, value in tensors.items())


def test_a_plan_is_the_same_when_made_twice_and_when_read_back(tiny: Study) -> None:
    plan = plan_of(tiny)

    assert plan_of(tiny).digest == plan.digest
    assert Plan.from_json(plan.to_json()) == plan


def test_a_plan_spends_what_the_study_allows(tiny: Study) -> None:
    assert 0.995 * 8.0 <= plan_of(tiny).epsilon() <= 8.0


def test_every_part_of_a_plan_moves_its_digest(tiny: Study) -> None:
    plan = plan_of(tiny)
    louder = plan.study.model_copy(update={"privacy": tiny.privacy.model_copy(update={"epsilon": 9.0})})

    others = [
        Plan(louder, plan.steps, plan.code),
        Plan(tiny, plan.steps[1:], plan.code),
        Plan(tiny, plan.steps, "other code"),
    ]

    assert len({item.digest for item in [plan, *others]}) == 4
