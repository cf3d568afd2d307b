"""Numbers of a report: every one is written for people and for machines at once, with its source."""

import json
import math
from dataclasses import dataclass, field
from decimal import ROUND_CEILING, Decimal
from typing import Any

from markupsafe import Markup

from fedsynth.evaluation.evidence import says_nothing
from fedsynth.evaluation.score import Metric, Score


@dataclass
class Numbers:
    """Collects every number while the page is written.

    `windows` is the SHA-256 of the archive that numbers from synthetic windows are about; `labels` is how many
    labels the study has.
    """

    windows: str = ""
    labels: int = 2
    metrics: list[Metric] = field(default_factory=list)

    def say(self, shown: str, *, name: str, value: float, source: str, about: str, direction: int = 0) -> Markup:
        """Record a number without interval and return it as HTML, `shown` to people, exact to machines."""
        windows = self.windows if source == "synthetic" else ""
        self.metrics.append(Metric(name, _plain(value), None, None, direction, source, about, windows))
        return _data(value, shown)

    def promise(self, shown: str, *, name: str, value: float, about: str, direction: int = 0) -> Markup:
        """Record a number that follows from the mechanisms alone."""
        return self.say(shown, name=name, value=value, source="accountant", about=about, direction=direction)

    def score(self, score: Score) -> dict[str, Any]:
        """Record a score and return the row of the table."""
        low, high = (end if math.isfinite(end) else None for end in (score.low, score.high))
        self.metrics.append(
            Metric(
                score.name,
                _plain(score.value),
                low,
                high,
                score.direction,
                score.source,
                score.about,
                score.windows,
                says_nothing(score, labels=self.labels),
            )
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
            "of_release": bool(score.windows),
            "says_nothing": says_nothing(score, labels=self.labels),
        }


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


def factor(value: float) -> str:
    if not math.isfinite(value) or value >= 1e7:
        return "∞" if math.isinf(value) else f"about {power(value)}"
    return f"{math.ceil(value):,}" if value >= 100 else rounded_up(value, 1)


def rounded_up(value: float, digits: int) -> str:
    """Round up, so that what is printed never promises more than what was computed."""
    if not math.isfinite(value):
        return "∞"
    return f"{Decimal(repr(value)).quantize(Decimal(1).scaleb(-digits), rounding=ROUND_CEILING):f}"


def power(value: float) -> str:
    """Write a small number as a power of ten: 1e-05 is 10⁻⁵, 2.5e-06 is 2.5 × 10⁻⁶."""
    if value == 0 or not math.isfinite(value):
        return f"{value:g}"
    mantissa, exponent = f"{value:.2e}".split("e")
    raised = str(int(exponent)).translate(str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"))
    factor = mantissa.rstrip("0").rstrip(".")
    return f"10{raised}" if factor == "1" else f"{factor} × 10{raised}"
