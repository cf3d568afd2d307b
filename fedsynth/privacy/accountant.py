"""What mechanisms cost: from a list of private sums to epsilon at delta, by two independent accountants.

The price is computed with privacy loss distributions (dp_accounting; Koskela et al. 2020, Doroshenko et al.
2022) and checked against Opacus' PRV accountant (Gopi et al. 2021). Adjacency is add-or-remove one unit. Both
libraries take seconds to load and are imported when something is priced.
"""

import math
import warnings
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any

from fedsynth.errors import PrivacyError
from fedsynth.privacy.mechanism import Mechanism

PLD = "dp_accounting PLD"
PRV = "Opacus PRV"
ADJACENCY = "add-or-remove-one"

_LEAST_M, _LARGEST_M = 1e-2, 1e5
_NEAREST, _AIM = 0.999, 0.9996  # of epsilon: the least that may be left over, and what is aimed at
_HALVINGS = 60  # of the bracket in which exact noise is looked for

_Sum = tuple[float, float, int]  # noise multiplier, sampling probability, steps


def epsilon_pld(mechanisms: Sequence[Mechanism], *, delta: float) -> float:
    """Return epsilon at `delta` for everything done in sequence to the same units; infinite without noise.

    >>> round(epsilon_pld([Mechanism("sum", 4.0, 0.127, 1500, 1.0)], delta=1e-5), 1)
    5.7
    """
    if not all(mechanism.is_private for mechanism in mechanisms):
        return math.inf
    return _pld(_sums(mechanisms), delta)


def epsilon_prv(mechanisms: Sequence[Mechanism], *, delta: float) -> float:
    """Return epsilon at `delta` by the second accountant."""
    if not all(mechanism.is_private for mechanism in mechanisms):
        return math.inf
    return _prv(_sums(mechanisms), delta)


def largest_true_positives(
    mechanisms: Sequence[Mechanism], *, false_positives: Sequence[float]
) -> tuple[float, ...]:
    """Return what the best attacker on these very mechanisms recognises, at each false-positive rate.

    The attacker asks whether one unit took part. What is (epsilon, delta)-private bounds the rate by
    e^epsilon FPR + delta and by 1 - e^-epsilon (1 - delta - FPR) (Kairouz, Oh, Viswanath 2015, theorem 2.1). Over
    all epsilon at once this is the trade-off function (Dong, Roth and Su 2022, doi:10.1111/rssb.12454, proposition
    6). Each delta is read off the privacy loss distribution, from above: no attacker does better than is returned.

    >>> mechanisms = [Mechanism("sum", 1.0, 1.0, 1, 1.0)]
    >>> [round(rate, 3) for rate in largest_true_positives(mechanisms, false_positives=[0.01, 0.5])]
    [0.092, 0.841]
    """
    if not all(mechanism.is_private for mechanism in mechanisms):
        return tuple(1.0 for _ in false_positives)
    return _true_positives(_sums(mechanisms), tuple(false_positives))


def least_noise(build: Callable[[float], Sequence[Mechanism]], *, epsilon: float, delta: float) -> float:
    """Return the least m for which `build(m)` costs at most `epsilon`, to 0.1 % of epsilon from below.

    Sums over everybody together are one Gaussian mechanism, whose price is known exactly (Balle and Wang 2018,
    arXiv:1805.06530, theorem 8): a price by privacy loss distribution confirms it. Of others, Renyi accounting
    (Mironov 2017), quick and never too low, gives the upper end of the bracket; the falsi rule on log(m),
    log(epsilon) then needs a handful of prices. Orders up to 1024 cannot show less than about
    log(1 / delta) / 1024, whatever the noise, so that below it the bracket is found by privacy loss distribution.

    Args:
        build: the mechanisms at noise m; their cost falls with m.
        epsilon: the target, finite.
        delta: of the promise.

    Raises:
        PrivacyError: no noise up to 1e5 is enough, because what is fixed in `build` costs too much.
    """
    exact = _exact_noise(build, epsilon=_AIM * epsilon, delta=delta)
    if exact is not None and _NEAREST * epsilon <= epsilon_pld(build(exact), delta=delta) <= epsilon:
        return exact
    low, high = _LEAST_M, _LARGEST_M
    if _renyi(build(high), delta) <= epsilon:
        while high / low > 1.01:
            middle = math.sqrt(low * high)
            low, high = (low, middle) if _renyi(build(middle), delta) <= epsilon else (middle, high)
    cost_high = epsilon_pld(build(high), delta=delta)
    if cost_high > epsilon:
        raise PrivacyError(
            f"no amount of noise reaches epsilon = {epsilon:g} at delta = {delta:g} with this plan; "
            "raise epsilon or lower rounds, local_steps or gradient_share"
        )
    low = high / 2
    cost_low = epsilon_pld(build(low), delta=delta)
    while cost_low <= epsilon and low > _LEAST_M:
        low, high, cost_high = low / 2, low, cost_low
        cost_low = epsilon_pld(build(low), delta=delta)
    for _ in range(40):
        if cost_high >= _NEAREST * epsilon or cost_low <= epsilon:
            break
        slope = math.log(cost_low / cost_high) / math.log(high / low)
        aim = high * (cost_high / (_AIM * epsilon)) ** (1 / slope)
        middle = min(max(aim, low * (high / low) ** 0.05), high * (low / high) ** 0.001)
        cost = epsilon_pld(build(middle), delta=delta)
        if cost <= epsilon:
            high, cost_high = middle, cost
        else:
            low, cost_low = middle, cost
    return low if cost_low <= epsilon else high


