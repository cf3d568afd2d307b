"""Hospitals as they are deployed: a SuperLink, and at each site a link, a gate and a train process of fedsynth."""

import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import pytest

from fedsynth.coordinator.run_folder import RunFolder
from fedsynth.engines.certificates import ServerFiles, make_node_key, make_server_files
from fedsynth.engines.flower import CONNECTION, connect, run_app, write_app
from fedsynth.engines.processes import LOOPBACK, Process, Processes, free_ports
from fedsynth.engines.protocol import Patience
from fedsynth.ledger.ledger import Ledger
from fedsynth.privacy.statement import PrivacyStatement

MakeRun = Callable[..., RunFolder]
pytestmark = [pytest.mark.engines, pytest.mark.usefixtures("nothing_stays")]


@dataclass
class Federation:
    """A SuperLink and the sites of a run, each started by `fedsynth site start`."""

    run: RunFolder
    processes: Processes
    files: ServerFiles
    port: int
    superlink: Process
    sites: dict[str, Process]

    def kit(self, site: str) -> Path:
        return self.processes.home / f"kit-{site}"

    def make_kit(self, site: str, *, register: bool = True) -> None:
        kit = self.kit(site)
        kit.mkdir()
        key = make_node_key(kit)
        (kit / "node").rename(kit / "node.key")
        (kit / "authority.pem").write_bytes(self.files.authority.read_bytes())
        text = f'[coordinator]\naddress = "{LOOPBACK}:{self.port}"\n'
        (kit / "federation.toml").write_text(text, encoding="utf-8")
        if register:
            self.processes.run("registration", ["flwr", "supernode", "register", str(key.public), CONNECTION])

    def start(self, site: str) -> None:
        command = [
            "python",
            "-m",
            "fedsynth",
            "site",
            "start",
            str(self.run.site(site)),
            "--kit",
            str(self.kit(site)),
        ]
        self.sites[site] = self.processes.start(f"site-{site}", command)

    def start_superlink(self) -> None:
        database = ["--database", str(self.processes.home / "state.db")]
        command = ["flower-superlink", "--host", LOOPBACK, "--port", str(self.port), "--enable-supernode-auth"]
        command += ["--ssl-ca-certfile", str(self.files.authority), *database]
        command += ["--ssl-certfile", str(self.files.certificate), "--ssl-keyfile", str(self.files.key)]
        self.superlink = self.processes.start_server("superlink", command, port=self.port)

    def log(self, site: str, role: str) -> list[dict[str, object]]:
        path = self.run.site(site) / "logs" / f"{role}.jsonl"
        if not path.exists():
            return []
        return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]

    def wait_for(self, said: str, *, site: str, role: str = "link", seconds: float = 120, times: int = 1) -> None:
        ends = time.monotonic() + seconds
        while sum(said == str(line["said"]) for line in self.log(site, role)) < times:
            assert time.monotonic() < ends, self.log(site, role)
            time.sleep(0.2)


@contextmanager
def federation(run: RunFolder, *, register: bool = True) -> Iterator[Federation]:
    with Processes(run.path / "logs") as processes:
        files = make_server_files(processes.home)
        (port,) = free_ports(1)
        connect(processes.home, port=port, certificate=files.authority)
        one = Federation(run, processes, files, port, None, {})  # type: ignore[arg-type]
        one.start_superlink()
        for site in run.facts().sites:
            one.make_kit(site, register=register)
            one.start(site)
        yield one


HOSTILE_CLIENT = """
from pathlib import Path
Path({canary!r}).write_text("executed")
from flwr.clientapp import ClientApp
app = ClientApp()
"""
HOSTILE_SERVER = """
from pathlib import Path
import json
from flwr.app import ConfigRecord, Message, RecordDict
from flwr.serverapp import ServerApp
app = ServerApp()
@app.main()
def main(grid, context):
    content = RecordDict({{"order": ConfigRecord({{"bytes": b"no order"}})}})
    asked = [
        Message(content, dst_node_id=node, message_type=kind, ttl=200)
        for node in grid.get_node_ids()
        for kind in ("query.site", "train.order", "train", "evaluate")
    ]
    replies = [
        [one.metadata.message_type, "error" if one.has_error() else sorted(one.content.config_records)]
        for one in grid.send_and_receive(asked, timeout=200)
    ]
    Path({answers!r}).write_text(json.dumps(sorted(replies)))
"""


