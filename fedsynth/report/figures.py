"""Figures of the public report: from synthetic windows, scores and charges to small static SVG.

Every figure is one `<svg>` element ready to stand in a page: no script, no reference outside itself, a title and
a description for readers who cannot see it, and the same bytes for the same input. Text stays text, so that a
page's own font is used.
"""

import math
import textwrap
from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator
from numpy.typing import NDArray

from fedsynth.evaluation.evidence import chance_level, says_nothing
from fedsynth.evaluation.score import Score
from fedsynth.privacy.mechanism import Mechanism
from fedsynth.report.svg import FAINT, SOFT, svg
from fedsynth.report.traces import short
from fedsynth.synthesis.windows import SyntheticWindows

# Okabe and Ito's palette (2008), readable with any colour vision; yellow is left out, too pale for a line.
PALETTE = ("#0072b2", "#d55e00", "#00835f", "#a6588a", "#9a6a00", "#3b8bc0")

MOST_SPECTRA = 200
MOST_SAMPLES = 4_000_000


def largest_tpr(fpr: float, *, epsilon: float, delta: float) -> float:
    """Return the largest true-positive rate of any test for one unit's presence, at a false-positive rate.

    Both inequalities of (epsilon, delta) hypothesis testing (Kairouz, Oh and Viswanath 2015, theorem 2.1):
    TPR <= e^epsilon FPR + delta, and 1 - FPR <= e^epsilon (1 - TPR) + delta.

    >>> round(largest_tpr(0.01, epsilon=1.0, delta=0.0), 3)
    0.027
    """
    if math.isinf(epsilon):
        return 1.0
    few = math.exp(min(epsilon, 700.0)) * fpr + delta
    many = 1.0 - math.exp(-epsilon) * (1.0 - delta - fpr)
    return float(min(1.0, few, many))


def budget_shares(events: Sequence[Mechanism]) -> tuple[float, ...]:
    """Return how much of what one group of units gave went to each event; sums to 1.

    Epsilon does not add up, so the share is that of the squared Gaussian-DP parameter, which does: T / sigma^2
    for T sums over the whole group, q^2 T (exp(1 / sigma^2) - 1) for T sampled sums (Bu et al. 2020,
    doi:10.1162/99608f92.cfc5dd25, theorem 5). Events without noise share everything among themselves.

    >>> budget_shares([Mechanism("a", 2.0, 1.0, 1, 1.0), Mechanism("b", 2.0, 1.0, 3, 1.0)])
    (0.25, 0.75)
    """
    if any(not event.is_private for event in events):
        spent = [0.0 if event.is_private else 1.0 for event in events]
    else:
        spent = [_squared_mu(event) for event in events]
    total = sum(spent)
    return tuple(part / total if total else 0.0 for part in spent)


FALSE_POSITIVE_RATES = tuple(float(rate) for rate in np.logspace(-4, 0, 121))
"""Where the curves of `promise_svg` stand."""


