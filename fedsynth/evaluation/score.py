"""A score: a number with an interval, a direction and a source."""

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

from fedsynth.errors import RunError

ScoreSource = Literal["private sum", "private count", "synthetic", "public simulation", "real"]
PRIVATE_COUNT: ScoreSource = "private count"


@dataclass(frozen=True)
class Score:
    """One number about a generator.

    `low` and `high` bound a 95 % interval. `source` says where it comes from: a charged "private sum" over
    held-out people, a "private count" of those who trained, "synthetic" windows alone, a "public simulation" (the
    toy cohort), or "real" recordings, which must stay inside. `direction` is +1 when more is better, -1 when less
    is, 0 when neither. `windows` is the SHA-256 of the archive whose windows were scored; empty where none of a
    release was.
    """

    name: str
    value: float
    low: float
    high: float
    direction: int
    source: ScoreSource
    about: str
    windows: str = ""


@dataclass(frozen=True)
class Metric:
    """One number of a report, as `report/metrics.json` lists it.

    Infinity is the word "inf"; an end of an interval that does not exist is None. `source` is a score's, or
    "accountant" for what follows from the mechanisms alone. `windows` is a score's. `says_nothing` gives the reason
    where a number is no evidence.
    """

    name: str
    value: float | str | None
    low: float | None
    high: float | None
    direction: int
    source: str
    about: str
    windows: str = ""
    says_nothing: str = ""


def dump_scores(scores: list[Score], path: Path) -> None:
    """Write scores as JSON; a file that is there is replaced as a whole."""
    partial = path.with_name(f"{path.name}.partial")
    partial.write_text(scores_text(scores), encoding="utf-8")
    partial.replace(path)


def scores_text(scores: Iterable[Score]) -> str:
    """Return scores as JSON."""
    return json.dumps([asdict(score) for score in scores], indent=2) + "\n"


def load_scores(path: Path) -> list[Score]:
    """Read what `dump_scores` wrote.

    Raises:
        RunError: the file is missing or damaged.
    """
    try:
        return [Score(**raw) for raw in json.loads(path.read_text(encoding="utf-8"))]
    except (OSError, ValueError, TypeError) as error:
        raise RunError("the run's scores cannot be read; it did not finish, or was edited") from error
