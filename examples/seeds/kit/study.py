"""A study: jobs that are done once and kept, progress with the time left, and a page with its numbers beside it."""

import argparse
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from fedsynth.cli.progress import progress
from fedsynth.evaluation.protocol.cells import Cells
from fedsynth.report.experiment import ExperimentPage, Section, write_page
from kit.bench import Job
from kit.workers import done, usual_workers

QUICK = "QUICK SIZE: this page shows that the study runs. Its numbers mean nothing."
ROOT = Path(__file__).parents[3]
SECONDS = "seconds of computing"
"""Where the time of all jobs is added up: seconds of one processor, over all calls."""


def arguments(name: str, about: str, *, more: Callable[[argparse.ArgumentParser], None] | None = None) -> Any:
    """Read the command line that every study has.

    Args:
        name: of the study.
        about: what it is, for --help.
        more: adds options of its own.
    """
    parser = argparse.ArgumentParser(description=about, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=ROOT / "build" / "seeds" / name, metavar="DIR")
    parser.add_argument("--quick", action="store_true", help="a minute, to see that it runs; numbers mean nothing")
    parser.add_argument("--seed", type=int, default=1, help="of the simulated cohort")
    parser.add_argument(
        "--jobs", type=int, default=usual_workers(), metavar="N", help="processes (default %(default)s)"
    )
    if more is not None:
        more(parser)
    return parser


def open_cells(options: argparse.Namespace, **question: Any) -> Cells:
    """Open the study's numbers: what is there is not done again.

    Raises:
        RunError: they are of another question, such as another size.
    """
    told = {"quick": options.quick, "seed": options.seed, **question}
    return Cells.at(options.out / "study.json", told)


def carry_out(cells: Cells, jobs: Sequence[Job], *, workers: int) -> None:
    """Do every job that is not there, and say how much is left."""
    missing = [job for job in jobs if job[0] not in cells.more]
    with progress() as tell:
        tell("study", 0, len(missing))
        for number, one in enumerate(done(missing, workers=workers)):
            cells.more[SECONDS] = round(cells.more.get(SECONDS, 0) + one.seconds, 1)
            cells.other(one.key, lambda one=one: one.found)
            tell("study", number + 1, len(missing))


def notice(real: str = "", *, everything: bool = False) -> str:
    """Return the head of a page: what is simulated, what was recorded, and that nothing is private."""
    simulated = f"The recordings of this page are simulated{f', but for {real}' if real else ''}. "
    return ("" if everything else simulated) + (
        "What it was computed from was used exactly, without noise: run on recordings of patients, such a page is "
        "not private and must not leave the house."
    )


def computing(seconds: float) -> str:
    """Say how long all jobs took, in minutes of one processor."""
    return f"{seconds / 60:.1f} minutes of one processor"


def filled(sections: Sequence[Section]) -> tuple[Section, ...]:
    """Return the sections that have something to show: figures, rows of a table, or words that need no table."""
    return tuple(
        one
        for one in sections
        if one.figures or (one.words and not one.tables) or any(table.rows for table in one.tables)
    )


def write(options: argparse.Namespace, cells: Cells, page: ExperimentPage) -> Path:
    """Write the page beside the numbers and return where it is."""
    cells.keep()
    if options.quick:
        page = replace(page, lead=(QUICK, *page.lead))
    path: Path = options.out / "index.html"
    write_page(path, page)
    return path
