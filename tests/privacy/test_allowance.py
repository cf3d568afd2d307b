"""An allowance hands out the private sums that were charged, each with its own draw, and not one more."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch import Tensor

from fedsynth.errors import PrivacyError
from fedsynth.privacy.allowance import Allowance
from fedsynth.privacy.mechanism import Mechanism
from fedsynth.privacy.noise import LATTICE_STD


def silence(count: int) -> NDArray[np.int64]:
    """Stand in for the noise, so that what people said can be seen."""
    return np.zeros(count, dtype=np.int64)


def mechanism(*, steps: int = 1, q: float = 1.0, sigma: float = 2.0, shares: int = 1) -> Mechanism:
    return Mechanism("sum", sigma, q, steps, 1.5, noise_shares=shares)


@settings(max_examples=30, deadline=None)
@given(steps=st.integers(1, 8), more=st.integers(1, 5), n_units=st.integers(0, 6))
def test_as_many_sums_as_were_charged_and_no_more(steps: int, more: int, n_units: int) -> None:
    seen: list[Tensor] = []
    allowance = Allowance(mechanism(steps=steps), observe=seen.append)

    for taken in range(steps):
        assert allowance.left == steps - taken
        allowance.step(n_units=n_units, size=3).sum.read()
    for _ in range(more):
        with pytest.raises(PrivacyError, match=f"{steps} private sums were charged for 'sum' and all were taken"):
            allowance.step(n_units=n_units, size=3)

    assert len(seen) == steps
    assert allowance.left == 0


def test_a_sum_that_was_never_read_is_used_up_all_the_same() -> None:
    """Its draw was seen by the code that asked, so a second one would be a second look."""
    allowance = Allowance(mechanism())
    allowance.step(n_units=3, size=2)

    with pytest.raises(PrivacyError, match="another one needs another charge"):
        allowance.step(n_units=3, size=2)


def test_a_step_is_read_once() -> None:
    step = Allowance(mechanism(steps=5)).step(n_units=1, size=2)
    step.sum.read()

    with pytest.raises(PrivacyError, match="already read"):
        step.sum.read()
    with pytest.raises(PrivacyError, match="already read"):
        step.sum.add(torch.zeros(1, 2))


def test_what_one_unit_says_is_bounded_by_what_was_charged() -> None:
    step = Allowance(mechanism(), noise=silence).step(n_units=1, size=4)
    step.sum.add(torch.full((1, 4), 1e6))

    assert 1.5 * 0.999 < float(step.sum.read().norm()) <= 1.5


@pytest.mark.parametrize("shares", [1, 2, 9])
def test_noise_is_what_was_charged_over_the_root_of_its_shares(shares: int) -> None:
    """sigma C / sqrt(shares); 20 000 values give their spread to 0.5 % (one standard error)."""
    step = Allowance(mechanism(shares=shares)).step(n_units=0, size=20_000)

    spread = float(step.sum.read().std())

    assert spread == pytest.approx(2.0 * 1.5 / math.sqrt(shares), rel=0.03)


def test_a_sum_on_the_lattice_counts_in_whole_steps_of_one_share() -> None:
    step = Allowance(mechanism(shares=4), noise=silence).step(n_units=1, size=2)
    step.sum.add(torch.tensor([[0.3, -0.3]]))

    on_lattice = step.sum.read_lattice()

    assert on_lattice.step == pytest.approx(2.0 * 1.5 / 2 / LATTICE_STD)
    assert on_lattice.natural().tolist() == pytest.approx([0.3, -0.3], abs=on_lattice.step)


def test_everybody_is_drawn_where_everybody_was_charged() -> None:
    allowance = Allowance(mechanism(steps=3))

    assert [allowance.step(n_units=5, size=1).units.tolist() for _ in range(3)] == [[0, 1, 2, 3, 4]] * 3


def test_every_step_draws_anew_with_the_probability_charged() -> None:
    """400 draws of 50 units at 0.3: 6000 expected, standard deviation 65; five of them are allowed."""
    allowance = Allowance(mechanism(steps=400, q=0.3))

    draws = [frozenset(allowance.step(n_units=50, size=1).units.tolist()) for _ in range(400)]

    assert sum(len(draw) for draw in draws) == pytest.approx(6000, abs=5 * 65)
    assert all(draw <= set(range(50)) for draw in draws)
    assert len(set(draws)) == 400


def test_no_seed_repeats_draw_or_noise() -> None:
    sums, draws = [], []
    for _ in range(2):
        torch.manual_seed(1)
        np.random.seed(1)  # noqa: NPY002  # the old global generator is what a stranger's code would seed
        step = Allowance(mechanism(q=0.5)).step(n_units=64, size=8)
        draws.append(step.units.tolist())
        sums.append(step.sum.read())

    assert draws[0] != draws[1]
    assert not torch.isclose(sums[0], sums[1]).any()


def test_a_silent_plan_takes_its_steps_and_adds_nothing() -> None:
    """Rehearsals at epsilon = infinity go through the same door."""
    allowance = Allowance(Mechanism("sum", 0.0, 1.0, 1, math.inf))
    step = allowance.step(n_units=2, size=2)
    step.sum.add(torch.tensor([[1e6, 1.0], [2e6, 0.0]]))

    assert step.sum.read().tolist() == [3e6, 1.0]
    with pytest.raises(PrivacyError):
        allowance.step(n_units=2, size=2)
