"""What a list of private sums costs at least: the standard library's word against a statement that says less.

An accountant says how much is enough. This says how little cannot be true, by closed forms alone, so that whoever
reads a release can hold its epsilon against its own events with nothing installed.
"""

import math
from collections.abc import Callable, Sequence
from functools import partial

from fedsynth.privacy.mechanism import Mechanism

_LARGEST = 1e4
_ROUNDS = 80
_EXP_FITS = 700.0  # of a float's exponential
_LARGEST_MU = 1e6  # sensitivity in standard deviations of the noise; above it nothing is lower for being cut off


def least_epsilon(mechanisms: Sequence[Mechanism], *, delta: float) -> float:
    """Return an epsilon below which the sums do not fit at `delta`; infinite without noise.

    Sums over everybody compose to one Gaussian mechanism, whose curve is exact (Balle and Wang 2018, theorem 8). Of
    sampled sums each single step is exact (Balle, Barthe and Gaboardi 2018, theorem 2). What is left out only adds,
    so the larger of the two is a lower bound.

    >>> round(least_epsilon([Mechanism("sum", 1.0, 1.0, 1, 1.0)], delta=1e-5), 2)
    4.38
    """
    if not all(mechanism.is_private for mechanism in mechanisms):
        return math.inf
    mus = [min(1 / item.noise_multiplier, _LARGEST_MU) for item in mechanisms]
    pairs = list(zip(mechanisms, mus, strict=True))
    whole = sum(float(item.steps) * mu * mu for item, mu in pairs if item.sampling_probability == 1)
    sampled = {(mu, item.sampling_probability) for item, mu in pairs}
    curves = [partial(_sampled_delta, mu, q) for mu, q in sampled if q < 1]
    if whole:
        curves.append(partial(gaussian_delta, math.sqrt(whole)))
    return max((_solve(curve, delta) for curve in curves), default=0.0)


def gaussian_delta(mu: float, epsilon: float) -> float:
    """Return delta of a Gaussian mechanism of sensitivity `mu` standard deviations (Balle and Wang 2018).

    >>> round(gaussian_delta(1.0, 0.0), 4)  # the total variation distance: 2 Phi(1/2) - 1
    0.3829
    """
    above = _normal(mu / 2 - epsilon / mu)
    below = _normal(-mu / 2 - epsilon / mu)
    return above - math.exp(epsilon) * below if below > 0 else above


def _sampled_delta(mu: float, q: float, epsilon: float) -> float:
    """Return delta of one Poisson-sampled step, where a unit is removed (Balle et al. 2018, theorem 2)."""
    inner = math.log1p(math.expm1(epsilon) / q) if epsilon < _EXP_FITS else epsilon - math.log(q)
    return q * gaussian_delta(mu, inner)


def _solve(delta_of: Callable[[float], float], delta: float) -> float:
    """Return the epsilon at which a falling curve meets `delta`, from below."""
    if delta_of(0.0) <= delta:
        return 0.0
    low, high = 0.0, 1.0
    while delta_of(high) > delta and high < _LARGEST:
        low, high = high, 2 * high
    for _ in range(_ROUNDS):
        middle = (low + high) / 2
        low, high = (middle, high) if delta_of(middle) > delta else (low, middle)
    return low


def _normal(z: float) -> float:
    return 0.5 * math.erfc(-z / math.sqrt(2))
