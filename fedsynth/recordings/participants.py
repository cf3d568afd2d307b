"""The register of a site: from a file to the person it belongs to and its raw label, by name or by a table.

Tables are UTF-8 text parted by tabs, with a first line that names the columns. Messages give row numbers and
never a cell.
"""

import re
from dataclasses import dataclass, field
from pathlib import Path

from fedsynth.errors import RecordingError
from fedsynth.recordings.folder import leads_out
from fedsynth.study import LabelPlan, Study

PARTICIPANTS, RECORDINGS = "participants.tsv", "recordings.tsv"
_BEFORE = "sub-"
_LONGEST_SHOWN, _MOST_SHOWN = 40, 20
_LETTERS_THEN_DIGIT = re.compile(r"([^\W\d_]+)[0-9]")


@dataclass(frozen=True)
class Entry:
    """Whose a recording is, its raw label, None where its beats bear the labels, and its covariates."""

    subject: str = field(repr=False)
    label: str | None = field(repr=False)
    covariates: tuple[int, ...] = field(default=(0,), repr=False)


@dataclass(frozen=True)
class Participants:
    """What the study's source of labels says; `rows` is empty where names of files say all of it.

    `rows` are keyed by participant for participants.tsv, and by recording for recordings.tsv.
    """

    plan: LabelPlan
    stem_is_subject: bool
    rows: dict[str, Entry]

    def entry(self, path: Path) -> Entry:
        """Look a file up.

        Raises:
            RecordingError: it has no row, or no letters before its digits.
        """
        source = self.plan.source
        if source in ("recordings.tsv", "beats"):
            return self._row(path.stem, RECORDINGS, "recording's")
        subject = path.stem if self.stem_is_subject else path.stem.split("_")[0]
        if source == "participants.tsv":
            # Tables often leave out what BIDS puts before every participant's label.
            other = subject.removeprefix(_BEFORE) if subject.startswith(_BEFORE) else f"{_BEFORE}{subject}"
            known = other if subject not in self.rows and other in self.rows else subject
            return self._row(known, PARTICIPANTS, "person's")
        found = _LETTERS_THEN_DIGIT.match(path.stem)
        if found is None:
            raise RecordingError(
                "its name does not begin with letters and then digits, and the letters are the label; rename the "
                "file or move it away"
            )
        return Entry(subject, found[1])

    def _row(self, key: str, table: str, whose: str) -> Entry:
        if key not in self.rows:
            raise RecordingError(f"it belongs to no row of {table}; add the {whose} row, or move the file away")
        return self.rows[key]


def read_participants(
    folder: Path, files: list[Path], *, site: str, study: Study, stem_is_subject: bool, root: Path | None
) -> Participants:
    """Read the table that the study's labels ask for, if any.

    `participants.tsv` has the columns `participant_id` and `labels.column`. `recordings.tsv` has `recording` (a
    file's name without its suffix), `participant_id` and, unless the labels are those of beats, `labels.column`.

    Args:
        folder: of the site.
        files: of its recordings.
        site: its name, for messages.
        study: says where labels stand.
        stem_is_subject: whether a file's name without its suffix names the person.
        root: the folder that links may not lead out of; None where they may.

    Raises:
        RecordingError: no such table, a link, a column that is missing or there twice, a ragged row, a participant
            with two labels, a recording with two rows, or two files of one name where a table tells files by name.
    """
    plan = study.labels
    for name in (PARTICIPANTS, RECORDINGS):
        if leads_out(folder / name, root=root):
            raise RecordingError(
                f"site {site!r}: {name} is a link out of the site's folder; say --follow-links, or copy it there. "
                "Nothing was written"
            )
    if plan.source == "file name":
        return Participants(plan, stem_is_subject, {})
    if plan.source == "participants.tsv":
        return Participants(plan, stem_is_subject, _participants(folder, plan.column, site))
    if len({path.stem for path in files}) < len(files):
        raise RecordingError(
            f"site {site!r}: two files in different folders have one name, and recordings.tsv tells recordings by "
            "their names; rename one of them. Nothing was written"
        )
    return Participants(
        plan, stem_is_subject, _recordings(folder, None if plan.source == "beats" else plan.column, site)
    )


class UnknownLabelError(RecordingError):
    """A label that is none of the study's."""


