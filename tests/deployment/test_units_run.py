"""The units' own command lines, run as three users with folders as tmpfiles makes them: who reaches what."""

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from commands import words_of
from machine import GATE, LINK, ROLES, ROOT, TRAIN, Machine, as_user, why_not

from fedsynth.site.folder import make_site

STRANGER = 6599
pytestmark = pytest.mark.slow

ASK = """
import sys
from pathlib import Path
from fedsynth.node.channel import connect
with connect(Path(sys.argv[1]), uid=int(sys.argv[2])) as channel:
    channel.send({"ask": "name"})
    print(channel.receive(seconds=60).header)
"""


class Running(Machine):
    """A machine whose gate and train process run."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.processes: list[subprocess.Popen[bytes]] = []

    def start(self, role: str) -> None:
        with (self.root / f"{role}.log").open("wb") as log:
            command = as_user(ROLES[role], self.command(role), network=False)
            self.processes.append(subprocess.Popen(command, stderr=log, stdout=log, cwd="/"))

    def ask(self, uid: int, role: str) -> subprocess.CompletedProcess[str]:
        words = [sys.executable, "-c", ASK, str(self.socket(role)), str(ROLES[role])]
        return subprocess.run(as_user(uid, words, network=True), check=False, capture_output=True, text=True)

    def log(self) -> str:
        return "\n".join(path.read_text() for path in self.root.glob("*.log"))


@pytest.fixture(scope="module")
def machine() -> Iterator[Running]:
    if reason := why_not():
        pytest.skip(reason)
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o755)
        one = Running(Path(name))
        make_site(one.site, name="north")
        os.chown(one.site / "site.toml", GATE, GATE)
        one.start("train")
        one.start("gate")
        ends = time.monotonic() + 120
        while not (one.socket("gate").exists() and one.socket("train").exists()):
            ended = [process for process in one.processes if process.poll() is not None]
            assert not ended, one.log()
            assert time.monotonic() < ends, one.log()
            time.sleep(0.1)
        yield one
        for process in one.processes:
            process.terminate()
            process.wait()


def test_the_link_reaches_the_gate_and_nobody_else_does(machine: Running) -> None:
    found = machine.ask(LINK, "gate")
    assert found.stdout == "{'name': 'north'}\n", found.stderr + machine.log()

    for other in (TRAIN, STRANGER):
        done = machine.ask(other, "gate")
        assert done.returncode != 0
        assert done.stdout == ""


def test_training_is_reached_by_the_gate_alone(machine: Running) -> None:
    def reached(uid: int) -> bool:
        test = ["sh", "-c", 'cd "$(dirname "$1")" && test -S "$1"', "sh", str(machine.socket("train"))]
        return subprocess.run(as_user(uid, test, network=True), check=False, capture_output=True).returncode == 0

    assert reached(GATE)
    assert not reached(LINK)
    assert not reached(STRANGER)


def test_the_administrators_look_at_the_site_is_answered(machine: Running) -> None:
    page = (ROOT / "deploy" / "README.md").read_text(encoding="utf-8")
    line = next(line.strip() for line in page.splitlines() if line.startswith("    fedsynth site status"))
    words = [sys.executable, "-m", "fedsynth", *words_of(machine.place(line))]

    done = subprocess.run(as_user(GATE, words, network=True), check=False, capture_output=True, text=True, cwd="/")

    assert done.returncode == 0, done.stderr
    assert "idle" in done.stdout


def test_a_link_needs_its_kit_and_never_the_sites_folder(machine: Running) -> None:
    command = as_user(LINK, machine.command("link"), network=True)

    done = subprocess.run(command, check=False, capture_output=True, text=True, cwd="/")

    # It came as far as its kit, which nobody gave it.
    assert "node.key" in done.stderr
    assert "not readable" not in done.stderr
