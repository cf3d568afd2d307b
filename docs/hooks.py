"""Hooks of MkDocs: the version in the header, the list of decisions, the blind page, and one of all commands.

The last is made from the commands themselves while the site is built, and stands in no folder, so it cannot go out
of date.
"""

import importlib
import os
import re
import sys
import tempfile
import tomllib
from pathlib import Path
from typing import Any

import click
import typer.main
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

PAGE = "reference/commands.md"
_WINDOWS = "<!-- windows -->"
_BLIND_SETS = ("bonn", "cinc2017", "guinea_bissau")
_BENCHMARKS = Path(__file__).parents[1] / "benchmarks"
_HEAD = """\
# All commands

Made from the commands themselves. `fedsynth COMMAND --help` prints the same on your machine.
[Commands and exit codes](../commands.md) says how they answer, how they fail and how they go on.
"""


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Name the version that the site is about, and list the decisions in the part for contributors."""
    project = tomllib.loads((Path(config.config_file_path).parent / "pyproject.toml").read_text(encoding="utf-8"))
    config.site_name = f"{config.site_name} {project['project']['version']}"
    for section in config.nav or ():
        for entry in section.get("For contributors", ()):
            if "Decisions" in entry:
                entry["Decisions"] = decisions(Path(config.docs_dir))
    return config


def decisions(folder: Path) -> list[dict[str, str]]:
    """Return an entry for every decision, in their order."""
    pages = sorted((folder / "decisions").glob("[0-9]*.md"))
    return [{page.stem.replace("-", " "): f"decisions/{page.name}"} for page in pages]


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the page of all commands."""
    files.append(File.generated(config, PAGE, content=page_of_commands()))
    return files


def on_page_markdown(markdown: str, page: Page, **_: Any) -> str:
    """Draw the windows of the blind page where the public sets are at hand; nothing of them is kept."""
    if page.file.src_uri != "blind.md":
        return markdown
    return markdown.replace(_WINDOWS, blind_windows(os.environ.get("FEDSYNTH_PUBLIC_SETS")))


def blind_windows(sets: str | None) -> str:
    """Return the forms of the blind page in HTML, or a sentence that says that they are missing."""
    if not sets:
        return "*This copy of the site was built without the public sets.*"
    sys.path.insert(0, str(_BENCHMARKS))
    try:
        blind = importlib.import_module("blind")
    finally:
        sys.path.remove(str(_BENCHMARKS))
    there = [name for name in _BLIND_SETS if (Path(sets) / name).is_dir()]
    with tempfile.TemporaryDirectory() as scratch:
        forms = [blind.fragment(blind.windows(name, Path(sets), 8.0, Path(scratch))) for name in there]
    return str(blind.inner("\n".join(forms)))


def page_of_commands() -> str:
    """Return the page of every command: what it does, its arguments and its options."""
    from fedsynth.cli.main import app

    return _HEAD + "".join(_sections(typer.main.get_command(app), "fedsynth", depth=2))


def _sections(command: click.Command, name: str, *, depth: int) -> list[str]:
    if not isinstance(command, click.Group):
        return [_section(command, name, depth=depth)]
    said = []
    for verb, one in command.commands.items():
        if one.hidden:
            continue
        if isinstance(one, click.Group):
            said.append(f"\n{'#' * depth} {name} {verb}\n\n{_words(one.help)}\n")
            said += _sections(one, f"{name} {verb}", depth=depth + 1)
        else:
            said += _sections(one, f"{name} {verb}", depth=depth)
    return said


def _section(command: click.Command, name: str, *, depth: int) -> str:
    context = click.Context(command, info_name=name)
    usage = " ".join(command.collect_usage_pieces(context))
    rows = [row for one in command.params if (row := _row(one, context)) and not getattr(one, "hidden", False)]
    table = "".join(f"| `{_cell(term)}` | {_cell(words)} |\n" for term, words in rows)
    head = f"\n{'#' * depth} {name}\n\n    {name} {usage}\n\n{_words(command.help)}\n"
    return f"{head}\n| argument or option | meaning |\n|---|---|\n{table}" if table else head


def _row(one: click.Parameter, context: click.Context) -> tuple[str, str] | None:
    """Return how an argument or option is written, and what its help says."""
    found: Any = one.get_help_record(context)
    return None if found is None else (found[0], found[1].replace("\\[", "["))


def _words(text: str | None) -> str:
    return re.sub(r"[ \t]+", " ", (text or "").strip()).replace("\b", "")


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|").replace("<", "&lt;")
