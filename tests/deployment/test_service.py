"""The coordinator's service: the SuperLink stays up, who lost standing goes, and nothing outlives a kill."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from fedsynth.deployment.service import Running
from fedsynth.engines.certificates import make_node_key
from fedsynth.engines.processes import free_ports
from fedsynth.errors import RunError

pytestmark = pytest.mark.engines
SERVE = """
import sys
from pathlib import Path
from fedsynth.deployment.service import NodeRegistration, serve
home = Path(sys.argv[1])
serve(
    home / "service",
    port=int(sys.argv[2]),
    sites=lambda: {
        site: NodeRegistration((home / site / "node.pub").read_bytes())
        for site in ("east", "west", "south")
        if (home / site / "node.pub").exists()
    },
    told=lambda said: print(said, flush=True),
)
"""


class Served:
    """One service in a process of its own."""

    def __init__(self, home: Path, port: int) -> None:
        self.home, self.folder = home, home / "service"
        self.log = home / "said"
        with self.log.open("ab") as log:
            command = [sys.executable, "-c", SERVE, str(home), str(port)]
            self.process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT)
        self.wait(lambda: "listens on" in self.said)

    @property
    def said(self) -> str:
        return self.log.read_text(encoding="utf-8")

    def wait(self, until: Callable[[], bool], *, seconds: float = 90.0) -> None:
        ends = time.monotonic() + seconds
        while not until():
            assert time.monotonic() < ends, self.said
            time.sleep(0.1)

    def children(self, program: str) -> list[int]:
        found = []
        for folder in Path("/proc").glob("[0-9]*"):
            try:
                command = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode()
            except OSError:
                continue
            if program in command and str(self.folder) in command:
                found.append(int(folder.name))
        return found


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Served]:
    for site in ("east", "west"):
        (tmp_path / site).mkdir()
        make_node_key(tmp_path / site)
    one = Served(tmp_path, free_ports(1)[0])
    yield one
    one.process.terminate()
    one.process.wait(timeout=60)
    assert not one.children("flower-")


def test_a_superlink_that_was_killed_is_started_again_and_keeps_its_nodes(served: Served) -> None:
    before = Running.load(served.folder).nodes
    (superlink,) = served.children("flower-superlink")

    os.kill(superlink, signal.SIGKILL)
    served.wait(lambda: "superlink ended with code -9 and is started again" in served.said)
    served.wait(lambda: served.children("flower-superlink") not in ([], [superlink]))

    assert set(before) == {"east", "west"}
    assert Running.load(served.folder).nodes == before


def test_who_may_take_part_is_asked_again_and_again(served: Served) -> None:
    before = Running.load(served.folder).nodes
    (served.home / "west" / "node.pub").unlink()
    (served.home / "south").mkdir()
    make_node_key(served.home / "south")

    served.wait(lambda: set(Running.load(served.folder).nodes) == {"east", "south"}, seconds=60)

    assert "site west may not take part any more" in served.said
    assert Running.load(served.folder).nodes["east"] == before["east"]
    known = set(json.loads((served.folder / "nodes.json").read_text()).values())
    assert known == set(Running.load(served.folder).nodes.values())


def test_nothing_outlives_a_service_that_is_killed(served: Served) -> None:
    home = Running.load(served.folder).home
    assert served.children("flower-superexec")

    served.process.kill()
    served.process.wait()
    served.wait(lambda: not served.children("flower-") and not home.exists(), seconds=10)

    with pytest.raises(RunError, match="fedsynth federation start"):
        Running.load(served.folder)


def test_nobody_reaches_a_service_that_was_never_started(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="fedsynth federation start"):
        Running.load(tmp_path)
