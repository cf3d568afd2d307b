"""Progress on stderr: bars on a terminal, a line for each finished stretch and now and then elsewhere.

How long it will still take is told from the steps done so far, by a clock that nobody sets back.
"""

import contextlib
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn
from rich.progress import TimeRemainingColumn as TimeLeftColumn

from fedsynth.progress import NOTE

Tell = Callable[[str, int, int], None]

_NOW_AND_THEN = 10.0  # seconds between two lines about one stretch
_QUIET: ContextVar[bool] = ContextVar("quiet", default=False)


@contextmanager
def silenced(quiet: bool) -> Iterator[None]:
    """Show no progress meanwhile, if `quiet`."""
    before = _QUIET.set(quiet)
    try:
        yield
    finally:
        _QUIET.reset(before)


@contextmanager
def progress(*, quiet: bool = False) -> Iterator[Tell]:
    """Yield a function that is told (what, done, all)."""
    if quiet or _QUIET.get():
        yield lambda *_: None
    elif sys.stderr is not None and sys.stderr.isatty():
        with Progress(
            TextColumn("{task.description:<44}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TimeLeftColumn(),
            console=Console(stderr=True),
        ) as bars:
            yield _bars(bars)
    else:
        yield lines()


def remark(text: str) -> None:
    """Say something on stderr that nobody has to act on; nothing with --quiet."""
    if not _QUIET.get():
        say(text)


def say(text: str) -> None:
    """Write to stderr; where nobody can read it, the work goes on all the same."""
    with contextlib.suppress(OSError, ValueError, AttributeError):
        sys.stderr.write(text)
        sys.stderr.flush()


def lines(clock: Callable[[], float] = time.monotonic) -> Tell:
    """Return a function that writes a line when a stretch is done, and every ten seconds until then.

    Args:
        clock: seconds that only grow.
    """
    begun: dict[str, float] = {}
    told: dict[str, float] = {}

    def tell(said: str, done: int, total: int) -> None:
        now = clock()
        what = said.partition(NOTE)[0]
        if what not in begun or done == 0:
            begun[what] = told[what] = now
        if done >= total:
            say(f"{said}: {done} of {total}\n")
            begun.pop(what)
        elif now - told[what] >= _NOW_AND_THEN:
            told[what] = now
            left = f", about {duration((now - begun[what]) * (total - done) / done)} left" if done else ""
            say(f"{said}: {done} of {total}{left}\n")

    return tell


def duration(seconds: float) -> str:
    """Write a time in one unit.

    >>> duration(42.4), duration(200), duration(9000)
    ('42 s', '3 min', '2.5 h')
    """
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def _bars(bars: Progress) -> Tell:
    tasks: dict[str, TaskID] = {}

    def tell(said: str, done: int, total: int) -> None:
        what = said.partition(NOTE)[0]
        if what not in tasks or done == 0:
            tasks[what] = bars.add_task(said, total=total)
        bars.update(tasks[what], description=said, completed=done, total=total)

    return tell
