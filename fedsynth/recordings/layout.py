"""Layouts: how a folder of recordings is arranged, as a page of TOML, and which of them a site or a study means.

A page says which files are recordings, whose each is, and where its label stands. Pages of public data sets are in
`fedsynth/recordings/presets`; a site writes its own as `recordings.toml` in its folder, or begins there with
`preset = "…"`. A page at a site never leaves it, and goes before the one that a study names.
"""

import re
import tomllib
from importlib import resources
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import Field, ValidationError, model_validator

from fedsynth.errors import RecordingError
from fedsynth.recording_plan import Page, RecordingFormat
from fedsynth.recordings.folder import leads_out
from fedsynth.recordings.units import Unit

PAGE = "recordings.toml"
LARGEST_PAGE = 1 << 20  # bytes
Marks = Literal["file", "events.tsv", "atr", "siena", "chb-mit", "seizeit", "none"]


class PathRule(Page):
    """A regular expression on a file's path below the folder, without its suffix, parted by "/"; group 1 counts."""

    path: str

    @model_validator(mode="after")
    def _compiles(self) -> Self:
        try:
            groups = re.compile(self.path).groups
        except re.error as error:
            raise ValueError(f"{self.path!r} is no regular expression ({error})") from None
        if groups != 1:
            raise ValueError(f"{self.path!r} has {groups} groups, and one is needed")
        return self


class CodesRule(Page):
    """A table from codes to classes: an empty class means that a code says nothing."""

    file: str
    key: str
    value: str


class TableRule(Page):
    """A table with a row for each recording.

    `key` names recordings: by their path below the folder, or by its last part. `person` and `label` are columns.
    A label may be a dictionary of codes as PTB-XL writes them, or codes parted by commas or semicolons; `codes`
    turns them into classes. With `columns` the file has no first line of names.
    """

    file: str
    key: str
    person: str | None = None
    label: str | None = None
    columns: tuple[str, ...] = ()
    codes: CodesRule | None = None


class HeaderRule(Page):
    """A field of the comments of a WFDB header that holds codes: nothing but digits and commas is taken from it."""

    wfdb_field: str = Field(pattern=r"^[A-Za-z]{1,20}$")


class ColumnRule(Page):
    """A column of the layout's table; `rename` gives its values the words that a study uses."""

    column: str
    rename: dict[str, str] = Field(default_factory=dict)


class Layout(Page):
    """The page.

    `format` goes before the study's. `files` are patterns below the folder, but for those of
    `leave_out`; all files of the format by default.
    `columns` names channels where files do not; `aliases` gives a file's labels the study's names; of channels that
    are there twice, `twins = "first"` takes the first. `person` is a path rule, or the table's column, and `same`
    says who is one person. `label` is a path rule, a header's field, or the table's column. Where a recording has
    several classes, `prefer` says which counts; one that has none of these is left out. `conditions` say by name
    where covariates stand: a path rule, a header's field, or a column of the table. `marks` says where annotations
    are. `unit` and `follow_links` as on the command line.
    """

    format: RecordingFormat | None = None
    files: tuple[str, ...] = ()
    leave_out: tuple[str, ...] = ()
    unit: Unit | None = None
    sfreq: float | None = None
    columns: tuple[str, ...] = ()
    aliases: dict[str, str] = Field(default_factory=dict)
    twins: Literal["refuse", "first"] = "refuse"
    follow_links: bool = False
    person: PathRule | None = None
    same: dict[str, str] = Field(default_factory=dict)
    label: PathRule | HeaderRule | None = None
    prefer: tuple[str, ...] = ()
    table: TableRule | None = None
    conditions: dict[str, PathRule | HeaderRule | ColumnRule] = Field(default_factory=dict)
    marks: Marks = "file"


def presets() -> tuple[str, ...]:
    """Return the names of the pages that are shipped.

    >>> "siena" in presets()
    True
    """
    folder = resources.files("fedsynth.recordings") / "presets"
    return tuple(
        sorted(page.name.removesuffix(".toml") for page in folder.iterdir() if page.name.endswith(".toml"))
    )


def layout_for(folder: Path, *, site: str, preset: str | None, root: Path | None = None) -> Layout | None:
    """Return the page of a site's folder, or else the one that the study names; None where neither is.

    The page may not be a link out of `root`, where one is given.

    Raises:
        RecordingError: a page that is not as it should be, or a preset that is not shipped.
    """
    path = folder / PAGE
    if not path.is_file():
        return None if preset is None else _page(_shipped(preset, site), site)
    if leads_out(path, root=root):
        raise RecordingError(
            f"site {site!r}: {PAGE} is a link out of the site's folder; say --follow-links, or copy it there. "
            "Nothing was written"
        )
    try:
        body = tomllib.loads(path.read_bytes()[:LARGEST_PAGE].decode("utf-8"))
    except (OSError, ValueError) as error:
        raise RecordingError(
            f"site {site!r}: {PAGE} cannot be read as TOML ({type(error).__name__}); correct it. Nothing was "
            "written"
        ) from None
    named = body.pop("preset", preset)
    return _page((_shipped(str(named), site) if named is not None else {}) | body, site)


def _shipped(name: str, site: str) -> dict[str, Any]:
    if name not in presets():
        raise RecordingError(
            f"site {site!r}: there is no preset of that name; there are: {', '.join(presets())}. Nothing was "
            "written"
        )
    page = resources.files("fedsynth.recordings") / "presets" / f"{name}.toml"
    return tomllib.loads(page.read_text(encoding="utf-8"))


def _page(body: dict[str, Any], site: str) -> Layout:
    try:
        return Layout.model_validate(body, strict=False)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"] if str(part).isidentifier())
        raise RecordingError(
            f"site {site!r}: {PAGE}: {where!r} is not as it should be ({first['type']}); docs/recordings.md has "
            "all keys. Nothing was written"
        ) from None
