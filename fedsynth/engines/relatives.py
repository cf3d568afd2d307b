"""Relatives: the processes of one run, found by a mark in their environment and by descent, and ended by id.

Flower and Ray detach some of their children, which leave every process group and may outlive their parents; Ray's
workers overwrite their environment with a title. Neither the mark nor descent alone finds them all.
"""

import os
import signal
import time
from collections.abc import Collection
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

GRACE_SECONDS = 5.0


@dataclass(frozen=True)
class Identity:
    """A process id and when that process began, in clock ticks: ids are used again."""

    pid: int
    began: int


@dataclass(frozen=True)
class _Row:
    parent: int
    began: int
    marked: bool


def _table(mark: bytes) -> dict[int, _Row]:
    """Return every process that runs (proc(5)): its parent, and whether it carries the mark."""
    table: dict[int, _Row] = {}
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):  # it ended meanwhile
            state, parent, *rest = (folder / "stat").read_text(encoding="utf-8").rpartition(")")[2].split()
            if state not in "ZX":
                table[int(folder.name)] = _Row(int(parent), int(rest[17]), mark in _environ(folder))
    return table


def _environ(folder: Path) -> list[bytes]:
    try:
        return (folder / "environ").read_bytes().split(b"\0")
    except OSError:  # somebody else's process
        return []


def relatives(mark: str, own: Collection[int] = (), known: Collection[Identity] = ()) -> frozenset[Identity]:
    """Return what still runs of a run's processes.

    Args:
        mark: `NAME=VALUE`, as it stands in the environment of the run's processes.
        own: ids of its processes beside those that bear the mark.
        known: found before.
    """
    table = _table(mark.encode())
    family = set(own) | {pid for pid, row in table.items() if row.marked}
    while children := {pid for pid, row in table.items() if row.parent in family} - family:
        family |= children
    everyone = {Identity(pid, row.began) for pid, row in table.items()}
    return frozenset({one for one in everyone if one.pid in family or one in known})


def end_relatives(mark: str, own: Collection[int] = (), *, grace_seconds: float = GRACE_SECONDS) -> None:
    """End them, politely and then by force, and return when none is left.

    Args:
        mark: as in `relatives`.
        own: as in `relatives`; those that ended are passed over.
        grace_seconds: between the two.
    """
    known: frozenset[Identity] = frozenset()
    asked: frozenset[Identity] = frozenset()
    ends = time.monotonic() + grace_seconds
    while known := relatives(mark, own, known):
        if time.monotonic() < ends:
            _send(known - asked, signal.SIGTERM)
            asked = known
        else:
            _send(known, signal.SIGKILL)
        time.sleep(0.1)


def _send(processes: Collection[Identity], number: signal.Signals) -> None:
    for process in processes:
        with suppress(ProcessLookupError):
            os.kill(process.pid, number)
