"""Run planted faults: a warm process forks a child for each, as many at once as there are cores, in copies.

Read by `test_planted_faults.py`; run as a script: FAULTS_FILE. It imports the heavy libraries once and never
fedsynth itself, so that every child imports the copy it stands in. For each line of FAULTS_FILE (JSON: folder,
tests) it prints one JSON line with pytest's exit code and the last lines of its output.
"""

import contextlib
import importlib
import io
import json
import os
import select
import sys
from dataclasses import dataclass
from pathlib import Path

HEAVY = ("torch", "opacus", "opacus.accountants", "opacus.optimizers", "opacus.grad_sample", "dp_accounting")
MORE = ("dp_accounting.pld", "dp_accounting.rdp", "pydantic", "safetensors.torch", "hypothesis", "scipy.signal")
LAST = ("scipy.stats", "sklearn.linear_model", "sklearn.metrics", "pytest", "cryptography")


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
        json.dump({"code": code, "said": told.getvalue()[-1500:]}, pipe)
    os._exit(0)


def main(faults: Path) -> None:
    """Answer each line, in order."""
    os.environ["OMP_NUM_THREADS"] = "1"  # a core for each child
    for name in (*HEAVY, *MORE, *LAST):
        importlib.import_module(name)
    answers: dict[int, dict[str, object]] = {}
    running: dict[int, tuple[int, Child]] = {}

    def wait() -> None:
        for pipe in select.select(list(running), [], [])[0]:
            number, child = running.pop(pipe)
            answers[number] = child.answer()

    for number, line in enumerate(faults.read_text(encoding="utf-8").splitlines()):
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
    main(Path(sys.argv[1]))
