"""The trade-off curve: held against the textbook's for Gaussian sums, and against epsilon and delta for all."""

import math

import pytest
from scipy.stats import norm

from fedsynth.privacy.accountant import epsilon_pld, largest_true_positives
from fedsynth.privacy.mechanism import Mechanism

RATES = [1e-4, 1e-3, 0.01, 0.1, 0.5, 0.9]


@pytest.mark.parametrize(("sigma", "steps"), [(1.0, 1), (0.6, 1), (4.0, 16), (3.0, 2)])
def test_the_curve_of_a_gaussian_sum_is_the_textbooks(sigma: float, steps: int) -> None:
    """T sums at sigma are one Gaussian shifted by sqrt(T) / sigma (Dong, Roth and Su 2022, theorem 2.7)."""
    mu = math.sqrt(steps) / sigma

    found = largest_true_positives([Mechanism("sum", sigma, 1.0, steps, 1.0)], false_positives=RATES)

    exact = [float(norm.cdf(norm.ppf(rate) + mu)) for rate in RATES]
    assert found == pytest.approx(exact, rel=2e-3)
    assert all(ours >= truth for ours, truth in zip(found, exact, strict=True))  # never below


def test_no_curve_promises_less_than_epsilon_and_delta_do() -> None:
    mechanisms = [Mechanism("anchor", 2.0, 1.0, 1, 1.0), Mechanism("gradients", 1.2, 0.1, 200, 1.0)]
    epsilon = epsilon_pld(mechanisms, delta=1e-5)

    found = largest_true_positives(mechanisms, false_positives=RATES)

    for rate, reached in zip(RATES, found, strict=True):
        assert rate < reached <= min(1.0, math.exp(epsilon) * rate + 1e-5) + 1e-3
    assert list(found) == sorted(found)


def test_without_noise_everybody_is_recognised_and_without_sums_nobody() -> None:
    bare = Mechanism("sum", 0.0, 1.0, 1, math.inf)

    assert largest_true_positives([bare], false_positives=RATES) == (1.0,) * len(RATES)
    assert largest_true_positives([], false_positives=RATES) == tuple(RATES)
