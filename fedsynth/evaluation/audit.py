"""Audit: from noisy sums, and from who was really there, to lower bounds on epsilon out of one training run.

Canaries are units that the auditor made up, each of them in or out by an independent fair coin. `Evidence` turns
the noisy sums into a score per canary, `guess` turns scores into guesses with abstention, and two bounds turn the
number of right guesses into an epsilon that the run contradicts. How scores come about cannot make a bound false:
it rests on the coins alone.

`any_mechanism`: Steinke, Nasr and Jagielski 2023, "Privacy auditing with one (1) training run", arXiv:2305.08846.
`gaussian_mechanism`: Mahloujifar, Melis and Chaudhuri 2024, "Auditing f-differential privacy in one run",
arXiv:2410.22235, for the trade-off functions of Gaussian differential privacy (Dong, Roth and Su 2022).
"""

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import lru_cache
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit, ndtr, ndtri
from scipy.stats import binom

from fedsynth.errors import PrivacyError

Method = Literal["any mechanism", "Gaussian mechanism"]
Floats = NDArray[np.float64]
METHODS: tuple[Method, ...] = ("any mechanism", "Gaussian mechanism")
CONFIDENCE = 0.95
SHARES = (1.0, 0.25)
"""Which shares of the canaries are guessed at: all, and the quarter of which we are surest.

Fixed before anything is seen. A bound takes the better of them and pays for the choice (Bonferroni).
"""
_LARGEST_MU = 20.0  # nobody can audit as much: 10^4 canaries, all guessed, reach 6
_HALVINGS = 40
_DOUBT = 2.0  # how wrong, relatively, what all canaries or all others add may be: clipping may be at fault


@dataclass(frozen=True)
class Guesses:
    """`made` of the `canaries` were guessed at, and `right` guesses were so."""

    canaries: int
    made: int
    right: int

    def __post_init__(self) -> None:
        """Refuse counts that no guessing leaves."""
        if not 0 <= self.right <= self.made <= self.canaries or self.made < 1:
            raise PrivacyError(
                f"no audit of {self.canaries} canaries has {self.made} guesses with {self.right} of them right"
            )


@dataclass(frozen=True)
class Bound:
    """The run contradicts every epsilon below `epsilon`; so many canaries could contradict at most `ceiling`."""

    method: Method
    epsilon: float
    ceiling: float
    guesses: Guesses


@dataclass(frozen=True)
class Finding:
    """What an audit found. `claimed` is what the plan costs at `delta`; `sums` noisy sums were looked at."""

    study: str
    claimed: float
    delta: float
    unit: str
    trust: str
    canaries: int
    included: int
    sums: int
    bounds: tuple[Bound, ...]

    @property
    def contradicted(self) -> bool:
        """Whether a bound exceeds the claim."""
        return any(bound.epsilon > self.claimed for bound in self.bounds)

    def sentence(self) -> str:
        """Say what it means, and what it does not."""
        if self.contradicted:
            return (
                f"The claim is contradicted: a pipeline that keeps it lets a bound rise above it in at most "
                f"{1 - CONFIDENCE:.0%} of audits. There is a fault in noise, clipping, sampling or accounting; "
                "release nothing."
            )
        return (
            "No fault was found. An audit finds faults and does not confirm epsilon: the bound is below the claim "
            "also where a fault is too small for so many canaries."
        )

    def check(self) -> None:
        """Refuse a claim that the audit contradicts.

        Raises:
            PrivacyError: a bound exceeds the claim.
        """
        if self.contradicted:
            highest = max(self.bounds, key=lambda bound: bound.epsilon)
            raise PrivacyError(
                f"the audit of {self.study} contradicts its claim: epsilon is at least {highest.epsilon:.3f} "
                f"({highest.method}, {CONFIDENCE:.0%} confidence), and {self.claimed:.3f} was claimed at delta "
                f"{self.delta:g} per {self.unit}. Find the fault before anything is released"
            )

    def as_json(self) -> dict[str, Any]:
        """Return everything as plain data."""
        return {**asdict(self), "confidence": CONFIDENCE, "contradicted": self.contradicted}


