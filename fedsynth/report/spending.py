"""The report's tables of what every site spent, event by event."""

import math
from collections.abc import Sequence
from typing import Any

from markupsafe import Markup

from fedsynth.privacy.mechanism import Group, Mechanism, trainings
from fedsynth.privacy.statement import PrivacyStatement, SiteStatement
from fedsynth.report import figures
from fedsynth.report.numbers import Numbers, power, rounded_up

_History = tuple[tuple[Mechanism, ...], tuple[Mechanism, ...]]


def site_row(site: SiteStatement, statement: PrivacyStatement, numbers: Numbers) -> dict[str, Any]:
    """Return what one site spent, and the head of its ledger."""

    def spent(value: float, accountant: str) -> Markup:
        return numbers.promise(
            rounded_up(value, 3),
            name=f"epsilon at {site.site}, {accountant}",
            value=value,
            about=f"for each {statement.unit}, the larger of the site's two groups",
            direction=-1,
        )

    return {
        "name": site.site,
        "epsilon": spent(site.epsilon, statement.accountant),
        "second": spent(site.epsilon_second, statement.second_accountant),
        "delta": numbers.promise(
            power(site.delta), name=f"delta at {site.site}", value=site.delta, about="", direction=-1
        ),
        "head": site.ledger_head,
    }


def _by_history(sites: Sequence[SiteStatement]) -> dict[_History, list[str]]:
    """Put sites that did the same things together, so that a thousand equal sites are one table."""
    found: dict[_History, list[str]] = {}
    for site in sites:
        found.setdefault((trainings(site.events), trainings(site.held_out)), []).append(site.site)
    return found


def histories_of(sites: Sequence[SiteStatement], numbers: Numbers) -> list[dict[str, Any]]:
    """Return what was done to the units of each group, once for all sites that did the same."""
    histories = []
    for (trained, held_out), names in _by_history(sites).items():
        groups: tuple[tuple[Group, tuple[Mechanism, ...]], ...] = (("train", trained), ("held-out", held_out))
        rows = [
            {
                "title": group,
                "events": [
                    _event(event, share, where=f"event {k}, {group}, {_names(names, len(sites))}", numbers=numbers)
                    for k, (event, share) in enumerate(
                        zip(events, figures.budget_shares(events), strict=True), start=1
                    )
                ],
            }
            for group, events in groups
            if events
        ]
        histories.append({"sites": _names(names, len(sites)), "groups": rows})
    return histories


def _event(event: Mechanism, share: float, *, where: str, numbers: Numbers) -> dict[str, Any]:
    def told(shown: str, what: str, value: float) -> Markup:
        return numbers.promise(shown, name=f"{what}: {where}", value=value, about=event.purpose)

    norm = event.clipping_norm
    return {
        "purpose": event.purpose,
        "sigma": told(f"{event.noise_multiplier:.3f}", "noise multiplier", event.noise_multiplier),
        "q": told(f"{event.sampling_probability:g}", "sampling probability", event.sampling_probability),
        "steps": told(f"{event.steps:,}", "steps", event.steps),
        "norm": told(f"{norm:.4g}" if math.isfinite(norm) else "∞", "clipping norm", norm),
        "share": told(figures.percent(share), "share of the group's budget", share),
    }


def budget_groups(sites: Sequence[SiteStatement]) -> list[tuple[str, tuple[Mechanism, ...]]]:
    """Return the groups of units by name, each with what was done to it."""
    return [
        (f"{_names(names, len(sites))}: units that {'trained' if part == 0 else 'were held out'}", events)
        for history, names in _by_history(sites).items()
        for part, events in enumerate(history)
        if events
    ]


def _names(names: Sequence[str], total: int) -> str:
    if len(names) == total and total > 1:
        return f"all {total} sites"
    if len(names) <= 4:
        return ", ".join(names)
    return f"{', '.join(names[:3])} and {len(names) - 3} more"
