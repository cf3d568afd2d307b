"""From results of utility.py to docs/benchmark.md and docs/pictures/utility.svg.

    python benchmarks/utility_page.py build/utility/results.json [MORE.json ...]

Everything between the two markers of the page is replaced; the text around them is written by hand.
"""

import argparse
import math
import statistics
import sys
from collections import defaultdict
from pathlib import Path

import matplotlib as mpl
import matplotlib.pyplot as plt
from utility import METHODS, Row, read
from utility_data import ROOT

PAGE = ROOT / "docs" / "benchmark.md"
PICTURE = ROOT / "docs" / "pictures" / "utility.svg"
BEGIN, END = "<!-- results: begin -->", "<!-- results: end -->"
MEASURES = (("auroc", "AUROC"), ("macro_auroc", "macro-AUROC"), ("macro_f1", "macro-F1"))
Group = tuple[str, str]  # set and unit
Cell = tuple[str, float]  # method and epsilon


def main(arguments: list[str] | None = None) -> int:
    """Write both files and name them."""
    parser = argparse.ArgumentParser(prog="utility_page.py", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("results", nargs="+", type=Path)
    parser.add_argument("--page", type=Path, default=PAGE)
    parser.add_argument("--picture", type=Path, default=PICTURE)
    options = parser.parse_args(arguments)
    groups = grouped([row for path in options.results for row in read(path)])
    page = options.page.read_text(encoding="utf-8")
    before, rest = page.split(BEGIN, 1)
    after = rest.split(END, 1)[1]
    options.page.write_text(f"{before}{BEGIN}\n\n{tables(groups)}\n{END}{after}", encoding="utf-8")
    draw(groups, options.picture)
    print(options.page, options.picture, sep="\n")
    return 0


def grouped(rows: list[Row]) -> dict[Group, dict[Cell, list[Row]]]:
    """Sort rows by set and unit, then epsilon (infinity last) and method; a trial's last row counts."""
    latest = {row.key: row for row in rows}
    groups: dict[Group, dict[Cell, list[Row]]] = defaultdict(lambda: defaultdict(list))
    order = {method: place for place, method in enumerate(METHODS)}
    for row in sorted(latest.values(), key=lambda row: (*row.key[:3], order[row.method], row.seed)):
        groups[row.set, row.unit][row.method, row.epsilon].append(row)
    return {group: dict(cells) for group, cells in groups.items()}


def tables(groups: dict[Group, dict[Cell, list[Row]]]) -> str:
    """Return one table for each set and unit: mean and standard deviation over seeds, by both classifiers."""
    out: list[str] = []
    for (name, unit), cells in groups.items():
        out += [f"### {name}, unit {unit}", ""]
        out.append(
            "| ε | method | AUROC | macro-AUROC | macro-F1 | macro-AUROC, forest | F1, forest | spent | seeds |"
        )
        out.append("|---|---|---|---|---|---|---|---|---|")
        for (method, epsilon), rows in cells.items():
            by_cnn = [spread(rows, "cnn", measure) for measure, _ in MEASURES]
            by_forest = [spread(rows, "forest", measure) for measure, _ in MEASURES[1:]]
            spent = max(row.spent for row in rows)
            words = [_number(epsilon), method, *by_cnn, *by_forest, _number(spent), str(len(rows))]
            out.append(f"| {' | '.join(words)} |")
        out.append("")
    return "\n".join(out)


def spread(rows: list[Row], classifier: str, measure: str) -> str:
    """Return mean and standard deviation over seeds, without the leading zero: ".912 ± .010"."""
    values = [row.scores[classifier][measure] for row in rows]
    mean = f"{statistics.fmean(values):.3f}".removeprefix("0")
    if len(values) < 2:
        return mean
    return f"{mean} ± " + f"{statistics.stdev(values):.3f}".removeprefix("0")


def draw(groups: dict[Group, dict[Cell, list[Row]]], path: Path) -> None:
    """Draw a panel for each set and measure: one line for each method, a point for each seed."""
    mpl.rcParams.update({"svg.hashsalt": "fedsynth", "svg.fonttype": "none", "font.size": 8})
    figure, axes = plt.subplots(
        len(groups), 2, squeeze=False, figsize=(9, sum(0.9 + 0.2 * len(cells) for cells in groups.values())),
        gridspec_kw={"height_ratios": [len(cells) + 3 for cells in groups.values()]}, layout="constrained",
    )  # fmt: skip
    for line, ((name, unit), cells) in zip(axes, groups.items(), strict=True):
        names = [f"{method}, ε = {_number(epsilon)}" for method, epsilon in cells]
        for axis, (measure, title) in zip(line, MEASURES[1:], strict=True):
            for place, ((method, _), rows) in enumerate(cells.items()):
                values = [row.scores["cnn"][measure] for row in rows]
                colour = _colour(method)
                axis.plot(values, [place] * len(values), "o", ms=3, mfc="none", mec=colour)
                axis.plot([statistics.fmean(values)], [place], "|", ms=9, mew=2, color=colour)
            axis.set_title(f"{name} ({unit}): {title}", loc="left")
            axis.set_yticks(range(len(names)), names if measure == "macro_auroc" else [""] * len(names))
            axis.set_ylim(len(names) - 0.5, -0.5)
            axis.grid(visible=True, axis="both", lw=0.4, alpha=0.5)
            axis.spines[["top", "right"]].set_visible(False)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, metadata={"Date": None})
    plt.close(figure)


def _colour(method: str) -> str:
    if method.startswith("fedsynth"):
        return "#00796b"
    return "#616161" if method in ("train-real", "local-only") else "#b45309"


def _number(value: float) -> str:
    return "∞" if math.isinf(value) else f"{value:.3g}"


if __name__ == "__main__":
    sys.exit(main())