def promise_svg(
    *, epsilon: float, delta: float, unit: str, recognised: Sequence[float], name: str = "promise"
) -> str:
    """Draw which attackers are ruled out: true-positive rate over false-positive rate.

    Args:
        epsilon: of the promise.
        delta: of the promise.
        unit: whose presence is asked for.
        recognised: what the best attacker on the very mechanisms reaches, at each of `FALSE_POSITIVE_RATES`.
        name: of the figure, for its ids.
    """
    fpr = np.array(FALSE_POSITIVE_RATES)
    reached = np.array(recognised)
    at_one = float(np.interp(0.01, fpr, reached))

    def draw(figure: Figure) -> None:
        axes = figure.add_axes((0.15, 0.16, 0.80, 0.80))
        bound = [largest_tpr(x, epsilon=epsilon, delta=delta) for x in fpr]
        axes.fill_between(fpr, fpr, reached, color=PALETTE[0], alpha=0.16, linewidth=0)
        for other in (1.0, 2.0, 4.0, 8.0):
            if not 0 < epsilon < math.inf or abs(math.log(other / epsilon)) > 0.25:
                axes.plot(fpr, [largest_tpr(x, epsilon=other, delta=delta) for x in fpr], color="#94a3b1", lw=1)
                at = min(0.5, 0.62 / math.exp(other))
                # Beside the dashed line at 1 %, not across it.
                at = 0.009 if 0.009 < at < 0.018 else at
                axes.text(at, 0.64, f"ε {other:g}", color=SOFT, fontsize=10, ha="right")
        axes.plot(fpr, fpr, color=SOFT, lw=1, dashes=(4, 3))
        axes.plot(fpr, bound, color=PALETTE[0], lw=1.2, dashes=(5, 2))
        axes.plot(fpr, reached, color=PALETTE[0], lw=2.4)
        top = at_one
        axes.plot([0.01, 0.01], [0, top], color=PALETTE[1], lw=1.2, dashes=(2, 2))
        axes.plot([0.01], [top], "o", color=PALETTE[1], ms=7, clip_on=False, zorder=5)
        low = top < 0.75
        axes.text(
            0.0085 if low else 0.0112,
            top + 0.07 if low else top - 0.085,
            f"at most {percent(top)}",
            weight="bold",
            ha="right" if low else "left",
            bbox={"facecolor": "white", "edgecolor": "none", "pad": 1.5} if low else None,
        )
        axes.text(0.16, 0.06, "blind guess", color=SOFT, fontsize=10)
        axes.set(xscale="log", xlim=(1e-4, 1), ylim=(0, 1.0))
        axes.set_xlabel(f"{unit}s that took no part, named wrongly")
        axes.set_ylabel(f"{unit}s that took part, recognised")
        axes.xaxis.set_major_locator(FixedLocator([1e-4, 1e-3, 1e-2, 1e-1, 1]))
        axes.xaxis.set_minor_locator(NullLocator())
        axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{100 * x:g} %"))
        axes.yaxis.set_major_formatter(FuncFormatter(lambda y, _: f"{100 * y:g} %"))

    return svg(
        name,
        draw,
        size=(400, 310),
        title="What the mechanisms leave to an attacker",
        description=f"Trade-off curve: the largest share of {unit}s that took part and that any attacker can "
        f"recognise, against the share of other {unit}s named wrongly. At 1 % named wrongly the curve of these "
        f"mechanisms stands at {percent(at_one)}; epsilon and delta alone would allow "
        f"{percent(largest_tpr(0.01, epsilon=epsilon, delta=delta))}. The dashed line below is a blind guess.",
    )


def forest_svg(scores: Sequence[Score], *, labels: int, name: str = "forest") -> str:
    """Draw each score whose chance level is known, with its 95 % interval; an empty string if there is none.

    A score that says nothing is left out.
    """
    rows = [(score, chance_level(score, labels=labels)) for score in scores]
    shown = [(s, chance) for s, chance in rows if chance is not None and not says_nothing(s, labels=labels)]
    if not shown:
        return ""
    names = [textwrap.wrap(score.name, 58) for score, _ in shown]
    heights = [16 * len(lines) + 30 for lines in names]
    height = sum(heights) + 44
    ends = [end for score, _ in shown for end in (score.low, score.high, score.value) if math.isfinite(end)]

    def draw(figure: Figure) -> None:
        axes = figure.add_axes((0.015, 40 / height, 0.97, 1 - 44 / height))
        left, right = min(0.0, *ends), max(1.0, *ends)
        axes.set(xlim=(left, right), ylim=(sum(heights), 0))
        top = 0.0
        for (score, chance), lines, high in zip(shown, names, heights, strict=True):
            for k, line in enumerate(lines):
                axes.text(left, top + 12 + 16 * k, line, va="baseline", fontsize=12)
            y = top + high - 19
            axes.plot([0, 1], [y, y], color="#eef1f4", lw=9, solid_capstyle="round", zorder=0)
            if math.isfinite(score.low) and math.isfinite(score.high):
                axes.plot([score.low, score.high], [y, y], color=PALETTE[0], lw=3, solid_capstyle="round")
            axes.plot([score.value], [y], "o", color=PALETTE[0], ms=8, mec="white", mew=1.5, clip_on=False)
            axes.plot([chance, chance], [y - 9, y + 9], color=PALETTE[1], lw=1.6, dashes=(2, 1.2))
            top += high
        axes.spines["left"].set_visible(False)
        axes.yaxis.set_major_locator(NullLocator())
        axes.xaxis.set_major_locator(FixedLocator([0, 0.25, 0.5, 0.75, 1]))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:g}"))
        axes.set_xlabel("score (dot), 95 % interval (line), chance (dashed)")

    said = "; ".join(
        f"{score.name}: {score.value:.3f}, {score.low:.3f} to {score.high:.3f}, chance {chance:.2f}"
        for score, chance in shown
    )
    return svg(
        name, draw, size=(440, height), title="Scores with 95 % intervals and chance", description=f"{said}."
    )


