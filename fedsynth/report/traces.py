"""Traces of a public report: from synthetic windows of one label to a few small drawings of them.

EEG is drawn as stacked channels, ECG on the grid of ECG paper: a line each 0.2 s and each 0.5 mV.
"""

from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator
from numpy.typing import NDArray

from fedsynth.families.synthetic import SyntheticWindows
from fedsynth.report.svg import INK, svg

MOST_CHANNELS = 8
MOST_POINTS = 512
MOST_STRIP_POINTS = 1400
EXAMPLES = 3

_STRIP_SECONDS = 3.0  # an ECG window of at least so many gets the whole width of the page
_LEADS = ("II", "V1", "V5")  # the leads of a rhythm strip, where there are more than three
_GRID_SECONDS, _GRID_UV = 0.2, 500.0
_GRID = "#f0d4d4"


@dataclass(frozen=True)
class _Look:
    """How one example is drawn: `step` is the distance between two traces in microvolts."""

    names: tuple[str, ...]
    sfreq: float
    step: float
    color: str
    ecg: bool
    width: int
    most_points: int


def example_svgs(
    windows: SyntheticWindows, label: int, *, name: str, color: str, ecg: bool = False
) -> tuple[str, ...]:
    """Draw up to three windows of one label, evenly spaced in the order drawn, all on one scale.

    At most eight channels are shown; of an ECG three leads.
    """
    mine = np.flatnonzero(windows.labels == label)
    if len(mine) == 0:
        return ()
    picked = mine[np.unique(np.linspace(0, len(mine) - 1, EXAMPLES).round().astype(int))]
    channels = _channels(windows.channels, ecg=ecg)
    shown = windows.signal[picked][:, channels].astype(np.float64)
    shown = shown - np.median(shown, axis=-1, keepdims=True)
    reach = max(float(np.percentile(np.abs(shown), 99.9 if ecg else 99.5)), 1e-9)
    strip = is_strip(windows, ecg=ecg)
    look = _Look(
        names=tuple(windows.channels[channel] for channel in channels) if len(windows.channels) > 1 else (),
        sfreq=windows.sfreq,
        step=reach * (1.7 if len(channels) > 1 else 1.5),
        color=color,
        ecg=ecg,
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


def is_strip(windows: SyntheticWindows, *, ecg: bool) -> bool:
    """Whether examples are drawn as long strips, each as wide as the page."""
    return ecg and windows.signal.shape[2] / windows.sfreq >= _STRIP_SECONDS


def _channels(names: tuple[str, ...], *, ecg: bool) -> list[int]:
    if ecg and len(names) > len(_LEADS):
        return [names.index(lead) for lead in _LEADS] if set(_LEADS) <= set(names) else [0, 1, 2]
    spaced = np.linspace(0, len(names) - 1, min(len(names), MOST_CHANNELS)).round().astype(int)
    return [int(channel) for channel in np.unique(spaced)]


def _example(name: str, window: NDArray[np.float64], *, look: _Look, title: str) -> str:
    """Draw one window, shape (channel, time), as stacked traces."""
    n_channels, n_times = window.shape
    seconds, step = n_times / look.sfreq, look.step
    bar = (_GRID_UV if step > _GRID_UV else _nice(step * 0.6)) if look.ecg else _nice(step * _share(n_channels))
    each = 56 if look.ecg else 24
    height = round(42 + each * (n_channels + 0.6)) if n_channels > 1 else 110
    wide = look.width / 240
    gap = 1.0 + 0.2 / wide

    def draw(figure: Figure) -> None:
        left = 0.14 / wide if look.names else 0.03 / wide
        axes = figure.add_axes((left, 38 / height, 1 - 0.015 / wide - left, 1 - 42 / height))
        low, high = -(n_channels - 0.2) * step, 0.8 * step
        if look.ecg:
            _draw_grid(axes, seconds=seconds, low=low, high=high)
        for k, trace in enumerate(window):
            times, values = thin(trace, look.sfreq, most=look.most_points)
            axes.plot(times, np.clip(values, -2.2 * step, 2.2 * step) - k * step, color=look.color, lw=0.9)
            if look.names:
                at = -0.012 * seconds / wide
                axes.text(at, -k * step, short(look.names[k], 5), ha="right", va="center", fontsize=10)
        axes.set(xlim=(0, seconds * gap), ylim=(low, high))
        x, y = seconds * (1 + 0.035 / wide), -(n_channels - 1) * step / 2
        axes.plot([x, x], [y - bar / 2, y + bar / 2], color=INK, lw=1.8, solid_capstyle="butt")
        said = f"{bar / 1000:g}\nmV" if look.ecg else f"{bar:g}\nµV"
        axes.text(x + 0.018 * seconds / wide, y, said, va="center", fontsize=10, linespacing=1.15)
        ticks = np.arange(0, seconds * (1 + 1e-9), _nice(seconds / (3 * wide)))
        axes.xaxis.set_major_locator(FixedLocator([float(tick) for tick in ticks]))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda t, _: f"{t:g} s"))
        axes.yaxis.set_major_locator(NullLocator())
        axes.spines["left"].set_visible(False)
        axes.spines["bottom"].set_bounds(0, seconds)

    kind = "lead" if look.ecg else "channel"
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
