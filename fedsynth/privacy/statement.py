"""The privacy statement: epsilon never travels alone."""

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fedsynth.errors import PrivacyError, RunError, StatementError
from fedsynth.privacy.exclusions import exclusions
from fedsynth.privacy.lower_bound import least_epsilon
from fedsynth.privacy.making import Making
from fedsynth.privacy.mechanism import LEAST_NOISE_MULTIPLIER, Mechanism

LARGEST_EPSILON = 20.0
"""Beyond it nothing is called private: e^20 is half a billion."""
_ROUNDING = 1e-3  # accountants agree with closed forms to four digits


@dataclass(frozen=True)
class SiteStatement:
    """What one site spent per unit: epsilon at delta, by two accountants, and the ledger entry that proves it.

    `epsilon` is by privacy loss distributions; `epsilon_second` is Opacus' PRV accountant on the same events.
    Both are the larger of the two groups. `events` bound what the units that trained were ever asked, `held_out`
    what those were that this run asked only for scores: of other runs both hold every line of the ledger, whoever
    was asked, so that they tell of nobody. `ledger_head` is 64 hexadecimal digits.
    """

    site: str
    epsilon: float
    epsilon_second: float
    delta: float
    ledger_head: str
    events: tuple[Mechanism, ...]
    held_out: tuple[Mechanism, ...]

    def check(self, *, unit: str, delta: float) -> None:
        """Refuse figures that do not add up.

        Raises:
            StatementError: naming them.
        """
        if self.delta != delta:
            raise StatementError(f"a site's delta is {self.delta:g}, the statement's {delta:g}")
        if not self.events and not self.held_out:
            raise StatementError("a site spent epsilon and lists no event")
        others = {event.unit for event in (*self.events, *self.held_out)} - {unit}
        if others:
            raise StatementError(f"it promises per {unit}, and events were bounded per {', '.join(sorted(others))}")
        least = max(least_epsilon(events, delta=delta) for events in (self.events, self.held_out))
        for named, epsilon in (("epsilon", self.epsilon), ("the second accountant's epsilon", self.epsilon_second)):
            if not epsilon >= least * (1 - _ROUNDING):
                raise StatementError(
                    f"a site's {named} is {epsilon:.4g}, and its own events cost at least {least:.4g} at delta "
                    f"{delta:g}"
                )
        quietest = min(event.noise_multiplier for event in (*self.events, *self.held_out))
        if quietest < LEAST_NOISE_MULTIPLIER:
            raise StatementError(
                f"one of a site's events adds noise of {quietest:.3g} of what one {unit} may contribute, and "
                f"{LEAST_NOISE_MULTIPLIER:g} is the least that hides anybody"
            )