def labels_found(entries: list[Entry]) -> str:
    """Say which raw labels a site has, and on how many people, for its own eyes.

    A value that only one person has may be a name in the wrong column; such values are counted and not shown.

    >>> labels_found([Entry("a", "H"), Entry("b", "H"), Entry("c", "Rosa"), Entry("c", "Rosa")])
    "labels found: 'H' (2 people); and 1 that one person alone has"
    """
    people: dict[str, set[str]] = {}
    for entry in entries:
        if entry.label is not None:
            people.setdefault(entry.label, set()).add(entry.subject)
    shown = sorted(
        (label for label in people if len(people[label]) > 1), key=lambda label: (-len(people[label]), label)
    )
    said = [f"{label[:_LONGEST_SHOWN]!r} ({len(people[label])} people)" for label in shown[:_MOST_SHOWN]]
    alone = len(people) - len(shown)
    more = [f"{len(shown) - _MOST_SHOWN} more"] if len(shown) > _MOST_SHOWN else []
    last = [f"{'and ' * bool(said)}{alone} that one person alone has"] if alone else []
    return "labels found: " + "; ".join([", ".join([*said, *more])] * bool(said) + last)


def name_of(raw: str, plan: LabelPlan) -> str | None:
    """Return the study's name of a raw label, or None to leave it out.

    Raises:
        UnknownLabelError: the label is none of the study's, and the study says that such are refused.
    """
    label = plan.rename.get(raw, raw)
    if label in plan.names:
        return label
    if plan.others == "leave out":
        return None
    raise UnknownLabelError(
        f"its label is not one of the study's names ({', '.join(plan.names)}); correct it, extend labels.rename, "
        'or set labels.others = "leave out"'
    )


def _participants(folder: Path, column: str, site: str) -> dict[str, Entry]:
    entries: dict[str, Entry] = {}
    for number, (person, label) in _rows(folder / PARTICIPANTS, ("participant_id", column), site):
        if entries.setdefault(person, Entry(person, label)).label != label:
            raise RecordingError(
                f"site {site!r}: {PARTICIPANTS}: row {number} gives a participant another label than a row before "
                "it; keep one of them. Nothing was written"
            )
    return entries


def _recordings(folder: Path, column: str | None, site: str) -> dict[str, Entry]:
    columns = ("recording", "participant_id") if column is None else ("recording", "participant_id", column)
    entries: dict[str, Entry] = {}
    for number, (recording, person, *label) in _rows(folder / RECORDINGS, columns, site):
        if recording in entries or not person:
            wrong = "names no participant" if not person else "is of a recording that has a row before it"
            raise RecordingError(
                f"site {site!r}: {RECORDINGS}: row {number} {wrong}; correct it. Nothing was written"
            )
        entries[recording] = Entry(person, label[0] if label else None)
    return entries


def _rows(path: Path, columns: tuple[str, ...], site: str) -> list[tuple[int, list[str]]]:
    """Return the number and the cells of every row, in the order of the columns."""
    where = f"site {site!r}: {path.name}"
    try:
        if path.exists() and not path.is_file():
            raise RecordingError(f"{where} is no file; put the table there. Nothing was written")
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        below = [*path.parent.glob(f"*/{path.name}"), *path.parent.glob(f"*/*/{path.name}")]
        advice = "put it into the site's folder"
        if len(below) == 1:
            advice = "one stands in a folder below, so name that folder as the site's"
        raise RecordingError(
            f"{where} is missing, and labels.source asks for it; {advice}. Nothing was written"
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        raise RecordingError(
            f"{where} cannot be read as UTF-8 text ({type(error).__name__}); save it again. Nothing was written"
        ) from None
    rows = [[cell.strip().strip('"') for cell in line.split("\t")] for line in text.split("\n") if line.strip()]
    heads = rows[0] if rows else []
    for wanted in columns:
        if heads.count(wanted) != 1:
            raise RecordingError(
                f"{where} has {heads.count(wanted)} columns {wanted!r}, and one is needed; its first line names "
                "the columns, parted by tabs. Nothing was written"
            )
    places = [heads.index(column) for column in columns]
    found = []
    for number, row in enumerate(rows[1:], start=2):
        if len(row) != len(heads):
            raise RecordingError(
                f"{where}: row {number} has {len(row)} cells, and the first line names {len(heads)} columns; "
                "correct it. Nothing was written"
            )
        found.append((number, [row[place] for place in places]))
    return found
