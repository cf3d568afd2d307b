"""The units' own command lines, run as three users with folders as tmpfiles makes them: who reaches what."""

import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from fedsynth.site.folder import make_site

from ..node.test_users import as_user  # noqa: TID252
from .commands import words_of

ROOT = Path(__file__).resolve().parents[2]
UNITS = ROOT / "deploy" / "systemd"
USERS = {"fedsynth-link": 6501, "fedsynth-gate": 6502, "fedsynth-train": 6503, "root": 0}
STRANGER = 6599
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        os.geteuid() != 0 or not all(shutil.which(tool) for tool in ("setpriv", "unshare")),
        reason="takes root, setpriv and unshare to make three users",
    ),
]

ASK = """
import sys
from pathlib import Path
from fedsynth.node.channel import connect
with connect(Path(sys.argv[1]), uid=int(sys.argv[2])) as channel:
    channel.send({"ask": "name"})
    print(channel.receive(seconds=60).header)
"""


class Machine:
    """A folder in the place of a machine's root."""

    def __init__(self, root: Path) -> None:
        self.root = root
        for line in (UNITS / "fedsynth-site.tmpfiles.conf").read_text(encoding="utf-8").splitlines():
            if line.startswith("d "):
                _, place, mode, owner, group, _ = line.split()
                folder = root / place.lstrip("/")
                folder.mkdir(parents=True)
                os.chown(folder, USERS[owner], USERS[group])
                folder.chmod(int(mode, 8))
        for folder in ("run", "var", "var/lib"):
            (root / folder).chmod(0o755)
        self.processes: list[subprocess.Popen[bytes]] = []

    def place(self, text: str) -> str:
        return re.sub(r"(?<![\w.])/(run|var/lib)/fedsynth", rf"{self.root}/\1/fedsynth", text)

    def command(self, role: str) -> list[str]:
        """Return a unit's command, below this root, with users by number."""
        text = (UNITS / f"fedsynth-{role}.service").read_text(encoding="utf-8")
        (line,) = re.findall(r"^ExecStart=(.+)$", text, flags=re.MULTILINE)
        words = words_of(self.place(line))
        at = words.index("--users") + 1
        words[at] = ",".join(str(USERS[name]) for name in words[at].split(","))
        return [sys.executable, "-m", "fedsynth", *words]

    def start(self, role: str) -> None:
        with (self.root / f"{role}.log").open("wb") as log:
            command = as_user(USERS[f"fedsynth-{role}"], self.command(role), network=False)
            self.processes.append(subprocess.Popen(command, stderr=log, stdout=log, cwd="/"))

    def socket(self, role: str) -> Path:
        return self.root / "run" / f"fedsynth-{role}" / f"{role}.sock"

    def ask(self, uid: int, role: str) -> subprocess.CompletedProcess[str]:
        words = [sys.executable, "-c", ASK, str(self.socket(role)), str(USERS[f"fedsynth-{role}"])]
        return subprocess.run(as_user(uid, words, network=True), check=False, capture_output=True, text=True)

    def log(self) -> str:
        return "\n".join(path.read_text() for path in self.root.glob("*.log"))


@pytest.fixture(scope="module")
def machine() -> Iterator[Machine]:
    probe = as_user(USERS["fedsynth-train"], [sys.executable, "-c", "import fedsynth"], network=False)
    if subprocess.run(probe, check=False).returncode != 0:
        pytest.skip("another user cannot read this installation, or the system lets no process leave its network")
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o755)
        one = Machine(Path(name))
        site = one.root / "var" / "lib" / "fedsynth" / "site"
        make_site(site, name="north")
        os.chown(site / "site.toml", USERS["fedsynth-gate"], USERS["fedsynth-gate"])
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


def test_the_link_reaches_the_gate_and_nobody_else_does(machine: Machine) -> None:
    found = machine.ask(USERS["fedsynth-link"], "gate")
    assert found.stdout == "{'name': 'north'}\n", found.stderr + machine.log()

    for other in (USERS["fedsynth-train"], STRANGER):
        done = machine.ask(other, "gate")
        assert done.returncode != 0
        assert done.stdout == ""


def test_training_is_reached_by_the_gate_alone(machine: Machine) -> None:
    def reached(uid: int) -> bool:
        test = ["sh", "-c", 'cd "$(dirname "$1")" && test -S "$1"', "sh", str(machine.socket("train"))]
        return subprocess.run(as_user(uid, test, network=True), check=False, capture_output=True).returncode == 0

    assert reached(USERS["fedsynth-gate"])
    assert not reached(USERS["fedsynth-link"])
    assert not reached(STRANGER)


def test_the_administrators_look_at_the_site_is_answered(machine: Machine) -> None:
    page = (ROOT / "deploy" / "README.md").read_text(encoding="utf-8")
    line = next(line.strip() for line in page.splitlines() if line.startswith("    fedsynth site status"))
    words = [sys.executable, "-m", "fedsynth", *words_of(machine.place(line))]

    done = subprocess.run(
        as_user(USERS["fedsynth-gate"], words, network=True), check=False, capture_output=True, text=True, cwd="/"
    )

    assert done.returncode == 0, done.stderr
    assert "idle" in done.stdout


def test_a_link_needs_its_kit_and_never_the_sites_folder(machine: Machine) -> None:
    command = as_user(USERS["fedsynth-link"], machine.command("link"), network=True)

    done = subprocess.run(command, check=False, capture_output=True, text=True, cwd="/")

    # It came as far as its kit, which nobody gave it.
    assert "node.key" in done.stderr
    assert "not readable" not in done.stderr
