"""Holdings: the windows a site has prepared for a study, closed until a ledger ticket opens them.

Every subject belongs to one group: a public function of the subject's name decides between "train" and "held-out".
Adding or removing a person, a recording or a window moves nobody else, so what is asked of the two groups composes
in parallel.
"""

import hashlib
import json
import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from fedsynth.errors import PrivacyError, RunError
from fedsynth.ledger.chain import people_key
from fedsynth.ledger.ledger import Ledger, Ticket, token
from fedsynth.privacy.mechanism import Group
from fedsynth.recordings.recording import Recording, Windows
from fedsynth.study import Study


@dataclass(frozen=True)
class Holdings:
    """What may be known without opening data, for the site's own eyes.

    `tokens` of the people in each group, the number of `subjects`, and the `labels` that somebody who trains has.
    """

    folder: Path
    tokens: dict[Group, tuple[str, ...]]
    subjects: int
    labels: tuple[str, ...] = ()

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

        The file may be handed to a process that may open none itself: it can read this one, and no more.

        Raises:
            PrivacyError: no ticket, or one for other people.
            LedgerError: the ledger knows no such charge, or the ticket was used before.
        """
        if not isinstance(ticket, Ticket):
            raise PrivacyError("holdings open only for a ledger ticket; charge first")
        group = ticket.mechanism.group
        if ledger.redeem(ticket).people != people_key(self.tokens[group]):
            raise PrivacyError("this ticket was charged to other people than those held here; nothing was opened")
        # Neither a link to another file nor the right to write is handed on.
        place, flags = self.folder / f"{group}.npz", os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC
        return os.fdopen(os.open(place, flags), "rb")

    def at_home(self, group: Group) -> Windows:
        """Return a group's windows without a charge, for the site's own eyes: no number of them may leave."""
        with (self.folder / f"{group}.npz").open("rb") as file:
            return read_windows(file)


def keep(folder: Path, *, recordings: list[Recording], windows: Windows, study: Study, key: bytes) -> Holdings:
    """Write a site's windows, by group, and the tokens of their people.

    Args:
        folder: to be made.
        recordings: in the order that `windows.recordings` counts.
        windows: of those recordings.
        study: for the fraction held out.
        key: the ledger's secret.

    Raises:
        PrivacyError: a recording stands under two names, one in each group; nothing was written.
    """
    holdings = holdings_of(recordings, study=study, key=key, folder=folder)
    folder.mkdir(parents=True)
    group_of_recording = groups_of(recordings, held_out=study.training.held_out)
    in_group = np.array(group_of_recording, dtype=object)[windows.recordings]
    for group in holdings.tokens:
        _write(folder / f"{group}.npz", windows, in_group == group)
    labels = labels_of_group(recordings, windows, "train", held_out=study.training.held_out)
    holdings = replace(holdings, labels=labels)
    body = {"subjects": holdings.subjects, "tokens": holdings.tokens, "labels": labels}
    (folder / "people.json").write_text(json.dumps(body), encoding="ascii")
    return holdings


def holdings_of(
    recordings: list[Recording], *, study: Study, key: bytes, folder: Path = Path("holdings")
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
            folder=folder, tokens=tokens, subjects=int(body["subjects"]), labels=tuple(body.get("labels", ()))
        )
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise RunError(f"this site has no holdings for the study ({type(error).__name__}); ingest first") from error


def tokens_of(recordings: list[Recording], *, held_out: float, key: bytes) -> dict[Group, tuple[str, ...]]:
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


def groups_of(recordings: list[Recording], *, held_out: float) -> list[Group]:
    """Return the group of each recording's subject."""
    return [group_of_person(recording.subject, held_out=held_out) for recording in recordings]


def labels_of_group(
    recordings: list[Recording], windows: Windows, group: Group, *, held_out: float
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


def _write(path: Path, windows: Windows, rows: NDArray[np.bool_]) -> None:
    subjects = np.unique(windows.subjects[rows], return_inverse=True)[1]
    recordings = np.unique(windows.recordings[rows], return_inverse=True)[1]
    path.touch(mode=0o600)
    np.savez(
        path,
        signal=windows.signal[rows],
        labels=windows.labels[rows],
        subjects=subjects.astype(np.int64),
        recordings=recordings.astype(np.int64),
        label_names=np.array(windows.label_names),
        channels=np.array(windows.channels),
        sfreq=np.array(windows.sfreq),
    )


def read_windows(file: BinaryIO) -> Windows:
    """Read the windows of an open file, as `keep` wrote them."""
    with np.load(file, allow_pickle=False) as arrays:
        return Windows(
            signal=arrays["signal"],
            labels=arrays["labels"],
            subjects=arrays["subjects"],
            recordings=arrays["recordings"],
            label_names=tuple(str(name) for name in arrays["label_names"]),
            channels=tuple(str(name) for name in arrays["channels"]),
            sfreq=float(arrays["sfreq"]),
        )
