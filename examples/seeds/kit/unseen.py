"""Real people nobody saw: resting EEG of Guinea-Bissau, with epilepsy and without, people left out in groups."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from fedsynth.evaluation.protocol.cells import Cells
from fedsynth.evaluation.protocol.classifiers.training import Setting
from fedsynth.evaluation.protocol.size import SIZES
from fedsynth.evaluation.protocol.tables import Table
from fedsynth.modalities.shape import shape_of
from fedsynth.report.experiment import Section
from kit.arms import Arm, Frame
from kit.bench import Bench, Job, groups
from kit.findings import costs, findings
from kit.real_sets import guinea_bissau

_CLASSIFIERS, _WAYS = ("random-convolutions", "boosting"), ("all classes", "synthetic alone")


def unseen_bench(folder: Path, cells: Cells, *, quick: bool) -> Bench:
    """Read them and part them into groups that are left out in turn."""
    real, study = guinea_bissau(folder, each=2 if quick else 6)
    shape, size = shape_of(study), SIZES["quick" if quick else "small"]
    frame = Frame(shape, study.labels.names, study.labels.positive)
    setting = Setting(shape, size if quick else replace(size, steps=150))
    return Bench("Guinea-Bissau", real, frame, groups(real, count=2 if quick else 4), setting, _CLASSIFIERS, cells)


def unseen_jobs(bench: Bench, arms: Sequence[Arm], *, per_label: int) -> Iterator[Job]:
    """Yield what is asked: do made-up people serve a classifier of people whom nobody saw?"""
    yield from bench.real_jobs(("none",))
    for arm in arms:
        yield from bench.jobs(bench.source(arm, per_label=per_label, ways=_WAYS))


def unseen_findings(bench: Bench, arms: Sequence[Arm]) -> tuple[str, ...]:
    """Say by classifier whether made-up people add to real ones, and what they cost in their place."""
    said: list[str] = []
    for name in bench.classifiers:
        added, alone = (
            {arm.name: bench.difference(name, (arm.name, way), ("real", "none")) for arm in arms} for way in _WAYS
        )
        said += findings(f"{bench.name}, {name}: made-up windows of all classes add to recordings", added)
        said += costs(f"{bench.name}, {name}, macro-F1 with made-up windows in place of recordings", alone)
    return tuple(said)


def unseen_section(bench: Bench, arms: Sequence[Arm]) -> Section:
    """Return the page's part, with one table for each classifier."""
    rows = [("none", "real", "none")]
    rows += [(f"{way}: {arm.name}", arm.name, way) for arm in arms for way in _WAYS]
    tables: list[Table] = [bench.table(name, rows, title="Epilepsy or not, at rest") for name in bench.classifiers]
    about = (
        f"Resting EEG of {bench.real.n_people} people of Guinea-Bissau, with epilepsy and without; no seizures. A "
        "person has windows of one label only."
    )
    return Section("Real people nobody saw", (about,), tuple(tables))
