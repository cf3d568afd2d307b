"""Bounds on epsilon out of guesses: against closed forms, sums written out, a linear programme and simulation."""

import math

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.optimize import linprog
from scipy.stats import norm

from fedsynth.audit.bounds import (
    Bound,
    Finding,
    Guesses,
    any_mechanism,
    bounds,
    ceiling,
    gaussian_epsilon,
    gaussian_mechanism,
    guess,
)
from fedsynth.audit.evidence import Evidence
from fedsynth.errors import PrivacyError
from fedsynth.privacy.accountant import epsilon_pld
from fedsynth.privacy.mechanism import Mechanism

DELTA = 1e-5
Heard = tuple[Evidence, NDArray[np.bool_]]


def gaussian_audit(rng: np.random.Generator, *, mu: float, canaries: int) -> tuple[Bound, ...]:
    """Audit the Gaussian mechanism at its best: every canary has a coordinate of its own."""
    members = rng.random(canaries) < 0.5
    seen = members + rng.normal(size=canaries) / mu
    return bounds((seen - 0.5) * mu**2, members, delta=DELTA)


@pytest.mark.parametrize("made", [1, 10, 300])
def test_right_guesses_throughout_give_the_closed_form_without_delta(made: int) -> None:
    chance = 0.05 ** (1 / made)

    found = any_mechanism(Guesses(made, made, made), delta=0.0)

    assert found == pytest.approx(max(0.0, math.log(chance / (1 - chance))), abs=1e-6)


@pytest.mark.parametrize(("canaries", "made", "right"), [(40, 20, 18), (100, 100, 75), (12, 12, 12)])
def test_the_bound_for_any_mechanism_is_where_the_probability_written_out_reaches_p(
    canaries: int, made: int, right: int
) -> None:
    epsilon = any_mechanism(Guesses(canaries, made, right), delta=1e-3)

    def chance_of(count: int) -> float:
        q = math.exp(epsilon) / (1 + math.exp(epsilon))
        return math.comb(made, count) * q**count * (1 - q) ** (made - count)

    at_least = sum(chance_of(count) for count in range(right, made + 1))
    worst = max(sum(chance_of(right - j) for j in range(1, i + 1)) / i for i in range(1, right + 1))
    assert at_least + 2 * canaries * 1e-3 * worst == pytest.approx(0.05, abs=1e-6)


def test_the_bound_for_any_mechanism_fails_on_randomised_response_as_often_as_it_may() -> None:
    # Telling every coin truly with probability e / (1 + e) is exactly (1, 0)-private, and nothing is lost in a sum.
    rng = np.random.default_rng(0)
    counts, often = np.unique(rng.binomial(200, math.e / (1 + math.e), size=2000), return_counts=True)

    too_high = [any_mechanism(Guesses(200, 200, int(count)), delta=0.0) > 1 for count in counts]

    assert 0.01 < often[too_high].sum() / 2000 <= 0.05 + 3 * math.sqrt(0.05 * 0.95 / 2000)


@pytest.mark.parametrize(
    ("canaries", "made", "right", "mu"),
    [(8, 8, 6, 0.2), (8, 8, 8, 1.0), (20, 8, 8, 2.0), (12, 12, 10, 1.0), (60, 12, 12, 1.0)],
)
def test_the_gaussian_bound_is_where_a_linear_programme_over_all_outcomes_reaches_p(
    canaries: int, made: int, right: int, mu: float
) -> None:
    p = _largest_probability(canaries, made, right, mu)

    found = gaussian_mechanism(Guesses(canaries, made, right), delta=DELTA, p=p)

    assert found == pytest.approx(gaussian_epsilon(mu, delta=DELTA), rel=5e-3, abs=2e-3)


def _largest_probability(canaries: int, made: int, right: int, mu: float) -> float:
    """Maximise P[at least `right` right guesses] over all laws that mu-GDP allows, tangent by tangent."""
    count = np.arange(made + 1)
    rows, limits = [], []
    for at_least in range(1, made + 1):
        hits = np.where(count >= at_least, count / canaries, 0.0)
        misses = np.where(count >= at_least - 1, (made - count) / canaries, 0.0)
        for point in [*np.logspace(-8, -1, 90), *np.linspace(0.1, 0.999, 50)]:
            z = norm.ppf(point)
            slope = norm.pdf(z + mu) / norm.pdf(z)
            rows.append(hits - slope * misses)
            limits.append(norm.cdf(z + mu) - slope * point)
    solved = linprog(
        -(count >= right).astype(float), A_ub=np.array(rows), b_ub=limits, A_eq=np.ones((1, made + 1)), b_eq=[1.0]
    )
    return float(-solved.fun)


@pytest.mark.parametrize("mu", [0.25, 1.0, 1.7])
def test_epsilon_of_a_gaussian_agrees_with_the_accountant(mu: float) -> None:
    accounted = epsilon_pld([Mechanism("sum", 1 / mu, 1.0, 1, 1.0)], delta=DELTA)

    assert gaussian_epsilon(mu, delta=DELTA) == pytest.approx(accounted, rel=2e-3)


@pytest.mark.parametrize(("mu", "epsilon"), [(0.268, 1.0), (0.925, 4.0), (1.666, 8.0)])
def test_audits_of_the_gaussian_mechanism_stay_below_its_epsilon(mu: float, epsilon: float) -> None:
    rng = np.random.default_rng(1)

    audits = [gaussian_audit(rng, mu=mu, canaries=300) for _ in range(40)]

    for method in range(2):
        assert sum(audit[method].epsilon <= epsilon for audit in audits) >= 38


def test_audits_of_the_gaussian_mechanism_contradict_a_claim_that_is_eight_times_too_small() -> None:
    rng = np.random.default_rng(2)

    audits = [gaussian_audit(rng, mu=1.666, canaries=300) for _ in range(20)]

    assert all(bound.epsilon > 1 for audit in audits for bound in audit)


