"""The layouts of public data sets: from a folder as it is published to people, files and the rows of their tables.

Understood are text files whose names begin with the label (`Z001.txt`, in sets or flat), EDF files beside a
participants.tsv (the person is the file name up to the first "_"), the CinC 2017 challenge (REFERENCE.csv; a record
counts as a person, because nobody was published, and one with the samples of another is left out), PTB-XL
(ptbxl_database.csv) and the MIT-BIH Arrhythmia Database (RECORDS and *.atr). WFDB records come with a
recordings.tsv that says whose each is."""

import ast
import csv
import hashlib
import re
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

_LETTERS_THEN_DIGIT = re.compile(r"([^\W\d_]+)[0-9]")
_NORMAL, _ABNORMAL = "normal", "abnormal"
_MITBIH_SAME_PERSON = {"202": "201"}  # the same man (PhysioNet's description of the database)


class DealError(Exception):
    """Something about the folders or the numbers that a user can put right."""


@dataclass(frozen=True)
class Person:
    """One person: a name, a label, the person's files and the person's rows of the table."""

    name: str
    label: str
    files: tuple[Path, ...]
    rows: tuple[str, ...] = ()


@dataclass(frozen=True)
class Table:
    """A table that each hospital gets its own rows of: the file's name and its first line."""

    name: str
    head: str


@dataclass(frozen=True)
class _Record:
    """A WFDB record: its header, whose it is, and its label, None where its beats bear the labels."""

    header: Path
    person: str
    label: str | None


def read_people(source: Path, *, column: str) -> tuple[list[Person], Table | None]:
    """Find the people of a folder and their labels; files whose names begin with a dot are passed over.

    Args:
        source: a folder in one of the layouts.
        column: of participants.tsv that holds the label; of the recordings.tsv that is made, where there is one.

    Raises:
        DealError: no recordings, a file that belongs to nobody, or a person with two labels in a table of people.
    """
    if not source.is_dir():
        raise DealError(f"{source} is not a folder")
    for table, read in (("REFERENCE.csv", _cinc2017), ("ptbxl_database.csv", _ptbxl), ("RECORDS", _mitbih)):
        if (source / table).is_file():
            return _people_of_records(read(source), source, column=column)
    files = sorted(path for path in source.rglob("*") if path.is_file() and not path.name.startswith("."))
    edf = [path for path in files if path.suffix.lower() in (".edf", ".bdf")]
    if edf:
        table, rows, labels = _read_table(source / "participants.tsv", column=column)
        people = _people(edf, {path: labels.get(path.stem.split("_")[0]) for path in edf}, stem=False)
        return [Person(one.name, one.label, one.files, (rows[one.name],)) for one in people], table
    text = [path for path in files if path.suffix.lower() == ".txt"]
    if not text:
        raise DealError(
            f"{source} holds neither text files (*.txt) nor EDF files (*.edf), nor a table of CinC 2017, PTB-XL or "
            "MIT-BIH"
        )
    found = {path: _LETTERS_THEN_DIGIT.match(path.stem) for path in text}
    return _people(text, {path: match[1] if match else None for path, match in found.items()}, stem=True), None


def _cinc2017(source: Path) -> list[_Record]:
    """Read REFERENCE.csv: a record and N, A, O or ~ a line. Of records with the same samples the first is read."""
    rows = [row for row in _csv(source / "REFERENCE.csv") if row]
    if any(len(row) != 2 for row in rows):
        raise DealError(f"{source / 'REFERENCE.csv'} should have two cells a line: a record and its label")
    records: dict[bytes, _Record] = {}
    for name, label in rows:
        record = _Record(source / f"{name}.hea", name, label)
        records.setdefault(_samples_of(record), record)
    return list(records.values())


def _ptbxl(source: Path) -> list[_Record]:
    """Read ptbxl_database.csv: an ECG is normal where a statement of the class NORM was made, and abnormal where
    only others of a diagnostic class were; an ECG without one is left out."""
    statements = _csv(source / "scp_statements.csv")
    place = statements[0].index("diagnostic_class") if "diagnostic_class" in statements[0] else None
    head, *rows = _csv(source / "ptbxl_database.csv")
    if place is None or not {"patient_id", "scp_codes", "filename_lr"} <= set(head):
        raise DealError(f"{source}: a column of ptbxl_database.csv or scp_statements.csv is missing")
    classes = {row[0]: row[place] for row in statements[1:] if row[place]}
    found = []
    for row in rows:
        cells = dict(zip(head, row, strict=True))
        diagnoses = {classes[code] for code in ast.literal_eval(cells["scp_codes"]) if code in classes}
        if diagnoses:
            label = _NORMAL if "NORM" in diagnoses else _ABNORMAL
            header = source / f"{cells['filename_lr']}.hea"
            found.append(_Record(header, cells["patient_id"].removesuffix(".0"), label))
    return found


