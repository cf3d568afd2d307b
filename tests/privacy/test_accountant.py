"""Two accountants, held against each other and against closed forms."""

import math
from collections.abc import Callable, Sequence

import pytest
from scipy.optimize import brentq
from scipy.stats import norm

from fedsynth.errors import PrivacyError
from fedsynth.privacy import accountant as prices
from fedsynth.privacy.accountant import epsilon_pld, epsilon_prv, least_noise
from fedsynth.privacy.budget import SumRequest, share_budget
from fedsynth.privacy.mechanism import Mechanism

Accountant = Callable[..., float]
BOTH = pytest.mark.parametrize("accountant", [epsilon_pld, epsilon_prv])


def gaussian(sigma: float, *, q: float = 1.0, steps: int = 1) -> Mechanism:
    return Mechanism("sum", sigma, q, steps, 1.0)


def exact_gaussian_epsilon(sigma: float, delta: float) -> float:
    """Balle and Wang 2018, theorem 8, solved for epsilon."""

    def excess(epsilon: float) -> float:
        a, b = 1 / (2 * sigma), epsilon * sigma
        return float(norm.cdf(a - b) - math.exp(epsilon) * norm.cdf(-a - b) - delta)

    return float(brentq(excess, 0, 200))


@BOTH
@pytest.mark.parametrize("sigma", [0.6, 1.0, 4.0])
def test_one_gaussian_costs_what_the_closed_form_says(accountant: Accountant, sigma: float) -> None:
    assert accountant([gaussian(sigma)], delta=1e-5) == pytest.approx(exact_gaussian_epsilon(sigma, 1e-5), rel=0.01)


@BOTH
def test_gaussians_in_sequence_add_in_inverse_squares(accountant: Accountant) -> None:
    together = 1 / math.sqrt(1 / 1.5**2 + 1 / 2.0**2)

    found = accountant([gaussian(1.5), gaussian(2.0)], delta=1e-5)

    assert found == pytest.approx(exact_gaussian_epsilon(together, 1e-5), rel=0.01)


@pytest.mark.parametrize(
    "mechanisms",
    [
        pytest.param([gaussian(4.0, q=0.127, steps=1500)], id="DP-SGD"),
        pytest.param([gaussian(1.2, q=0.05, steps=200), gaussian(8.0)], id="DP-SGD and a sum"),
        pytest.param([gaussian(1.3), gaussian(1.0), gaussian(1.1), gaussian(3.3, q=0.2, steps=60)], id="the demo"),
        pytest.param([gaussian(9.0), gaussian(20.0, q=0.2, steps=60)], id="small epsilon"),
    ],
)
def test_the_two_accountants_agree_within_one_percent(mechanisms: list[Mechanism]) -> None:
    assert epsilon_prv(mechanisms, delta=1e-5) == pytest.approx(epsilon_pld(mechanisms, delta=1e-5), rel=0.01)


@BOTH
def test_no_noise_costs_infinity(accountant: Accountant) -> None:
    assert accountant([gaussian(4.0), gaussian(0.0)], delta=1e-5) == math.inf
    assert accountant([Mechanism("sum", 0.0, 1.0, 1, math.inf)], delta=1e-5) == math.inf


@BOTH
def test_nothing_costs_nothing(accountant: Accountant) -> None:
    assert accountant([], delta=1e-5) == 0


def test_a_round_more_costs_more() -> None:
    one, two = [gaussian(1.0, q=0.2, steps=10)], [gaussian(1.0, q=0.2, steps=10)] * 2

    assert epsilon_pld(two, delta=1e-5) > epsilon_pld(one, delta=1e-5) * 1.1


@pytest.mark.parametrize("epsilon", [0.3, 1.0, 8.0])
def test_the_least_noise_meets_the_target_from_below(epsilon: float) -> None:
    sigma = least_noise(lambda m: [gaussian(m, q=0.1, steps=50)], epsilon=epsilon, delta=1e-5)

    spent = epsilon_pld([gaussian(sigma, q=0.1, steps=50)], delta=1e-5)

    assert 0.995 * epsilon <= spent <= epsilon


