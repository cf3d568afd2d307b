"""Audit: from what sites answered, and from who was really there, to lower bounds on epsilon out of one run.

Canaries are units that the auditor made up, each of them in or out by an independent fair coin. `Evidence` turns
noisy sums into a score per canary, `guess` turns scores into guesses with abstention, and two bounds turn the
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

BoundMethod = Literal["any mechanism", "Gaussian mechanism"]
Floats = NDArray[np.float64]
METHODS: tuple[BoundMethod, ...] = ("any mechanism", "Gaussian mechanism")
DECIDING: BoundMethod = "Gaussian mechanism"
"""The bound that decides, fixed before anything is run; the other is printed and decides nothing."""
CONFIDENCE = 0.95
SHARES = (1.0, 0.25)
"""Which shares of the canaries are guessed at: all, and the quarter of which we are surest.

Fixed before anything is seen. A bound takes the better of them and pays for the choice (Bonferroni).
"""
_LARGEST_MU = 20.0  # nobody can audit as much: 10^4 canaries, all guessed, reach 6
_HALVINGS = 40


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

    method: BoundMethod
    epsilon: float
    ceiling: float
    guesses: Guesses


@dataclass(frozen=True)
class Finding:
    """What an audit found. `claimed` is what the plan costs at `delta`; `answers` of sites were looked at."""

    study: str
    claimed: float
    delta: float
    unit: str
    trust: str
    canaries: int
    included: int
    answers: int
    bounds: tuple[Bound, ...]

    @property
    def deciding(self) -> Bound:
        """Return the bound that decides."""
        return next(bound for bound in self.bounds if bound.method == DECIDING)

    @property
    def contradicted(self) -> bool:
        """Whether the bound that decides exceeds the claim."""
        return self.deciding.epsilon > self.claimed

    def sentence(self) -> str:
        """Say what it means, and what it does not."""
        if self.contradicted:
            return (
                f"The claim is contradicted: a pipeline that keeps it lets this bound rise above it in at most "
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
            PrivacyError: the bound that decides exceeds the claim.
        """
        if self.contradicted:
            raise PrivacyError(
                f"the audit of {self.study} contradicts its claim: epsilon is at least {self.deciding.epsilon:.3f} "
                f"({DECIDING}, {CONFIDENCE:.0%} confidence), and {self.claimed:.3f} was claimed at delta "
                f"{self.delta:g} per {self.unit}. Find the fault before anything is released"
            )

    def as_json(self) -> dict[str, Any]:
        """Return everything as plain data."""
        facts = {"confidence": CONFIDENCE, "deciding": DECIDING, "contradicted": self.contradicted}
        return {**asdict(self), **facts}


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
    """Return the bound of each method; each holds with probability `CONFIDENCE`, and one of them decides.

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
def ceiling(canaries: int, *, method: BoundMethod, delta: float) -> float:
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


_EPSILON: dict[BoundMethod, Callable[..., float]] = {
    "any mechanism": any_mechanism,
    "Gaussian mechanism": gaussian_mechanism,
}
