"""The wire: what goes in comes out, and nothing else is taken."""

from dataclasses import replace

import pytest
import torch
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from fedsynth.errors import WireError
from fedsynth.plan import Plan, plan_of
from fedsynth.privacy.mechanism import Mechanism
from fedsynth.study import Study
from fedsynth.wire.arrays import check_like, pack, unpack
from fedsynth.wire.envelope import seal, unseal
from fedsynth.wire.last_word import LastWord, repeated
from fedsynth.wire.order import Order
from fedsynth.wire.update import REFUSED, Update

IDENTITY = b"i" * 32
WORD = LastWord("run", "plan", "east", "0" * 64, 3, 2)


def test_an_order_survives_the_wire() -> None:
    order = Order("run", "plan", 3, {"a": torch.arange(3), "b": torch.tensor([0.5], dtype=torch.float64)})

    back = Order.from_bytes(order.to_bytes())

    assert (back.run, back.plan, back.step) == ("run", "plan", 3)
    assert torch.equal(back.tensors["a"], order.tensors["a"])
    assert back.tensors["b"].dtype == torch.float64


def test_an_update_survives_the_wire() -> None:
    events = (Mechanism("sum", 1.5, 0.2, 30, 2.0), Mechanism("scores", 0.6, 1.0, 1, 1.4, "held-out"))
    word = LastWord("run", "plan", "east", "ab" * 32, 3, 2, repeated(events[:1]), repeated(events[1:]))
    update = Update({"sum": torch.ones(2)}, word=word, signature=word.sign(IDENTITY))

    back = Update.from_bytes(update.to_bytes())

    assert (back.refused, back.word, back.signature) == ("", word, update.signature)
    assert (word.train_history, word.held_out_history) == (events[:1], events[1:])
    assert torch.equal(back.tensors["sum"], update.tensors["sum"])


def test_a_long_training_fits_into_one_statement_and_no_step_is_lost() -> None:
    steps = [Mechanism(f"gradients: critic, step {number}", 3.0, 0.2, 1, 1.0) for number in range(1, 10_001)]
    events = (*steps, *steps[:2], steps[7], steps[7], *steps[9:12], Mechanism("sum, step 0", 1.0, 1.0, 1, 1.0))

    word = replace(WORD, train=repeated(events))
    data = Update(word=word, signature=bytes(64)).to_bytes()

    assert word.train_history == events
    assert Update.from_bytes(data).word == word
    assert len(data) < 4000


@pytest.mark.parametrize("times", [0, -1, True, 1.5, "2", 10**12, None])
def test_a_history_that_repeats_an_event_so_often_is_refused(times: object) -> None:
    word = replace(WORD, train=((Mechanism("sum", 1.0, 1.0, 1, 1.0), 1),))
    header, payload = unseal(Update(word=word, signature=bytes(64)).to_bytes())
    header["word"]["train"][0]["times"] = times

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


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("run", 7),
        ("ledger_head", "AB" * 32),
        ("ledger_head", "ab"),
        ("ledger_length", -1),
        ("ledger_length", True),
        ("ledger_length", 3.0),
        ("ledger_length", "3"),
        ("charged", 4),
        ("charged", -1),
        ("charged", 0.5),
        ("train", None),
        ("train", [{}]),
        ("loss", 0.5),
    ],
)
def test_a_word_that_is_none_is_refused(field: str, value: object) -> None:
    header, payload = unseal(Update(word=WORD, signature=bytes(64)).to_bytes())
    header["word"][field] = value

    with pytest.raises(WireError, match="cannot be read"):
        Update.from_bytes(seal(header, payload))


def test_a_word_is_signed_by_one_key_and_says_one_thing() -> None:
    key = Ed25519PrivateKey.from_private_bytes(IDENTITY).public_key().public_bytes_raw()
    signature = WORD.sign(IDENTITY)

    assert WORD.is_signed(signature, key=key)
    assert not WORD.is_signed(signature, key=b"k" * 32)
    assert not WORD.is_signed(bytes(64), key=key)
    for field in ("run", "plan", "site", "ledger_head", "ledger_length", "charged", "train", "held_out"):
        other = {"train": ((Mechanism("sum", 1.0, 1.0, 1, 1.0), 1),), "ledger_length": 9, "charged": 1}
        other |= {"held_out": other["train"]}
        assert not replace(WORD, **{field: other.get(field, "other")}).is_signed(signature, key=key)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        pytest.param({"refused": "ConsentError"}, "in its own words", id="the kind of a refusal"),
        pytest.param({"refused": "Refused"}, "in its own words", id="the word in another form"),
        pytest.param({"refused": None}, "in its own words", id="no word"),
        pytest.param({"refused": REFUSED}, "more than that it refuses", id="a refusal that says more"),
        pytest.param({"signature": ""}, "signed with 0 bytes", id="a word without a signature"),
        pytest.param({"word": None}, "signed with 64 bytes", id="a signature of nothing"),
        pytest.param({"signature": "no hex"}, "cannot be read", id="a signature that is none"),
    ],
)
def test_an_update_that_refuses_or_speaks_in_another_way_is_refused(changes: dict[str, object], said: str) -> None:
    header, payload = unseal(Update(word=WORD, signature=bytes(64)).to_bytes())

    with pytest.raises(WireError, match=said):
        Update.from_bytes(seal({**header, **changes}, payload))


def test_a_refusal_with_a_sum_is_refused() -> None:
    header, _ = unseal(Update(refused=REFUSED).to_bytes())

    with pytest.raises(WireError, match="more than that it refuses"):
        Update.from_bytes(seal(header, pack({"sum": torch.ones(1)})))


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
