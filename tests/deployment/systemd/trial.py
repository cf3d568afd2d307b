"""Run by systemd as root: a hospital's and the coordinator's units carry out a run, are killed and are stopped.

Everything is done by the commands of deploy/README.md, by the users that it names; the coordinator's service is
killed in the middle of the run. Writes what was seen to /out/seen.json.
"""

import json
import os
import re
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from federation import STUDY, words_of

from fedsynth.recordings.toy.cohort import write_toy_cohort
from fedsynth.study import load_study

SITE_UNITS, SERVICE = ("fedsynth-train", "fedsynth-gate", "fedsynth-link"), "fedsynth-coordinator"
UNITS = (*SITE_UNITS, SERVICE)
SITE, LINK, HOUSE, RUN = (Path("/var/lib/fedsynth", name) for name in ("site", "link", "coordinator", "runs/first"))
SRV, STUDY_FILE = Path("/srv/trial"), Path("/srv/trial/study.toml")


def say(*words: object) -> str:
    done = subprocess.run([*map(str, words)], capture_output=True, text=True, check=False)
    print("$", *words, "->", done.returncode, done.stdout, done.stderr, flush=True)
    return done.stdout.strip()


def gate(*words: object) -> str:
    return say("runuser", "-u", "fedsynth-gate", "--", "fedsynth", *words)


def coordinator(*words: object) -> str:
    return say("runuser", "-u", "fedsynth-coordinator", "--", "fedsynth", *words)


def show(unit: str, name: str) -> str:
    return say("systemctl", "show", unit, "-p", name, "--value")


def pids(*units: str) -> dict[str, str]:
    return {unit: show(unit, "MainPID") for unit in units}


def active() -> list[str]:
    return say("systemctl", "is-active", *UNITS).split()


def wait(until: Callable[[], Any], *, seconds: float) -> bool:
    ends = time.monotonic() + seconds
    while not (done := until()) and time.monotonic() < ends:
        time.sleep(1)
    return bool(done)


def journal() -> str:
    return say("journalctl", "-o", "cat", "-u", "fedsynth-*", "--no-pager")


def bounds(pid: str) -> dict[str, object]:
    """Return what the kernel lets a process do."""
    status = Path(f"/proc/{pid}/status").read_text()
    fields = {line.partition(":")[0]: line.partition(":")[2].split() for line in status.splitlines()}
    return {
        "root": "0" in fields["Uid"],
        "no_new_privileges": fields["NoNewPrivs"] == ["1"],
        "seccomp": fields["Seccomp"] == ["2"],
        "capabilities": int(fields["CapBnd"][0], 16),
    }


def confined(unit: str) -> dict[str, object]:
    """Return what the kernel says of a unit's process, and what it could see and write."""
    pid = show(unit, "MainPID")
    here = ["nsenter", "-t", pid, "-m"]
    return {
        **bounds(pid),
        "own_network": Path(f"/proc/{pid}/ns/net").readlink() != Path("/proc/self/ns/net").readlink(),
        "site": bool(say(*here, "sh", "-c", f"ls -A {SITE} 2>/dev/null")),
        "link": bool(say(*here, "sh", "-c", f"ls -A {LINK} 2>/dev/null")),
        "writes": say(*here, "sh", "-c", "touch /usr/x && echo yes"),
    }


def exposure(unit: str) -> float:
    found = re.search(r"exposure level for \S+: ([\d.]+)", say("systemd-analyze", "security", "--no-pager", unit))
    return float(found[1]) if found else 10.0


def provision() -> None:
    """From requests to kits, as the page has it; hospitals reach the coordinator at this machine's port 443."""
    requests, handed = SRV / "requests", SRV / "edition-1"
    requests.mkdir(parents=True)
    requests.chmod(0o1777)
    gate("site", "init", SITE, "--name", "north")
    said = {
        "north": gate("site", "request", SITE, "--out", requests / "north.json"),
        "coordinator": coordinator("federation", "request", "--federation", HOUSE, "--out", requests / "c.json"),
    }
    charter = SRV / "FEDERATION.toml"
    charter.write_text('name = "trial"\nsites = ["north"]\n[coordinator]\naddresses = ["localhost:443"]\n')
    confirmed = [word for name, told in said.items() for word in ("--confirm", f"{name}={words_of(told)}")]
    places = ["--requests", requests, "--authority", SRV / "authority", "--out", handed]
    authority = words_of(say("fedsynth", "provision", charter, *places, *confirmed))
    say("chmod", "-R", "a+rX", handed)
    coordinator(
        "federation", "join", handed / "kits" / "coordinator", "--federation", HOUSE, "--authority", authority
    )
    gate("site", "init", SITE, "--kit", handed / "kits" / "north", "--authority", authority)
    names = ("revoked.toml", "federation.toml", "authority.pem", "tls.pem", "tls.key", "node.key")
    files = [SITE / "federation" / name for name in names]
    say("install", "-o", "fedsynth-link", "-g", "fedsynth-link", "-m", "600", *files, LINK)