def budget_svg(groups: Sequence[tuple[str, Sequence[Mechanism]]], *, name: str = "budget", most: int = 8) -> str:
    """Draw how the events of each titled group share what its units gave; at most `most` groups."""
    rows: list[tuple[str, float | None]] = []
    for title, events in groups[:most]:
        rows.append((title, None))
        shares = budget_shares(events)
        rows += [(event.purpose, share) for event, share in zip(events, shares, strict=True)][:16]
    heights = [34 if share is None else 36 for _, share in rows]
    height = max(sum(heights) + 10, 60)

    def draw(figure: Figure) -> None:
        axes = figure.add_axes((0.0, 0.0, 1.0, 1.0))
        axes.set(xlim=(0, 440), ylim=(height, 0))
        axes.set_axis_off()
        top = 0.0
        for (text, share), high in zip(rows, heights, strict=True):
            if share is None:
                axes.text(0, top + 22, short(text, 62), weight="bold", va="baseline")
            else:
                axes.text(0, top + 13, short(text, 58), va="baseline", fontsize=11.5)
                axes.barh(top + 24, 380, height=9, left=0, color="#eef1f4")
                axes.barh(top + 24, 380 * share, height=9, left=0, color=PALETTE[0])
                axes.text(439, top + 28, percent(share), va="baseline", ha="right")
            top += high

    said = "; ".join(title if share is None else f"{title} {percent(share)}" for title, share in rows)
    return svg(name, draw, size=(440, height), title="Where the budget went, by purpose", description=f"{said}.")


def spectrum_svgs(windows: SyntheticWindows, *, lowest: float, highest: float, name: str) -> tuple[str, ...]:
    """Draw one spectrum panel a label, on shared axes, from `lowest` to `highest` Hz.

    Welch's method on windows of at most 2 s, averaged over channels; the ribbon holds the middle 80 % of at most
    200 windows of the label, fewer where windows are huge; medians of the other labels are grey. A label without
    windows has an empty string.
    """
    spectra = [_spectra(windows, label) for label in range(len(windows.label_names))]
    known = [found for found in spectra if found is not None]
    if not known:
        return tuple("" for _ in spectra)
    highest = min(highest, windows.sfreq / 2)
    # No bin lies below one over the stretch's length.
    lowest = max(lowest, float(known[0][0][1]))
    inside = [quantiles[:, (freqs >= lowest) & (freqs <= highest)] for freqs, quantiles in known]
    low = math.floor(math.log10(max(min(float(part.min()) for part in inside), 1e-9)))
    high = math.ceil(math.log10(max(max(float(part.max()) for part in inside), 1e-8)))
    limits = (10.0**low, 10.0 ** max(high, low + 1))
    return tuple(
        ""
        if mine is None
        else _spectrum(
            f"{name}-{label}",
            mine,
            others=[found for k, found in enumerate(spectra) if found is not None and k != label],
            limits=limits,
            lowest=lowest,
            highest=highest,
            color=PALETTE[label % len(PALETTE)],
            title=f"Spectrum of synthetic windows, label {windows.label_names[label]}",
        )
        for label, mine in enumerate(spectra)
    )


