"""Help: every argument and option of every command says what it is, on the terminal and on the page of the site."""

import importlib.util
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import click
import pytest
import typer.main

from fedsynth.cli.main import app

HOOKS = Path(__file__).parents[2] / "docs" / "hooks.py"


def commands(command: click.Command, name: str = "fedsynth") -> Iterator[tuple[str, click.Command]]:
    if isinstance(command, click.Group):
        for verb, one in command.commands.items():
            yield from commands(one, f"{name} {verb}")
    else:
        yield name, command


ALL = dict(commands(typer.main.get_command(app)))


def hooks() -> ModuleType:
    pytest.importorskip("mkdocs")
    spec = importlib.util.spec_from_file_location("hooks", HOOKS)
    assert spec is not None
    assert spec.loader is not None
    found = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(found)
    return found


@pytest.mark.parametrize("name", ALL)
def test_everything_that_can_be_given_says_what_it_is(name: str) -> None:
    silent = [one.name for one in ALL[name].params if not getattr(one, "help", None)]

    assert silent == []
    assert len(ALL[name].help or "") > 20
    assert "\n" not in (ALL[name].help or "").replace("\n\n", "")


def test_the_help_of_an_argument_is_shown(fedsynth) -> None:  # type: ignore[no-untyped-def]
    assert "the study file" in fedsynth("check", "--help").out


def test_the_page_of_all_commands_has_every_command_and_option() -> None:
    page = hooks().page_of_commands()

    for name, command in ALL.items():
        assert f"# {name}\n" in page
        for one in command.params:
            told = str(getattr(one, "help", "")).replace("\\[", "[")
            assert told in page.replace("&lt;", "<").replace("\\|", "|")


def test_the_version_and_every_decision_are_in_the_site() -> None:
    config = pytest.importorskip("mkdocs.config")
    site = hooks().on_config(config.load_config(str(HOOKS.parents[1] / "mkdocs.yml")))

    (part,) = [entry["For contributors"] for entry in site.nav if "For contributors" in entry]
    (listed,) = [entry["Decisions"] for entry in part if "Decisions" in entry]

    assert site.site_name.startswith("fedsynth 0.")
    assert len(listed) == len(list((HOOKS.parent / "decisions").glob("[0-9]*.md")))


@pytest.mark.parametrize(
    ("words", "said"),
    [
        pytest.param(["check", "nowhere.toml"], "draft one: fedsynth init RECORDINGS", id="no study"),
        pytest.param(
            ["check", "examples/toy"], "is a folder; name the study.toml in it", id="a folder for a study"
        ),
        pytest.param(["check", "README.md"], "docs/study.md has an example", id="no TOML"),
        pytest.param(["release", "nowhere", "--out", "x"], "name one that `fedsynth rehearse` or", id="no run"),
        pytest.param(["verify", "docs"], "name the folder of a release", id="no release"),
        pytest.param(
            ["site", "ingest", "docs", "examples/toy/study.toml", "docs"], "fedsynth site init FOLDER", id="no site"
        ),
        pytest.param(["federation", "start", "--federation", "x"], "which command makes it", id="no federation"),
        pytest.param(["init", "nowhere", "-o", "x"], "name the folder that holds the recordings", id="no folder"),
    ],
)
def test_the_first_mistakes_are_answered_with_what_to_do(  # type: ignore[no-untyped-def]
    fedsynth, monkeypatch: pytest.MonkeyPatch, words: list[str], said: str
) -> None:
    monkeypatch.chdir(HOOKS.parents[1])

    done = fedsynth(*words)

    assert done.code in (1, 2, 4)
    assert said in done.err


def test_a_command_that_nearly_exists_is_asked_about_once(fedsynth) -> None:  # type: ignore[no-untyped-def]
    assert fedsynth("chek", "x").err.count("Did you mean") == 1
