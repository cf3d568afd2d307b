"""Fidelity in a study: features of several sources against people, beside the floor of people among themselves."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from fedsynth.evaluation.protocol.fidelity import distances
from fedsynth.evaluation.protocol.tables import Table
from fedsynth.report.experiment import Section
from fedsynth.report.experiment_figures import floors_svg
from kit.bench import Bench, Source

DRAWS = 1000
"""Permutations: with fewer than 20 for each row no corrected p-value can be below .05; rows are 26 to 39."""
Told = dict[str, list[dict[str, Any]]]


def fidelity(bench: Bench, sources: Sequence[Source], *, draws: int = DRAWS) -> Told:
    """Compare features of everybody with those of windows of generators trained on the first fold's people."""
    train, told = bench.real.at(bench.folds[0][0]), {}
    for source in sources:
        made = source.make(train, 0).windows
        found = distances(
            bench.real, made, shape=bench.frame.shape, names=bench.frame.names, draws=draws, correction="holm"
        )
        told[source.name] = [asdict(one) for one in found]
    return told


def fidelity_section(told: Mapping[str, list[dict[str, Any]]], *, unit: str) -> Section:
    """Return the page's part: a figure for each source and one table.

    Args:
        told: what `fidelity` found, no rows where no label has enough people on both sides; nothing where it was
            not asked.
        unit: whose windows are permuted together, such as "person".
    """
    if told and not any(told.values()):
        return Section(f"Fidelity, by {unit}", (f"No label has enough {unit}s to compare.",))
    told = {name: rows for name, rows in told.items() if rows}
    words = f"p-values by permuting each {unit} with all windows, corrected by Holm over all rows of a figure."
    figures = tuple(
        floors_svg(f"fidelity-{number}", rows, heading=name) for number, (name, rows) in enumerate(told.items())
    )
    return Section(f"Fidelity, by {unit}", (words,), (_far(told),), figures)


def _far(told: Mapping[str, list[dict[str, Any]]]) -> Table:
    rows = []
    for name, each in told.items():
        ratios = [row["distance"] / max(row["floor"], 1e-9) for row in each]
        away = sum(row["corrected_p"] < 0.05 for row in each)
        rows.append((name, f"{np.median(ratios):.1f}", f"{max(ratios):.1f}", f"{away} of {len(each)}"))
    head = ("generator", "distance over floor, median", "largest", "rows told apart")
    return Table("Distance by feature and label, in units of that between halves of the people", head, tuple(rows))