def test_a_thousand_canaries_show_more_than_published_for_a_gaussian_of_epsilon_eight() -> None:
    # 2.11 and 2.93 were measured with the one-run bounds of jax_privacy, which guesses "in" only (docs/audit.md).
    rng = np.random.default_rng(3)

    audits = [gaussian_audit(rng, mu=1.666, canaries=1000) for _ in range(5)]

    assert 2.11 < np.mean([audit[0].epsilon for audit in audits]) < 8
    assert 2.93 < np.mean([audit[1].epsilon for audit in audits]) < 8


def test_scores_that_know_nothing_bound_nothing_much() -> None:
    rng = np.random.default_rng(4)

    found = [bounds(rng.normal(size=200), rng.random(200) < 0.5, delta=DELTA) for _ in range(20)]

    assert sum(bound.epsilon > 0 for audit in found for bound in audit) <= 4


@pytest.mark.parametrize("canaries", [2, 100, 301])
def test_right_guesses_throughout_reach_the_ceiling(canaries: int) -> None:
    members = np.arange(canaries) % 3 == 0

    found = bounds(np.where(members, 2.0, -2.0), members, delta=DELTA)

    assert [bound.epsilon for bound in found] == [bound.ceiling for bound in found]
    assert [bound.ceiling for bound in found] == [
        ceiling(canaries, method="any mechanism", delta=DELTA),
        ceiling(canaries, method="Gaussian mechanism", delta=DELTA),
    ]


def test_the_surest_canaries_are_guessed_at_and_the_others_left_alone() -> None:
    scores = np.array([0.1, -5.0, 3.0, -0.2, 4.0])
    members = np.array([False, False, True, True, False])

    assert guess(scores, members, made=3) == Guesses(canaries=5, made=3, right=2)


@pytest.mark.parametrize(("canaries", "made", "right"), [(10, 11, 5), (10, 5, 6), (10, 0, 0), (10, 5, -1)])
def test_counts_that_no_guessing_leaves_are_refused(canaries: int, made: int, right: int) -> None:
    with pytest.raises(PrivacyError, match=f"{canaries} canaries"):
        Guesses(canaries, made, right)


def test_a_single_canary_is_refused() -> None:
    with pytest.raises(PrivacyError, match="bounds nothing"):
        ceiling(1, method="any mechanism", delta=DELTA)


def heard(rng: np.random.Generator, *, q: float, std: float, sums: int, canaries: int = 40) -> Heard:
    """Return evidence of sums that draw with probability `q` and whose noise was claimed to be 1, and the coins."""
    evidence, others = Evidence(canaries), 5
    coins = rng.random(canaries) < 0.5
    for _ in range(sums):
        rows = rng.normal(size=(canaries + others, 200)) + 2 * rng.normal(size=200)
        rows /= np.linalg.norm(rows, axis=1, keepdims=True)
        drawn = (rng.random(canaries + others) < q) & np.concatenate([coins, np.ones(others, dtype=bool)])
        total = rows[drawn].sum(axis=0) + std * rng.normal(size=200)
        evidence.add(
            total,
            rows[:canaries],
            sampling_probability=q,
            noise_std=1.0,
            others=rows[canaries:],
            n_others=others,
        )
    return evidence, coins


@pytest.mark.parametrize(
    ("q", "sums"), [pytest.param(1.0, 1, id="one sum over everybody"), pytest.param(0.2, 40, id="sampled sums")]
)
def test_sums_without_noise_tell_every_coin(q: float, sums: int) -> None:
    evidence, coins = heard(np.random.default_rng(5), q=q, std=0.0, sums=sums)

    assert ((evidence.scores() > 0) == coins).all()
    assert evidence.sums == sums


def test_scores_of_noisy_sums_are_log_odds() -> None:
    rng = np.random.default_rng(6)
    scores, right = [], []
    for _ in range(40):
        evidence, coins = heard(rng, q=1.0, std=1.0, sums=4)
        scores += [*np.abs(evidence.scores())]
        right += [*((evidence.scores() > 0) == coins)]
    expected = 1 / (1 + np.exp(-np.array(scores)))

    for low, high in ((0.5, 0.7), (0.7, 0.85), (0.85, 1.0)):
        some = (expected >= low) & (expected < high)
        assert np.mean(np.array(right)[some]) == pytest.approx(expected[some].mean(), abs=0.06)


def test_a_sampled_sum_counts_for_little_when_nobody_is_seen_in_it() -> None:
    evidence, coins = heard(np.random.default_rng(7), q=0.2, std=0.0, sums=1)
    seen = evidence.scores() > 1

    assert not (seen & ~coins).any()
    # Not having been drawn is what a member does in four of five sums.
    assert evidence.scores()[~seen] == pytest.approx(np.log(0.8), abs=0.1)


def finding(*epsilons: float) -> Finding:
    found = tuple(
        Bound(method, epsilon, 5.0, Guesses(9, 9, 9))
        for method, epsilon in zip(("any mechanism", "Gaussian mechanism"), epsilons, strict=True)
    )
    return Finding("tiny", 1.0, DELTA, "subject", "site", 9, 5, 3, found)


def test_a_finding_above_the_claim_is_refused_with_both_figures() -> None:
    with pytest.raises(PrivacyError, match=r"at least 1\.400.*1\.000 was claimed"):
        finding(0.9, 1.4).check()


def test_a_finding_below_the_claim_confirms_nothing() -> None:
    finding(0.9, 1.0).check()

    assert "does not confirm epsilon" in finding(0.9, 1.0).sentence()
    assert finding(0.9, 1.0).as_json()["contradicted"] is False
