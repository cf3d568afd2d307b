"""The state of a run: bytes and back, in a closed form."""

from dataclasses import replace

import pytest
import torch

from fedsynth.coordinator.run_state import RunState
from fedsynth.errors import RunError
from fedsynth.evaluation.score import Score
from fedsynth.privacy.mechanism import Mechanism
from fedsynth.wire.arrays import pack
from fedsynth.wire.envelope import seal, unseal
from fedsynth.wire.last_word import LastWord, SignedWord

SUM = Mechanism("gradients, step 1", 2.0, 0.5, 1, 1.0)
STATE = RunState(
    step=3,
    alive=("east", "west"),
    units={"east": 10.0, "west": 1 / 3},
    done={"east": (0, 1, 2), "west": (0, 2), "gone": ()},
    asked={"east": (0, 1, 2), "west": (0, 1, 2), "gone": (0,)},
    words={"east": SignedWord(LastWord("run", "plan", "east", "ab" * 32, 3, 2, ((SUM, 3),), ()), b"s" * 64)},
    generator={"parts.critic.weight": torch.arange(6.0).reshape(2, 3), "anchor.done": torch.tensor([2])},
    random=torch.get_rng_state(),
    trainer={"private.0.step": torch.tensor(2.0), "taken": torch.tensor([2])},
    training=True,
    windows="ab" * 32,
    classifier={"weight": torch.ones(2)},
    scores=(Score("auroc", 0.5, 0.25, 1.0, 1, "private sum", "about", "ab" * 32),),
    secure=b"\x00secure\xff",
)


def test_a_state_is_read_again_as_it_was() -> None:
    again = RunState.from_bytes(STATE.to_bytes())

    for name in ("step", "alive", "units", "done", "asked", "training", "windows", "scores", "secure", "words"):
        assert getattr(again, name) == getattr(STATE, name)
    for name in ("generator", "trainer", "classifier"):
        before, after = getattr(STATE, name), getattr(again, name)
        assert before.keys() == after.keys()
        assert all(torch.equal(before[key], after[key]) for key in before)
    assert torch.equal(again.random, STATE.random)


def test_the_beginning_of_a_run_is_a_state_too() -> None:
    empty = RunState(0, (), {}, {}, asked={}, words={}, generator={}, random=torch.get_rng_state())

    again = RunState.from_bytes(empty.to_bytes())

    assert (again.secure, again.trainer, again.scores, again.done) == (b"", {}, (), {})


def test_thousands_of_steps_stay_a_short_line() -> None:
    done = {f"site-{n}": tuple(range(10_000)) for n in range(20)}
    state = replace(STATE, step=10_000, done=done, asked=done)

    assert len(unseal(state.to_bytes())[0]["done"]["site-3"]) == 1
    assert RunState.from_bytes(state.to_bytes()).done == state.done


def changed(**fields: object) -> bytes:
    header, payload = unseal(STATE.to_bytes())
    return seal({**header, **fields}, payload)


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(b"", id="nothing"),
        pytest.param(b"garbage", id="garbage"),
        pytest.param(changed(more=1), id="a field too many"),
        pytest.param(changed(step="three"), id="a step that is none"),
        pytest.param(changed(done={"east": [[0]]}), id="half a stretch"),
        pytest.param(changed(scores=[{"name": "auroc"}]), id="half a score"),
        pytest.param(changed(alive=None), id="no sites"),
        pytest.param(seal(unseal(STATE.to_bytes())[0], pack({"other/weight": torch.ones(1)})), id="other tensors"),
        pytest.param(seal(unseal(STATE.to_bytes())[0], b"pickle"), id="no tensors"),
    ],
)
def test_what_is_no_state_is_refused(data: bytes) -> None:
    with pytest.raises(RunError, match="cannot be read"):
        RunState.from_bytes(data)
