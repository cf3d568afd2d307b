"""Closed forms say how little cannot be true; an accountant, which knows nothing of them, never says less."""

import math
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedsynth.errors import StatementError
from fedsynth.privacy.accountant import epsilon_pld
from fedsynth.privacy.lower_bound import gaussian_delta, least_epsilon
from fedsynth.privacy.making import Making
from fedsynth.privacy.mechanism import Mechanism
from fedsynth.privacy.statement import PrivacyStatement, SiteStatement

SUMS = st.builds(
    Mechanism,
    purpose=st.just("sum"),
    noise_multiplier=st.floats(0.4, 20),
    sampling_probability=st.sampled_from([1.0, 1.0, 0.5, 0.05]),
    steps=st.integers(1, 40),
    clipping_norm=st.just(1.0),
)


@pytest.mark.slow
@settings(max_examples=12, deadline=None, derandomize=True)
@given(st.lists(SUMS, min_size=1, max_size=4), st.sampled_from([1e-3, 1e-5, 1e-8]))
def test_it_never_exceeds_what_an_accountant_says(sums: list[Mechanism], delta: float) -> None:
    assert least_epsilon(sums, delta=delta) <= epsilon_pld(sums, delta=delta) * (1 + 1e-6) + 1e-9


@pytest.mark.parametrize(
    "sums",
    [
        pytest.param([Mechanism("a", 1.0, 1.0, 1, 1.0)], id="one sum"),
        pytest.param([Mechanism("a", 1.0, 1.0, 3, 1.0), Mechanism("b", 0.7, 1.0, 2, 5.0)], id="five sums"),
        pytest.param([Mechanism("a", 1.0, 0.2, 1, 1.0)], id="one sampled step"),
    ],
)
def test_where_the_closed_form_is_exact_the_accountant_says_the_same(sums: list[Mechanism]) -> None:
    assert least_epsilon(sums, delta=1e-5) == pytest.approx(epsilon_pld(sums, delta=1e-5), rel=1e-4)


def test_at_epsilon_zero_delta_is_the_total_variation_distance() -> None:
    """Between N(0, 1) and N(mu, 1): 2 Phi(mu / 2) - 1 = erf(mu / sqrt 8)."""
    for mu in (0.1, 1.0, 5.0):
        assert gaussian_delta(mu, 0.0) == pytest.approx(math.erf(mu / math.sqrt(8)), rel=1e-9)


def test_without_noise_nothing_is_enough() -> None:
    assert least_epsilon([Mechanism("a", 0.0, 1.0, 1, math.inf)], delta=1e-5) == math.inf


def test_hardly_any_noise_is_priced_without_an_overflow() -> None:
    assert least_epsilon([Mechanism("a", 0.01, 1.0, 5, 1.0), Mechanism("b", 0.01, 0.1, 5, 1.0)], delta=1e-5) > 5000


EVENT = Mechanism("anchor", noise_multiplier=2.0, sampling_probability=1.0, steps=1, clipping_norm=1.0)
"""Costs epsilon 1.99 at delta = 1e-5."""
GOOD = PrivacyStatement(
    epsilon=2.1,
    delta=1e-5,
    unit="subject",
    adjacency="add-or-remove-one",
    trust="site",
    accountant="PLD",
    second_accountant="PRV",
    composes="this run only",
    overlap="assumed none",
    assumes="each site's own code",
    made=Making(0, "in-process", "toy", "1" * 64),
    sites=(SiteStatement("north", 2.1, 2.1, 1e-5, "0" * 64, (EVENT,), ()),),
)


def spoiled(**fields: object) -> PrivacyStatement:
    return replace(GOOD, sites=(replace(GOOD.sites[0], **fields),))  # type: ignore[arg-type]


def test_a_statement_whose_figures_add_up_is_read_back() -> None:
    assert PrivacyStatement.from_json(GOOD.to_json()) == GOOD


@pytest.mark.parametrize(
    ("statement", "said"),
    [
        pytest.param(replace(spoiled(epsilon=0.5), epsilon=0.5), "cost at least 1.99", id="less than its events"),
        pytest.param(spoiled(epsilon_second=0.5), "second accountant's epsilon is 0.5", id="the second accountant"),
        pytest.param(
            spoiled(events=(replace(EVENT, noise_multiplier=0.01),)), "its own events cost at least", id="no noise"
        ),
        pytest.param(spoiled(events=(replace(EVENT, unit="window"),)), "bounded per window", id="another unit"),
        pytest.param(
            spoiled(held_out=(replace(EVENT, steps=50, group="held-out"),)), "cost at least", id="the other group"
        ),
        pytest.param(spoiled(delta=1e-3), "a site's delta is 0.001", id="another delta"),
        pytest.param(spoiled(events=()), "lists no event", id="no event"),
        pytest.param(replace(GOOD, epsilon=2.0), "largest of its sites' is 2.1", id="below a site's"),
        pytest.param(replace(GOOD, epsilon=2.2), "largest of its sites' is 2.1", id="above every site's"),
        pytest.param(replace(GOOD, sites=()), "names no site", id="no site"),
        pytest.param(replace(GOOD, delta=0.0), "no promise", id="no delta"),
        pytest.param(replace(spoiled(epsilon=50.0), epsilon=50.0), "which nothing private is", id="beyond twenty"),
    ],
)
def test_a_statement_that_contradicts_itself_is_refused_and_says_how(
    statement: PrivacyStatement, said: str
) -> None:
    with pytest.raises(StatementError, match=said):
        statement.check()
    with pytest.raises(StatementError, match=said):
        PrivacyStatement.from_json(statement.to_json())
