"""Progress on stderr: bars on a terminal, one line per finished stretch elsewhere."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

Tell = Callable[[str, int, int], None]


@contextmanager
def progress(*, quiet: bool = False) -> Iterator[Tell]:
    """Yield a function that is told (what, done, all)."""
    if quiet:
        yield lambda *_: None
    elif sys.stderr.isatty():
        with Progress(
            TextColumn("{task.description:<44}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            console=Console(stderr=True),
        ) as bars:
            yield _bars(bars)
    else:
        yield _lines()


def _bars(bars: Progress) -> Tell:
    tasks: dict[str, TaskID] = {}

    def tell(what: str, done: int, total: int) -> None:
        if what not in tasks or done == 0:
            tasks[what] = bars.add_task(what, total=total)
        bars.update(tasks[what], completed=done, total=total)

    return tell


def _lines() -> Tell:
    def tell(what: str, done: int, total: int) -> None:
        if done == total:
            sys.stderr.write(f"{what}: {done} of {total}\n")

    return tell
