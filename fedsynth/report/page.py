"""The public report: from a study, its promise, its scores and synthetic windows to one page and its numbers.

Every number on the page is written through `_Numbers`, which also writes `metrics.json`; so none can be shown
without a source. The page makes no request, runs no script, and depends on nothing but its input.
"""

import json
import math
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from decimal import ROUND_CEILING, Decimal
from html import unescape
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from fedsynth.errors import PrivacyError
from fedsynth.evaluation.score import Score
from fedsynth.families.synthetic import SyntheticWindows
from fedsynth.privacy.mechanism import Group, Mechanism, trainings
from fedsynth.privacy.statement import PrivacyStatement, SiteStatement
from fedsynth.report import figures
from fedsynth.study import Study

FALSE_POSITIVES = 0.01
_PUBLIC = ("private sum", "synthetic", "public simulation")
_UNITS = ("subject", "recording", "window")
_AGREEMENT = 0.01
_A_PERSON = re.compile(
    r"\b(?:per|each)[\s-]+(?:subject|person|patient)\b|\b(?:subject|person|patient)[\s-]+level\b"
)


@dataclass(frozen=True)
class ReportPage:
    """What a reader is shown. `facts` are labelled lines of provenance; `cohort: toy` marks made-up people."""

    study: Study
    statement: PrivacyStatement
    scores: tuple[Score, ...]
    windows: SyntheticWindows
    facts: dict[str, str]


def write_report(folder: Path, page: ReportPage) -> None:
    """Write `index.html`, one file that needs no other, and `metrics.json` with every number on it.

    The same page gives the same bytes. A run without privacy is shown as one: its page says so first.

    Args:
        folder: made if it is missing; the two files are replaced.
        page: what to show.

    Raises:
        PrivacyError: a score comes from real recordings; the statement contradicts the study or its sites; or
            a text on the page speaks of people where the unit is a recording or a window.
    """
    _refuse(page)
    numbers = _Numbers()
    text = _render(page, numbers)
    metrics = json.dumps([asdict(metric) for metric in numbers.metrics], indent=2, allow_nan=False) + "\n"
    _refuse_wrong_unit(text + metrics, page.statement.unit)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "index.html").write_text(text, encoding="utf-8", newline="\n")
    (folder / "metrics.json").write_text(metrics, encoding="utf-8", newline="\n")


@dataclass(frozen=True)
class _Metric:
    """One number of the page. Infinity is the word "inf"; an end that does not exist is None."""

    name: str
    value: float | str | None
    low: float | None
    high: float | None
    direction: int
    source: str
    about: str


@dataclass
class _Numbers:
    """Collects every number while the page is written."""

    metrics: list[_Metric] = field(default_factory=list)

    def say(self, shown: str, *, name: str, value: float, source: str, about: str, direction: int = 0) -> Markup:
        """Record a number without interval and return it as HTML, `shown` to people, exact to machines."""
        self.metrics.append(_Metric(name, _plain(value), None, None, direction, source, about))
        return _data(value, shown)

    def promise(self, shown: str, *, name: str, value: float, about: str, direction: int = 0) -> Markup:
        """Record a number that follows from the mechanisms alone."""
        return self.say(shown, name=name, value=value, source="accountant", about=about, direction=direction)

    def score(self, score: Score) -> dict[str, Any]:
        """Record a score and return the row of the table."""
        low, high = (end if math.isfinite(end) else None for end in (score.low, score.high))
        self.metrics.append(
            _Metric(score.name, _plain(score.value), low, high, score.direction, score.source, score.about)
        )
        bounded = low is not None and high is not None
        return {
            "name": score.name,
            "about": score.about,
            "value": _data(score.value, _figure(score.value)),
            "low": _data(low, _figure(low)) if bounded and low is not None else "",
            "high": _data(high, _figure(high)) if bounded and high is not None else "",
            "direction": score.direction,
            "source": score.source,
        }


def _refuse(page: ReportPage) -> None:
    real = [score.name for score in page.scores if score.source not in _PUBLIC]
    if real:
        raise PrivacyError(
            f"{len(real)} of {len(page.scores)} scores would tell of real recordings ({real[0]!r} first); a public "
            "report takes charged private sums, synthetic windows and public simulations. Nothing was written"
        )
    statement = page.statement
    if statement.unit not in _UNITS or statement.unit != page.study.privacy.unit:
        raise PrivacyError(
            f"the statement promises something to each {statement.unit!r}, the study asked for "
            f"{page.study.privacy.unit!r}. Nothing was written; use the statement of this very run"
        )
    for site in statement.sites:
        if site.epsilon > statement.epsilon or site.delta > statement.delta:
            raise PrivacyError(
                f"{site.site} spent epsilon = {site.epsilon:.3f} at delta = {site.delta:g}, more than the "
                f"statement's {statement.epsilon:.3f} at {statement.delta:g}. Nothing was written"
            )