def ingest() -> None:
    text = STUDY.format(trust="site", dishonest="").replace('["east", "north", "west"]', '["north"]')
    STUDY_FILE.write_text(text.replace("least_sites = 2", "least_sites = 1"))
    write_toy_cohort(SRV / "recordings", study=load_study(STUDY_FILE), people=0.25)
    rules = SITE / "site.toml"
    limits = rules.read_text().replace("largest_epsilon = 1.0", "largest_epsilon = 20.0")
    rules.write_text(limits.replace("least_subjects = 20", "least_subjects = 5"))
    gate("site", "ingest", SITE, STUDY_FILE, SRV / "recordings" / "north")


def approve() -> None:
    wait(lambda: [*(SITE / "requests").glob("*.json")], seconds=120)
    (asked,) = json.loads(gate("site", "requests", SITE, "--json"))["requests"]
    gate("site", "approve", SITE, asked["request"][:12])


def steps_done() -> int:
    place = RUN / "contributions.jsonl"
    lines = place.read_text().rpartition("\n")[0].splitlines() if place.exists() else []
    return max((json.loads(line)["step"] for line in lines), default=-1)


def programs() -> list[str]:
    """Return the process ids of what the service started: Flower's programs and the coordinator's."""
    lines = say("ps", "-u", "fedsynth-coordinator", "-o", "pid=,args=").splitlines()
    return [line.split()[0] for line in lines if re.search(r"/(flower-|flwr-serverapp)", line)]


def kill(*units: str) -> bool:
    """Kill units' processes; return whether systemd brought them back."""
    before = pids(*units)
    for pid in before.values():
        os.kill(int(pid), signal.SIGKILL)

    def back() -> bool:
        now = pids(*units)
        return active() == ["active"] * len(UNITS) and all(now[u] not in ("0", before[u]) for u in units)

    return wait(back, seconds=90)


def run(seen: dict[str, object]) -> None:
    """Carry a run out, with the coordinator's service killed after its first step."""
    command = ["fedsynth", "run", STUDY_FILE, "--federation", HOUSE, "--out", RUN, "--approval-seconds", "300"]
    with Path("/out/run.log").open("wb") as log:
        driver = subprocess.Popen(
            ["runuser", "-u", "fedsynth-coordinator", "--", *map(str, command)], stdout=log, stderr=log
        )
    approve()
    wait(lambda: steps_done() >= 1 or driver.poll() is not None, seconds=120)
    seen["programs"] = [bounds(pid) for pid in programs()]
    seen["service back"] = kill(SERVICE)
    try:
        driver.wait(timeout=300)
    except subprocess.TimeoutExpired:
        driver.terminate()
    print(Path("/out/run.log").read_text(errors="replace"), flush=True)
    seen["status"] = json.loads(coordinator("federation", "status", RUN, "--json") or "{}").get("state")
    seen["steps"] = len(json.loads((RUN / "plan.json").read_text())["steps"])
    seen["charges"] = len(json.loads(gate("site", "ledger", SITE, "--json"))["charges"])


def main() -> None:
    say("systemctl", "start", "sysinit.target")  # which empties /tmp
    seen: dict[str, object] = {"pid 1": Path("/proc/1/comm").read_text().strip()}
    provision()
    ingest()
    say("systemctl", "start", SERVICE)
    wait(lambda: "listens on" in journal(), seconds=60)
    say("systemctl", "start", "nginx", "fedsynth.target")
    wait(lambda: '"connected"' in journal(), seconds=120)
    seen["active"], seen["confined"] = active(), {unit: confined(unit) for unit in UNITS}
    seen["exposure"] = {unit: exposure(unit) for unit in UNITS}
    run(seen)
    seen["site back"] = kill(*SITE_UNITS)
    # A unit is active before its process listens.
    looked = ("site", "status", SITE, "--gate-socket", "/run/fedsynth-gate/gate.sock")
    seen["answers"] = wait(lambda: "idle" in gate(*looked), seconds=60)
    say("systemctl", "stop", "fedsynth.target", *UNITS)
    seen["stopped"] = active()
    seen["results"] = [show(unit, "Result") for unit in UNITS]
    seen["left"] = say("sh", "-c", "ps -eo args | grep -E '[f]edsynth.node|[/]flower-|[/]flwr-'; ls /run/fedsynth")
    print(journal()[-6000:], flush=True)
    Path("/out/seen.json").write_text(json.dumps(seen))


main()
