"""Every fault that would break the promise, planted in the real code, makes a named test fail.

For each fault the package is copied (as links to one compiled copy), the edits of `faults.toml` are made (each text
must stand in the code exactly once, so that a fault cannot quietly stop being planted), and the tests named for it
run against the copy. The control runs all of those tests on an unedited copy: there they must pass.
"""

import compileall
import json
import os
import shutil
import subprocess
import sys
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Fault:
    """A fault's name, its edits as (file, old text, new text), and the tests that must notice."""

    name: str
    edits: tuple[tuple[str, str, str], ...]
    tests: tuple[str, ...]


def listed() -> list[Fault]:
    raw = tomllib.loads(Path(__file__).with_name("faults.toml").read_text(encoding="utf-8"))
    return [Fault(f["name"], tuple(tuple(e) for e in f["edits"]), tuple(f["tests"])) for f in raw["fault"]]


FAULTS = listed()
IGNORED = shutil.ignore_patterns("__pycache__")


def compiled(folder: Path) -> Path:
    """Copy the project to `folder` and compile it once; Python tells by a source's time and size what is stale."""
    for part in ("fedsynth", "client", "server", "tests", "examples"):
        shutil.copytree(ROOT / part, folder / part, ignore=IGNORED)
    shutil.copy(ROOT / "pyproject.toml", folder)
    assert compileall.compile_dir(folder / "fedsynth", quiet=1)
    return folder


def plant(source: Path, folder: Path, fault: Fault) -> None:
    """Link the compiled project to `folder` and put the fault in the place of what it edits."""
    shutil.copytree(source, folder, copy_function=os.link)
    for name, old, new in fault.edits:
        path = folder / "fedsynth" / name
        text = path.read_text(encoding="utf-8")
        assert text.count(old) == 1, f"{name} holds {text.count(old)} times: {old}"
        path.unlink()  # only this copy's name: the others keep the file
        path.write_text(text.replace(old, new), encoding="utf-8")
        for stale in (path.parent / "__pycache__").glob(f"{path.stem}.*.pyc"):
            stale.unlink()


@pytest.fixture(scope="module")
def answers(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    """Plant and run them all; every copy is removed once its answer is there."""
    folder = tmp_path_factory.mktemp("faults")
    control = Fault("control", (), tuple(sorted({test for fault in FAULTS for test in fault.tests})))
    source = compiled(folder / "source")
    command = [sys.executable, str(Path(__file__).with_name("runner.py"))]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as runner:
        assert runner.stdin is not None
        for fault in (control, *FAULTS):
            place = folder / fault.name.replace(" ", "-")
            plant(source, place, fault)
            runner.stdin.write(json.dumps({"folder": str(place), "tests": list(fault.tests)}) + "\n")
            runner.stdin.flush()
        said, _ = runner.communicate()
    told = [json.loads(line) for line in said.splitlines()]
    return {fault.name: answer for fault, answer in zip((control, *FAULTS), told, strict=True)}


def test_without_a_fault_all_of_these_tests_pass(answers: dict[str, dict[str, Any]]) -> None:
    assert answers["control"]["code"] == 0, answers["control"]["said"]


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
def test_a_planted_fault_is_caught(fault: Fault, answers: dict[str, dict[str, Any]]) -> None:
    answer = answers[fault.name]

    # 1: tests ran and failed. Anything else, a broken import included, would catch nothing.
    assert answer["code"] == 1, answer["said"]
    assert "Error collecting" not in answer["said"]


def test_every_name_is_used_once() -> None:
    assert len({fault.name for fault in FAULTS}) == len(FAULTS)