def guess(scores: Floats, members: NDArray[np.bool_], *, made: int) -> Guesses:
    """Guess "in" where log odds are positive and "out" where not, and count who was right.

    Args:
        scores: log odds of being in, shape (canary,).
        members: the truth, shape (canary,).
        made: how many guesses; canaries whose odds are nearest to even are left alone.

    >>> guess(np.array([0.1, 3.0, -2.0, 0.2]), np.array([True, True, False, False]), made=2)
    Guesses(canaries=4, made=2, right=2)
    """
    surest = np.argsort(-np.abs(scores), kind="stable")[:made]
    right = int(((scores[surest] > 0) == members[surest]).sum())
    return Guesses(canaries=len(scores), made=made, right=right)


def bounds(scores: Floats, members: NDArray[np.bool_], *, delta: float) -> tuple[Bound, ...]:
    """Return the bound of each method, each of which holds with probability `CONFIDENCE`.

    Args:
        scores: shape (canary,).
        members: shape (canary,); fair coins, independent of one another.
        delta: of the promise that is audited.

    Raises:
        PrivacyError: fewer than two canaries.
    """
    made = [guess(scores, members, made=count) for count in _counts(len(scores))]
    found = []
    for method in METHODS:
        each = [(_EPSILON[method](one, delta=delta, p=_p_each()), one) for one in made]
        epsilon, best = max(each, key=lambda item: item[0])
        found.append(Bound(method, epsilon, ceiling(len(scores), method=method, delta=delta), best))
    return tuple(found)


@lru_cache(maxsize=64)
def ceiling(canaries: int, *, method: Method, delta: float) -> float:
    """Return the largest bound that so many canaries can ever give: all guesses right.

    >>> round(ceiling(300, method="any mechanism", delta=1e-5), 2)
    4.38
    """
    perfect = [Guesses(canaries, made, made) for made in _counts(canaries)]
    return max(_EPSILON[method](one, delta=delta, p=_p_each()) for one in perfect)


def any_mechanism(guesses: Guesses, *, delta: float, p: float = 1 - CONFIDENCE) -> float:
    """Return the epsilon below which so many right guesses have probability less than `p`.

    With r guesses, whoever is (epsilon, delta)-private keeps the number of right ones W' below
    P[W' >= v] <= P[W >= v] + 2 m delta max_i P[v - i <= W < v] / i, for W ~ Binomial(r, 1 / (1 + e^-epsilon))
    (Steinke et al. 2023, main theorem with abstentions and their appendix on computing it).

    Args:
        guesses: what was guessed and how often rightly.
        delta: of the promise.
        p: one minus the confidence.
    """

    def contradicted(epsilon: float) -> bool:
        return _p_value(guesses, epsilon=epsilon, delta=delta) < p

    return _largest(contradicted, start=1.0, limit=100.0)


def gaussian_mechanism(guesses: Guesses, *, delta: float, p: float = 1 - CONFIDENCE) -> float:
    """Return epsilon at `delta` of the least private Gaussian mechanism that so many right guesses contradict.

    Holds for a mechanism whose trade-off function is that of one Gaussian mechanism (mu-GDP). A composition of
    subsampled Gaussian mechanisms is close to one (Dong, Roth and Su 2022, section 5), not equal.

    Args:
        guesses: as in `any_mechanism`.
        delta: at which epsilon is stated.
        p: one minus the confidence.
    """

    def contradicted(mu: float) -> bool:
        return not _possible(guesses, mu=mu, probability=p)

    return gaussian_epsilon(_largest(contradicted, start=0.5, limit=_LARGEST_MU), delta=delta)


