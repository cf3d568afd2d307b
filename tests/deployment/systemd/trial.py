"""Run by systemd as root: a site of the units of deploy/ carries out a run, is killed and is stopped.

Writes what was seen to /out/seen.json. `conftest` is that of tests/engines, beside this file.
"""

import json
import os
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import conftest as made

from fedsynth.coordinator.run_folder import RunFacts, RunFolder
from fedsynth.engines.certificates import make_node_key, make_server_files
from fedsynth.engines.flower import CONNECTION, connect, run_app
from fedsynth.engines.processes import LOOPBACK, Processes, free_ports
from fedsynth.engines.protocol import Patience
from fedsynth.engines.superlink import superlink_command
from fedsynth.plan import plan_of
from fedsynth.site.approval import approve
from fedsynth.site.identity import make_identity
from fedsynth.study import parse_study

UNITS = ("fedsynth-train", "fedsynth-gate", "fedsynth-link")
SITE, LINK = Path("/var/lib/fedsynth/site"), Path("/var/lib/fedsynth/link")


def say(*words: object) -> str:
    done = subprocess.run([*map(str, words)], capture_output=True, text=True, check=False)
    print("$", *words, "->", done.returncode, done.stdout, done.stderr, flush=True)
    return done.stdout.strip()


def show(unit: str, name: str) -> str:
    return say("systemctl", "show", unit, "-p", name, "--value")


def active() -> list[str]:
    return say("systemctl", "is-active", *UNITS).split()


def wait(until: Any, *, seconds: float) -> bool:
    ends = time.monotonic() + seconds
    while not (done := until()) and time.monotonic() < ends:
        time.sleep(1)
    return bool(done)


def journal() -> str:
    return say("journalctl", "-o", "cat", "-u", "fedsynth-*", "--no-pager")


def confined(unit: str) -> dict[str, object]:
    """Return what the kernel says of a unit's process, and what it could see and write."""
    pid = show(unit, "MainPID")
    status = Path(f"/proc/{pid}/status").read_text()
    fields = {line.partition(":")[0]: line.partition(":")[2].split() for line in status.splitlines()}
    here = ["nsenter", "-t", pid, "-m"]
    return {
        "root": "0" in fields["Uid"],
        "no_new_privileges": fields["NoNewPrivs"] == ["1"],
        "seccomp": fields["Seccomp"] == ["2"],
        "capabilities": int(fields["CapBnd"][0], 16),
        "own_network": Path(f"/proc/{pid}/ns/net").readlink() != Path("/proc/self/ns/net").readlink(),
        "site": bool(say(*here, "sh", "-c", f"ls -A {SITE} 2>/dev/null")),
        "link": bool(say(*here, "sh", "-c", f"ls -A {LINK} 2>/dev/null")),
        "writes": say(*here, "sh", "-c", "touch /usr/x && echo yes"),
    }


def main() -> None:
    say("systemctl", "start", "sysinit.target")  # which empties /tmp
    seen: dict[str, object] = {"pid 1": Path("/proc/1/comm").read_text().strip()}
    study = made.STUDY_TEXT.replace("least_sites = 2", "least_sites = 1")
    plan = plan_of(parse_study(study))
    SITE.rmdir()
    made._make_site(SITE, "north", seed=1, study=plan.study)
    SITE.chmod(0o700)
    key = make_identity(SITE)
    approve(SITE, run="one", plan=plan, roster=None)
    say("chown", "-R", "fedsynth-gate:fedsynth-gate", SITE)
    run = RunFolder(Path("/var/run-of-the-trial"))
    run.path.mkdir()
    roster = {"north": key.hex()}
    facts = RunFacts("one", "deployment", "toy", ("north",), "this run only", roster=roster)
    run.begin(facts=facts, plan=plan, study_text=study)
    with Processes(run.path / "logs") as processes:
        files = make_server_files(processes.home)
        (port,) = free_ports(1)
        connect(processes.home, port=port, certificate=files.authority)
        superlink = processes.start_server("superlink", superlink_command(files, port=port), port=port)
        node = make_node_key(processes.home)
        processes.run("registration", ["flwr", "supernode", "register", str(node.public), CONNECTION])
        kit = processes.home / "federation.toml"
        kit.write_text(f'[coordinator]\naddress = "{LOOPBACK}:{port}"\n')
        for source, name in ((node.private, "node.key"), (files.authority, "authority.pem"), (kit, kit.name)):
            say("install", "-o", "fedsynth-link", "-g", "fedsynth-link", "-m", "600", source, LINK / name)
        say("systemctl", "start", "fedsynth.target")
        wait(lambda: '"connected"' in journal(), seconds=120)
        seen["active"], seen["confined"] = active(), {unit: confined(unit) for unit in UNITS}
        run_app(
            processes,
            folder=run.path,
            superlink=superlink,
            options=(),
            progress=lambda *told: print(told, flush=True),
            patience=Patience(),
        )
        seen["finished"] = run.finished
        ledger = say("runuser", "-u", "fedsynth-gate", "--", "fedsynth", "site", "ledger", SITE, "--json")
        seen["charges"], seen["steps"] = len(json.loads(ledger)["charges"]), len(plan.steps)
        before = {unit: show(unit, "MainPID") for unit in UNITS}
        for pid in before.values():
            os.kill(int(pid), signal.SIGKILL)
        back = wait(lambda: active() == ["active"] * 3 and "0" not in map(_pid, UNITS), seconds=90)
        seen["back"] = back and all(before[unit] != _pid(unit) for unit in UNITS)
        # A unit is active before its process listens.
        seen["answers"] = wait(
            lambda: "idle" in say("runuser", "-u", "fedsynth-gate", "--", *_status()), seconds=60
        )
        say("systemctl", "stop", "fedsynth.target", *UNITS)
        seen["stopped"] = active()
        seen["left"] = say("sh", "-c", "ps -eo args | grep '[f]edsynth.node'")
    Path("/out/seen.json").write_text(json.dumps(seen))


def _pid(unit: str) -> str:
    return show(unit, "MainPID")


def _status() -> list[str]:
    return ["fedsynth", "site", "status", str(SITE), "--gate-socket", "/run/fedsynth-gate/gate.sock"]


main()
