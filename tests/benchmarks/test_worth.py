"""What a release is worth: rows whose answer is known, people dealt whole, and a curve that is read back."""

import importlib
import math
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

FOLDER = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture(scope="module")
def bench() -> Iterator[SimpleNamespace]:
    """Import the benchmark as its command line does, from its own folder."""
    sys.path.insert(0, str(FOLDER))
    try:
        yield SimpleNamespace(**{name: importlib.import_module(name) for name in ("worth", "utility_data")})
    finally:
        sys.path.remove(str(FOLDER))


def row(bench: SimpleNamespace, real: float, f1: float, epsilon: float | None = None, seed: int = 1) -> Any:
    scores = {"boosting": {"macro_f1": f1 - 0.1, "auroc": 0.9, "person_auroc": math.nan}}
    scores["small-cnn"] = {"macro_f1": f1 + 0.1, "auroc": 0.7, "person_auroc": math.nan}
    return bench.worth.Row("made-up", seed, real, epsilon, 1.0, scores)


def curve(bench: SimpleNamespace, seed: int = 1) -> list[Any]:
    return [row(bench, share, 0.4 + 0.4 * share, seed=seed) for share in bench.worth.SHARES]


def test_worth_is_read_off_the_curve_of_real_people(bench: SimpleNamespace) -> None:
    rows = curve(bench)

    assert bench.worth.worth(rows, row(bench, 0.0, 0.56, 8.0)) == pytest.approx(0.4)
    assert bench.worth.worth(rows, row(bench, 0.0, 0.30, 8.0)) == 0
    assert bench.worth.worth(rows, row(bench, 0.0, 0.85, 8.0)) == 1


def test_the_page_compares_within_a_split(bench: SimpleNamespace) -> None:
    rows = [*curve(bench), *curve(bench, seed=2), row(bench, 0.0, 0.72, 8.0), row(bench, 0.0, 0.64, 8.0, seed=2)]
    rows.append(row(bench, 0.1, 0.60, 8.0))

    last = bench.worth.page(rows).splitlines()[-1]

    assert last == "| made-up | 8 | 85% (90%, 80%) | 100% (100%, 100%) |  | 70% (80%, 60%) | +0.160 |"


def test_rows_come_back_from_a_file(bench: SimpleNamespace, tmp_path: Path) -> None:
    rows = [row(bench, 1.0, 0.8), row(bench, 0.0, 0.7, math.inf)]

    bench.worth.write(rows, tmp_path / "deep" / "worth.json")

    assert [(one.real, one.epsilon) for one in bench.worth.read(tmp_path / "deep" / "worth.json")] == [
        (1.0, None),
        (0.0, math.inf),
    ]
    assert bench.worth.read(tmp_path / "none.json") == []


def test_people_are_taken_whole_and_of_every_label(bench: SimpleNamespace) -> None:
    people = np.repeat(np.arange(40), 3)
    labels = np.repeat([0] * 36 + [1] * 4, 3)
    signal = np.zeros((120, 1, 8), np.float32)
    half = bench.utility_data.Half(signal, labels, people, people, np.zeros_like(labels))

    few, all_ = (bench.worth.real_windows(half, share, seed=1) for share in (0.1, 1.0))

    assert len(few) == 3 * (4 + 1)
    assert set(few.labels) == {0, 1}
    assert (np.unique(few.people, return_counts=True)[1] == 3).all()
    assert len(all_) == 120
