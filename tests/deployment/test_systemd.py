"""The units of deploy/, the coordinator's too, under a systemd of their own: a whole run, kills, a stop."""

import json
import os
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest
from founding import why_no_namespaces, why_no_nginx
from machine import ROOT

from .test_units import LARGEST_EXPOSURE, SERVICES, role_of

pytestmark = [pytest.mark.federation, pytest.mark.xdist_group("first")]
HOST = Path(__file__).with_name("systemd") / "host.sh"
SYSTEMD = Path("/lib/systemd/systemd")


def why_not() -> str:
    """Return why a systemd cannot be process 1 here; empty where it can."""
    return why_no_namespaces() or ("" if SYSTEMD.exists() else "systemd is not installed here") or why_no_nginx()


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
    assert seen["active"] == ["active"] * 4
    bare = {"root": False, "no_new_privileges": True, "seccomp": True, "capabilities": 0}
    alone = {**bare, "own_network": True, "writes": ""}
    assert seen["confined"] == {
        "fedsynth-train": {**alone, "site": False, "link": False},
        "fedsynth-gate": {**alone, "site": True, "link": False},
        "fedsynth-link": {**alone, "own_network": False, "site": False, "link": True},
        # A machine of its own in earnest: there is no site on it.
        "fedsynth-coordinator": {**alone, "own_network": False, "site": True, "link": True},
    }
    assert {unit.stem: seen["exposure"][unit.stem] <= LARGEST_EXPOSURE[role_of(unit)] for unit in SERVICES} == {
        unit.stem: True for unit in SERVICES
    }
    # SuperLink, SuperExec and the program of the run.
    assert seen["programs"] == [bare] * 3
    assert (seen["service back"], seen["status"]) == (True, "finished")
    assert seen["charges"] == seen["steps"]
    assert (seen["site back"], seen["answers"]) == (True, True)
    assert (seen["stopped"], seen["results"], seen["left"]) == (["inactive"] * 4, ["success"] * 4, "")