def _exact_noise(build: Callable[[float], Sequence[Mechanism]], *, epsilon: float, delta: float) -> float | None:
    """Return the m for which sums over everybody cost exactly `epsilon`; None where units are drawn for some."""
    if any(q < 1 for _, q, _ in _sums(build(1.0))):
        return None
    low, high = math.log(_LEAST_M), math.log(_LARGEST_M)
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        # Independent Gaussian sums tell as much as one whose signal-to-noise ratios add up in squares.
        signal = math.sqrt(sum(count / sigma**2 for sigma, _, count in _sums(build(math.exp(middle)))))
        low, high = (low, middle) if _gaussian_delta(signal, epsilon) <= delta else (middle, high)
    return math.exp(high)


def _gaussian_delta(signal: float, epsilon: float) -> float:
    """Return delta at `epsilon` of a Gaussian mechanism whose sensitivity is `signal` standard deviations."""
    from scipy.special import log_ndtr

    above, below = signal / 2 - epsilon / signal, -signal / 2 - epsilon / signal
    return math.exp(log_ndtr(above)) - math.exp(epsilon + log_ndtr(below))


def _renyi(mechanisms: Sequence[Mechanism], delta: float) -> float:
    from dp_accounting import NeighboringRelation, rdp

    # Whole orders only: dp_accounting 0.6.0 does not converge for fractional ones at small sigma.
    orders = [*range(2, 64), 80, 96, 128, 256, 512, 1024]
    accountant = rdp.RdpAccountant(orders, NeighboringRelation.ADD_OR_REMOVE_ONE)
    for sigma, q, count in _sums(mechanisms):
        accountant.compose(_event(sigma, q), count)
    return float(accountant.get_epsilon(delta))


def _event(sigma: float, q: float) -> Any:
    """Return one draw and noisy sum as an event of dp_accounting."""
    from dp_accounting import GaussianDpEvent, PoissonSampledDpEvent

    return PoissonSampledDpEvent(q, GaussianDpEvent(sigma)) if q < 1 else GaussianDpEvent(sigma)


def _sums(mechanisms: Sequence[Mechanism]) -> tuple[_Sum, ...]:
    """Merge equal sums, so that equal histories are priced once."""
    steps: dict[tuple[float, float], int] = {}
    for item in mechanisms:
        key = (item.noise_multiplier, item.sampling_probability)
        steps[key] = steps.get(key, 0) + item.steps
    return tuple(sorted((sigma, q, count) for (sigma, q), count in steps.items() if count > 0))


@lru_cache(maxsize=512)
def _pld(sums: tuple[_Sum, ...], delta: float) -> float:
    return float(_losses(sums).get_epsilon(delta)) if sums else 0.0


def _losses(sums: tuple[_Sum, ...]) -> Any:
    """Return dp_accounting's accountant, with the distribution of the privacy loss of these sums."""
    from dp_accounting import NeighboringRelation, pld

    accountant = pld.PLDAccountant(NeighboringRelation.ADD_OR_REMOVE_ONE)
    for sigma, q, count in sums:
        accountant.compose(_event(sigma, q), count)
    return accountant


@lru_cache(maxsize=64)
def _true_positives(sums: tuple[_Sum, ...], false_positives: tuple[float, ...]) -> tuple[float, ...]:
    if not sums:
        return false_positives
    import numpy as np

    epsilons = np.concatenate([np.arange(0, 15, 0.01), np.arange(15, 60, 0.25)])
    deltas = np.asarray(_losses(sums).get_delta(list(epsilons)), np.float64)
    rates = []
    for fpr in false_positives:
        few = np.exp(epsilons) * fpr + deltas
        many = 1.0 - np.exp(-epsilons) * (1.0 - deltas - fpr)
        rates.append(float(min(1.0, few.min(), many.min())))
    return tuple(rates)


@lru_cache(maxsize=512)
def _prv(sums: tuple[_Sum, ...], delta: float) -> float:
    if not sums:
        return 0.0
    from opacus.accountants import PRVAccountant

    accountant = PRVAccountant()
    accountant.history = [(sigma, q, count) for sigma, q, count in sums]
    with warnings.catch_warnings():
        # Opacus 1.6.0 takes the logarithm of zero where np.where throws the result away.
        warnings.simplefilter("ignore", RuntimeWarning)
        # Its orders end early too; they only choose how wide the distribution is taken.
        warnings.filterwarnings("ignore", "Optimal order", UserWarning)
        rough = float(accountant.get_epsilon(delta))
        return float(accountant.get_epsilon(delta, eps_error=min(0.01, max(5e-4, rough * 1e-3))))