def _refuse_wrong_unit(text: str, unit: str) -> None:
    """A recording's or a window's promise must not read like a person's."""
    if unit == "subject":
        return
    visible = re.sub(r"\s+", " ", unescape(re.sub(r"<[^>]*>", " ", text))).lower()
    found = _A_PERSON.search(visible)
    if found:
        raise PrivacyError(
            f"the unit of this study is the {unit}, but a text of the report says {found[0]!r}; reword the "
            "title, score or fact it stands in. Nothing was written"
        )


def _render(page: ReportPage, numbers: _Numbers) -> str:
    environment = Environment(
        loader=PackageLoader("fedsynth.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    context: dict[str, Any] = {
        "study": page.study,
        "statement": page.statement,
        "title": page.study.title or page.study.name,
        "toy": page.facts.get("cohort") == "toy",
        "promise": _promise(page.statement, numbers),
        "release": _release(page, numbers),
        "sites": [_site(site, page.statement, numbers) for site in page.statement.sites],
        "histories": _histories(page.statement.sites, numbers),
        "budget": Markup(figures.budget_svg(_budget_groups(page.statement.sites))),
        "scores": [numbers.score(score) for score in page.scores],
        "sources": sorted({score.source for score in page.scores}),
        "forest": Markup(figures.forest_svg(page.scores, labels=len(page.study.labels.names))),
        "labels": _labels(page, numbers),
        "checks": _checks(page.statement, numbers),
        "composes": page.statement.composes.rstrip(". "),
        "overlap": page.statement.overlap.rstrip(". "),
        "facts": page.facts | {"study": page.study.name, "study digest": page.study.digest},
    }
    return environment.get_template("report.html").render(context).rstrip() + "\n"


def _promise(statement: PrivacyStatement, numbers: _Numbers) -> dict[str, Any]:
    epsilon, delta = statement.epsilon, statement.delta
    if not statement.is_private:
        epsilon = math.inf
    tpr = figures.largest_tpr(FALSE_POSITIVES, epsilon=epsilon, delta=delta)
    factor = math.exp(min(epsilon, 700.0)) if math.isfinite(epsilon) else math.inf
    return {
        "private": statement.is_private,
        "epsilon": numbers.promise(
            _ceiling(epsilon, 2),
            name="epsilon",
            value=epsilon,
            about=f"of the whole release, for each {statement.unit}, by {statement.accountant}",
            direction=-1,
        ),
        "delta": numbers.promise(
            _power(delta), name="delta", value=delta, about="of the whole release", direction=-1
        ),
        "factor": numbers.promise(
            _factor(factor),
            name="e^epsilon",
            value=factor,
            about="largest factor by which the probability of any outcome changes, up to delta",
            direction=-1,
        ),
        "tpr": numbers.promise(
            figures.percent(tpr),
            name="largest true-positive rate at 1 % false-positive rate",
            value=tpr,
            about="of any attacker who asks whether a unit took part; follows from epsilon and delta",
            direction=-1,
        ),
        "loose": tpr > 0.5,
        "figure": Markup(figures.promise_svg(epsilon=epsilon, delta=delta, unit=statement.unit)),
    }


def _release(page: ReportPage, numbers: _Numbers) -> dict[str, Any]:
    count, n_channels, n_times = page.windows.signal.shape
    seconds = n_times / page.windows.sfreq

    def drawn(shown: str, name: str, value: float) -> Markup:
        return numbers.say(shown, name=name, value=value, source="synthetic", about="shape of the release")

    return {
        "sites": numbers.promise(
            str(len(page.statement.sites)),
            name="sites",
            value=len(page.statement.sites),
            about="that spent budget on this release",
        ),
        "windows": drawn(f"{count:,}", "synthetic windows", count),
        "channels": drawn(str(n_channels), "channels", n_channels),
        "seconds": drawn(f"{seconds:.3g}", "seconds in a window", seconds),
        "sfreq": drawn(f"{page.windows.sfreq:g}", "sampling frequency in Hz", page.windows.sfreq),
    }


def _site(site: SiteStatement, statement: PrivacyStatement, numbers: _Numbers) -> dict[str, Any]:
    def spent(value: float, accountant: str) -> Markup:
        return numbers.promise(
            _ceiling(value, 3),
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
            _power(site.delta), name=f"delta at {site.site}", value=site.delta, about="", direction=-1
        ),
        "head": site.ledger_head,
    }


_History = tuple[tuple[Mechanism, ...], tuple[Mechanism, ...]]


def _by_history(sites: Sequence[SiteStatement]) -> dict[_History, list[str]]:
    """Put sites that did the same things together, so that a thousand equal sites are one table."""
    found: dict[_History, list[str]] = {}
    for site in sites:
        found.setdefault((trainings(site.events), trainings(site.held_out)), []).append(site.site)
    return found


def _histories(sites: Sequence[SiteStatement], numbers: _Numbers) -> list[dict[str, Any]]:
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