@dataclass(frozen=True)
class PrivacyStatement:
    """The promise of a run.

    `composes` says over what: this run only, or all that stands in the sites' ledgers. `assumes` says in one
    sentence who must behave for the promise to hold, `overlap` what becomes of a person treated at two sites,
    `made` how the windows were made and which they are. `unheard` names sites that could not be asked any more, and
    how many orders each may have been charged for that its last word does not hold.
    """

    epsilon: float
    delta: float
    unit: str
    adjacency: str
    trust: str
    accountant: str
    second_accountant: str
    composes: str
    overlap: str
    assumes: str
    made: Making
    sites: tuple[SiteStatement, ...]
    unheard: tuple[tuple[str, int], ...] = ()

    @property
    def is_private(self) -> bool:
        """Whether anything is promised."""
        return math.isfinite(self.epsilon) and all(math.isfinite(site.epsilon) for site in self.sites)

    @property
    def excludes(self) -> tuple[str, ...]:
        """What the promise is not about, in sentences that follow from the other fields."""
        return exclusions(self.made, unit=self.unit, trust=self.trust, unheard=self.unheard)

    def sentence(self) -> str:
        """Say the promise in one sentence, with the unit as prominent as epsilon."""
        if not self.is_private:
            return "No privacy is promised: this run was trained with epsilon = infinity."
        return (
            f"Any one {self.unit} changes the probability of any outcome by at most a factor of "
            f"e^{_up(self.epsilon)}, up to {self.delta:g} (epsilon = {_up(self.epsilon)} per {self.unit}, "
            f"delta = {self.delta:g}, {self.adjacency} adjacency)."
        )

    def check(self) -> None:
        """Refuse a statement whose figures do not add up; the standard library is enough.

        One unit, one delta, the largest of the sites' epsilons, and no epsilon below what the events cost at least.

        Raises:
            StatementError: naming the figures.
        """
        if not self.sites:
            raise StatementError("it names no site, so that nobody spent anything")
        if not 0 < self.delta < 1 or not self.epsilon >= 0:
            raise StatementError(f"epsilon {self.epsilon:g} at delta {self.delta:g} is no promise")
        for site in self.sites:
            site.check(unit=self.unit, delta=self.delta)
        largest = max(site.epsilon for site in self.sites)
        if self.epsilon != largest:
            raise StatementError(
                f"it promises epsilon {self.epsilon:g}, and the largest of its sites' is {largest:g}"
            )
        if self.is_private and self.epsilon > LARGEST_EPSILON:
            raise StatementError(
                f"epsilon {self.epsilon:g} is more than {LARGEST_EPSILON:g}, which nothing private is"
            )

    def to_json(self) -> str:
        """Write the statement as a release's `privacy/statement.json`; infinity becomes the word "inf"."""
        body = {
            "epsilon": _number(self.epsilon),
            "delta": self.delta,
            "unit": self.unit,
            "adjacency": self.adjacency,
            "trust": self.trust,
            "accountant": self.accountant,
            "second_accountant": self.second_accountant,
            "composes": self.composes,
            "overlap": self.overlap,
            "assumes": self.assumes,
            "excludes": list(self.excludes),
            "made": self.made.as_json(),
            "sites": [_site_json(site) for site in self.sites],
            "unheard": [{"site": site, "orders": orders} for site, orders in self.unheard],
        }
        return json.dumps(body, indent=2, allow_nan=False) + "\n"

    @classmethod
    def from_json(cls, text: str) -> "PrivacyStatement":
        """Read what `to_json` wrote.

        Raises:
            RunError: a field is missing or of the wrong kind.
            StatementError: its figures contradict one another.
        """
        try:
            raw = json.loads(text)
            statement = cls(
                epsilon=float(raw["epsilon"]),
                delta=float(raw["delta"]),
                unit=raw["unit"],
                adjacency=raw["adjacency"],
                trust=raw["trust"],
                accountant=raw["accountant"],
                second_accountant=raw["second_accountant"],
                composes=raw["composes"],
                overlap=raw["overlap"],
                assumes=raw["assumes"],
                made=_made(raw),
                sites=tuple(_site_from_json(site) for site in raw["sites"]),
                unheard=_unheard(raw),
            )
            _check_excludes(raw, statement)
        except (KeyError, TypeError, ValueError, OverflowError, PrivacyError) as error:
            raise RunError(f"the privacy statement cannot be read ({error!r})") from error
        if statement.is_private:
            statement.check()
        return statement

    @classmethod
    def load(cls, path: Path) -> "PrivacyStatement":
        """Read a statement from a file.

        Raises:
            RunError: no file, or `from_json`'s.
        """
        try:
            return cls.from_json(path.read_text(encoding="utf-8"))
        except OSError as error:
            raise RunError("the run holds no privacy statement; it did not finish") from error


@dataclass(frozen=True)
class Repriced:
    """What the events of a statement cost by accountants that are installed here, the largest site's each.

    `epsilon_second` is None where the second accountant is not installed.
    """

    epsilon: float
    epsilon_second: float | None

    def __str__(self) -> str:
        """Say it with three decimals."""
        second = "" if self.epsilon_second is None else f", and {_up(self.epsilon_second)} by the second accountant"
        return f"repriced: {_up(self.epsilon)}{second}"


def _up(value: float) -> str:
    """Write with three decimals, rounded up: a promise is never printed stronger than it is."""
    return f"{math.ceil(value * 1000) / 1000:.3f}"


def _number(value: float) -> float | str:
    return value if math.isfinite(value) else "inf"


def _unheard(raw: dict[str, Any]) -> tuple[tuple[str, int], ...]:
    found = tuple((item["site"], item["orders"]) for item in raw.get("unheard", ()))
    if any(type(site) is not str or type(orders) is not int or orders < 1 for site, orders in found):
        raise ValueError("who was not heard is not said by site and number of orders")
    return found


def _check_excludes(raw: dict[str, Any], statement: PrivacyStatement) -> None:
    if "excludes" not in raw:
        raise ValueError(
            "an earlier version wrote it, which did not say what the promise does not cover; release the run again"
        )
    if raw["excludes"] != list(statement.excludes):
        raise ValueError("what the promise does not cover is not said in the words of its facts")


def _made(raw: dict[str, Any]) -> Making:
    if "made" not in raw:
        raise ValueError(
            "an earlier version wrote it, which did not say how the windows were made nor which were scored; "
            "release the run again"
        )
    return Making.from_json(raw["made"])


def _site_json(site: SiteStatement) -> dict[str, Any]:
    return {
        "site": site.site,
        "epsilon": _number(site.epsilon),
        "epsilon_second": _number(site.epsilon_second),
        "delta": site.delta,
        "ledger_head": site.ledger_head,
        "events": [event.as_json() for event in site.events],
        "held_out_events": [event.as_json() for event in site.held_out],
    }


def _site_from_json(raw: dict[str, Any]) -> SiteStatement:
    return SiteStatement(
        site=raw["site"],
        epsilon=float(raw["epsilon"]),
        epsilon_second=float(raw["epsilon_second"]),
        delta=float(raw["delta"]),
        ledger_head=raw["ledger_head"],
        events=tuple(Mechanism.from_json(event) for event in raw["events"]),
        held_out=tuple(Mechanism.from_json(event) for event in raw["held_out_events"]),
    )