def percent(share: float) -> str:
    """Write a share in percent, with more digits near the ends so that nothing looks certain that is not.

    >>> percent(0.5459), percent(0.99967), percent(0.9999996)
    ('54.6 %', '99.97 %', '> 99.99 %')
    """
    if share in (0.0, 1.0):
        return f"{100 * share:g} %"
    if share >= 0.99995:
        return "> 99.99 %"
    if share < 0.0005:
        return "< 0.1 %"
    return f"{100 * share:.2f} %" if share >= 0.9995 else f"{100 * share:.1f} %"


def _squared_mu(event: Mechanism) -> float:
    if event.sampling_probability >= 1:
        return event.steps / event.noise_multiplier**2
    growth = math.expm1(min(1 / event.noise_multiplier**2, 600.0))
    return event.steps * event.sampling_probability**2 * growth


_Spectra = tuple[NDArray[np.float64], NDArray[np.float64]]


def _spectra(windows: SyntheticWindows, label: int) -> _Spectra | None:
    """Return frequencies in Hz and the 10, 50 and 90 % quantiles of power in µV²/Hz, shape (3, frequency)."""
    from scipy.signal import welch  # takes half a second to load

    mine = np.flatnonzero(windows.labels == label)
    if len(mine) == 0:
        return None
    per_window = windows.signal.shape[1] * windows.signal.shape[2]
    count = min(MOST_SPECTRA, max(MOST_SAMPLES // per_window, 25))
    picked = mine[np.unique(np.linspace(0, len(mine) - 1, count).round().astype(int))]
    signal = windows.signal[picked].astype(np.float64)
    length = min(signal.shape[-1], round(2 * windows.sfreq))
    freqs, power = welch(signal, fs=windows.sfreq, nperseg=length, axis=-1)
    quantiles = np.quantile(power.mean(axis=1), [0.1, 0.5, 0.9], axis=0)
    return np.asarray(freqs, np.float64), np.maximum(np.asarray(quantiles, np.float64), 1e-9)


def _spectrum(
    name: str,
    mine: _Spectra,
    *,
    others: Sequence[_Spectra],
    limits: tuple[float, float],
    lowest: float,
    highest: float,
    color: str,
    title: str,
) -> str:
    freqs, (low, median, high) = mine

    def draw(figure: Figure) -> None:
        axes = figure.add_axes((0.19, 0.2, 0.78, 0.77))
        for other_freqs, other in others:
            axes.plot(other_freqs, other[1], color=FAINT, lw=1)
        axes.fill_between(freqs, low, high, color=color, alpha=0.2, linewidth=0)
        axes.plot(freqs, median, color=color, lw=1.8)
        axes.set(yscale="log", xlim=(lowest, highest), ylim=limits)
        axes.set_xlabel("Hz", labelpad=1)
        axes.set_ylabel("µV²/Hz", labelpad=2)
        axes.yaxis.set_minor_locator(NullLocator())
        _decades(axes, limits)

    return svg(
        name,
        draw,
        size=(240, 190),
        title=title,
        description="Median power spectral density with the middle 80 % of windows as a ribbon; the medians of "
        "the other labels in grey.",
    )


def _decades(axes: Axes, limits: tuple[float, float]) -> None:
    first, last = (round(math.log10(limit)) for limit in limits)
    stride = max(1, math.ceil((last - first) / 5))
    powers = range(first, last + 1, stride)
    axes.yaxis.set_major_locator(FixedLocator([10.0**power for power in powers]))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda y, _: f"{y:g}"))
