"""Holdings: the windows a site has prepared for a study, closed until a ledger ticket opens them.

Every subject belongs to one group: a public function of the subject's name decides between "train" and "held-out".
Adding or removing a person, a recording or a window moves nobody else, so what is asked of the two groups composes
in parallel.
"""

import hashlib
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import BinaryIO

import numpy as np

from fedsynth.errors import PrivacyError, RunError
from fedsynth.ledger.chain import people_key
from fedsynth.ledger.ledger import Ledger, Ticket, token
from fedsynth.privacy.mechanism import Group
from fedsynth.recordings.people import Known, people_of
from fedsynth.recordings.recording import Windows
from fedsynth.recordings.store.file import Store, open_store
from fedsynth.recordings.store.seal import KEY_BYTES
from fedsynth.site.policy import load_policy
from fedsynth.site.shelves import (
    SUFFIX,
    Labelled,
    Rows,
    Shelved,
    rows_of,
    shape_of_windows,
    unsealed,
    write_shelf,
)
from fedsynth.study import Study


@dataclass(frozen=True)
class Holdings:
    """What may be known without opening data, for the site's own eyes.

    `tokens` of the people in each group, the number of `subjects`, and the `labels` that somebody who trains has.
    Where `sealed`, the windows lie under the key that the site's rules name. `ends` are the bytes of each group's
    store that count: behind them can stand what an append began that was broken off.
    """

    folder: Path
    tokens: dict[Group, tuple[str, ...]]
    subjects: int
    labels: tuple[str, ...] = ()
    sealed: bool = False
    ends: dict[Group, int] = field(default_factory=dict)

    def write(self) -> None:
        """Write everything but windows into the folder."""
        body = {
            "subjects": self.subjects,
            "tokens": self.tokens,
            "labels": self.labels,
            "sealed": self.sealed,
            "ends": self.ends,
        }
        with (self.folder / "people.json").open("w", encoding="ascii") as file:
            file.write(json.dumps(body))
            file.flush()
            os.fsync(file.fileno())

    def check(self) -> None:
        """Refuse groups that share anybody: the budget of each is counted as if nobody were in both.

        Raises:
            PrivacyError: they do; said where holdings are made and approved, and not again when an order comes.
        """
        both = set(self.tokens["train"]) & set(self.tokens["held-out"])
        if both:
            raise PrivacyError(
                "recordings with the same samples stand under two names of which one trains and one is held out "
                f"({len(both)} digests are shared); the promise needs everybody in one group. Give both the name "
                "of one person, or leave one out"
            )

    def open(self, ticket: Ticket, *, ledger: Ledger) -> BinaryIO:
        """Open the windows of the ticket's group for reading, after a charge that was written; once for a ticket.

        The file may be handed to a process that may open none itself: it can read this one, and no more. Sealed
        windows are opened into memory that has no name, for the ticket's group alone.

        Raises:
            PrivacyError: no ticket, or one for other people.
            LedgerError: the ledger knows no such charge, or the ticket was used before.
            RunError: the windows are damaged, or there is no key for them.
        """
        if not isinstance(ticket, Ticket):
            raise PrivacyError("holdings open only for a ledger ticket; charge first")
        group = ticket.mechanism.group
        if ledger.redeem(ticket).people != people_key(self.tokens[group]):
            raise PrivacyError("this ticket was charged to other people than those held here; nothing was opened")
        file = self._file(group)
        if not self.sealed and os.fstat(file.fileno()).st_size == self.ends[group]:
            return file
        with file:
            return unsealed(self._open(file, group))

    def at_home(self, group: Group) -> Windows:
        """Return a group's windows without a charge, for the site's own eyes: no number of them may leave."""
        return self.store(group).windows()

    def store(self, group: Group) -> Store:
        """Open a group's store without a charge, for the site's own hands.

        Raises:
            RecordingError: it is damaged, or there is no key for it.
        """
        return self._open(self._file(group), group)

    def size(self, group: Group) -> int:
        """Return how many bytes a group's windows take."""
        return (self.folder / f"{group}{SUFFIX}").stat().st_size

    def _open(self, file: BinaryIO, group: Group) -> Store:
        key = windows_key(self.folder.parent) if self.sealed else None
        return open_store(file, key=key, end=self.ends[group])

    def _file(self, group: Group) -> BinaryIO:
        # Neither a link to another file nor the right to write is handed on.
        place, flags = self.folder / f"{group}{SUFFIX}", os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC
        return os.fdopen(os.open(place, flags), "rb")


