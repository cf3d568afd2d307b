"""The quality page: from counts, amplitudes, spectra and a few windows of a site's recordings to one page.

It is for the site's own eyes and stays there. It makes no request and runs no script.
"""

from dataclasses import dataclass, field

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator
from numpy.typing import NDArray

from fedsynth.report.figures import PALETTE
from fedsynth.report.svg import FAINT, INK, SOFT, svg
from fedsynth.report.traces import paper_of, short, window_svg
from fedsynth.study import Modality

_LINES_HZ = (50.0, 60.0)
_NAME = 12  # characters of a channel
APART_DB = 6.0
"""A channel whose power is that far from the middle of all, in any hertz, is named in the spectrum."""


@dataclass(frozen=True)
class BadRecording:
    """A recording of which windows were left out: its place in name order, counts, and a window as recorded.

    `channels` are the numbers of those with artefacts. `shown` has no samples where no picture is wanted.
    """

    place: int
    left_out: int
    placed: int
    causes: dict[str, int]
    channels: tuple[int, ...]
    rules: tuple[str, ...]
    shown: NDArray[np.float32] = field(repr=False)


@dataclass(frozen=True)
class Quality:
    """What the page shows; `amplitudes` has shape (recording, channel), `spectrum` (channel, hertz).

    `bounds_uv` are the least and largest amplitude that is plausible. `by_rule` counts windows by rule, shape
    (rule, channel), and one window may break several. `remarks` say what was put right or left out.
    """

    study: str
    modality: Modality
    channels: tuple[str, ...]
    sfreq: float
    recordings: int
    people: int
    hours: float
    windows_by_label: dict[str, int]
    people_by_label: dict[str, int]
    people_without: int
    placed: int
    remarks: dict[str, int]
    rules: tuple[str, ...]
    by_rule: NDArray[np.int64]
    amplitudes: NDArray[np.float64] = field(repr=False)
    bounds_uv: tuple[float, float]
    spectrum: NDArray[np.float64] = field(repr=False)
    worst: tuple[BadRecording, ...] = ()

    @property
    def windows(self) -> int:
        """Windows that are kept."""
        return sum(self.windows_by_label.values())

    def as_json(self) -> dict[str, object]:
        """Return the numbers as plain data."""
        percentiles = np.percentile(self.amplitudes, (5, 50, 95), axis=0) if self.recordings else np.zeros((3, 0))
        return {
            "study": self.study,
            "recordings": self.recordings,
            "people": self.people,
            "hours": round(self.hours, 3),
            "windows": self.windows,
            "windows_by_label": self.windows_by_label,
            "people_by_label": self.people_by_label,
            "people_without_windows": self.people_without,
            "windows_left_out": self.placed - self.windows,
            "remarks": self.remarks,
            "channels": [
                {
                    "name": name,
                    "amplitude_uv": [round(float(value), 2) for value in percentiles[:, index]],
                    "left_out": dict(zip(self.rules, self.by_rule[:, index].tolist(), strict=True)),
                    "power_uv2_by_hertz": [float(f"{value:.4g}") for value in self.spectrum[index]],
                }
                for index, name in enumerate(self.channels)
            ],
            "worst": [
                {"place": one.place, "left_out": one.left_out, "of": one.placed, "causes": one.causes}
                for one in self.worst
            ],
        }


