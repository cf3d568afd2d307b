"""A mechanism says what was done, in one way only, and nothing that no private sum could do."""

import json
import math
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedsynth.errors import PrivacyError
from fedsynth.privacy.accountant import epsilon_pld
from fedsynth.privacy.mechanism import UNITS, Mechanism

GAUSSIAN = Mechanism("sum", 2.0, 0.5, 3, 1.5, "held-out", "recording", 4)
positive = st.floats(min_value=1e-300, max_value=1e300)
kinds = st.one_of(
    st.tuples(positive, positive, st.integers(1, 1000)),  # noise and a bound
    st.tuples(st.just(0.0), positive, st.just(1)),  # a bound alone
    st.tuples(st.just(0.0), st.just(math.inf), st.just(1)),  # nothing
)
mechanisms = st.builds(
    lambda purpose, kind, q, steps, group, unit: Mechanism(
        purpose, kind[0], q, steps, kind[1], group, unit, noise_shares=kind[2]
    ),
    purpose=st.text(max_size=40),
    kind=kinds,
    q=st.floats(min_value=0, max_value=1, exclude_min=True),
    steps=st.integers(1, 10**9),
    group=st.sampled_from(["train", "held-out"]),
    unit=st.sampled_from(UNITS),
)


@given(mechanisms)
def test_json_gives_back_the_same_mechanism_without_infinities(mechanism: Mechanism) -> None:
    text = json.dumps(mechanism.as_json(), allow_nan=False)

    assert Mechanism.from_json(json.loads(text)) == mechanism


@given(mechanisms)
def test_private_is_what_has_both_noise_and_a_bound(mechanism: Mechanism) -> None:
    assert mechanism.is_private == (mechanism.noise_multiplier > 0)
    assert mechanism.is_private or mechanism.noise_shares == 1


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({"noise_multiplier": -1.0}, id="negative noise"),
        pytest.param({"noise_multiplier": math.inf}, id="infinite noise"),
        pytest.param({"noise_multiplier": math.nan}, id="noise that is no number"),
        pytest.param({"clipping_norm": 0.0}, id="nobody may say anything"),
        pytest.param({"clipping_norm": -1.0}, id="a negative bound"),
        pytest.param({"clipping_norm": math.inf}, id="noise without a bound"),
        pytest.param({"clipping_norm": math.nan}, id="a bound that is no number"),
        pytest.param({"sampling_probability": 0.0}, id="nobody drawn"),
        pytest.param({"sampling_probability": 1.0001}, id="more than everybody drawn"),
        pytest.param({"sampling_probability": math.nan}, id="a probability that is no number"),
        pytest.param({"steps": 0}, id="no step"),
        pytest.param({"steps": -3}, id="a refund"),
        pytest.param({"steps": 2.0}, id="steps as a float"),
        pytest.param({"steps": True}, id="steps as a truth value"),
        pytest.param({"group": "everybody"}, id="a third group"),
        pytest.param({"unit": "hospital"}, id="an unknown unit"),
        pytest.param({"noise_shares": 0}, id="no share"),
        pytest.param({"noise_shares": 2.0}, id="shares as a float"),
        pytest.param({"noise_shares": True}, id="shares as a truth value"),
        pytest.param({"noise_multiplier": 0.0}, id="shares of no noise"),
        pytest.param({"noise_multiplier": 0.0, "clipping_norm": math.inf}, id="shares of nothing"),
    ],
)
def test_what_no_private_sum_is_cannot_be_said(changes: dict[str, Any]) -> None:
    with pytest.raises(PrivacyError, match="no mechanism"):
        replace(GAUSSIAN, **changes)


@pytest.mark.parametrize("name", list(GAUSSIAN.as_json()))
def test_every_field_must_be_said(name: str) -> None:
    said = {key: value for key, value in GAUSSIAN.as_json().items() if key != name}

    with pytest.raises(KeyError, match=name):
        Mechanism.from_json(said)


@pytest.mark.parametrize(
    "said",
    [
        pytest.param({"steps": "3"}, id="steps as text"),
        pytest.param({"steps": 3.5}, id="half a step"),
        pytest.param({"noise_shares": "4"}, id="shares as text"),
        pytest.param({"noise_multiplier": "nan"}, id="nan as text"),
        pytest.param({"clipping_norm": "inf"}, id="an unbounded sum with noise"),
        pytest.param({"group": ["train"]}, id="a list of groups"),
        pytest.param({"unit": "Subject"}, id="a unit in other letters"),
    ],
)
def test_json_that_says_nonsense_is_refused(said: dict[str, Any]) -> None:
    with pytest.raises(PrivacyError, match="no mechanism"):
        Mechanism.from_json(GAUSSIAN.as_json() | said)


def test_shares_of_noise_change_nothing_about_the_price_of_the_total() -> None:
    """The total carries all of the noise, however many sites drew it."""
    alone = Mechanism("sum", 2.0, 1.0, 1, 1.0)

    assert epsilon_pld([replace(alone, noise_shares=5)], delta=1e-5) == epsilon_pld([alone], delta=1e-5)


def test_what_is_not_private_costs_everything() -> None:
    bare = Mechanism("sum", 0.0, 1.0, 1, 1.0)

    assert epsilon_pld([GAUSSIAN, bare], delta=1e-5) == math.inf