def gaussian_epsilon(mu: float, *, delta: float) -> float:
    """Return epsilon at `delta` of a Gaussian mechanism whose noise is 1 / mu of its sensitivity.

    delta(epsilon) = Phi(-epsilon/mu + mu/2) - e^epsilon Phi(-epsilon/mu - mu/2) (Balle and Wang 2018, theorem 8).

    >>> round(gaussian_epsilon(1.0, delta=1e-5), 3)
    4.377
    """
    if mu == 0:
        return 0.0

    def too_small(epsilon: float) -> bool:
        second = math.exp(epsilon) * ndtr(-epsilon / mu - mu / 2)
        return bool(ndtr(-epsilon / mu + mu / 2) - second > delta)

    return _largest(too_small, start=1.0, limit=700.0)


def _counts(canaries: int) -> list[int]:
    if canaries < 2:
        raise PrivacyError(f"an audit with {canaries} canaries bounds nothing; take 100 or more")
    return [max(1, int(share * canaries)) for share in SHARES]


def _p_each() -> float:
    return (1 - CONFIDENCE) / len(SHARES)


def _p_value(guesses: Guesses, *, epsilon: float, delta: float) -> float:
    """Bound the probability of at least so many right guesses under (epsilon, delta)."""
    made, right = guesses.made, guesses.right
    chance = float(expit(epsilon))
    below = np.cumsum(binom.pmf(np.arange(right - 1, -1, -1), made, chance))  # P[right - i <= W < right], i = 1..
    worst = float(np.max(below / np.arange(1, right + 1), initial=0.0))
    return float(binom.sf(right - 1, made, chance)) + 2 * guesses.canaries * delta * worst


def _possible(guesses: Guesses, *, mu: float, probability: float) -> bool:
    """Whether a mu-GDP mechanism can allow so many right guesses with `probability`.

    Let p_i be the probability of exactly i right guesses of c, r_j = sum_(i >= j) i p_i / m and
    h_j = sum_(i >= j) (c - i) p_i / m. Turning one canary's coin turns a right guess about it into a wrong one,
    so r_j <= Phi(Phi^-1(h_(j-1)) + mu) for every j. All the probability is put on exactly `right`, and the least
    further mass that these inequalities ask for is added downwards (Mahloujifar et al. 2024); it fits while
    r_0 + h_0 <= c / m. Tests hold this against a linear programme over all p.
    """
    canaries, made = guesses.canaries, guesses.made
    hit = probability * guesses.right / canaries
    miss = probability * (made - guesses.right) / canaries
    for right in range(guesses.right - 1, -1, -1):
        least = max(miss, float(ndtr(ndtri(hit) - mu)))
        hit += right / (made - right) * (least - miss)
        miss = least
        if hit + miss > made / canaries:
            return False
    return True


def _largest(holds: Callable[[float], bool], *, start: float, limit: float) -> float:
    """Return the end of the stretch from 0 on which `holds`, 0 if it never does, `limit` if it always does."""
    if not holds(0.0):
        return 0.0
    low, high = 0.0, start
    while holds(high):
        if high >= limit:
            return limit
        low, high = high, min(2 * high, limit)
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        low, high = (middle, high) if holds(middle) else (low, middle)
    return low


_EPSILON: dict[Method, Callable[..., float]] = {
    "any mechanism": any_mechanism,
    "Gaussian mechanism": gaussian_mechanism,
}


