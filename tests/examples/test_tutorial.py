"""Commands of the pages: every one exists, and those of the tutorial, as they stand there, lead to a release."""

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import click
import pytest
import typer.main

from fedsynth.cli.main import app

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docs" / "tutorial.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```sh\n(.*?)```", TEXT, flags=re.DOTALL)
INSTALL, *STEPS, OWN = BLOCKS
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def commands_of(text: str) -> list[str]:
    """Return the command lines of a page: in fences and indented by four; those broken by a backslash as one."""
    fenced = "\n".join(re.findall(r"^```\w*\n(.*?)^```", text, flags=re.MULTILINE | re.DOTALL))
    joined = re.sub(r" *\\\n +", " ", text)
    inside = re.findall(r"^(?:\.venv/bin/)?(fedsynth .*)$", re.sub(r" *\\\n +", " ", fenced), flags=re.MULTILINE)
    return inside + re.findall(r"^    (?:\.venv/bin/)?(fedsynth .*)$", joined, flags=re.MULTILINE)


COMMANDS = [
    (page.name, line)
    for page in PAGES
    if page.name != "log.md"  # what was true on its day keeps the words of that day
    for line in commands_of(page.read_text(encoding="utf-8"))
]


def parse(words: list[str]) -> None:
    """Read a command line without carrying it out."""
    command: click.Command = typer.main.get_command(app)
    context, rest = None, words
    while True:
        context = command.make_context(command.name, rest, parent=context)
        if not isinstance(command, click.Group):
            return
        _, found, rest = command.resolve_command(context, [*context.protected_args, *context.args])
        assert found is not None
        command = found


@pytest.mark.parametrize(("page", "line"), COMMANDS)
def test_a_command_of_a_page_exists(page: str, line: str) -> None:  # noqa: ARG001
    parse(shlex.split(re.sub(r"[][]", "", line), comments=True)[1:])


def test_the_tutorials_commands_are_among_them() -> None:
    assert len([line for page, line in COMMANDS if page == "tutorial.md"]) > 10


def test_the_installation_names_what_is_there() -> None:
    assert "-c constraints.txt -e '.[all]'" in INSTALL
    assert (ROOT / "constraints.txt").is_file()


def shell(block: str, *, cwd: Path, refused: int = 0) -> str:
    """Give commands to a shell in which `fedsynth` and `python` are those of this test."""
    own = cwd / "bin"
    own.mkdir(exist_ok=True)
    for name, words in (("python", ""), ("fedsynth", "-m fedsynth")):
        (own / name).write_text(f'#!/bin/sh\nexec "{sys.executable}" {words} "$@"\n')
        (own / name).chmod(0o755)
    places = {"PATH": f"{own}{os.pathsep}{os.environ['PATH']}", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        ["sh", "-ec", block], cwd=cwd, env=os.environ | places, capture_output=True, text=True, check=False
    )
    assert done.returncode == refused, done.stderr
    return done.stdout + done.stderr


def smaller(study: Path) -> None:
    """Have a drafted study release fewer windows, as somebody in a hurry would."""
    text = study.read_text(encoding="utf-8")
    assert "windows_per_label = 2000 " in text
    study.write_text(text.replace("windows_per_label = 2000 ", "windows_per_label = 200 "), encoding="utf-8")


@pytest.mark.long
def test_the_tutorial_leads_to_a_release_and_then_on_ones_own_recordings_too(tmp_path: Path) -> None:
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    setting, *steps, again = STEPS
    assert setting.startswith("export XDG_STATE_HOME=$PWD/tutorial/state")
    assert "# refused" in again
    small = "python examples/made_up.py tutorial/hospitals"
    assert sum(small in block for block in steps) == 1

    for block in steps:  # as they stand there, but for fewer people and windows
        shell(setting + block.replace(small, f"{small} --people 0.2"), cwd=tmp_path)
        if "fedsynth init" in block:
            smaller(tmp_path / "tutorial" / "study.toml")
    said = shell(setting + again, cwd=tmp_path, refused=3)

    assert "already spent on the same people" in said
    assert (tmp_path / "tutorial" / "release" / "report" / "index.html").is_file()
    assert list((tmp_path / "tutorial" / "state").rglob("ledger.sqlite"))

    mine = shutil.copytree(tmp_path / "tutorial" / "hospitals" / "north", tmp_path / "mine" / "ours")
    own = OWN.replace("RECORDINGS", str(mine)).replace("SITES", str(mine.parent))
    first, *rest = own.splitlines()
    shell(first, cwd=tmp_path)
    smaller(tmp_path / "mine.toml")
    *rest, judged = rest
    quick = f"{judged} --tables fidelity --size quick"
    shell("\n".join(["export XDG_STATE_HOME=$PWD/mine-state", *rest, quick]), cwd=tmp_path)
    assert (tmp_path / "mine-results" / "evaluation.html").is_file()
    assert (tmp_path / "mine-release" / "privacy" / "statement.json").is_file()
