"""Run planted faults: a warm process forks a child for each, as many at once as there are cores, in copies.

A script for `test_planted_faults.py`, which plants while others run. It imports the heavy libraries once and never
fedsynth itself, so that every child imports the copy it stands in. What dp_accounting and Opacus say that events
cost is kept for the other children. For each line of its input (JSON: folder, tests) it prints one line, at the end
(JSON: the exit code of pytest, the last lines of its output, and its processor time). The folder is removed.
"""

import contextlib
import gc
import hashlib
import importlib
import io
import json
import os
import select
import shutil
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

HEAVY = ("torch", "opacus", "opacus.accountants", "opacus.optimizers", "opacus.grad_sample", "dp_accounting")
MORE = ("dp_accounting.pld", "dp_accounting.rdp", "pydantic", "safetensors.torch", "hypothesis", "scipy.signal")
LAST = ("scipy.stats", "sklearn.linear_model", "sklearn.metrics", "pytest", "pyarrow.parquet", "edfio", "typer")
SMALL = ("pydantic.main", "pydantic.functional_validators", "cryptography.x509", "safetensors.numpy")
PLUGINS = ("_hypothesis_pytestplugin", "xdist.plugin", "anyio.pytest_plugin", "platformdirs.pytest_plugin")


@dataclass(frozen=True)
class Child:
    """A forked child: its process id, and the pipe that its answer comes through."""

    pid: int
    pipe: int

    def answer(self) -> dict[str, object]:
        """Wait for its end and return what it said: pytest's exit code and the end of its output."""
        with os.fdopen(self.pipe, encoding="utf-8") as pipe:
            said = pipe.read()
        os.waitpid(self.pid, 0)
        return json.loads(said) if said else {"code": -1, "said": "the child died"}


def fork(folder: Path, tests: list[str]) -> Child:
    """Run tests in a copy of the project, in a child."""
    read, write = os.pipe()
    pid = os.fork()
    if pid:
        os.close(write)
        return Child(pid, read)
    os.close(read)
    os.dup2(os.open(os.devnull, os.O_RDONLY), sys.stdin.fileno())  # the parent alone reads what is asked
    os.chdir(folder)
    sys.path.insert(0, str(folder))
    import pytest

    told = io.StringIO()
    with contextlib.redirect_stdout(told), contextlib.redirect_stderr(told):
        code = int(pytest.main(["-x", "-q", "-p", "no:cacheprovider", "--tb=line", *tests]))
    import fedsynth

    if Path(str(fedsynth.__file__)).parent.parent.resolve() != folder.resolve():
        code, _ = -2, told.write("another fedsynth was imported than the copy")
    with os.fdopen(write, "w", encoding="utf-8") as pipe:
        seconds = round(sum(os.times()[:4]), 1)  # of this child and its own children
        json.dump({"code": code, "said": told.getvalue()[-1500:], "seconds": seconds}, pipe)
    os.chdir(folder.parent)
    shutil.rmtree(folder, ignore_errors=True)
    os._exit(0)


def keep_prices(folder: Path) -> None:
    """Have the accountants of dp_accounting and Opacus look in a folder before they compute.

    A price is a function of the events that were composed, and none of that code is ours: a fault in fedsynth asks
    for other events, or does something else with the price.
    """
    from dp_accounting import pld, rdp
    from opacus import accountants

    for module, name in ((pld, "PLDAccountant"), (rdp, "RdpAccountant")):
        setattr(module, name, _keeping(getattr(module, name), folder))
    compute = accountants.PRVAccountant.get_epsilon

    def epsilon(one: Any, delta: float, **how: Any) -> Any:
        asked = ["PRV", repr(one.history), repr((delta, sorted(how.items())))]
        return _kept(folder, asked, lambda: compute(one, delta, **how))

    accountants.PRVAccountant.get_epsilon = epsilon  # type: ignore[method-assign]


def _kept(folder: Path, asked: list[str], compute: Callable[[], Any]) -> Any:
    """Return what was computed for the same words before, or compute it: one number, or several."""
    place = folder / hashlib.sha256("\n".join(asked).encode()).hexdigest()
    if place.exists():
        return json.loads(place.read_bytes())
    found = np.asarray(compute(), np.float64).tolist()
    beside = folder / f"{place.name}.{os.getpid()}"
    beside.write_text(json.dumps(found))
    beside.replace(place)
    return found


def _keeping(accountant: Any, folder: Path) -> Any:
    class Keeping:
        def __init__(self, *args: Any, **options: Any) -> None:
            self._make = lambda: accountant(*args, **options)
            self._events = list[tuple[Any, ...]]()
            self._asked = [accountant.__name__, repr((args, sorted(options.items())))]

        def compose(self, *event: Any) -> Any:
            self._events.append(event)
            self._asked.append(repr(event))
            return self

        def __getattr__(self, name: str) -> Any:
            return lambda *asked: _kept(
                folder, [*self._asked, name, repr(asked)], lambda: self._computed(name, asked)
            )

        def _computed(self, name: str, asked: tuple[Any, ...]) -> Any:
            one = self._make()
            for event in self._events:
                one.compose(*event)
            return getattr(one, name)(*asked)

    return Keeping


def main() -> None:
    """Answer each line, in order."""
    os.environ["OMP_NUM_THREADS"] = "1"  # a core for each child
    for name in (*HEAVY, *MORE, *LAST, *SMALL, *PLUGINS):
        importlib.import_module(name)
    gc.collect()
    gc.freeze()  # pytest collects garbage at its end, and would go through all of torch in every child
    with tempfile.TemporaryDirectory() as folder:
        keep_prices(Path(folder))
        answer()


def answer() -> None:
    """Run what each line asks for, and print the answers in order."""
    answers: dict[int, dict[str, object]] = {}
    running: dict[int, tuple[int, Child]] = {}

    def wait() -> None:
        for pipe in select.select(list(running), [], [])[0]:
            number, child = running.pop(pipe)
            answers[number] = child.answer()

    for number, line in enumerate(sys.stdin):
        while len(running) >= (os.cpu_count() or 1):
            wait()
        asked = json.loads(line)
        child = fork(Path(asked["folder"]), asked["tests"])
        running[child.pipe] = (number, child)
    while running:
        wait()
    for number in sorted(answers):
        sys.stdout.write(json.dumps(answers[number]) + "\n")


if __name__ == "__main__":
    main()
