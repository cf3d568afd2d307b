"""A site of twelve made-up people with the three processes of a site, started as a unit would start them."""

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from fedsynth.errors import NodeError
from fedsynth.node.channel import connect
from fedsynth.node.supervise import Places, command_of
from fedsynth.plan import Plan, plan_of
from fedsynth.site.approval import approve
from fedsynth.study import parse_study

MakeSite = Callable[..., object]


@dataclass
class Node:
    """A site's processes, started and ended one by one."""

    site: Path
    places: Places
    processes: dict[str, "subprocess.Popen[bytes]"] = field(default_factory=dict)

    def start(self, role: str, *more: str, kit: Path = Path("/nowhere")) -> "subprocess.Popen[bytes]":
        """Start one process; its log goes to the site's folder."""
        command = command_of(role, site=self.site, kit=kit, places=self.places, users=[os.geteuid()] * 3)
        log = ["--log", str(self.places.logs / f"{role}.jsonl")]
        process = subprocess.Popen([*command, *log, *more], stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        self.processes[role] = process
        return process

    def started(self, *roles: str, more: Sequence[str] = ()) -> "Node":
        """Start processes and wait until they listen."""
        for role in roles:
            self.start(role, *more)
        for role in roles:
            self.wait_for(role)
        return self

    def wait_for(self, role: str, seconds: float = 30.0) -> None:
        """Wait until a process listens at its socket."""
        path, ends = self.places.train if role == "train" else self.places.gate, time.monotonic() + seconds
        while True:
            try:
                if role == "gate":
                    connect(path, uid=os.geteuid()).close()
                elif not path.exists():  # a connection would have it load torch
                    raise NodeError("no socket yet")
                return
            except NodeError:
                assert time.monotonic() < ends, f"{role} does not listen: {self.log(role)}"
                assert self.processes[role].poll() is None, f"{role} ended: {self.log(role)}"
            time.sleep(0.05)

    def ask(self, header: dict[str, object], payload: bytes = b"") -> tuple[dict[str, object], bytes]:
        """Ask the gate."""
        with connect(self.places.gate, uid=os.geteuid()) as channel:
            channel.send(header, payload)
            frame = channel.receive(seconds=120)
            return frame.header, frame.payload

    def order(self, data: bytes) -> bytes:
        """Return the gate's update for an order."""
        return self.ask({"ask": "order"}, data)[1]

    def log(self, role: str) -> str:
        """Return what a process said."""
        path = self.places.logs / f"{role}.jsonl"
        return path.read_text(encoding="utf-8") if path.exists() else ""

    def kill(self, role: str) -> None:
        """Kill one process, as the kernel does it."""
        self.processes[role].send_signal(signal.SIGKILL)
        self.processes[role].wait()

    def end(self) -> None:
        """End them all."""
        for process in self.processes.values():
            with suppress(ProcessLookupError):
                process.terminate()
        for process in self.processes.values():
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


@pytest.fixture(scope="session")
def make_node() -> type[Node]:
    """Return the class of a site's processes: tests are no package that others could import from."""
    return Node


@pytest.fixture(scope="session")
def plan(tiny_text: str) -> Plan:
    return plan_of(parse_study(tiny_text))


@pytest.fixture
def site(
    tmp_path: Path,
    make_site: MakeSite,
    make_people: Callable[..., object],
    plan: Plan,
    monkeypatch: pytest.MonkeyPatch,
) -> Path:
    """Return the folder of a site that approved `plan` for the run "run"."""
    # The machine is tried again at every order.
    monkeypatch.setattr("fedsynth.site.plan_probe.probe_plan", lambda *_, **__: None)
    folder = tmp_path / "east"
    make_site(folder, make_people(12, seed=1), policy='device = "cpu"')
    approve(folder, run="run", plan=plan)
    return folder


@pytest.fixture
def node(site: Path, tmp_path: Path) -> Iterator[Node]:
    """Return a site's processes, none started yet; none stays."""
    run = tmp_path / "run"
    run.mkdir()
    one = Node(site, Places(run=run, logs=tmp_path / "logs", gate=run / "gate.sock", train=run / "train.sock"))
    yield one
    one.end()


@pytest.fixture
def children() -> Callable[[int], set[int]]:
    """Return a function that names all descendants of a process that run now."""

    def of(pid: int) -> set[int]:
        parents: dict[int, int] = {}
        for folder in Path("/proc").glob("[0-9]*"):
            with suppress(OSError):
                state, parent, *_ = (folder / "stat").read_text(encoding="utf-8").rpartition(")")[2].split()
                if state not in "ZX":
                    parents[int(folder.name)] = int(parent)
        family = {pid}
        while more := {child for child, parent in parents.items() if parent in family} - family:
            family |= more
        return family - {pid}

    return of


@pytest.fixture
def make_small_disk() -> Iterator[Callable[[Path], None]]:
    """Return a function that moves a folder to a disk of one megabyte of its own."""
    made: list[Path] = []

    def make(folder: Path) -> None:
        aside = folder.with_name(f"{folder.name}.aside")
        folder.rename(aside)
        folder.mkdir(mode=0o700)
        done = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m,mode=700", "tmpfs", str(folder)], check=False)
        if done.returncode != 0:
            pytest.skip("this system mounts nothing")
        made.append(folder)
        shutil.copytree(aside, folder, dirs_exist_ok=True)

    yield make
    for folder in made:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)
