"""Traces of a public report: from synthetic windows of one label to a few small drawings of them.

EEG is drawn as stacked channels, ECG on the grid of ECG paper: a line each 0.2 s and each 0.5 mV.
"""

from dataclasses import dataclass
from typing import assert_never

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator
from numpy.typing import NDArray

from fedsynth.report.svg import INK, svg
from fedsynth.study import Modality
from fedsynth.synthesis.windows import SyntheticWindows

MOST_CHANNELS = 8
MOST_POINTS = 512
MOST_STRIP_POINTS = 1400
EXAMPLES = 3

_GRID_SECONDS, _GRID_UV = 0.2, 500.0
_GRID = "#f0d4d4"
_MARKED = "#b3261e"


@dataclass(frozen=True)
class Paper:
    """How one kind of signal is drawn.

    `channel` is the field's word for one. `is_ruled` says that there is the grid of ECG paper. Amplitudes up to the
    percentile `reach` set the scale, and a trace is `trace_height` pixels high. `strip_leads` are those of a
    rhythm strip, taken where there are more than three channels, and `strip_seconds` is the length from which a
    window gets the whole width of the page.
    """

    channel: str
    is_ruled: bool
    reach: float
    trace_height: int
    strip_leads: tuple[str, ...]
    strip_seconds: float

    def has_strips(self, windows: SyntheticWindows) -> bool:
        """Whether examples are drawn as long strips, each as wide as the page."""
        return bool(windows.signal.shape[2] / windows.sfreq >= self.strip_seconds)

    def channels(self, names: tuple[str, ...]) -> list[int]:
        """Return which channels are shown."""
        if self.strip_leads and len(names) > len(self.strip_leads):
            known = set(self.strip_leads) <= set(names)
            return [names.index(lead) for lead in self.strip_leads] if known else [0, 1, 2]
        spaced = np.linspace(0, len(names) - 1, min(len(names), MOST_CHANNELS)).round().astype(int)
        return [int(channel) for channel in np.unique(spaced)]

    def amplitude(self, microvolts: float) -> str:
        """Write an amplitude beside its bar."""
        return f"{microvolts / 1000:g}\nmV" if self.is_ruled else f"{microvolts:g}\nµV"


_EEG_PAPER = Paper("channel", False, reach=99.5, trace_height=24, strip_leads=(), strip_seconds=np.inf)
_ECG_PAPER = Paper("lead", True, reach=99.9, trace_height=56, strip_leads=("II", "V1", "V5"), strip_seconds=3.0)


def paper_of(modality: Modality) -> Paper:
    """Return how a kind of signal is drawn."""
    match modality:
        case "eeg":
            return _EEG_PAPER
        case "ecg":
            return _ECG_PAPER
        case other:
            assert_never(other)


@dataclass(frozen=True)
class _Look:
    """How one example is drawn: `step` is the distance between two traces in microvolts."""

    names: tuple[str, ...]
    sfreq: float
    step: float
    color: str
    paper: Paper
    width: int
    most_points: int
    marked: frozenset[int] = frozenset()


def example_svgs(windows: SyntheticWindows, label: int, *, name: str, color: str, paper: Paper) -> tuple[str, ...]:
    """Draw up to three windows of one label, evenly spaced in the order drawn, all on one scale.

    At most eight channels are shown; of an ECG three leads.
    """
    mine = np.flatnonzero(windows.labels == label)
    if len(mine) == 0:
        return ()
    picked = mine[np.unique(np.linspace(0, len(mine) - 1, EXAMPLES).round().astype(int))]
    channels = paper.channels(windows.channels)
    shown = windows.signal[picked][:, channels].astype(np.float64)
    shown = shown - np.median(shown, axis=-1, keepdims=True)
    reach = max(float(np.percentile(np.abs(shown), paper.reach)), 1e-9)
    strip = paper.has_strips(windows)
    look = _Look(
        names=tuple(windows.channels[channel] for channel in channels) if len(windows.channels) > 1 else (),
        sfreq=windows.sfreq,
        step=reach * (1.7 if len(channels) > 1 else 1.5),
        color=color,
        paper=paper,
        width=740 if strip else 240,
        most_points=MOST_STRIP_POINTS if strip else MOST_POINTS,
    )
    return tuple(
        _example(
            f"{name}-{k}",
            window,
            look=look,
            title=f"Synthetic window {k + 1} of {len(picked)}, label {windows.label_names[label]}",
        )
        for k, window in enumerate(shown)
    )


