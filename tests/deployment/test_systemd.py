"""The units of deploy/ under a systemd that is process 1 of namespaces of its own: a whole run, kills, a stop."""

import json
import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest
from machine import ROOT

pytestmark = [pytest.mark.federation]
HOST = Path(__file__).with_name("systemd") / "host.sh"
SYSTEMD = Path("/lib/systemd/systemd")


def why_not() -> str:
    """Return why a systemd cannot be process 1 here; empty where it can."""
    if os.name != "posix" or os.geteuid() != 0:
        return "namespaces and overlays need root"
    if not SYSTEMD.exists():
        return "systemd is not installed here"
    if not shutil.which("unshare") or "overlay" not in Path("/proc/filesystems").read_text():
        return "this system has no overlays"
    if subprocess.run(["unshare", "--cgroup", "--pid", "--fork", "--mount", "true"], check=False).returncode:
        return "this system gives no namespaces"
    return ""


def test_the_units_carry_out_a_run_and_are_started_again_and_stopped(tmp_path: Path) -> None:
    if reason := why_not():
        pytest.skip(reason)
    stage, out = tmp_path / "stage", tmp_path / "out"
    stage.mkdir()
    out.mkdir()
    places = {"STAGE": stage, "OUT": out, "ROOT": ROOT, "PYTHON": sys.base_prefix}
    places["PACKAGES"] = Path(sysconfig.get_path("purelib"))
    done = subprocess.run(
        [str(HOST)],
        env={"PATH": os.environ["PATH"], **{name: str(place) for name, place in places.items()}},
        capture_output=True,
        text=True,
        timeout=900,
        check=False,
    )
    told = (out / "trial.log").read_text(errors="replace") if (out / "trial.log").exists() else done.stderr
    assert (out / "seen.json").exists(), told[-6000:]
    seen = json.loads((out / "seen.json").read_text())

    assert seen["pid 1"] == "systemd"
    assert seen["active"] == ["active"] * 3
    bare = {"root": False, "no_new_privileges": True, "seccomp": True, "capabilities": 0, "writes": ""}
    assert seen["confined"] == {
        "fedsynth-train": {**bare, "own_network": True, "site": False, "link": False},
        "fedsynth-gate": {**bare, "own_network": True, "site": True, "link": False},
        "fedsynth-link": {**bare, "own_network": False, "site": False, "link": True},
    }
    assert seen["finished"]
    assert seen["charges"] == seen["steps"]
    assert seen["back"]
    assert seen["answers"]
    assert (seen["stopped"], seen["left"]) == (["inactive"] * 3, "")
