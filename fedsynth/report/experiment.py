"""The page of an experiment: tables, figures and words to one file that needs no other.

Unlike the public report it may show what real recordings gave, and says at its head that it is not private.
"""

from dataclasses import dataclass, field
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape

from fedsynth.evaluation.protocol.tables import Number, Table, shown


@dataclass(frozen=True)
class Section:
    """One part of a page: paragraphs, then figures (SVG), then tables."""

    title: str
    words: tuple[str, ...] = ()
    tables: tuple[Table, ...] = ()
    figures: tuple[str, ...] = ()


@dataclass(frozen=True)
class ExperimentPage:
    """What a reader is shown; `mark` is said once more at the head, and on every table that bears one."""

    kicker: str
    title: str
    notice: str
    lead: tuple[str, ...] = ()
    mark: str = ""
    facts: dict[str, str] = field(default_factory=dict)
    sections: tuple[Section, ...] = ()


def write_page(path: Path, page: ExperimentPage) -> None:
    """Write a page in one move; the same page gives the same bytes."""
    environment = Environment(
        loader=PackageLoader("fedsynth.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["table"] = _table
    text = environment.get_template("experiment.html").render(page=page, markup=Markup).rstrip() + "\n"
    partial = path.with_name(f"{path.name}.partial")
    partial.write_text(text, encoding="utf-8", newline="\n")
    partial.replace(path)


def tables_html(notice: str, tables: tuple[Table, ...]) -> str:
    """Return tables below a notice as HTML, for a notebook."""
    return str(Markup("<p>{}</p>").format(notice) + Markup("").join(_table(table) for table in tables))


def _table(table: Table) -> Markup:
    mark = Markup('<strong class="mark">{}</strong> ').format(table.mark) if table.mark else ""
    head = Markup("").join(
        Markup('<th scope="col"{}>{}</th>').format(_right(table, column), name)
        for column, name in enumerate(table.head)
    )
    rows = Markup("").join(_row(table, row) for row in table.rows)
    note = Markup('<p class="small soft">{}</p>').format(table.note) if table.note else Markup("")
    whole = Markup(
        '<div class="scroll"><table><caption>{}{}</caption><thead><tr>{}</tr></thead>'
        "<tbody>{}</tbody></table></div>{}"
    )
    return whole.format(mark, table.title, head, rows, note)


def _row(table: Table, row: tuple[str | Number, ...]) -> Markup:
    cells = [
        Markup('<th scope="row">{}</th>').format(entry)
        if column == 0
        else Markup("<td{}>{}</td>").format(_right(table, column), _entry(entry))
        for column, entry in enumerate(row)
    ]
    return Markup("<tr>{}</tr>").format(Markup("").join(cells))


def _right(table: Table, column: int) -> Markup:
    """Columns that hold a number stand to the right."""
    numbers = any(column < len(row) and isinstance(row[column], Number) for row in table.rows)
    return Markup(' class="num"') if numbers else Markup("")


def _entry(entry: str | Number) -> Markup:
    if isinstance(entry, str):
        return escape(entry)
    value, _, span = shown(entry).partition(" ")
    kind = "value" + (" up" if entry.value > 0 else " down") * entry.is_clear
    return Markup('<span class="{}">{}</span> <span class="span">{}</span>').format(kind, value, span)