def keep(
    folder: Path,
    *,
    recordings: Sequence[Known],
    windows: Labelled,
    study: Study,
    key: bytes,
    rows: Rows | None = None,
) -> Holdings:
    """Write a site's windows, by group and person, and the tokens of their people.

    Args:
        folder: to be made.
        recordings: in the order that `windows.recordings` counts, known by names and digests in clear.
        windows: of those recordings.
        study: for the fraction held out.
        key: the ledger's secret.
        rows: gives the windows of a recording by its number; by default those of `windows`.

    Raises:
        PrivacyError: a recording stands under two names, one in each group; nothing was written.
    """
    holdings = holdings_of(recordings, study=study, key=key, folder=folder)
    folder.mkdir(parents=True)
    groups = groups_of(recordings, held_out=study.training.held_out)
    people = people_of(recordings)
    ends: dict[Group, int] = {}
    for group in holdings.tokens:
        shelf = [
            Shelved(number, people[number], windows.labels[windows.recordings == number], covariates=one.covariates)
            for number, one in enumerate(recordings)
            if groups[number] == group and (windows.recordings == number).any()
        ]
        give = rows or rows_of(windows)
        path = folder / f"{group}{SUFFIX}"
        ends[group] = write_shelf(path, shelf, shape=shape_of_windows(study), rows=give, seal=None)
    holdings = replace(
        holdings,
        labels=labels_of_group(recordings, windows, "train", held_out=study.training.held_out),
        ends=ends,
    )
    holdings.write()
    return holdings


def holdings_of(
    recordings: Sequence[Known], *, study: Study, key: bytes, folder: Path = Path("holdings")
) -> Holdings:
    """Return what `keep` would keep in a folder; writes nothing.

    Raises:
        PrivacyError: as `keep`.
    """
    holdings = Holdings(
        folder=folder,
        tokens=tokens_of(recordings, held_out=study.training.held_out, key=key),
        subjects=len({recording.subject for recording in recordings}),
    )
    holdings.check()
    return holdings


def load_holdings(folder: Path) -> Holdings:
    """Read what `keep` wrote, without opening any window.

    Raises:
        RunError: missing or damaged.
    """
    try:
        body = json.loads((folder / "people.json").read_text(encoding="ascii"))
        tokens: dict[Group, tuple[str, ...]] = {
            "train": tuple(body["tokens"]["train"]),
            "held-out": tuple(body["tokens"]["held-out"]),
        }
        return Holdings(
            folder=folder,
            tokens=tokens,
            subjects=int(body["subjects"]),
            labels=tuple(body.get("labels", ())),
            sealed=bool(body["sealed"]),
            ends={"train": int(body["ends"]["train"]), "held-out": int(body["ends"]["held-out"])},
        )
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise RunError(f"this site has no holdings for the study ({type(error).__name__}); ingest first") from error


def tokens_of(recordings: Sequence[Known], *, held_out: float, key: bytes) -> dict[Group, tuple[str, ...]]:
    """Return the keyed tokens of each group: of every recording's content and of every subject's name, sorted.

    Any of them is enough to know a person again: under another name, with other recordings, or with the same ones
    saved again. Content is the data as a whole, and a few stretches of each channel (`Recording.known_by`).
    """
    tokens: dict[Group, set[str]] = {"train": set(), "held-out": set()}
    for recording in recordings:
        group = group_of_person(recording.subject, held_out=held_out)
        tokens[group] |= {token(key, "recording", digest) for digest in recording.known_by}
        tokens[group].add(token(key, "subject", recording.subject))
    return {group: tuple(sorted(mine)) for group, mine in tokens.items()}


def groups_of(recordings: Sequence[Known], *, held_out: float) -> list[Group]:
    """Return the group of each recording's subject."""
    return [group_of_person(recording.subject, held_out=held_out) for recording in recordings]


def labels_of_group(
    recordings: Sequence[Known], windows: Labelled, group: Group, *, held_out: float
) -> tuple[str, ...]:
    """Return the labels that somebody's windows in a group bear, in the study's order."""
    inside = np.array(groups_of(recordings, held_out=held_out), dtype=object)[windows.recordings] == group
    there = set(windows.labels[inside].tolist())
    return tuple(name for number, name in enumerate(windows.label_names) if number in there)


def group_of_person(subject: str, *, held_out: float) -> Group:
    """Return a person's group from the person's name alone: no recording or window, added or removed, moves it.

    >>> group_of_person("sub-001", held_out=0.2)
    'train'
    """
    first = hashlib.sha256(f"held out\x1f{subject}".encode()).digest()
    return "held-out" if int.from_bytes(first[:8], "big") < held_out * 2**64 else "train"


def read_windows(file: BinaryIO) -> Windows:
    """Read the windows of an open file, as `Holdings.open` gives it.

    Raises:
        RecordingError: they are damaged.
    """
    return open_store(file).windows()


def windows_key(site: Path) -> bytes | None:
    """Return the key under which a site's windows are sealed, by its rules; None where they name none.

    Raises:
        RunError: the file that the rules name holds no key.
    """
    named = load_policy(site).windows_key
    if not named:
        return None
    try:
        data = (site / named).read_bytes()
    except OSError as error:
        raise RunError(f"the key of the windows (windows_key) cannot be read ({type(error).__name__})") from None
    if len(data) != KEY_BYTES:
        raise RunError(
            f"the key of the windows (windows_key) has {len(data)} bytes, and {KEY_BYTES} are needed: "
            f"head -c {KEY_BYTES} /dev/urandom > FILE"
        )
    return data
