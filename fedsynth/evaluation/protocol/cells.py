"""Cells: what was computed, by name, kept in a file at once, so that a stopped evaluation goes on."""

import json
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fedsynth.errors import RunError
from fedsynth.evaluation.protocol.replicates import Replicates

NOTICE = (
    "These results were computed from real recordings exactly, without noise. They are not private: they are for "
    "those who may see the recordings, and they must not leave the house."
)
"""What stands at the head of every file and every page."""


@dataclass(frozen=True)
class Cell:
    """Measures by name, with their replicates, and the seconds that they took."""

    measures: dict[str, Replicates]
    seconds: float = 0.0

    def to_plain(self) -> dict[str, Any]:
        """Return what JSON can hold."""
        told = {name: one.to_plain() for name, one in self.measures.items()}
        return {"seconds": round(self.seconds, 2), "measures": told}

    @classmethod
    def from_plain(cls, raw: dict[str, Any]) -> "Cell":
        """Read what `to_plain` returned."""
        return cls({name: Replicates.from_plain(one) for name, one in raw["measures"].items()}, raw["seconds"])


@dataclass
class Cells:
    """Cells of one evaluation, in a file where there is one.

    `question` says what was asked, in words and digests. A file about something else is not touched.
    """

    question: dict[str, Any]
    path: Path | None = None
    found: dict[str, Cell] = field(default_factory=dict)
    more: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def at(cls, path: Path | None, question: dict[str, Any]) -> "Cells":
        """Open the file of an evaluation, or begin one.

        Raises:
            RunError: the file is about another question, or damaged.
        """
        asked = json.loads(json.dumps(question))
        if path is None or not path.exists():
            return cls(asked, path)
        try:
            raw = json.loads(path.read_text(encoding="utf-8"))
            cells = {name: Cell.from_plain(one) for name, one in raw["cells"].items()}
            same = raw["question"] == asked
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise RunError(
                f"{path} holds no evaluation that can go on; it was left as it is. Name another"
            ) from error
        if not same:
            raise RunError(
                f"{path} holds an evaluation of other windows or of another plan; it was left as it is. "
                "Name another folder"
            )
        return cls(asked, path, cells, raw["more"])

    def cell(self, name: str, compute: Callable[[], dict[str, Replicates]]) -> Cell:
        """Return a cell: the one that is there, or else a new one, which is kept."""
        if name not in self.found:
            began = time.monotonic()
            measures = compute()
            self.found[name] = Cell(measures, time.monotonic() - began)
            self.keep()
        return self.found[name]

    def other(self, name: str, compute: Callable[[], Any]) -> Any:
        """Return plain data that is no cell: what is there, or else what is computed and kept."""
        if name not in self.more:
            self.more[name] = compute()
            self.keep()
        return self.more[name]

    def keep(self) -> None:
        """Write the file in one move."""
        if self.path is None:
            return
        body = {
            "notice": NOTICE,
            "question": self.question,
            "cells": {name: cell.to_plain() for name, cell in self.found.items()},
            "more": self.more,
        }
        self.path.parent.mkdir(parents=True, exist_ok=True)
        partial = self.path.with_name(f"{self.path.name}.partial")
        partial.write_text(json.dumps(body, indent=1, allow_nan=False) + "\n", encoding="utf-8")
        partial.replace(self.path)

    @property
    def seconds(self) -> float:
        """Return what all cells took together."""
        return sum(cell.seconds for cell in self.found.values())
