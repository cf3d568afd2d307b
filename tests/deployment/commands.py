"""Command lines that documents and units hold, read by the command line that there is, without running them."""

import shlex
from collections.abc import Sequence

import click
import typer.main

from fedsynth.cli.main import app


def parse(words: Sequence[str]) -> None:
    """Read the words after `fedsynth` as the command line would: verbs, options, arguments and their kinds.

    Raises:
        click.ClickException: a verb or an option that there is not, or an argument that is missing or too much.
    """
    command: click.Command = typer.main.get_command(app)
    context, rest = None, list(words)
    while True:
        context = command.make_context(command.name, rest, parent=context)
        if not isinstance(command, click.Group):
            return
        name, found, rest = command.resolve_command(context, [*context.protected_args, *context.args])
        assert name is not None
        assert found is not None
        command = found


def words_of(line: str) -> list[str]:
    """Return the words after `fedsynth` of a line as a shell would read it."""
    first, *rest = shlex.split(line, comments=True)
    assert first.rpartition("/")[2] == "fedsynth"
    return rest
