"""Covariates: from a site's tables, paths and headers to the stratum of each recording, by the study's values.

Messages name conditions, rows and columns, and never a cell, a path or a person.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from fedsynth.condition_plan import ConditionPlan, StatementPlan, stratum_of
from fedsynth.errors import RecordingError
from fedsynth.recordings.folder import check_beside, leads_out
from fedsynth.recordings.layout import ColumnRule, HeaderRule, Layout, PathRule, TableRule
from fedsynth.recordings.register import codes_of, header_codes
from fedsynth.recordings.tables import key_of, table_rows
from fedsynth.study import Study

STATEMENTS = "statements"
"""What statements are called as a column, and in a page of layout."""
WITHOUT_CONDITION = "no value of a condition that the study asks for, and were left out"
_KEYS = {"participants.tsv": "participant_id", "recordings.tsv": "recording"}
_FIELD = re.compile(rb"#\s*([A-Za-z]{1,20})\s*:\s*([A-Za-z]{1,20}|[0-9]{1,4}(?:\.[0-9]{1,4})?)\s*")


@dataclass(frozen=True)
class Covariates:
    """What tables of a folder say by condition: `rows` from a person, or a recording, to a raw value."""

    folder: Path
    layout: Layout
    plans: Mapping[str, ConditionPlan]
    rows: Mapping[str, Mapping[str, str]] = field(repr=False)
    root: Path | None
    statements: StatementPlan | None = None

    def numbers(self, path: Path, subject: str) -> tuple[int, ...] | None:
        """Return a recording's stratum and, of each statement, 0 or 1; None where it is to be left out.

        Args:
            path: of the recording's file.
            subject: whose it is, as its register says.

        Raises:
            RecordingError: a value is missing, and the study refuses that.
        """
        numbers = []
        for name, plan in self.plans.items():
            found = plan.number_of(self._raw(name, plan.source, path, subject))
            if found is None and plan.missing == "refuse":
                raise RecordingError(
                    f"its condition {name!r} has no value of the study's ({', '.join(plan.names)}); correct it, "
                    f'extend conditions.{name}.rename, or set its missing = "not said" or "leave out"'
                )
            if found is None:
                return None
            numbers.append(found)
        stratum = stratum_of(numbers, [len(plan.names) for plan in self.plans.values()])
        return (stratum, *self._flags(path, subject))

    def _flags(self, path: Path, subject: str) -> tuple[int, ...]:
        if self.statements is None:
            return ()
        rule = self.layout.conditions.get(STATEMENTS)
        if self.statements.source == "layout" and isinstance(rule, HeaderRule):
            return self.statements.flags_of(header_codes(path, rule))
        return self.statements.flags_of(
            codes_of(self._raw(STATEMENTS, self.statements.source, path, subject) or "")
        )

    def _raw(self, name: str, source: str, path: Path, subject: str) -> str | None:
        rows = self.rows.get(name, {})
        if source == "participants.tsv":
            return rows.get(subject, rows.get(f"sub-{subject}"))
        if source == "recordings.tsv":
            return rows.get(path.stem)
        rule = self.layout.conditions[name]
        below = path.relative_to(self.folder).with_suffix("").as_posix()
        if isinstance(rule, PathRule):
            found = re.search(rule.path, below)
            return found[1] if found else None
        if isinstance(rule, HeaderRule):
            return _header_word(path, rule.wfdb_field, root=self.root)
        raw = rows.get(below, rows.get(PurePosixPath(below).name))
        return rule.rename.get(raw, raw) if raw is not None else None


def covariates_of(folder: Path, layout: Layout, *, study: Study, site: str, root: Path | None) -> Covariates:
    """Read the tables that a study's conditions ask for; none where it has no conditions.

    Args:
        folder: of the site.
        layout: its page.
        study: names the conditions.
        site: its name, for messages.
        root: the folder that links may not lead out of; None where they may.

    Raises:
        RecordingError: a table that is missing, is a link that leads out, lacks a column, or says two things of one
            person or recording; or a page of layout that says nothing of a condition.
    """
    rows = {}
    try:
        for name, plan in _asked(study).items():
            rows[name] = _told(folder, layout, name, plan, root)
    except RecordingError as error:
        raise RecordingError(f"site {site!r}: condition {name!r}: {error}. Nothing was written") from None
    return Covariates(folder, layout, study.conditions, rows, root, study.statements)


def _asked(study: Study) -> dict[str, ConditionPlan | StatementPlan]:
    """Return everything that has a column, or a rule of the layout, by name."""
    return {**study.conditions, **({STATEMENTS: study.statements} if study.statements else {})}


def _told(
    folder: Path, layout: Layout, name: str, plan: ConditionPlan | StatementPlan, root: Path | None
) -> dict[str, str]:
    if plan.source == "layout":
        rule = layout.conditions.get(name)
        if rule is None:
            raise RecordingError(
                f"the layout does not say where it stands; add conditions.{name} to recordings.toml, or name its "
                "source in the study"
            )
        if not isinstance(rule, ColumnRule):
            return {}
        table = layout.table
        if table is None:
            raise RecordingError("the layout names a column and no table; add [table]")
        return _cells(folder, table, rule.column, root)
    path = folder / plan.source
    if leads_out(path, root=root):
        raise RecordingError(f"{plan.source} is a link out of the site's folder; say --follow-links, or copy it")
    return _cells(folder, TableRule(file=plan.source, key=_KEYS[plan.source]), plan.column or name, root)


def _cells(folder: Path, table: TableRule, column: str, root: Path | None) -> dict[str, str]:
    found: dict[str, str] = {}
    for number, cells in table_rows(folder / table.file, [table.key, column], table.columns, root):
        if found.setdefault(key_of(cells[table.key]), cells[column]) != cells[column]:
            raise RecordingError(f"row {number} of its table says another value than a row before it")
    return found


def _header_word(path: Path, name: str, *, root: Path | None) -> str | None:
    """Take one word or number of one comment of a WFDB header; of everything else that stands there, nothing."""
    check_beside(path, root=root)
    try:
        lines = path.read_bytes()[: 1 << 20].splitlines()
    except OSError as error:
        raise RecordingError(f"it cannot be opened and read ({type(error).__name__}); check the file") from None
    for line in lines:
        found = _FIELD.fullmatch(line)
        if found is not None and found[1].decode("ascii").lower() == name.lower():
            return found[2].decode("ascii")
    return None