def quality_page(quality: Quality) -> str:
    """Return the page; the same numbers give the same bytes."""
    environment = Environment(
        loader=PackageLoader("fedsynth.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    counts = [
        (name, [int(count) for count in quality.by_rule[:, index]])
        for index, name in enumerate(quality.channels)
        if quality.by_rule[:, index].any()
    ]
    return environment.get_template("quality.html").render(
        q=quality,
        amplitude=Markup(amplitude_svg(quality)),
        spectrum=Markup(spectrum_svg(quality)),
        counts=counts,
        totals=[int(count) for count in quality.by_rule.sum(axis=1)],
        worst=[(one, Markup(_picture(one, quality))) for one in quality.worst],
    )


def amplitude_svg(quality: Quality) -> str:
    """Draw the amplitude of every channel: a point for each recording, its median, and what is plausible."""
    names, rows = quality.channels, quality.amplitudes
    height = 70 + 19 * len(names)

    def draw(figure: Figure) -> None:
        axes = figure.add_axes((0.12, 44 / height, 0.86, 1 - 56 / height))
        for index in range(len(names)):
            at = np.full(len(rows), len(names) - 1 - index)
            axes.plot(np.clip(rows[:, index], 0.1, None), at, "|", ms=9, color=PALETTE[0], alpha=0.45)
            axes.plot(np.median(rows[:, index]), at[0], "o", ms=5.5, color=INK)
        for bound in quality.bounds_uv:
            axes.axvline(bound, color=PALETTE[1], lw=1, ls=(0, (4, 3)))
        axes.set_xscale("log")
        axes.set(xlim=(quality.bounds_uv[0] / 1.6, quality.bounds_uv[1] * 1.6), ylim=(-0.7, len(names) - 0.3))
        axes.set_xlabel("microvolts from peak to peak within a second, by recording (median over seconds)")
        axes.xaxis.set_major_locator(FixedLocator([1, 10, 100, 1000, 10_000]))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axes.xaxis.set_minor_locator(NullLocator())
        axes.yaxis.set_major_locator(FixedLocator(list(range(len(names)))))
        axes.set_yticklabels([short(name, _NAME) for name in reversed(names)])
        axes.tick_params(axis="y", length=0)

    medians = ", ".join(f"{name} {np.median(rows[:, i]):.0f}" for i, name in enumerate(names))
    return svg(
        "amplitude",
        draw,
        size=(740, height),
        title="Amplitude by channel",
        description=f"Medians in microvolts: {medians}.",
    )


def spectrum_svg(quality: Quality) -> str:
    """Draw the mean spectrum of every channel as recorded; those that stand out are named."""
    hertz = np.arange(quality.spectrum.shape[1]) + 0.5
    decibels = 10 * np.log10(np.maximum(quality.spectrum, 1e-6))
    middle = np.median(decibels, axis=0)
    apart = np.abs(decibels - middle)[:, 1:].max(axis=1)
    named = [int(index) for index in np.argsort(-apart, kind="stable")[:4] if apart[index] > APART_DB]
    if len(quality.channels) <= len(PALETTE):
        named = list(range(len(quality.channels)))

    def draw(figure: Figure) -> None:
        axes = figure.add_axes((0.08, 0.17, 0.76, 0.79))
        for index, row in enumerate(decibels):
            if index not in named:
                axes.plot(hertz[1:], row[1:], color=SOFT, lw=0.8, alpha=0.55)
        for order, index in enumerate(named):
            color = PALETTE[order % len(PALETTE)]
            axes.plot(hertz[1:], decibels[index][1:], color=color, lw=1.6)
            place = 1 - 0.085 * order
            axes.text(
                1.02, place, short(quality.channels[index], _NAME), color=color, va="top", transform=axes.transAxes
            )
        if named and len(named) < len(quality.channels):
            axes.text(1.02, 1 - 0.085 * len(named), "the others", color=SOFT, va="top", transform=axes.transAxes)
        for line in _LINES_HZ:
            if line < hertz[-1]:
                axes.axvline(line, color=FAINT, lw=1, ls=(0, (2, 3)), zorder=0)
                axes.text(line, 1.0, f"{line:g} Hz", color=SOFT, fontsize=9.5, transform=axes.get_xaxis_transform())
        axes.set(xlim=(0, hertz[-1] + 0.5))
        axes.set_xlabel("Hz")
        axes.set_ylabel("power, dB of 1 µV² in each Hz")

    return svg(
        "spectrum",
        draw,
        size=(740, 320),
        title="Spectrum by channel",
        description="The mean power of every channel as recorded, before any filter.",
    )


def _picture(one: BadRecording, quality: Quality) -> str:
    if not one.shown.size:
        return ""
    return window_svg(
        f"worst-{one.place}",
        one.shown,
        channels=quality.channels,
        sfreq=quality.sfreq,
        paper=paper_of(quality.modality),
        title=f"A window of recording {one.place} as recorded: {', '.join(one.rules)}",
        marked=frozenset(one.channels),
    )