def memory_mb(pid: int) -> int:
    """Return the memory that a process alone uses, its share of what it shares included."""
    text = Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="ascii")
    return next(int(line.split()[1]) for line in text.splitlines() if line.startswith("Pss:")) // 1024


def cpu_seconds(pid: int) -> float:
    """Return the processor time of a process and of its children that ended."""
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    return sum(map(int, fields[11:15])) / os.sysconf("SC_CLK_TCK")


def roles(pid: int) -> dict[str, int]:
    """Return the three processes of a site that `pid` supervises."""
    found = {}
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            words = (folder / "cmdline").read_bytes().split(b"\0")
            if b"fedsynth.node" in words and str(pid).encode() in words:
                found[words[words.index(b"fedsynth.node") + 1].decode()] = int(folder.name)
    return found


@pytest.mark.parametrize("trust", ["site", "aggregate"])
def test_the_statement_is_the_one_of_a_run_in_process(
    trust: str,
    make_run: MakeRun,
    study_of_secure_sums: str,
    in_process_statement: Callable[..., PrivacyStatement],
    without_heads: Callable[[PrivacyStatement], PrivacyStatement],
) -> None:
    run = make_run("deployment", study_of_secure_sums) if trust == "aggregate" else make_run("deployment")
    idle: dict[str, int] = {}
    with federation(run) as one:
        for site in one.sites:
            one.wait_for("connected", site=site)
        family = roles(one.sites["east"].pid)
        idle = {role: memory_mb(pid) for role, pid in family.items()}
        before = {role: cpu_seconds(pid) for role, pid in family.items()}
        run_app(
            one.processes,
            folder=run.path,
            superlink=one.superlink,
            options=(),
            progress=lambda *_: None,
            patience=Patience(),
        )
        cpu = {role: round(cpu_seconds(pid) - before[role], 2) for role, pid in family.items()}
        kinds = [line["facts"] for line in one.log("east", "link") if line["said"] == "answered"]

    print(f"\nidle MB {idle}, sum {sum(idle.values())}; CPU s of the run {cpu}; answers of one site: {kinds}")
    statement = run.statement()
    if trust == "site":
        assert without_heads(statement) == without_heads(in_process_statement())
    assert {site.site for site in statement.sites} == set(run.facts().sites)
    assert sum(idle.values()) < 200


@pytest.mark.skipif(shutil.which("strace") is None, reason="strace shows what a link opens")
def test_a_hostile_bundle_leaves_no_trace_at_a_site(make_run: MakeRun, tmp_path: Path) -> None:
    run, canary, answers, trace = (
        make_run("deployment"),
        tmp_path / "CANARY",
        tmp_path / "answers",
        tmp_path / "trace",
    )
    with federation(run) as one:
        one.wait_for("connected", site="east")
        link = roles(one.sites["east"].pid)["link"]
        calls = "trace=open,openat,creat,mkdir,mkdirat,rename,renameat2,execve,execveat,connect,memfd_create"
        strace = subprocess.Popen(["strace", "-f", "-q", "-e", calls, "-o", str(trace), "-p", str(link)])
        app = write_app(one.processes.home / "app")
        (app / "client" / "app.py").write_text(HOSTILE_CLIENT.format(canary=str(canary)), encoding="utf-8")
        (app / "server" / "app.py").write_text(HOSTILE_SERVER.format(answers=str(answers)), encoding="utf-8")
        command = ["flwr", "run", str(app), CONNECTION, "--stream", "--run-config", f'run="{tmp_path}"']
        assert one.processes.start("coordinator", command).wait(240) == 0
        strace.terminate()
        strace.wait(10)
        superlink = (run.path / "logs" / "superlink.log").read_text(encoding="utf-8")

    told = json.loads(answers.read_text(encoding="utf-8"))
    assert told.count(["query.site", ["site"]]) == told.count(["train.order", ["update"]]) == 3
    assert told.count(["train", "error"]) == told.count(["evaluate", "error"]) == 3
    assert not canary.exists()
    assert "[Fleet.PushMessages]" in superlink
    assert "[Fleet.GetFab]" not in superlink
    seen = trace.read_text(encoding="utf-8")
    assert "gate.sock" in seen  # strace did see what the link does
    written = [line for line in seen.splitlines() if "O_WRONLY" in line or "O_RDWR" in line or "O_CREAT" in line]
    assert not [line for line in written if "/dev/null" not in line and "link.jsonl" not in line]
    assert not [
        word for word in ("execve(", "execveat(", "mkdir", "memfd_create(", "CANARY", "/apps/") if word in seen
    ]


