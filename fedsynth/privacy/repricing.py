"""Repricing: from a statement's events to what they cost by the accountants that are installed here.

Closed forms (`fedsynth.privacy.lower_bound`) refuse what cannot be true. This adds everything up, with the
accountant, the grid and the adjacency that the plan was priced with, so that the same events give the same
number.
Nothing that verifies a release imports it: whoever calls `verify_release` hands it in, where there is one.
"""

import importlib.util
import math
from collections.abc import Callable, Iterable, Sequence

from fedsynth.errors import StatementError
from fedsynth.privacy.accountant import PLD, PRV, epsilon_pld, epsilon_prv
from fedsynth.privacy.mechanism import LEAST_NOISE_MULTIPLIER, Mechanism
from fedsynth.privacy.statement import PrivacyStatement, Repriced, SiteStatement

RELATIVE_TOLERANCE = 1e-3
"""Of epsilon. The same code gives the same number; this leaves room for another version of an accountant's
library, which may round or cut its tails elsewhere, and is no more than a plan leaves unspent of its target."""
ABSOLUTE_TOLERANCE = {PLD: 1e-4, PRV: 1e-3}
"""One interval of dp_accounting's grid; twice the least error that Opacus is asked for. They decide at epsilon
.01, where the two accountants differ by 5 % from each other: each is compared with itself alone."""
_MOST_KINDS = 256  # different sums of one site; each takes its own convolution
_MOST_LOSS = 1000.0  # mean privacy loss; epsilon 20 leaves far less, and a grid that holds more fills the memory
_ACCOUNTANTS = {PLD: ("dp_accounting", "numpy", "scipy"), PRV: ("opacus", "torch")}

Pricer = Callable[[Sequence[Mechanism]], float]


def installed() -> Callable[[PrivacyStatement], Repriced] | None:
    """Return `reprice`, or None where not even the first accountant is installed; nothing heavy is imported."""
    return reprice if _is_installed(PLD) else None


def reprice(statement: PrivacyStatement) -> Repriced:
    """Price every site's events again.

    Args:
        statement: whose `check` passed.

    Raises:
        StatementError: a site's epsilon is below what its events cost, beyond the tolerance, or they are more than
            an accountant can be asked for.
    """
    for site in statement.sites:
        for group in (site.events, site.held_out):
            _check_size(group)
    first = _held(statement, PLD, lambda site: site.epsilon)
    second = _held(statement, PRV, lambda site: site.epsilon_second) if _is_installed(PRV) else None
    return Repriced(first, second)


def _held(statement: PrivacyStatement, accountant: str, said: Callable[[SiteStatement], float]) -> float:
    """Return the largest site's price by one accountant, after holding each site's word against it."""
    largest = 0.0
    for site in statement.sites:
        price = max(_price(group, accountant, delta=statement.delta) for group in (site.events, site.held_out))
        if said(site) < price - RELATIVE_TOLERANCE * price - ABSOLUTE_TOLERANCE[accountant]:
            raise StatementError(
                f"a site's epsilon is {said(site):.4g} by {accountant}, and its own events cost {price:.4g} at "
                f"delta {statement.delta:g} by the same accountant"
            )
        largest = max(largest, price)
    return largest


def _price(events: Sequence[Mechanism], accountant: str, *, delta: float) -> float:
    price = epsilon_pld if accountant == PLD else epsilon_prv
    return price(events, delta=delta) if events else 0.0


def _check_size(events: Iterable[Mechanism]) -> None:
    """Refuse events that no plan within epsilon 20 holds, and that would keep an accountant busy for ever."""
    events = tuple(events)
    kinds = {(event.noise_multiplier, event.sampling_probability) for event in events}
    loss = sum(event.steps * _mean_loss(event) for event in events)
    if len(kinds) > _MOST_KINDS or not loss <= _MOST_LOSS:
        raise StatementError(
            f"a site's events are {len(kinds)} different sums with a mean privacy loss of up to {loss:.3g}; an "
            f"accountant is asked for at most {_MOST_KINDS} sums, and nothing private loses {_MOST_LOSS:g}"
        )


def _mean_loss(event: Mechanism) -> float:
    """Bound the mean loss of one step: by convexity, and by the chi-squared divergence."""
    if event.noise_multiplier < LEAST_NOISE_MULTIPLIER:
        return math.inf
    q, square = event.sampling_probability, event.noise_multiplier**-2
    return min(q * square / 2, q * q * math.expm1(square))


def _is_installed(accountant: str) -> bool:
    try:
        return all(importlib.util.find_spec(name) is not None for name in _ACCOUNTANTS[accountant])
    except ImportError:
        return False
