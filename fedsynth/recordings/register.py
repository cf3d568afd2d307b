"""The register of a layout: from a file's path and the tables beside it to whose a recording is, and its label.

Messages give row numbers and never a cell, a path or a person.
"""

import ast
import re
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from fedsynth.errors import RecordingError
from fedsynth.recordings.layout import CodesRule, HeaderRule, Layout, PathRule, TableRule
from fedsynth.recordings.participants import Entry
from fedsynth.recordings.tables import key_of, table_rows

_CODES = re.compile(rb"#\s*([A-Za-z]{1,20})\s*:\s*([0-9]{1,20}(?:\s*,\s*[0-9]{1,20})*)\s*")


@dataclass(frozen=True)
class Register:
    """What a layout says about the files of a folder; `rows` are keyed by path below it, or by its last part.

    `needs_label` is whether the study asks for a label of each recording; with `whole_stem` a file's name without
    its suffix names the person, where no rule says otherwise.
    """

    folder: Path
    layout: Layout
    rows: dict[str, Entry]
    classes: dict[str, str]
    needs_label: bool
    whole_stem: bool = False

    def entry(self, path: Path, part: str = "") -> Entry | None:
        """Look a recording up; None where it has none of the classes that the layout prefers.

        Raises:
            RecordingError: it has no row, or its path is not as the layout says.
        """
        below = path.relative_to(self.folder).with_suffix("").as_posix()
        row = self._row(below) if self.layout.table is not None else None
        person = row.subject if row is not None and row.subject else self._person(below, part)
        person = self.layout.same.get(person, person)
        if not self.needs_label:
            return Entry(person, None)
        found = self._labels(path, below, row)
        if len(found) == 1 and not self.layout.prefer:
            return Entry(person, found[0])
        label = next((one for one in self.layout.prefer if one in found), None)
        return None if label is None else Entry(person, label)

    def _row(self, below: str) -> Entry:
        for key in (below, PurePosixPath(below).name):
            if key in self.rows:
                return self.rows[key]
        raise RecordingError("it has no row in the table of the layout; add it, or move the file away")

    def _person(self, below: str, part: str) -> str:
        if self.layout.person is None:
            name = PurePosixPath(below).name
            return part or (name if self.whole_stem else name.split("_")[0])
        return _group(self.layout.person, below, "person")

    def _labels(self, path: Path, below: str, row: Entry | None) -> tuple[str, ...]:
        rule = self.layout.label
        if isinstance(rule, PathRule):
            return (_group(rule, below, "label"),)
        if isinstance(rule, HeaderRule):
            raw = header_codes(path, rule)
        elif row is not None and row.label is not None:
            raw = codes_of(row.label) if self._has_codes else (row.label,)
        else:
            raise RecordingError("the layout does not say where its label stands; add label or table.label")
        if not self.classes:
            return raw
        return tuple(dict.fromkeys(self.classes[code] for code in raw if self.classes.get(code)))

    @property
    def _has_codes(self) -> bool:
        return bool(self.layout.prefer) or bool(self.classes)


def register_of(
    folder: Path, layout: Layout, *, site: str, needs_label: bool, whole_stem: bool, root: Path | None
) -> Register:
    """Read the tables of a layout.

    Args:
        folder: of the site.
        layout: its page.
        site: its name, for messages.
        needs_label: whether the study asks for a label of each recording.
        whole_stem: whether a file's whole name without its suffix names the person, where no rule says so.
        root: where links may lead, as for recordings.

    Raises:
        RecordingError: a table that is missing, cannot be read, lacks a column, or has a ragged or repeated row.
    """
    rows: dict[str, Entry] = {}
    classes: dict[str, str] = {}
    try:
        if layout.table is not None:
            rows = _rows(folder / layout.table.file, layout.table, root)
            if layout.table.codes is not None:
                classes = _classes(folder / layout.table.codes.file, layout.table.codes, root)
    except RecordingError as error:
        raise RecordingError(f"site {site!r}: {error}. Nothing was written") from None
    return Register(folder, layout, rows, classes, needs_label, whole_stem)


def _rows(path: Path, rule: TableRule, root: Path | None) -> dict[str, Entry]:
    wanted = [rule.key, *(column for column in (rule.person, rule.label) if column is not None)]
    found: dict[str, Entry] = {}
    for number, cells in table_rows(path, wanted, rule.columns, root):
        key = key_of(cells[rule.key])
        person = "" if rule.person is None else cells[rule.person].removesuffix(".0")
        entry = Entry(person, None if rule.label is None else cells[rule.label])
        if found.setdefault(key, entry) != entry:
            raise RecordingError(
                f"the table of the layout: row {number} is of a recording that has a row before it"
            )
    return found


def _classes(path: Path, rule: CodesRule, root: Path | None) -> dict[str, str]:
    return {cells[rule.key]: cells[rule.value] for _, cells in table_rows(path, [rule.key, rule.value], (), root)}


def _group(rule: PathRule, below: str, what: str) -> str:
    found = re.search(rule.path, below)
    if found is None or not found[1]:
        raise RecordingError(
            f"its path tells no {what} by the layout's rule; rename the file, correct the rule, or move the "
            "file away"
        )
    return found[1]


def codes_of(cell: str) -> tuple[str, ...]:
    """Read codes: the keys of a dictionary, as PTB-XL writes them, or words parted by commas or semicolons.

    >>> codes_of("{'NORM': 100.0, 'SR': 0.0}"), codes_of("426177001, 164934002")
    (('NORM', 'SR'), ('426177001', '164934002'))
    """
    if cell.startswith("{"):
        try:
            body = ast.literal_eval(cell)
        except (ValueError, SyntaxError, MemoryError, RecursionError):
            body = None
        if not isinstance(body, dict) or not all(isinstance(key, str) for key in body):
            raise RecordingError("its label in the table is no dictionary of codes; correct it")
        return tuple(body)
    return tuple(word.strip() for word in re.split(r"[,;]", cell) if word.strip())


def header_codes(path: Path, rule: HeaderRule) -> tuple[str, ...]:
    """Take digits and commas of one comment of a WFDB header; of everything else that stands there, nothing."""
    try:
        lines = path.read_bytes()[: 1 << 20].splitlines()
    except OSError as error:
        raise RecordingError(f"it cannot be opened and read ({type(error).__name__}); check the file") from None
    for line in lines:
        found = _CODES.fullmatch(line)
        if found is not None and found[1].decode("ascii").lower() == rule.wfdb_field.lower():
            return tuple(code.strip() for code in found[2].decode("ascii").split(","))
    raise RecordingError("its header has no codes in the field that the layout names; export it again")
