"""The Containerfile's steps, taken without a container engine: another user runs what they make, and cannot write.

Wheels that install by their hashes and from nowhere else, users, folders, the list of contents, and an entrypoint
that starts a process of a site where nobody may write need no engine. That an engine reads the file as
`image/build.py` does is not shown. The wheels are those of fedsynth without its extras.
"""

import json
import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from founding import why_no_namespaces
from machine import ROOT

pytestmark = [pytest.mark.federation, pytest.mark.xdist_group("first")]
CONTAINERFILE = ROOT / "deploy" / "container" / "Containerfile"
SCRIPTS = sysconfig.get_path("scripts")


@pytest.fixture(scope="module")
def seen(lock: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Return what was seen of the image."""
    if reason := why_no_namespaces():
        pytest.skip(reason)
    if shutil.which("uv", path=SCRIPTS) is None:
        pytest.skip("uv, which resolves what a lock file names, is not installed here")
    folder = tmp_path_factory.mktemp("image")
    for part in ("fedsynth", "client", "server", "pyproject.toml", "README.md", "LICENSE"):
        copy = shutil.copytree if (ROOT / part).is_dir() else shutil.copy
        copy(ROOT / part, folder / "source" / part)
    pip = [sys.executable, "-m", "pip", "--quiet"]
    offline = ["wheel", "--no-deps", "--no-build-isolation", "--no-index", "--wheel-dir", folder, folder / "source"]
    subprocess.run([*pip, *offline], check=True)
    (wheel,) = folder.glob("*.whl")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(lock, "EXTRAS", ())
        patch.setattr(sys, "argv", ["lock.py", str(wheel), "--out", str(folder / "wheels")])
        patch.setenv("PATH", f"{SCRIPTS}:{os.environ['PATH']}")
        try:
            lock.main()
        except subprocess.CalledProcessError:
            pytest.skip("the package index, from which the wheels come, is not reached from here")
    (folder / "stage").mkdir()
    apart = ["unshare", "--pid", "--fork", "--kill-child", "--mount", "--net", "--ipc", "--uts"]
    build = [str(Path(__file__).with_name("image") / "build.py"), str(CONTAINERFILE), str(folder)]
    done = subprocess.run(
        [*apart, "--propagation", "private", sys.executable, *build, str(folder / "stage"), sys.base_prefix],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-6000:]
    return dict(json.loads(done.stdout))


def test_every_step_can_be_taken_and_its_tools_do_not_come_along(seen: dict[str, Any]) -> None:
    listed = {component["name"] for component in seen["sbom"]["components"]}

    assert {"fedsynth", "cryptography", "numpy", "typer"} <= listed
    assert not {"cyclonedx-bom", "torch"} & listed
    assert seen["tools"] == []


def test_the_image_runs_as_another_user_who_writes_nothing_and_has_no_network(seen: dict[str, Any]) -> None:
    assert "Usage: fedsynth" in seen["says"]
    assert seen["user"] == "6503:6503"
    assert seen["ids"].split() == ["6503", "6503", "lo"]
    assert seen["written"] == ""


def test_the_training_process_of_the_compose_file_listens_where_only_the_gate_gets_in(seen: dict[str, Any]) -> None:
    assert seen["sockets"] == {"fedsynth-gate": [6502, 6501, "710"], "fedsynth-train": [6503, 6502, "710"]}
    assert seen["listens"], seen["said"]
    assert seen["code"] == 0, seen["said"]
