"""Commands whose help says what their arguments are, in paragraphs that fill the terminal."""

import inspect
import re
from typing import Any, get_args

from typer.core import TyperArgument, TyperCommand
from typer.models import ArgumentInfo


class Described(TyperCommand):
    """A command that keeps the help of its arguments, and joins the lines of a paragraph.

    Typer 0.20 sets it before it calls click's initialiser, and that of click 8.5, which has a help of its own, sets
    it back to nothing.
    """

    def __init__(self, *args: Any, **others: Any) -> None:
        super().__init__(*args, **others)
        self.help = re.sub(r"(?<!\n)\n(?!\n)", " ", self.help or "")
        told = _helps(self.callback)
        for one in self.params:
            if isinstance(one, TyperArgument) and not one.help:
                one.help = told.get(str(one.name))


def _helps(callback: Any) -> dict[str, str]:
    """Return the help that the annotations of a command's function give its arguments."""
    found = {}
    for name, parameter in inspect.signature(callback).parameters.items():
        for extra in get_args(parameter.annotation)[1:]:
            if isinstance(extra, ArgumentInfo) and extra.help:
                found[name] = extra.help
    return found
