"""Leaving: approvals are taken back and the kill switch is thrown; what remains is said and left where it is."""

from dataclasses import dataclass
from pathlib import Path

from fedsynth.site.policy import load_policy
from fedsynth.site.requests import withdraw_all

_REMAINS = (
    (
        "the ledger with its key and its head",
        "keep them as long as anything that was made from these people's recordings is public: without them people "
        "who have spent all would begin at zero",
    ),
    (
        "sums that were told",
        "they cannot be taken back; a generator that was trained on them keeps what it learned, within the promise",
    ),
    ("holdings/", "delete the folder once the last study on it is over; nothing needs it any more"),
    ("quality/", "shows people's signals and exact counts; delete it with the holdings"),
    (
        "identity.key and federation/",
        "tell the authority, so that it revokes this site; delete them once every run that names them is over",
    ),
    ("secure/", "secrets of runs in course; delete it now, if no run shall finish with your share"),
)


@dataclass(frozen=True)
class Left:
    """What was done: the kill switch's file, the runs that stood approved, and what remains with the reason."""

    switch: Path
    withdrawn: tuple[str, ...]
    remains: tuple[tuple[str, str], ...]


def leave_federation(folder: Path) -> Left:
    """Throw the kill switch, then take every approval back; nothing is deleted.

    Raises:
        OSError: the disk refused.
    """
    switch = folder / load_policy(folder).kill_switch
    # First: from here on nothing is answered, whatever becomes of the rest.
    switch.touch()
    return Left(switch, withdraw_all(folder), _REMAINS)
