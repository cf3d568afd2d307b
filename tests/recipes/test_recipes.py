"""The recipes of CONTRIBUTING.md hold: each is followed to the letter in a copy of the tree, and works there.

A recipe is a heading of the third level. Of its fenced blocks, `sh` is run, `python` is a new file, and `diff` is
an edit: its lines without "+" must stand in the file exactly once, and become those without "-". The first line of
both names the file. So the edits are written down once, where contributors read them.
"""

import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parents[2]
GUIDE = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
STYLE, RECIPES = GUIDE.split("\n## Recipes\n")
NAMES = re.findall(r"^### (.+)$", RECIPES, flags=re.MULTILINE)
FOLDERS = ("fedsynth", "client", "server", "tests", "examples")
FILES = ("pyproject.toml", "mkdocs.yml")


@dataclass(frozen=True)
class Block:
    """A fenced block: its language, the file that its first line names ("" for a shell's), and the other lines."""

    language: str
    file: str
    text: str


def blocks(text: str) -> list[Block]:
    """Return the blocks of a text that do something, or that quote a file."""
    found = []
    for language, body in re.findall(r"^```(sh|python|diff)\n(.*?)^```$", text, flags=re.DOTALL | re.MULTILINE):
        named = re.match(r"# (\S+)\n", body)
        found.append(Block(language, named[1], body[named.end() :]) if named else Block(language, "", body))
    return found


def recipe(name: str) -> list[Block]:
    """Return the blocks of a recipe, in order."""
    section = RECIPES.split(f"\n### {name}\n")[1]
    return blocks(section.split("\n### ")[0])


def follow(steps: list[Block], tree: Path) -> None:
    """Do what blocks say in a copy of the tree."""
    for step in steps:
        path = tree / step.file
        if step.language == "sh":
            subprocess.run(["bash", "-euc", step.text], cwd=tree, check=True)
        elif step.language == "python":
            assert not path.exists(), f"{step.file} is there already"
            path.write_text(step.text, encoding="utf-8")
        else:
            lines = step.text.splitlines(keepends=True)
            old, new = ("".join(line[1:] for line in lines if line[0] != sign) for sign in "+-")
            text = path.read_text(encoding="utf-8")
            assert text.count(old) == 1, f"{step.file} holds {text.count(old)} times: {old}"
            path.write_text(text.replace(old, new), encoding="utf-8")


def run(tree: Path, *command: str) -> subprocess.CompletedProcess[str]:
    """Run a Python module in the copy, on the code of the copy."""
    environment = {**os.environ, "PYTHONPATH": str(tree)}
    asked = [sys.executable, "-m", *command]
    return subprocess.run(asked, cwd=tree, env=environment, capture_output=True, text=True, check=False)


def passes(tree: Path, *command: str) -> str:
    """Run a Python module in the copy, which must exit with 0, and return what it printed."""
    done = run(tree, *command)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """Copy what recipes touch."""
    folder = tmp_path / "tree"
    for name in FOLDERS:
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in FILES:
        shutil.copy(ROOT / name, folder)
    return folder


@pytest.fixture(scope="session")
def mypy(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, ...]:
    """Return the command, with a cache that the copies share."""
    return ("mypy", "--cache-dir", str(tmp_path_factory.mktemp("mypy")))


def two_sites(folder: Path, *, columns: tuple[str, ...], suffix: str) -> None:
    """Make two sites with twelve people each; a file of tabs names its columns in its first line."""
    rng = np.random.default_rng(0)
    head = "\t".join(columns) if suffix == ".tab" else ""
    for site in ("east", "west"):
        (folder / site).mkdir(parents=True)
        rows = ["participant_id\tgroup"]
        for number in range(12):
            signal = 10 * (1 + number % 2) * rng.normal(size=(640, len(columns)))
            path = folder / site / f"sub{number}{suffix}"
            np.savetxt(path, signal, fmt="%.3f", delimiter="\t", header=head, comments="")
            rows.append(f"sub{number}\t{('rest', 'task')[number % 2]}")
        (folder / site / "participants.tsv").write_text("\n".join(rows) + "\n", encoding="utf-8")


def test_there_are_five() -> None:
    assert NAMES == ["A family", "A reader", "An estimator", "An engine", "A modality"]