@pytest.mark.parametrize("seconds", [10, pytest.param(120, marks=pytest.mark.long)])
def test_links_come_back_after_a_superlink_that_was_killed(make_run: MakeRun, seconds: int) -> None:
    run = make_run("deployment")
    with federation(run) as one:
        for site in one.sites:
            one.wait_for("connected", site=site)
        one.superlink.kill()
        time.sleep(seconds)
        one.start_superlink()
        for site in one.sites:
            one.wait_for("connected", site=site, seconds=90, times=2)
        assert all(process.poll() is None for process in one.sites.values())


def test_an_order_that_went_with_a_killed_link_is_asked_again_and_charged_once(make_run: MakeRun) -> None:
    run = make_run("deployment")
    told = list[tuple[str, int, int]]()
    with federation(run) as one:
        for site in one.sites:
            one.wait_for("connected", site=site)
        family = roles(one.sites["east"].pid)

        def progress(what: str, done: int, total: int) -> None:
            told.append((what, done, total))
            if what == "sites connected" and done == total:
                os.kill(family["gate"], signal.SIGSTOP)  # what the link takes from now on it cannot pass on

        def drive() -> None:
            how = {"folder": run.path, "superlink": one.superlink, "options": (), "patience": Patience()}
            run_app(one.processes, **how, progress=progress)  # type: ignore[arg-type]

        with ThreadPoolExecutor(1) as pool:
            driven = pool.submit(drive)
            ends = time.monotonic() + 120
            while not (waiting := [what for what, done, _ in told if what.endswith(", sites") and done == 2]):
                assert time.monotonic() < ends, told
                time.sleep(0.1)
            time.sleep(3)  # longer than a link's pause: it has taken the order
            assert (waiting[-1], 3, 3) not in told
            for pid in (one.sites["east"].pid, *family.values()):
                os.kill(pid, signal.SIGKILL)
            one.sites["east"].wait()
            one.start("east")
            killed = time.monotonic()
            driven.result(200)
            took = time.monotonic() - killed

    print(f"\nfinished {took:.0f} s after the link was killed and started again")
    assert {site.site for site in run.statement().sites} == set(run.facts().sites)
    for site in run.facts().sites:
        with Ledger(run.site(site) / "ledger") as ledger:
            lines = [charge.mechanism.purpose for charge in ledger.charges()]
        assert len(lines) == len(set(lines)) == len(run.plan().steps)


def test_a_node_that_is_not_registered_ends_with_a_sentence(make_run: MakeRun) -> None:
    run = make_run("deployment")
    with federation(run, register=False) as one:
        for site, process in one.sites.items():
            assert process.wait(90) == 2
            said = one.log(site, "link")[-1]
            assert "ask the coordinator to register it" in str(said["said"])


def test_killing_any_process_of_a_site_ends_all_of_it(make_run: MakeRun) -> None:
    run = make_run("deployment")
    with federation(run) as one:
        for site, role in zip(one.sites, ("link", "gate", "train"), strict=True):
            one.wait_for("connected", site=site)
            family = roles(one.sites[site].pid)
            os.kill(family[role], signal.SIGKILL)
            assert one.sites[site].wait(10) == 2
            assert not any(Path(f"/proc/{pid}").exists() for pid in family.values())
