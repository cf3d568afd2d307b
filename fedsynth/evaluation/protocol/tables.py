"""Tables of an evaluation: cells as rows for a reader, with intervals, and with the mark of a leaky split."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from fedsynth.evaluation.protocol.cells import Cells
from fedsynth.evaluation.protocol.classifiers.registry import usual_network
from fedsynth.evaluation.protocol.measures import ACCURACY, MACRO_AUROC, MACRO_F1, positive_f1
from fedsynth.evaluation.protocol.replicates import Replicates
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


@dataclass(frozen=True)
class Number:
    """A number with the ends of its 95 % interval; `signed` shows its sign, since it is a difference."""

    value: float
    low: float
    high: float
    signed: bool = False

    @classmethod
    def of(cls, one: Replicates, *, signed: bool = False) -> "Number":
        """Read a number from its replicates."""
        return cls(one.value, one.low, one.high, signed)

    @property
    def is_clear(self) -> bool:
        """Whether a difference's interval leaves zero out."""
        return self.signed and (self.low > 0 or self.high < 0)


@dataclass(frozen=True)
class Table:
    """Rows of words and numbers below a head; `mark` says what must be said of every number in it."""

    title: str
    head: tuple[str, ...]
    rows: tuple[tuple[str | Number, ...], ...]
    note: str = ""
    mark: str = ""

    def __str__(self) -> str:
        """Write the table as text."""
        lines = [self.title + (f" [{self.mark}]" if self.mark else ""), " | ".join(self.head)]
        lines += [" | ".join(shown(entry) for entry in row) for row in self.rows]
        return "\n".join(lines)


def shown(entry: str | Number) -> str:
    """Write an entry: a number with three decimals and its interval."""
    if isinstance(entry, str):
        return entry
    if entry.value != entry.value:
        return "–"
    sign = "+" if entry.signed else ""
    low, high = (f"{end:{sign}.3f}" for end in (entry.low, entry.high))
    return f"{entry.value:{sign}.3f} [{low}, {high}]".replace("-", "−")


def tables_of(question: Question, cells: Cells) -> tuple[Table, ...]:
    """Return every table that the cells fill."""
    plan, mark = question.plan, question.split.mark
    usual = usual_network(question.shape)
    found: list[Table | None] = []
    if "matrix" in plan.tables:
        found += [_matrix(cells, plan.classifiers, measure, mark) for measure in (MACRO_F1, MACRO_AUROC)]
        found.append(_against_real(cells, plan.classifiers, mark))
    if "augmentation" in plan.tables:
        for name in plan.augmenting or (usual,):
            found.append(augmentation_table(cells, name, plan.ways, question.names[question.positive], mark))
    if "transfer" in plan.tables:
        found.append(_transfer(cells, plan.transferring or usual, plan.shares, mark))
    if "fidelity" in cells.more:
        found.append(_fidelity(cells.more["fidelity"], plan.correction, mark))
    return tuple(table for table in found if table is not None)


def _matrix(cells: Cells, classifiers: Sequence[str], measure: str, mark: str) -> Table:
    rows: list[tuple[str | Number, ...]] = [
        (
            name,
            trained,
            *(_number(cells, matrix_cell(name, trained, tested), measure) for tested in (REAL, SYNTHETIC)),
        )
        for name in classifiers
        for trained in (SYNTHETIC, REAL, BOTH)
    ]
    return Table(
        f"{measure}: trained on one kind of windows, tested on another",
        ("classifier", "trained on", "tested on real", "tested on synthetic"),
        tuple(rows),
        "Intervals: 95 %, bootstrap over people with all their windows. Every label weighs the same in training.",
        mark,
    )


def _against_real(cells: Cells, classifiers: Sequence[str], mark: str) -> Table:
    rows: list[tuple[str | Number, ...]] = []
    for name in classifiers:
        base = cells.found.get(matrix_cell(name, REAL, REAL))
        for trained in (SYNTHETIC, BOTH):
            other = cells.found.get(matrix_cell(name, trained, REAL))
            if base and other:
                pairs = [
                    Number.of(other.measures[measure].minus(base.measures[measure]), signed=True)
                    for measure in (MACRO_F1, MACRO_AUROC)
                ]
                rows.append((name, f"{trained} − real", *pairs))
    return Table(
        "What synthetic windows cost or add, against real ones alone",
        ("classifier", "difference", MACRO_F1, MACRO_AUROC),
        tuple(rows),
        "Paired: both were tested on the same people and resampled together.",
        mark,
    )


def augmentation_table(cells: Cells, classifier: str, ways: Sequence[str], positive: str, mark: str = "") -> Table:
    """Return each way against imbalance, and its paired differences to nothing and to oversampling."""
    rows: list[tuple[str | Number, ...]] = []
    base, over = (cells.found.get(augmentation_cell(classifier, way)) for way in ("none", "oversampling"))
    for way in ways:
        cell = cells.found.get(augmentation_cell(classifier, way))
        if cell is None:
            continue
        mine = cell.measures[MACRO_F1]
        differences = [
            "" if other is None or other is cell else Number.of(mine.minus(other.measures[MACRO_F1]), signed=True)
            for other in (base, over)
        ]
        told = [Number.of(cell.measures[name]) for name in (MACRO_F1, positive_f1(positive), MACRO_AUROC, ACCURACY)]
        rows.append((way, *told, *differences))
    return Table(
        f"Augmentation, {classifier}",
        (
            "way",
            MACRO_F1,
            positive_f1(positive),
            MACRO_AUROC,
            ACCURACY,
            "macro-F1 − none",
            "macro-F1 − oversampling",
        ),
        tuple(rows),
        "Tested on real windows of people who did not train. Differences are paired by person.",
        mark,
    )


def _transfer(cells: Cells, network: str, shares: Sequence[int], mark: str) -> Table:
    rows: list[tuple[str | Number, ...]] = []
    for share in shares:
        frozen, scratch = (cells.found.get(transfer_cell(network, start, share)) for start in (PRETRAINED, SCRATCH))
        if frozen is None:
            continue
        mine = frozen.measures[MACRO_F1]
        rows.append(
            (
                f"{share} %",
                Number.of(mine),
                "–" if scratch is None else Number.of(scratch.measures[MACRO_F1]),
                "–" if scratch is None else Number.of(mine.minus(scratch.measures[MACRO_F1]), signed=True),
            )
        )
    return Table(
        f"Transfer, {network}: macro-F1 with a share of the real people",
        ("real people", PRETRAINED, SCRATCH, "difference"),
        tuple(rows),
        "Shares are of people, and a larger share holds the smaller ones.",
        mark,
    )


def _fidelity(rows: list[dict[str, Any]], correction: str, mark: str) -> Table:
    told = [
        (
            row["feature"],
            row["label"],
            f"{row['distance']:.3f}",
            f"{row['floor']:.3f} (to {row['floor_high']:.3f})",
            f"{row['distance'] / max(row['floor'], 1e-9):.1f}",
            f"{row['corrected_p']:.3f}",
        )
        for row in rows
    ]
    return Table(
        "Fidelity by feature: Kolmogorov-Smirnov distance, by person",
        ("feature", "label", "real to synthetic", "real to real (19 of 20)", "ratio", "corrected p"),
        tuple(told),
        f"p: permutations of people, corrected over all rows ({correction}). Real to real: halves of the people.",
        mark,
    )


def _number(cells: Cells, name: str, measure: str) -> Number | str:
    cell = cells.found.get(name)
    return "–" if cell is None else Number.of(cell.measures[measure])
