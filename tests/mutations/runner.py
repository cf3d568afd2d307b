"""Run one planted fault after another: a warm process forks a child for each, in a copy of the project.

Read by `test_planted_faults.py`; run as a script: FAULTS_FILE FOLDER. It imports the heavy libraries once and never
fedsynth itself, so that every child imports the copy it stands in. For each line of FAULTS_FILE (JSON: folder,
tests) it prints one JSON line with pytest's exit code and the last lines of its output.
"""

import contextlib
import importlib
import io
import json
import os
import sys
from pathlib import Path

HEAVY = ("torch", "opacus", "opacus.accountants", "opacus.optimizers", "opacus.grad_sample", "dp_accounting")
MORE = ("dp_accounting.pld", "dp_accounting.rdp", "pydantic", "safetensors.torch", "hypothesis", "scipy.signal")
LAST = ("scipy.stats", "sklearn.linear_model", "sklearn.metrics", "pytest", "cryptography")


def in_child(folder: Path, tests: list[str]) -> dict[str, object]:
    """Run tests in a copy of the project; return pytest's exit code and the end of what it said."""
    read, write = os.pipe()
    child = os.fork()
    if child:
        os.close(write)
        with os.fdopen(read, encoding="utf-8") as pipe:
            said = pipe.read()
        os.waitpid(child, 0)
        return json.loads(said) if said else {"code": -1, "said": "the child died"}
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
    """Answer each line."""
    for name in (*HEAVY, *MORE, *LAST):
        importlib.import_module(name)
    for line in faults.read_text(encoding="utf-8").splitlines():
        asked = json.loads(line)
        sys.stdout.write(json.dumps(in_child(Path(asked["folder"]), asked["tests"])) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