@pytest.mark.parametrize(
    ("epsilon", "delta"),
    [
        pytest.param(0.01, 1e-9, id="below what Renyi orders up to 1024 can show"),
        pytest.param(0.005, 1e-9, id="half of that"),
        pytest.param(0.021, 1e-9, id="just above it, where they show ten times the noise"),
        pytest.param(0.03, 1e-10, id="at the smallest delta"),
        pytest.param(0.02, 1e-5, id="at a usual delta"),
    ],
)
def test_a_small_epsilon_takes_the_noise_of_the_closed_form_and_no_more(epsilon: float, delta: float) -> None:
    sigma = least_noise(lambda m: [gaussian(m)], epsilon=epsilon, delta=delta)

    exact = brentq(lambda s: exact_gaussian_epsilon(s, delta) - epsilon, 1.0, 5000.0)
    assert exact <= sigma * 1.0005
    assert sigma <= 1.05 * exact


@pytest.mark.parametrize("q", [0.05, 0.2])
def test_a_small_epsilon_is_within_reach_of_sampled_sums_too(q: float) -> None:
    sums = [gaussian(least_noise(lambda m: [gaussian(m, q=q, steps=20)], epsilon=0.01, delta=1e-9), q=q, steps=20)]

    assert 0.995 * 0.01 <= epsilon_pld(sums, delta=1e-9) <= 0.01
    assert epsilon_prv(sums, delta=1e-9) == pytest.approx(0.01, rel=0.1)


def test_sums_over_everybody_take_one_price_and_others_a_handful(monkeypatch: pytest.MonkeyPatch) -> None:
    priced: list[float] = []

    def price(mechanisms: Sequence[Mechanism], *, delta: float) -> float:
        priced.append(delta)
        return epsilon_pld(mechanisms, delta=delta)

    monkeypatch.setattr(prices, "epsilon_pld", price)
    sigma = least_noise(lambda m: [gaussian(m), gaussian(2 * m, steps=3)], epsilon=2.0, delta=1e-5)

    assert len(priced) == 1
    assert 0.999 * 2.0 <= epsilon_pld([gaussian(sigma), gaussian(2 * sigma, steps=3)], delta=1e-5) <= 2.0

    least_noise(lambda m: [gaussian(m), gaussian(2 * m, q=0.5)], epsilon=2.0, delta=1e-5)

    assert len(priced) < 12


@pytest.mark.parametrize("wrong", [0.2, 5.0], ids=["too little noise", "too much"])
def test_noise_that_no_price_confirms_is_looked_for_again(wrong: float, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prices, "_exact_noise", lambda *_, **__: wrong)
    sigma = least_noise(lambda m: [gaussian(m)], epsilon=2.0, delta=1e-5)

    assert 0.998 * 2.0 <= epsilon_pld([gaussian(sigma)], delta=1e-5) <= 2.0


def test_what_cannot_be_afforded_is_refused() -> None:
    with pytest.raises(PrivacyError, match="no amount of noise"):
        least_noise(lambda m: [gaussian(0.5), gaussian(m)], epsilon=1.0, delta=1e-5)


WISHES = (
    SumRequest("first", 4.0, weight=0.25),
    SumRequest("second", 3.0, weight=0.75),
    SumRequest("gradients", 1.0, sampling_probability=0.2, steps=30),
    SumRequest("scores", 1.4, group="held-out"),
)


@pytest.mark.parametrize("epsilon", [1.0, 8.0])
def test_each_group_spends_its_epsilon_and_no_more(epsilon: float) -> None:
    mechanisms = share_budget(WISHES, epsilon=epsilon, delta=1e-5, gradient_share=0.25)

    for group in ("train", "held-out"):
        spent = epsilon_pld([m for m in mechanisms if m.group == group], delta=1e-5)
        assert 0.995 * epsilon <= spent <= epsilon
    assert epsilon_pld([mechanisms[2]], delta=1e-5) <= 0.25 * epsilon


def test_three_times_the_weight_means_a_third_of_the_variance() -> None:
    first, second, *_ = share_budget(WISHES, epsilon=8.0, delta=1e-5, gradient_share=0.25)

    assert first.noise_multiplier == pytest.approx(math.sqrt(3) * second.noise_multiplier)


def test_infinite_epsilon_means_neither_noise_nor_clipping() -> None:
    mechanisms = share_budget(WISHES, epsilon=math.inf, delta=1e-5, gradient_share=0.25)

    assert {m.noise_multiplier for m in mechanisms} == {0.0}
    assert {m.clipping_norm for m in mechanisms} == {math.inf}
