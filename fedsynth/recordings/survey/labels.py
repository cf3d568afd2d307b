"""Labels: from a site's tables, names of files and events to the labels that a study may name.

A raw label goes into a study only where several people have it: what one person alone has may be a name.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fedsynth.errors import RecordingError
from fedsynth.recordings.participants import PARTICIPANTS, RECORDINGS
from fedsynth.recordings.readers.events import bids_marks, events_file
from fedsynth.recordings.survey.channels import LEAST_PEOPLE

MOST_LABELS = 20
COLUMNS = (
    "group", "diagnosis", "label", "class", "condition", "status", "disease", "pathology", "rhythm", "cohort",
)  # fmt: skip
"""Columns of tables that are taken for labels, the first that is there; any other is asked about."""
_NO_LABELS = ("participant_id", "recording", "sex", "gender", "hand", "age", "species", "site", "institution")
_UNKNOWN = frozenset({"", "n/a", "na", "nan", "none", "unknown", "?"})
_CONTROLS = frozenset(
    ("control", "controls", "hc", "healthy", "normal", "n", "nsr", "norm", "sinus", "rest", "none", "negative",
     "no", "background", "baseline", "0")
)  # fmt: skip
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")
_LETTERS_THEN_DIGIT = re.compile(r"([^\W\d_]+)[0-9]")


@dataclass(frozen=True)
class Place:
    """A site's folder and its recordings, and whether a file's whole name names the person."""

    folder: Path = field(repr=False)
    files: tuple[Path, ...] = field(repr=False)
    whole_stem: bool = False

    def person(self, path: Path) -> str:
        """Return whose a file is by its name alone."""
        return path.stem if self.whole_stem else path.stem.split("_")[0]


@dataclass(frozen=True)
class Labels:
    """The table `labels` of a study, and what stays here: the people of each label, and who has none of them.

    `table` is empty where the labels are not known; `candidates` are then columns that may hold them.
    `people` are by site; each is the people that have one of the labels.
    """

    table: Mapping[str, Any] = field(default_factory=dict)
    counts: Mapping[str, int] = field(default_factory=dict)
    people: tuple[frozenset[str], ...] = field(default=(), repr=False)
    left_out: int = 0
    candidates: tuple[str, ...] = ()
    columns_of: str = ""


_Table = tuple[list[str], list[list[str]]]
Told = Sequence[Mapping[str, Sequence[str]]]
"""By site: the people, and the raw labels of each."""


def labels_of(places: Sequence[Place], *, sfreq: float | None) -> Labels:
    """Look for labels in tables, in names of files, and in BIDS events, in this order.

    Args:
        places: of the sites; a source counts where every site has it.
        sfreq: of the recordings in Hz, for events.

    Raises:
        RecordingError: events that cannot be read.
    """
    candidates: tuple[str, ...] = ()
    columns_of = ""
    for table in (RECORDINGS, PARTICIPANTS):
        tables = [one for place in places if (one := _read(place.folder / table)) is not None]
        if len(tables) < len(places):
            continue
        columns = [name for name in tables[0][0] if all(name in one[0] for one in tables)]
        usable = {}
        for column in columns:
            if column.lower().startswith(_NO_LABELS):
                continue
            pairs = zip(tables, places, strict=True)
            found = labelled([_column(one, table, column, place) for one, place in pairs])
            if found is not None:
                usable[column] = found
        chosen = next((name for wanted in COLUMNS for name in usable if name.lower() == wanted), None)
        if chosen is not None:
            where = {"source": table} if chosen == "group" else {"source": table, "column": chosen}
            return _with(usable[chosen], where)
        if usable and not candidates:
            candidates, columns_of = tuple(usable), table
    for told, where in ((_by_name(places), {"source": "file name"}), _by_events(places, sfreq)):
        found = labelled(told) if told else None
        if found is not None:
            return _with(found, where)
    return Labels(candidates=candidates, columns_of=columns_of)


def labelled(told: Told) -> Labels | None:
    """Return the labels that several people have, None where there are not 2 to 20 of them.

    >>> two = {f"p{i}": ["Rosa"] if i == 0 else ["patient" if i % 2 else "control"] for i in range(13)}
    >>> found = labelled([two])
    >>> found.table["names"], found.table["positive"], found.left_out
    (['control', 'patient'], 'patient', 1)
    """
    holders: dict[str, set[tuple[int, str]]] = {}
    for site, people in enumerate(told):
        for who, raws in people.items():
            for raw in raws:
                if raw.strip().lower() not in _UNKNOWN:
                    holders.setdefault(raw, set()).add((site, who))
    kept = sorted(raw for raw, who in holders.items() if len(who) >= LEAST_PEOPLE)
    if not 2 <= len(kept) <= MOST_LABELS:
        return None
    kept.sort(key=lambda raw: (raw.lower() not in _CONTROLS, raw))
    names = _names(kept)
    table: dict[str, Any] = {"names": list(names.values())}
    renamed = {raw: name for raw, name in names.items() if raw != name}
    if renamed:
        table["rename"] = renamed
    having = set().union(*(holders[raw] for raw in kept))
    everybody = {(site, who) for site, people in enumerate(told) for who in people}
    if everybody - having or len(kept) < len(holders):
        table["others"] = "leave out"
    positive = next((raw for raw in kept if raw.lower() not in _CONTROLS), kept[-1])
    table["positive"] = names[positive]
    return Labels(
        table,
        {names[raw]: len(holders[raw]) for raw in kept},
        tuple(frozenset(who for site, who in having if site == number) for number in range(len(told))),
        len(everybody - having),
    )


def letters_of(stem: str) -> str | None:
    """Return the letters before the digits of a file's name, the label for `labels.source = "file name"`."""
    found = _LETTERS_THEN_DIGIT.match(stem)
    return None if found is None else found[1]