class Evidence:
    """What noisy sums say about who was in, as log odds of the coins.

    A sum is read as y = X' d + others + noise, for the canaries' clipped contributions X and for d, who of them was
    drawn: a linear Gaussian model, that is least squares whitened by the noise, the drawing of the others and the
    prior of d. Where everybody is drawn, d is the coins, and all such sums are solved together. Where units are
    drawn with probability q, the odds L of having been drawn for one sum count as log(1 - q + q L).
    """

    def __init__(self, canaries: int) -> None:
        """Begin knowing nothing of `canaries` canaries."""
        self._information = np.zeros((canaries, canaries))
        self._direction = np.zeros(canaries)
        self._sampled = np.zeros(canaries)
        self.sums = 0

    def add(
        self,
        total: Floats,
        contributions: Floats,
        *,
        sampling_probability: float,
        noise_std: float,
        others: Floats,
        n_others: int,
    ) -> None:
        """Take in one noisy sum.

        The noise is believed to be as loud as claimed, or quieter by the power of two that makes the sum likeliest:
        an auditor need not believe.

        Args:
            total: the noisy sum, shape (size,).
            contributions: of each canary if it were drawn, clipped, shape (canary, size).
            sampling_probability: with which each unit is drawn.
            noise_std: as claimed, of each coordinate.
            others: clipped contributions of units that are known to be in, or of some of them, shape (some, size).
            n_others: how many such units there are.
        """
        q, n = sampling_probability, len(contributions)
        each = n_others / max(1, len(others))
        known = q * each * others.sum(axis=0)
        rest = total - q / 2 * contributions.sum(axis=0) - known
        rows = np.concatenate([contributions, known[None], others if q < 1 else others[:0]])
        values, vectors = np.linalg.eigh(rows @ rows.T)
        keep = values > 1e-10 * max(float(values[-1]), 1e-300)
        roots, vectors = np.sqrt(values[keep]), vectors[:, keep]
        inside = (vectors.T @ (rows @ rest)) / roots  # the sum in an orthonormal basis of the rows
        rows = vectors * roots
        mine, theirs = rows[:n], rows[n + 1 :]
        doubt = _DOUBT * np.stack([q / 2 * mine.sum(axis=0), rows[n]])
        background = doubt.T @ doubt + q * (1 - q) * each * theirs.T @ theirs
        outside = max(float(rest @ rest - inside @ inside), 0.0), len(rest) - len(roots)
        signal = background + _variance(q) * mine.T @ mine
        std = noise_std * _loudness(inside, signal, outside, noise_std=noise_std)
        solved = np.linalg.solve(background + std**2 * np.eye(len(roots)), np.column_stack([inside, mine.T]))
        direction, information = mine @ solved[:, 0], mine @ solved[:, 1:]
        if q == 1:
            self._direction += direction
            self._information += information
        else:
            odds = _log_odds(information, direction, probability=q / 2)
            self._sampled += np.logaddexp(math.log1p(-q), math.log(q) + odds)
        self.sums += 1

    def scores(self) -> Floats:
        """Return each canary's log odds of being in, shape (canary,)."""
        return self._sampled + _log_odds(self._information, self._direction, probability=0.5)


def _variance(sampling_probability: float) -> float:
    """Return the prior variance of a canary's having been in and drawn."""
    return sampling_probability / 2 * (1 - sampling_probability / 2)


def _log_odds(information: Floats, direction: Floats, *, probability: float) -> Floats:
    """Return log P[data | 1] / P[data | 0] of each of many zeros and ones, the others averaged out.

    Args:
        information: inverse covariance of the measurement, shape (unknown, unknown).
        direction: information times the measured unknowns, less their prior mean, shape (unknown,).
        probability: of a one, before.
    """
    prior = 1 / (probability * (1 - probability))
    precision = information + prior * np.eye(len(direction))
    covariance = np.linalg.inv((precision + precision.T) / 2)
    variance = np.diag(covariance)
    odds: Floats = covariance @ direction / variance - (1 / variance - prior) * (0.5 - probability)
    return odds


def _loudness(inside: Floats, signal: Floats, outside: tuple[float, int], *, noise_std: float) -> float:
    """Return the power of two, at most 1, by which the noise seems to be scaled (largest marginal likelihood)."""
    values, vectors = np.linalg.eigh(signal)
    squares = (vectors.T @ inside) ** 2
    energy, free = outside

    def likelihood(scale: float) -> float:
        quiet = (scale * noise_std) ** 2
        spread = np.maximum(values, 0.0) + quiet
        return -float((np.log(spread) + squares / spread).sum() + free * math.log(quiet) + energy / quiet)

    return max((2.0**-power for power in range(13)), key=likelihood)
