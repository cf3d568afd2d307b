"""Hospitals as they are deployed: a SuperLink, and at each site a link, a gate and a train process of fedsynth."""

import json
import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import pytest

from fedsynth.coordinator.run_folder import RunFolder
from fedsynth.engines.certificates import ServerFiles, make_node_key, make_server_files
from fedsynth.engines.flower import CONNECTION, connect, run_app
from fedsynth.engines.processes import LOOPBACK, Process, Processes, free_ports
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

    def wait_for(self, said: str, *, site: str, role: str = "link", seconds: float = 60) -> None:
        ends = time.monotonic() + seconds
        while not any(said in str(line["said"]) for line in self.log(site, role)):
            assert time.monotonic() < ends, self.log(site, role)
            time.sleep(0.2)


@contextmanager
def federation(run: RunFolder) -> Iterator[Federation]:
    with Processes(run.path / "logs") as processes:
        files = make_server_files(processes.home)
        (port,) = free_ports(1)
        connect(processes.home, port=port, certificate=files.authority)
        one = Federation(run, processes, files, port, None, {})  # type: ignore[arg-type]
        one.start_superlink()
        for site in run.facts().sites:
            one.make_kit(site)
            one.start(site)
        yield one


def memory_mb(pid: int) -> int:
    """Return the memory that a process alone uses, its share of what it shares included."""
    text = Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="ascii")
    return next(int(line.split()[1]) for line in text.splitlines() if line.startswith("Pss:")) // 1024


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
        idle = {role: memory_mb(pid) for role, pid in roles(one.sites["east"].pid).items()}
        run_app(one.processes, folder=run.path, superlink=one.superlink, options=(), progress=lambda *_: None)
        kinds = [line["facts"] for line in one.log("east", "link") if line["said"] == "answered"]

    print(f"\nidle MB {idle}, sum {sum(idle.values())}; answers of one site: {kinds}")
    statement = run.statement()
    if trust == "site":
        assert without_heads(statement) == without_heads(in_process_statement())
    assert {site.site for site in statement.sites} == set(run.facts().sites)
    assert sum(idle.values()) < 200


def test_killing_any_process_of_a_site_ends_all_of_it(make_run: MakeRun) -> None:
    run = make_run("deployment")
    with federation(run) as one:
        for site, role in zip(one.sites, ("link", "gate", "train"), strict=True):
            one.wait_for("connected", site=site)
            family = roles(one.sites[site].pid)
            os.kill(family[role], signal.SIGKILL)
            assert one.sites[site].wait(10) == 2
            assert not any(Path(f"/proc/{pid}").exists() for pid in family.values())
