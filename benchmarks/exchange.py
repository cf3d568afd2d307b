"""Measure an exchange in which nobody trains, and what a site's three processes hold while they are idle.

    python benchmarks/exchange.py [--sites 3 10] [--exchanges 10] [--bytes 100000] [--json]

A SuperLink on loopback with TLS and registered keys, and for every site `fedsynth site start`: link, gate and train
under a supervisor. The coordinator's program is the transport of `server/` and orders of that many bytes for a plan
that nobody approved: each is carried to every gate, refused with one word, and the word carried back. What an
exchange costs beyond that is the step itself. Seconds are wall time from the first order pushed to the last
answer, of which up to 2 s are the link's own pause between two looks, and 0.3 s once it has work. Memory is the
proportional set size (PSS, proc(5)): pages that n processes share count by their n-th part for each.
"""

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from fedsynth.engines.certificates import make_node_key, make_server_files
from fedsynth.engines.flower import CONNECTION, connect, write_app
from fedsynth.engines.processes import LOOPBACK, Processes, free_ports
from fedsynth.engines.superlink import superlink_command

ROLES = ("link", "gate", "train")
SERVER = """
import json, os, time
from pathlib import Path
from flwr.serverapp import ServerApp
from fedsynth.wire.order import Order
from server.transport import GridTransport
import torch
app = ServerApp()
pids = json.loads({pids!r})
def spent():
    def one(pid):
        fields = Path("/proc", str(pid), "stat").read_text().rpartition(")")[2].split()
        return sum(map(int, fields[11:13])) / os.sysconf("SC_CLK_TCK")
    return {{role: sum(map(one, some)) for role, some in pids.items()}} | {{"program": time.process_time()}}
@app.main()
def main(grid, context):
    nodes = json.loads({nodes!r})
    transport = GridTransport(grid, wanted=list(nodes), gather_seconds=120, round_seconds=120,
                              progress=lambda *_: None, nodes=nodes)
    order = Order("none", "0" * 64, 0, {{"x": torch.zeros({floats})}}).to_bytes()
    took = []
    for number in range({exchanges} + 1):
        if number == 1:
            before = spent()
        began = time.monotonic()
        answers = dict(transport.exchange(dict.fromkeys(nodes, order)))
        assert len(answers) == len(nodes), answers
        took.append(time.monotonic() - began)
    cpu = {{role: (seconds - before[role]) / {exchanges} for role, seconds in spent().items()}}
    Path({out!r}).write_text(json.dumps({{"seconds": took, "order_bytes": len(order), "cpu": cpu}}))
"""
IMPORT = """
import sys, time
began = time.perf_counter()
import fedsynth.node.{role}
took = time.perf_counter() - began
print(took, len(sys.modules), "torch" in sys.modules)
"""


def measure(n: int, *, exchanges: int, order_bytes: int) -> dict[str, Any]:
    """Start n sites, carry out the exchanges, and look at every process before and after."""
    with tempfile.TemporaryDirectory() as place, Processes(Path(place) / "logs") as processes:
        root, files = Path(place), make_server_files(processes.home)
        (port,) = free_ports(1)
        connect(processes.home, port=port, certificate=files.authority)
        command = [*superlink_command(files, port=port), "--database", str(root / "state.db")]
        superlink = processes.start_server("superlink", command, port=port)
        nodes, supervisors = {}, {}
        for name in (f"site-{number:02d}" for number in range(n)):
            site, kit = root / name, root / name / "kit"
            kit.mkdir(parents=True)
            (site / "site.toml").write_text(f'name = "{name}"\nlargest_epsilon = 1.0\n', encoding="utf-8")
            key = make_node_key(kit)
            key.private.rename(kit / "node.key")
            (kit / "authority.pem").write_bytes(files.authority.read_bytes())
            text = f'[coordinator]\naddress = "{LOOPBACK}:{port}"\n'
            (kit / "federation.toml").write_text(text, encoding="utf-8")
            command = ["flwr", "supernode", "register", str(key.public), CONNECTION, "--format", "json"]
            said = processes.answer("registration", command)
            nodes[name] = int("".join(filter(str.isdigit, said.partition('"node-id"')[2].split(",")[0])))
            start = [sys.executable, "-m", "fedsynth", "site", "start", str(site), "--kit", str(kit)]
            supervisors[name] = processes.start(name, start)
            _wait_for("connected", site / "logs" / "link.jsonl")
        idle = [_memory(process.pid) for process in supervisors.values()]
        app = write_app(processes.home / "app")
        out = root / "took.json"
        pids: dict[str, list[int]] = {"superlink": [superlink.pid], **{role: [] for role in ROLES}}
        for process in supervisors.values():
            for role, pid in _family(process.pid).items():
                pids[role].append(pid)
        program = SERVER.format(
            nodes=json.dumps(nodes),
            pids=json.dumps(pids),
            floats=order_bytes // 4,
            exchanges=exchanges,
            out=str(out),
        )
        (app / "server" / "app.py").write_text(program, encoding="utf-8")
        if (
            processes.start("run", ["flwr", "run", str(app), CONNECTION, "--stream"]).wait() != 0
            or not out.exists()
        ):
            raise SystemExit((root / "logs" / "run.log").read_text(encoding="utf-8")[-2000:])
        took = json.loads(out.read_text(encoding="utf-8"))
        after = [_memory(process.pid) for process in supervisors.values()]
    return {
        "sites": n,
        "order_bytes": took["order_bytes"],
        "first_seconds": round(took["seconds"][0], 2),
        "median_seconds": round(statistics.median(took["seconds"][1:]), 2),
        "longest_seconds": round(max(took["seconds"][1:]), 2),
        "cpu_seconds": {role: round(seconds, 3) for role, seconds in took["cpu"].items()},
        "processes_per_site": max(map(len, idle)),
        "idle_megabytes": _typical(idle),
        "idle_megabytes_of_a_site": round(max(sum(one.values()) for one in idle)),
        "megabytes_after": _typical(after),
    }