def window_svg(
    name: str,
    window: NDArray[np.float32],
    *,
    channels: tuple[str, ...],
    sfreq: float,
    paper: Paper,
    title: str,
    marked: frozenset[int] = frozenset(),
) -> str:
    """Draw one window as recorded, wide and with every channel, on a scale that shows most of it.

    Args:
        name: begins the ids of the drawing.
        window: in microvolts, shape (channel, time).
        channels: their names.
        sfreq: in Hz.
        paper: how such a signal is drawn.
        title: for readers who cannot see it.
        marked: numbers of channels to be drawn in red.
    """
    shown = window.astype(np.float64)
    shown = shown - np.median(shown, axis=-1, keepdims=True)
    spans = np.percentile(np.abs(shown), paper.reach, axis=-1)
    reach = max(float(np.median(spans)), float(spans.max()) / 6, 1e-9)
    look = _Look(
        names=channels,
        sfreq=sfreq,
        step=reach * (1.7 if len(channels) > 1 else 1.5),
        color=INK,
        paper=paper,
        width=740,
        most_points=MOST_STRIP_POINTS,
        marked=marked,
    )
    return _example(name, shown, look=look, title=title)


def _example(name: str, window: NDArray[np.float64], *, look: _Look, title: str) -> str:
    """Draw one window, shape (channel, time), as stacked traces."""
    n_channels, n_times = window.shape
    seconds, step = n_times / look.sfreq, look.step
    bar = (
        (_GRID_UV if step > _GRID_UV else _nice(step * 0.6))
        if look.paper.is_ruled
        else _nice(step * _share(n_channels))
    )
    each = look.paper.trace_height
    height = round(42 + each * (n_channels + 0.6)) if n_channels > 1 else 110
    wide = look.width / 240
    gap = 1.0 + 0.2 / wide

    def draw(figure: Figure) -> None:
        left = 0.14 / wide if look.names else 0.03 / wide
        axes = figure.add_axes((left, 38 / height, 1 - 0.015 / wide - left, 1 - 42 / height))
        low, high = -(n_channels - 0.2) * step, 0.8 * step
        if look.paper.is_ruled:
            _draw_grid(axes, seconds=seconds, low=low, high=high)
        for k, trace in enumerate(window):
            times, values = thin(trace, look.sfreq, most=look.most_points)
            color = _MARKED if k in look.marked else look.color
            axes.plot(times, np.clip(values, -2.2 * step, 2.2 * step) - k * step, color=color, lw=0.9)
            if look.names:
                at = -0.012 * seconds / wide
                axes.text(at, -k * step, short(look.names[k], 5), ha="right", va="center", fontsize=10)
        axes.set(xlim=(0, seconds * gap), ylim=(low, high))
        x, y = seconds * (1 + 0.035 / wide), -(n_channels - 1) * step / 2
        axes.plot([x, x], [y - bar / 2, y + bar / 2], color=INK, lw=1.8, solid_capstyle="butt")
        axes.text(
            x + 0.018 * seconds / wide, y, look.paper.amplitude(bar), va="center", fontsize=10, linespacing=1.15
        )
        ticks = np.arange(0, seconds * (1 + 1e-9), _nice(seconds / (3 * wide)))
        axes.xaxis.set_major_locator(FixedLocator([float(tick) for tick in ticks]))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda t, _: f"{t:g} s"))
        axes.yaxis.set_major_locator(NullLocator())
        axes.spines["left"].set_visible(False)
        axes.spines["bottom"].set_bounds(0, seconds)

    kind = look.paper.channel
    return svg(
        name,
        draw,
        size=(look.width, height),
        title=title,
        description=f"{n_channels} {kind}{'s' if n_channels > 1 else ''} over {seconds:.3g} s. The vertical "
        f"bar is {bar:g} µV.",
    )


def _share(n_channels: int) -> float:
    return 0.6 if n_channels > 1 else 0.4


def _draw_grid(axes: Axes, *, seconds: float, low: float, high: float) -> None:
    """Draw the lines of ECG paper; every second, fifth or tenth amplitude where they would run together."""
    across = _GRID_UV * next(many for many in (1, 2, 5, 10, 10**6) if (high - low) / (_GRID_UV * many) <= 30)
    lines = np.arange(np.ceil(low / across), np.floor(high / across) + 1) * across
    axes.hlines(lines, 0, seconds, color=_GRID, lw=0.5, zorder=0)
    apart = _GRID_SECONDS if seconds <= 15 else 1.0
    axes.vlines(np.arange(0, seconds + 1e-9, apart), low, high, color=_GRID, lw=0.5, zorder=0)


def thin(
    trace: NDArray[np.float64], sfreq: float, *, most: int = MOST_POINTS
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Keep at most `most` samples: the smallest and largest of each stretch, so that spikes survive."""
    n_times = len(trace)
    if n_times <= most:
        return np.arange(n_times) / sfreq, trace
    kept: set[int] = set()
    for part in np.array_split(np.arange(n_times), most // 2):
        kept |= {int(part[trace[part].argmin()]), int(part[trace[part].argmax()])}
    places = np.array(sorted(kept))
    return places / sfreq, trace[places]


def _nice(value: float) -> float:
    """Return the largest 1, 2 or 5 times a power of ten that is at most `value`."""
    power = 10.0 ** np.floor(np.log10(value))
    return float(f"{max(m * power for m in (1, 2, 5) if m * power <= value * (1 + 1e-9)):g}")


def short(text: str, most: int) -> str:
    """Cut a text that is too long for its place."""
    return text if len(text) <= most else text[: most - 1] + "…"
