"""Figures of an evaluation: dots with intervals, the transfer curve, distances beside their floor."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from textwrap import wrap
from typing import Any

from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator, NullLocator

from fedsynth.evaluation.protocol.cells import Cells
from fedsynth.evaluation.protocol.classifiers.registry import usual_network
from fedsynth.evaluation.protocol.measures import MACRO_F1
from fedsynth.evaluation.protocol.run import (
    BOTH,
    PRETRAINED,
    REAL,
    SCRATCH,
    SYNTHETIC,
    Question,
    augmentation_cell,
    matrix_cell,
    transfer_cell,
)
from fedsynth.evaluation.protocol.tables import Number
from fedsynth.report.figures import PALETTE
from fedsynth.report.svg import FAINT, INK, SOFT, svg
from fedsynth.report.traces import short

_WIDEST = 36  # letters beside a row of dots


@dataclass(frozen=True)
class Dot:
    """One row of `dots_svg`: words, a number with its interval, and which colour it bears."""

    name: str
    number: Number
    color: int = 0


def figures_of(question: Question, cells: Cells) -> dict[str, tuple[str, ...]]:
    """Return the figures that the cells fill, by table."""
    plan, usual = question.plan, usual_network(question.shape)
    found: dict[str, tuple[str, ...]] = {}
    matrix = [
        Dot(f"{name}, {trained}", Number.of(cells.found[key].measures[MACRO_F1]), color)
        for name in plan.classifiers
        for color, trained in enumerate((SYNTHETIC, REAL, BOTH))
        if (key := matrix_cell(name, trained, REAL)) in cells.found
    ]
    if matrix:
        found["matrix"] = (dots_svg("matrix", matrix, axis="macro-F1 on real windows of other people"),)
    name = plan.augmenting[0] if plan.augmenting else usual
    ways = [
        Dot(way, Number.of(cells.found[key].measures[MACRO_F1]))
        for way in plan.ways
        if (key := augmentation_cell(name, way)) in cells.found
    ]
    if ways:
        found["augmentation"] = (dots_svg("augmentation", ways, axis=f"macro-F1, {name}"),)
    network = plan.transferring or usual
    curves = {
        start: [
            (share, Number.of(cells.found[key].measures[MACRO_F1]))
            for share in plan.shares
            if (key := transfer_cell(network, start, share)) in cells.found
        ]
        for start in (PRETRAINED, SCRATCH)
    }
    if curves[PRETRAINED]:
        found["transfer"] = (curves_svg("transfer", curves, axis="macro-F1", across="real people, %"),)
    if cells.more.get("fidelity"):
        found["fidelity"] = (floors_svg("fidelity", cells.more["fidelity"]),)
    return found


def dots_svg(name: str, rows: Sequence[Dot], *, axis: str) -> str:
    """Draw a dot with its 95 % interval for each row; a long name takes two lines."""
    names = [_in_lines(row.name) for row in rows]
    each = 31 if any("\n" in name for name in names) else 21
    height = each * len(rows) + 46
    ends = [
        end for row in rows for end in (row.number.low, row.number.high, row.number.value) if math.isfinite(end)
    ]
    signed = any(row.number.signed for row in rows)
    left, right = (min([0.0, *ends]), max([0.0, *ends])) if signed else (max(0.0, min([1.0, *ends]) - 0.05), 1.0)

    def draw(figure: Figure) -> None:
        axes = figure.add_axes((0.42, 40 / height, 0.55, 1 - 44 / height))
        for place, row in enumerate(rows):
            color = PALETTE[row.color % len(PALETTE)]
            axes.plot([left, right], [place, place], color="#eef1f4", lw=7, solid_capstyle="round", zorder=0)
            if math.isfinite(row.number.low):
                axes.plot([row.number.low, row.number.high], [place, place], color=color, lw=2.6)
            axes.plot([row.number.value], [place], "o", color=color, ms=7, mec="white", mew=1.2, clip_on=False)
            axes.text(
                -0.03,
                place,
                names[place],
                ha="right",
                va="center",
                fontsize=11,
                linespacing=1.0,
                transform=axes.get_yaxis_transform(),
            )
        if signed:
            axes.axvline(0, color=INK, lw=1)
        axes.set(xlim=(left, right), ylim=(len(rows) - 0.4, -0.6))
        axes.spines["left"].set_visible(False)
        axes.yaxis.set_major_locator(NullLocator())
        axes.xaxis.set_major_locator(MaxNLocator(5))
        axes.set_xlabel(axis)

    said = "; ".join(
        f"{row.name}: {row.number.value:.3f}, {row.number.low:.3f} to {row.number.high:.3f}" for row in rows
    )
    return svg(name, draw, size=(560, height), title=f"{axis}, with 95 % intervals", description=f"{said}.")


def _in_lines(name: str) -> str:
    """Break a name between words where it is too long for one line; what is too long for two is cut."""
    return "\n".join(wrap(name, _WIDEST, max_lines=2, placeholder=" …"))


def curves_svg(name: str, curves: dict[str, list[tuple[int, Number]]], *, axis: str, across: str) -> str:
    """Draw a line with a ribbon for each named curve."""

    def draw(figure: Figure) -> None:
        axes = figure.add_axes((0.13, 0.26, 0.84, 0.71))
        for color, (what, points) in enumerate(curves.items()):
            places = [share for share, _ in points]
            numbers = [number for _, number in points]
            shade = PALETTE[color % len(PALETTE)]
            axes.fill_between(
                places, [n.low for n in numbers], [n.high for n in numbers], color=shade, alpha=0.15, linewidth=0
            )
            axes.plot(places, [n.value for n in numbers], "o-", color=shade, lw=1.8, ms=5, label=what)
        axes.set_xlabel(across)
        axes.set_ylabel(axis)
        axes.legend(
            frameon=False,
            fontsize=10.5,
            loc="upper center",
            bbox_to_anchor=(0.47, -0.17),
            ncols=2,
            columnspacing=1.2,
        )

    said = "; ".join(
        f"{what} at {share} %: {number.value:.3f}" for what, points in curves.items() for share, number in points
    )
    return svg(name, draw, size=(560, 300), title=f"{axis} over {across}", description=f"{said}.")


def floors_svg(name: str, rows: Sequence[dict[str, Any]], *, heading: str = "") -> str:
    """Draw each feature's distance, a dot for each label, over the bar that real people reach by themselves.

    Args:
        name: of the figure, for what it refers to.
        rows: distances as plain data, `fedsynth.evaluation.protocol.fidelity.Distance`.
        heading: whose windows these are, where a page has several such figures.
    """
    features = list(dict.fromkeys(row["feature"] for row in rows))
    labels = list(dict.fromkeys(row["label"] for row in rows))
    each = 12 * len(labels) + 12
    top = 22 if heading else 0
    height = each * len(features) + 70 + top
    most = max([0.05, *(max(row["distance"], row["floor_high"]) for row in rows)])

    def draw(figure: Figure) -> None:
        axes = figure.add_axes((0.32, 62 / height, 0.64, 1 - (66 + top) / height))
        if heading:
            figure.text(0.32, 1 - 4 / height, heading, ha="left", va="top", fontsize=12.5)
        for row in rows:
            number = labels.index(row["label"])
            y = features.index(row["feature"]) * each + 12 * number
            axes.plot([0, row["floor_high"]], [y, y], color=FAINT, lw=6, solid_capstyle="butt", zorder=0)
            axes.plot([row["floor"]], [y], "|", color=SOFT, ms=9)
            filled = row["corrected_p"] < 0.05
            shade = PALETTE[number % len(PALETTE)]
            axes.plot([row["distance"]], [y], "o", color=shade, ms=6.5, mfc=shade if filled else "white", mew=1.5)
        for place, feature in enumerate(features):
            axes.text(
                -0.02 * most,
                place * each + 6 * (len(labels) - 1),
                short(feature, 26),
                ha="right",
                va="center",
                fontsize=11,
            )
        for number, label in enumerate(labels):
            axes.plot([], [], "o", color=PALETTE[number % len(PALETTE)], label=short(label, 22))
        axes.set(xlim=(0, most * 1.04), ylim=(each * len(features) - 6, -10))
        axes.spines["left"].set_visible(False)
        axes.yaxis.set_major_locator(NullLocator())
        axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:g}"))
        axes.xaxis.set_major_locator(FixedLocator([round(most * share, 2) for share in (0, 0.25, 0.5, 0.75, 1)]))
        axes.set_xlabel("distance; filled: corrected p below .05; grey: real people among themselves")
        axes.legend(
            frameon=False,
            fontsize=10.5,
            loc="upper center",
            bbox_to_anchor=(0.3, -38 / (height - 66 - top)),
            ncols=4,
        )

    said = "; ".join(
        f"{row['feature']}, {row['label']}: {row['distance']:.2f} (floor {row['floor']:.2f})" for row in rows
    )
    return svg(
        name,
        draw,
        size=(560, height),
        title=f"Distance of each feature between synthetic and real windows{f', {heading}' if heading else ''}",
        description=f"{said}.",
    )