def imports() -> dict[str, dict[str, float | int | bool]]:
    """Return for each process of a site what importing its module takes, in a process of its own."""
    found = {}
    for role in ROLES:
        done = subprocess.run(
            [sys.executable, "-c", IMPORT.format(role=role)], check=True, capture_output=True, text=True
        )
        seconds, modules, torch = done.stdout.split()
        found[role] = {"seconds": round(float(seconds), 2), "modules": int(modules), "torch": torch == "True"}
    return found


def _wait_for(said: str, log: Path, *, seconds: float = 120.0) -> None:
    ends = time.monotonic() + seconds
    while not log.exists() or said not in log.read_text(encoding="utf-8"):
        if time.monotonic() > ends:
            raise SystemExit(f"{log.name} does not say {said!r} within {seconds:g} s")
        time.sleep(0.1)


def _memory(supervisor: int) -> dict[str, float]:
    """Return the PSS in megabytes of a site's processes by role."""
    return {"supervisor": _pss(supervisor)} | {role: _pss(pid) for role, pid in _family(supervisor).items()}


def _family(supervisor: int) -> dict[str, int]:
    """Return the processes of a site by role."""
    found = {}
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            words = (folder / "cmdline").read_bytes().split(b"\0")
            if b"fedsynth.node" in words and str(supervisor).encode() in words:
                found[words[words.index(b"fedsynth.node") + 1].decode()] = int(folder.name)
    return found


def _pss(pid: int) -> float:
    text = Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="ascii")
    return int(text.partition("\nPss:")[2].split()[0]) / 1000


def _typical(all_sites: list[dict[str, float]]) -> dict[str, int]:
    return {role: round(statistics.median(one[role] for one in all_sites)) for role in ("supervisor", *ROLES)}


def main() -> None:
    """Measure, and print a table or JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sites", type=int, nargs="+", default=[3, 10])
    parser.add_argument("--exchanges", type=int, default=10)
    parser.add_argument("--bytes", type=int, default=100_000, help="of an order")
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    load = os.getloadavg()[0]
    measured = [measure(n, exchanges=given.exchanges, order_bytes=given.bytes) for n in given.sites]
    about = {
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}",
        "load_before": round(load, 1),
        "load_after": round(os.getloadavg()[0], 1),
    }
    loaded = imports()
    if given.json:
        print(json.dumps({**about, "imports": loaded, "measured": measured}, indent=2))
        return
    print(f"{about['machine']}; load {about['load_before']} before, {about['load_after']} after\n")
    for role, one in loaded.items():
        torch = "with torch" if one["torch"] else "without torch"
        print(f"import {role:<6} {one['seconds']:>6} s, {one['modules']} modules, {torch}")
    print(f"\n{'sites':>5}{'first s':>9}{'median s':>10}{'longest s':>11}{'processes':>11}   idle PSS in MB")
    for row in measured:
        memory = ", ".join(f"{role} {size}" for role, size in row["idle_megabytes"].items())
        print(
            f"{row['sites']:>5}{row['first_seconds']:>9}{row['median_seconds']:>10}{row['longest_seconds']:>11}"
            f"{row['processes_per_site']:>11}   {memory}; a site {row['idle_megabytes_of_a_site']}"
        )
        cpu = ", ".join(f"{role} {seconds:.2f}" for role, seconds in row["cpu_seconds"].items())
        print(
            f"{'':>5} CPU s of an exchange, all sites together: {cpu}; sum {sum(row['cpu_seconds'].values()):.2f}"
        )


if __name__ == "__main__":
    main()
