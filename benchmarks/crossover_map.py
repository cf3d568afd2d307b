"""From trials of crossover.py to docs/pictures/crossover.svg and the tables of docs/crossover.md.

    python benchmarks/crossover_map.py build/crossover.json

Panels show what was measured at epsilon 8. The map is arithmetic: what layers learn depends on the noise of a mean
gradient, which people and epsilon decide together, so their recovered share is read between measured noises.
Everything between the two markers of the page is replaced.
"""

import argparse
import math
import statistics
import sys
from pathlib import Path

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
from crossover import ARMS, GRADIENTS, SUMS, Row, noise_of, read, study_of
from matplotlib.axes import Axes
from utility_data import ROOT

from fedsynth.plan import plan_of

PAGE = ROOT / "docs" / "crossover.md"
PICTURE = ROOT / "docs" / "pictures" / "crossover.svg"
BEGIN, END = "<!-- results: begin -->", "<!-- results: end -->"
COLOURS = {
    "anchor": "#616161",
    "more sums": "#00796b",
    "adapters": "#c4b5fd",
    "low-rank": "#7c3aed",
    "all": "#b45309",
    "scratch": "#1d4ed8",
}
PEOPLE = (300, 1000, 3000, 10_000, 30_000, 100_000)
EPSILONS = (1.0, 3.0, 8.0)
_STEPS = 100


def main(arguments: list[str] | None = None) -> int:
    """Write both files and name them."""
    parser = argparse.ArgumentParser(prog="crossover_map.py", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("results", type=Path)
    parser.add_argument("--page", type=Path, default=PAGE)
    parser.add_argument("--picture", type=Path, default=PICTURE)
    options = parser.parse_args(arguments)
    rows = read(options.results)
    shares = shares_of(rows)
    page = options.page.read_text(encoding="utf-8")
    before, rest = page.split(BEGIN, 1)
    after = rest.split(END, 1)[1]
    text = f"{table(rows)}\n\n{the_map(shares)}"
    options.page.write_text(f"{before}{BEGIN}\n\n{text}\n\n{END}{after}", encoding="utf-8")
    draw(rows, shares, options.picture)
    print(options.page, options.picture, sep="\n")
    return 0


def shares_of(rows: list[Row]) -> dict[float, dict[int, float]]:
    """Return what "all" recovers by epsilon and people of a difference that no sum asks for."""
    known = sorted((row.noise, row.share) for row in rows if row.arm == "all" and row.population == "evoked")
    noises, values = (np.array(part) for part in zip(*known, strict=True))
    found: dict[float, dict[int, float]] = {}
    for epsilon in EPSILONS:
        plan = plan_of(study_of("all", people=1000, epsilon=epsilon, steps=_STEPS))
        step = next(one.mechanism for one in plan.steps if one.kind == "train")
        found[epsilon] = {
            people: between(noise_of(step.noise_multiplier, step.sampling_probability, people), noises, values)
            for people in PEOPLE
        }
    return found


def between(noise: float, noises: np.ndarray, values: np.ndarray) -> float:
    """Return the share at a noise, on the line between the two measured around it, on a logarithmic scale.

    Where noise is louder than any measured, nothing is recovered; where it is less, what was at the least.

    >>> between(2e-3, np.array([1e-3, 4e-3]), np.array([0.8, 0.0]))
    0.4
    """
    read_off = float(np.interp(math.log(noise), np.log(noises), values, right=0.0))
    return round(max(0.0, read_off), 3)


def table(rows: list[Row]) -> str:
    """Return what was measured, a line for each population and arm."""
    out = [
        "| labels differ in | arm | ε | people: recovered share (told apart) |",
        "|---|---|---|---|",
    ]
    for population in dict.fromkeys(row.population for row in rows):
        for arm in ARMS:
            mine = [row for row in rows if (row.population, row.arm) == (population, arm)]
            for epsilon in sorted({row.epsilon for row in mine}):
                cells = [
                    f"{people:,}: {_mean(some, 'share'):+.2f} ({_mean(some, 'told_apart'):.2f})".replace(",", " ")
                    for people in sorted({row.people for row in mine if row.epsilon == epsilon})
                    if (some := [row for row in mine if (row.epsilon, row.people) == (epsilon, people)])
                ]
                named = "∞" if math.isinf(epsilon) else f"{epsilon:g}"
                out.append(f"| {population} | {arm} | {named} | {', '.join(cells)} |")
    return "\n".join(out)


def the_map(shares: dict[float, dict[int, float]]) -> str:
    """Return what all layers recover of what no sum asks for, by people and epsilon."""
    head = " | ".join(f"{people:,}".replace(",", " ") for people in PEOPLE)
    out = [f"| ε | {head} |", f"|---|{'---|' * len(PEOPLE)}"]
    out += [f"| {epsilon:g} | {' | '.join(f'{by[n]:.2f}' for n in PEOPLE)} |" for epsilon, by in shares.items()]
    return "\n".join(out)


def draw(rows: list[Row], shares: dict[float, dict[int, float]], path: Path) -> None:
    """Draw a panel for each population at epsilon 8, and the map."""
    mpl.rcParams.update({"svg.hashsalt": "fedsynth", "svg.fonttype": "none", "font.size": 8})
    names = list(dict.fromkeys(row.population for row in rows))
    figure, axes = plt.subplots(1, len(names) + 1, figsize=(3 * len(names) + 3.2, 3.1), layout="constrained")
    for axis, name in zip(axes, names, strict=False):
        _panel(axis, [row for row in rows if row.population == name and row.epsilon == 8], name)
    axes[0].set_ylabel("recovered share of AUROC")
    handles = [mpl.lines.Line2D([], [], color=COLOURS[arm], marker="o", ms=3, label=arm) for arm in ARMS]
    figure.legend(handles=handles, frameon=False, loc="outside lower center", ncols=len(ARMS))
    _map_panel(axes[-1], shares)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, metadata={"Date": None})
    plt.close(figure)


def _panel(axis: Axes, rows: list[Row], name: str) -> None:
    for arm in (*SUMS, *GRADIENTS):
        mine = [row for row in rows if row.arm == arm]
        people = sorted({row.people for row in mine})
        means = [_mean([row for row in mine if row.people == number], "share") for number in people]
        axis.plot(people, means, "o-", ms=3, lw=1, color=COLOURS[arm])
    axis.set_xscale("log")
    axis.set_ylim(-0.5, 1.4)
    axis.set_title(f"{name}, ε = 8", loc="left")
    axis.set_xlabel("people")
    axis.axhline(0, color="#9e9e9e", lw=0.6)
    axis.grid(visible=True, lw=0.4, alpha=0.5)
    axis.spines[["top", "right"]].set_visible(False)


def _map_panel(axis: Axes, shares: dict[float, dict[int, float]]) -> None:
    grid = np.array([[by[people] for people in PEOPLE] for by in shares.values()])
    axis.imshow(grid, cmap="YlOrBr", vmin=0, vmax=1.2, aspect="auto", origin="lower")
    for place, value in np.ndenumerate(grid):
        axis.text(place[1], place[0], f"{value:.2f}".removeprefix("0"), ha="center", va="center")
    axis.set_xticks(range(len(PEOPLE)), [f"{people / 1000:g}k" for people in PEOPLE])
    axis.set_yticks(range(len(shares)), [f"ε = {epsilon:g}" for epsilon in shares])
    axis.set_title("all layers, what no sum asks for", loc="left")
    axis.set_xlabel("people")


def _mean(rows: list[Row], measure: str) -> float:
    return statistics.fmean(getattr(row, measure) for row in rows)


if __name__ == "__main__":
    sys.exit(main())
