"""The report's promise: epsilon, delta, and how often an attacker could be right about somebody."""

import math
from collections.abc import Sequence
from typing import Any

from markupsafe import Markup

from fedsynth.privacy.accountant import largest_true_positives
from fedsynth.privacy.statement import PrivacyStatement
from fedsynth.report import figures
from fedsynth.report.numbers import Numbers, factor, power, rounded_up

FALSE_POSITIVES = 0.01
_TOLD = (1e-4, 1e-3, FALSE_POSITIVES, 0.05, 0.1, 0.5)  # false-positive rates in metrics.json


def promise_of(statement: PrivacyStatement, numbers: Numbers) -> dict[str, Any]:
    """Return the promise in numbers, what they mean for an attacker, and its figure."""
    epsilon, delta = statement.epsilon, statement.delta
    if not statement.is_private:
        epsilon = math.inf
    allowed = figures.largest_tpr(FALSE_POSITIVES, epsilon=epsilon, delta=delta)
    told = dict(zip(_TOLD, _recognised(statement, _TOLD), strict=True))
    for rate, reached in told.items():
        numbers.promise(
            figures.percent(reached),
            name=f"largest true-positive rate at {100 * rate:g} % false-positive rate, these mechanisms",
            value=reached,
            about="of any attacker who asks whether a unit took part; from the privacy loss distribution",
            direction=-1,
        )
    tpr = told[FALSE_POSITIVES]
    times = math.exp(min(epsilon, 700.0)) if math.isfinite(epsilon) else math.inf
    return {
        "private": statement.is_private,
        "epsilon": numbers.promise(
            rounded_up(epsilon, 2),
            name="epsilon",
            value=epsilon,
            about=f"of the whole release, for each {statement.unit}, by {statement.accountant}",
            direction=-1,
        ),
        "delta": numbers.promise(
            power(delta), name="delta", value=delta, about="of the whole release", direction=-1
        ),
        "factor": numbers.promise(
            factor(times),
            name="e^epsilon",
            value=times,
            about="largest factor by which the probability of any outcome changes, up to delta",
            direction=-1,
        ),
        "tpr": figures.percent(tpr),
        "allowed": numbers.promise(
            figures.percent(allowed),
            name="largest true-positive rate at 1 % false-positive rate",
            value=allowed,
            about="of any attacker who asks whether a unit took part; follows from epsilon and delta",
            direction=-1,
        ),
        "loose": tpr > 0.5,
        "figure": Markup(
            figures.promise_svg(
                epsilon=epsilon,
                delta=delta,
                unit=statement.unit,
                recognised=_recognised(statement, figures.FALSE_POSITIVE_RATES),
            )
        ),
    }


def _recognised(statement: PrivacyStatement, rates: Sequence[float]) -> tuple[float, ...]:
    """Return the trade-off curve of the mechanisms: the worst site's and group's, at each rate."""
    histories = {history for site in statement.sites for history in (site.events, site.held_out)}
    curves = [largest_true_positives(history, false_positives=rates) for history in histories]
    return tuple(max(points) for points in zip(rates, *curves, strict=True))