@pytest.mark.parametrize("name", NAMES)
def test_a_recipe_fits_the_tree_of_today_and_the_linter(name: str, tree: Path) -> None:
    follow(recipe(name), tree)

    passes(tree, "ruff", "format", "--check", "--no-cache", ".")
    passes(tree, "ruff", "check", "--no-cache", ".")


def test_examples_of_how_we_write_stand_in_the_code() -> None:
    quoted = [block for block in blocks(STYLE) if block.language == "python"]

    assert len(quoted) == 4
    for block in quoted:
        code = (ROOT / block.file).read_text(encoding="utf-8")
        assert unindented(block.text) in unindented(code), block.file


def unindented(text: str) -> str:
    return "\n".join(line.strip() for line in text.splitlines())


@pytest.mark.slow
def test_a_family_passes_the_contract(tree: Path) -> None:
    follow(recipe("A family"), tree)

    said = passes(tree, "pytest", "-q", "tests/families/test_contract.py", "-k", "my-gan or every_family_of")

    assert int(re.findall(r"(\d+) passed", said)[0]) > 20


@pytest.mark.slow
def test_a_reader_takes_two_sites_through_a_dry_rehearsal(tree: Path, tiny_text: str) -> None:
    follow(recipe("A reader"), tree)
    two_sites(tree / "sites", columns=("C4", "chin", "C3"), suffix=".tab")
    (tree / "study.toml").write_text(tiny_text.replace('"edf"', '"tab"'), encoding="utf-8")

    said = passes(tree, "fedsynth", "rehearse", "study.toml", "--sites", "sites", "--dry-run")

    assert "everything is in order" in said


@pytest.mark.slow
def test_an_estimator_passes_its_contract_and_is_chosen_by_a_study(tree: Path, tiny_text: str) -> None:
    follow(recipe("An estimator"), tree)
    (tree / "study.toml").write_text(
        tiny_text.replace("[plan]", '[plan]\nestimator = "plain-means"'), encoding="utf-8"
    )

    said = passes(tree, "pytest", "-q", "tests/anchors/test_estimators.py", "-k", "plain and means")
    assert int(re.findall(r"(\d+) passed", said)[0]) == 6

    assert "anchor: counts and plain means" in passes(tree, "fedsynth", "check", "study.toml")


@pytest.mark.slow
def test_an_engine_carries_out_a_run(tree: Path, tiny_text: str) -> None:
    follow(recipe("An engine"), tree)
    two_sites(tree / "sites", columns=("C3",), suffix=".txt")
    study = tiny_text.replace('"edf"', '"text"').replace('["C3", "C4"]', '["C3"]')
    (tree / "study.toml").write_text(study, encoding="utf-8")

    said = passes(
        tree, "fedsynth", "rehearse", "study.toml", "--sites", "sites", "--engine", "timed", "--out", "run"
    )

    assert "epsilon" in said
    assert float((tree / "run" / "logs" / "seconds").read_text(encoding="utf-8")) > 0


@pytest.mark.slow
def test_mypy_lists_what_must_know_of_a_modality(tree: Path, tiny_text: str, mypy: tuple[str, ...]) -> None:
    first, *rest = recipe("A modality")
    (tree / "study.toml").write_text(tiny_text.replace('"eeg"', '"emg"'), encoding="utf-8")

    follow([first], tree)
    stopped = run(tree, "fedsynth", "check", "study.toml")
    listed = re.findall(r'^(\S+):\d+: error: Argument 1 to "assert_never"', run(tree, *mypy).stdout, re.MULTILINE)
    follow(rest, tree)
    checked = passes(tree, "fedsynth", "check", "study.toml")

    assert stopped.returncode != 0
    assert "unreachable, but got: 'emg'" in stopped.stderr
    assert sorted(listed) == sorted(
        step.file for step in rest if re.search(r'^\+ +case "', step.text, re.MULTILINE)
    )
    assert len(listed) == 12
    assert "anchor" in checked


@pytest.mark.slow
def test_all_together_pass_what_make_check_runs(tree: Path, mypy: tuple[str, ...]) -> None:
    for name in NAMES:
        follow(recipe(name), tree)

    passes(tree, "ruff", "check", "--no-cache", ".")
    passes(tree, *mypy)
    subprocess.run([Path(sys.executable).with_name("lint-imports")], cwd=tree, check=True)