def _mitbih(source: Path) -> list[_Record]:
    """Read RECORDS: a record a line; its .atr file holds the labels of its beats."""
    names = (source / "RECORDS").read_text(encoding="utf-8").split()
    records = [_Record(source / f"{name}.hea", _MITBIH_SAME_PERSON.get(name, name), None) for name in names]
    if any(not record.header.with_suffix(".atr").is_file() for record in records):
        raise DealError(f"{source}: a record of RECORDS has no .atr file, and its beats would have no labels")
    return records


def _people_of_records(records: list[_Record], source: Path, *, column: str) -> tuple[list[Person], Table]:
    """Put records together by person. A person whose records have several labels counts under all of them."""
    of_person: dict[str, list[_Record]] = defaultdict(list)
    for record in records:
        of_person[record.person].append(record)
    people = []
    for name, mine in of_person.items():
        files = tuple(path for record in mine for path in _files_of(record))
        rows = tuple("\t".join([one.header.stem, name, *([one.label] if one.label else [])]) for one in mine)
        label = "+".join(sorted({record.label or "beats" for record in mine}))
        people.append(Person(name, label, files, rows))
    if not people:
        raise DealError(f"{source} names no records")
    labelled = any(record.label for record in records)
    return people, Table("recordings.tsv", "\t".join(["recording", "participant_id", *[column] * labelled]))


def _files_of(record: _Record) -> list[Path]:
    beside = [record.header.with_suffix(suffix) for suffix in (".hea", ".dat", ".mat", ".atr")]
    found = [path for path in beside if path.is_file()]
    if len(found) < 2 or not record.header.is_file():
        raise DealError("a record of the table has no header or no signal file. Nothing was written")
    return found


def _samples_of(record: _Record) -> bytes:
    """Return the digest of a record's signal file."""
    signals = [path for path in _files_of(record) if path.suffix in (".dat", ".mat")]
    if not signals:
        raise DealError("a record of the table has no signal file. Nothing was written")
    return hashlib.sha256(b"".join(path.read_bytes() for path in signals)).digest()


def _csv(path: Path) -> list[list[str]]:
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            rows = list(csv.reader(file))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DealError(f"{path} cannot be read as a table ({type(error).__name__})") from None
    if not rows:
        raise DealError(f"{path} is empty")
    return rows


def _people(files: list[Path], labels: dict[Path, str | None], *, stem: bool) -> list[Person]:
    nobodys = sum(label is None for label in labels.values())
    if nobodys:
        reason = "has no letters before its digits" if stem else "has no row in participants.tsv"
        raise DealError(f"{nobodys} of {len(files)} files cannot be dealt: the name {reason}. Nothing was written")
    of_person: dict[str, list[Path]] = defaultdict(list)
    for path in files:
        of_person[path.stem if stem else path.stem.split("_")[0]].append(path)
    people = []
    for name, mine in of_person.items():
        found = {labels[path] for path in mine}
        if len(found) > 1:
            raise DealError("two files of one person have different labels. Nothing was written")
        people.append(Person(name, str(found.pop()), tuple(mine)))
    return people


def _read_table(path: Path, *, column: str) -> tuple[Table, dict[str, str], dict[str, str]]:
    """Read a participants.tsv: its first line, and the line and the label of every participant."""
    if not path.is_file():
        raise DealError(f"{path} is missing; EDF files are dealt by its rows")
    try:
        lines = [line for line in path.read_text(encoding="utf-8-sig").split("\n") if line.strip()]
    except UnicodeDecodeError:
        raise DealError(f"{path} is not UTF-8 text") from None
    heads = [cell.strip() for cell in lines[0].split("\t")] if lines else []
    for wanted in ("participant_id", column):
        if wanted not in heads:
            raise DealError(f"{path} has no column {wanted!r}; it has: {', '.join(heads)}")
    rows, labels = {}, {}
    for number, line in enumerate(lines[1:], start=2):
        cells = [cell.strip() for cell in line.split("\t")]
        if len(cells) != len(heads):
            raise DealError(f"{path}: row {number} has {len(cells)} cells instead of {len(heads)}")
        name = cells[heads.index("participant_id")]
        if name in rows:
            raise DealError(f"{path}: row {number} repeats a participant")
        rows[name], labels[name] = line, cells[heads.index(column)]
    return Table(path.name, lines[0]), rows, labels