def people_of_table(path: Path) -> int:
    """Return how many people a table names, 0 where it is none."""
    table = _read(path)
    return len({row[table[0].index("participant_id")] for row in table[1]}) if table else 0


def _with(found: Labels, where: Mapping[str, Any]) -> Labels:
    table = dict(found.table)
    return Labels({"names": table.pop("names"), **where, **table}, found.counts, found.people, found.left_out)


def _names(raws: Sequence[str]) -> dict[str, str]:
    """Give each raw label a name that a study can hold: its own, one with hyphens, or a number."""
    names: dict[str, str] = {}
    for number, raw in enumerate(raws, start=1):
        name = re.sub(r"[^A-Za-z0-9_.-]+", "-", raw).strip("-._")[:64]
        free = _NAME.fullmatch(name) and name not in names.values() and (name == raw or name not in raws)
        names[raw] = name if free else f"label-{number}"
    return names


def _by_name(places: Sequence[Place]) -> Told:
    told = []
    for place in places:
        people: dict[str, list[str]] = {}
        for path in place.files:
            letters = letters_of(path.stem)
            if letters is None:
                return []
            people.setdefault(place.person(path), []).append(letters)
        told.append(people)
    return told


def _by_events(places: Sequence[Place], sfreq: float | None) -> tuple[Told, dict[str, Any]]:
    told, lengths = [], list[float]()
    for place in places:
        people: dict[str, list[str]] = {}
        for path in place.files:
            if sfreq is None or not events_file(path).is_file():
                continue
            try:
                marks = bids_marks(path, sfreq=sfreq, root=None) or ()
            except RecordingError:
                return [], {}  # no label is drafted from tables of which one is damaged; a rehearsal says which
            for mark in marks:
                people.setdefault(place.person(path), []).append(mark.text)
                lengths.append((mark.n_times or 0) / sfreq)
        told.append(people)
    if not all(told):
        return [], {}
    # Whether events have a length is the protocol's, and half of them is no single person's.
    middle = sorted(lengths)[len(lengths) // 2]
    return told, {"source": "intervals" if middle >= 1.0 else "events"}


def _read(path: Path) -> _Table | None:
    """Return the names of the columns of a table and its rows; nothing where there is no such table."""
    if not path.is_file():
        return None
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError:
        raise RecordingError(
            f"{path.name} of a site is not UTF-8 text; save it again. Nothing was written"
        ) from None
    rows = [[cell.strip().strip('"') for cell in line.split("\t")] for line in text.split("\n") if line.strip()]
    if not rows or "participant_id" not in rows[0]:
        return None
    return rows[0], [row for row in rows[1:] if len(row) == len(rows[0])]


def _column(table: _Table, name: str, column: str, place: Place) -> dict[str, list[str]]:
    """Return the people of a site that have recordings, and their raw labels in a column."""
    heads, rows = table
    key = "recording" if name == RECORDINGS else "participant_id"
    if key not in heads:
        return {}
    of: Callable[[Path], str] = (lambda path: path.stem) if key == "recording" else place.person
    present = {of(path) for path in place.files}
    told: dict[str, list[str]] = {}
    for row in rows:
        cells = dict(zip(heads, row, strict=True))
        if cells[key] in present:
            told.setdefault(cells["participant_id"], []).append(cells[column])
    return told