def _event(event: Mechanism, share: float, *, where: str, numbers: _Numbers) -> dict[str, Any]:
    def told(shown: str, what: str, value: float) -> Markup:
        return numbers.promise(shown, name=f"{what}: {where}", value=value, about=event.purpose)

    norm = event.clipping_norm
    return {
        "purpose": event.purpose,
        "sigma": told(f"{event.noise_multiplier:.3f}", "noise multiplier", event.noise_multiplier),
        "q": told(f"{event.sampling_probability:g}", "sampling probability", event.sampling_probability),
        "steps": told(f"{event.steps:,}", "steps", event.steps),
        "norm": told(f"{norm:g}" if math.isfinite(norm) else "∞", "clipping norm", norm),
        "share": told(figures.percent(share), "share of the group's budget", share),
    }


def _budget_groups(sites: Sequence[SiteStatement]) -> list[tuple[str, tuple[Mechanism, ...]]]:
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


def _labels(page: ReportPage, numbers: _Numbers) -> list[dict[str, Any]]:
    windows = page.windows
    highest = min(page.study.signal.bandpass[1] * 1.1, windows.sfreq / 2)
    spectra = figures.spectrum_svgs(windows, highest=highest, name="spectrum")
    rows = []
    for label, name in enumerate(windows.label_names):
        count = int(np.count_nonzero(windows.labels == label))
        rows.append(
            {
                "name": name,
                "count": numbers.say(
                    f"{count:,}",
                    name=f"synthetic windows, label {name}",
                    value=count,
                    source="synthetic",
                    about="shape of the release",
                ),
                "examples": [Markup(svg) for svg in figures.example_svgs(windows, label, name=f"example-{label}")],
                "spectrum": Markup(spectra[label]),
            }
        )
    return rows


def _checks(statement: PrivacyStatement, numbers: _Numbers) -> list[dict[str, Any]]:
    """Return what was looked at, what was taken on trust and what nobody looked at, in that order."""
    sites = [site for site in statement.sites if math.isfinite(site.epsilon) and site.epsilon > 0]
    apart = max((abs(site.epsilon_second / site.epsilon - 1) for site in sites), default=math.inf)
    agreement = numbers.promise(
        figures.percent(apart) if math.isfinite(apart) else "∞",
        name="largest difference between the two accountants, relative",
        value=apart,
        about=f"{statement.accountant} and {statement.second_accountant}, over all sites",
        direction=-1,
    )
    heads = all(re.fullmatch("[0-9a-f]{64}", site.ledger_head) for site in statement.sites)
    return [
        {"key": "headline", "status": "checked"},
        {"key": "sources", "status": "checked"},
        {"key": "accountants", "status": "checked" if apart <= _AGREEMENT else "failed", "value": agreement},
        {"key": "ledgers", "status": "checked" if heads and statement.sites else "failed"},
        {"key": "signature", "status": "yours"},
        {"key": "tuning", "status": "assumed"},
        {"key": "overlap", "status": "assumed"},
        {"key": "attacks", "status": "not checked"},
        {"key": "audit", "status": "not checked"},
        {"key": "subgroups", "status": "not checked"},
        {"key": "clinicians", "status": "not checked"},
    ]


def _data(value: float | None, shown: str) -> Markup:
    return Markup('<data value="{}">{}</data>').format(json.dumps(_plain(value)).strip('"'), shown)


def _plain(value: float | None) -> float | str | None:
    """Turn a number into what JSON can hold: infinity becomes a word, an undefined number nothing."""
    if value is None or math.isnan(value):
        return None
    return value if math.isfinite(value) else str(value)


def _figure(value: float | None) -> str:
    if value is None or not math.isfinite(value):
        return "–"
    return (f"{value:.3f}" if abs(value) < 10 else f"{value:.4g}").replace("-", "−")


def _factor(value: float) -> str:
    if not math.isfinite(value) or value >= 1e7:
        return "∞" if math.isinf(value) else f"about {_power(value)}"
    return f"{math.ceil(value):,}" if value >= 100 else _ceiling(value, 1)


def _ceiling(value: float, digits: int) -> str:
    """Round up, so that what is printed never promises more than what was computed."""
    if not math.isfinite(value):
        return "∞"
    return f"{Decimal(repr(value)).quantize(Decimal(1).scaleb(-digits), rounding=ROUND_CEILING):f}"


def _power(value: float) -> str:
    """Write a small number as a power of ten: 1e-05 is 10⁻⁵, 2.5e-06 is 2.5 × 10⁻⁶."""
    if value == 0 or not math.isfinite(value):
        return f"{value:g}"
    mantissa, exponent = f"{value:.2e}".split("e")
    raised = str(int(exponent)).translate(str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"))
    factor = mantissa.rstrip("0").rstrip(".")
    return f"10{raised}" if factor == "1" else f"{factor} × 10{raised}"
