"""What an engine is: it carries out the run in a folder, or goes on with one that was interrupted."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from fedsynth.errors import StudyError
from fedsynth.progress import Progress


@dataclass(frozen=True)
class Patience:
    """How long a coordinator waits: for sites to connect, and for the answers to one order, in seconds.

    A site that is late is left out of the step; the run goes on with the others, or ends with fewer than the
    study's least number of sites, and goes on when it is given again.

    Raises:
        StudyError: a time that is not above zero, or beyond a week.
    """

    gather_seconds: float = 300.0
    round_seconds: float = 1800.0

    def __post_init__(self) -> None:
        """Refuse what is no time."""
        for name, seconds in (("gather", self.gather_seconds), ("round", self.round_seconds)):
            if not 0 < seconds <= 7 * 24 * 3600:
                raise StudyError(f"--{name}-seconds is {seconds:g}; give a time above 0 and up to a week")


Engine = Callable[[Path, Progress, Patience], None]
