"""Three users at a site, as root makes them: what the kernel refuses each of them, and that orders are answered."""

import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from machine import GATE, LINK, TRAIN, as_user

from fedsynth.node.supervise import Places, command_of
from fedsynth.plan import Plan
from fedsynth.site.approval import approve
from fedsynth.wire.order import Order
from fedsynth.wire.update import Update

TOOLS = all(shutil.which(tool) for tool in ("setpriv", "unshare"))
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        os.geteuid() != 0 or not TOOLS, reason="takes root, setpriv and unshare to make three users"
    ),
]

ASK = """
import sys
from pathlib import Path
from fedsynth.node.channel import connect
with connect(Path(sys.argv[1]), uid=int(sys.argv[2])) as channel:
    channel.send({"ask": "order"}, Path(sys.argv[3]).read_bytes())
    Path(sys.argv[4]).write_bytes(channel.receive(seconds=300).payload)
"""
LOOK = """
import errno, socket, sys
def why(call):
    try:
        call()
        return "allowed"
    except OSError as error:
        return errno.errorcode.get(error.errno, str(error))
for path in sys.argv[2:]:
    print(path.rpartition("/")[2], why(lambda: open(path, "rb")))
def reach():
    socket.create_connection(("127.0.0.1", int(sys.argv[1])), 3)
print("network", why(reach))
"""


@pytest.fixture
def place() -> Iterator[Path]:
    """Return a folder that all users may enter."""
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o755)
        yield Path(name)


@pytest.fixture
def running(
    place: Path,
    plan: Plan,
    make_site: Callable[..., object],
    make_people: Callable[..., object],
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[tuple[Path, Places, Path]]:
    """Return a site of three users with gate and train running, its sockets, and an order."""
    probe = subprocess.run(as_user(TRAIN, [sys.executable, "-c", "import fedsynth"], network=False), check=False)
    if probe.returncode != 0:
        pytest.skip("another user cannot read this installation, or the system lets no process leave its network")
    mine = place / "site"
    make_site(mine, make_people(12, seed=1), policy='device = "cpu"')
    monkeypatch.setattr("fedsynth.site.plan_probe.probe_plan", lambda *_, **__: None)
    approve(mine, run="run", plan=plan)
    (mine / "federation").mkdir(mode=0o700)
    (mine / "federation" / "node.key").write_bytes(b"the node's key")
    for folder in (mine, *mine.rglob("*")):
        os.chown(folder, GATE, GATE)
        folder.chmod(0o700 if folder.is_dir() else 0o600)
    mine.chmod(0o711)
    for path in (mine / "federation", mine / "federation" / "node.key"):
        os.chown(path, LINK, LINK)
    for name, uid in (("gate", GATE), ("train", TRAIN)):
        (place / name).mkdir(mode=0o755)
        os.chown(place / name, uid, uid)
    (place / "order").write_bytes(
        Order("run", plan.digest, 0, plan.estimator.prior(plan.shape).tensors()).to_bytes()
    )
    (place / "out").mkdir(mode=0o777)
    (place / "out").chmod(0o777)
    places = Places(run=place, logs=place, gate=place / "gate" / "gate.sock", train=place / "train" / "train.sock")
    processes = []
    for role, uid in (("train", TRAIN), ("gate", GATE)):
        command = command_of(role, site=mine, kit=mine, places=places, users=[LINK, GATE, TRAIN], mode=0o666)
        log = (place / f"{role}.log").open("wb")
        processes.append(subprocess.Popen(as_user(uid, command, network=False), stderr=log, cwd="/"))
    ends = time.monotonic() + 120
    while not (places.gate.exists() and places.train.exists()):
        assert time.monotonic() < ends, [(place / f"{role}.log").read_text() for role in ("gate", "train")]
        time.sleep(0.1)
    yield mine, places, place
    for process in processes:
        process.terminate()
        process.wait()


def ask(uid: int, places: Places, place: Path, out: str) -> "subprocess.CompletedProcess[str]":
    words = [sys.executable, "-c", ASK, str(places.gate), str(GATE), str(place / "order"), str(place / "out" / out)]
    return subprocess.run(as_user(uid, words, network=True), check=False, capture_output=True, text=True)


def test_the_links_order_is_answered_and_a_strangers_is_not_heard(
    running: tuple[Path, Places, Path],
) -> None:
    _, places, place = running

    assert ask(LINK, places, place, "mine").returncode == 0
    update = Update.from_bytes((place / "out" / "mine").read_bytes())
    assert update.refused == "", (place / "gate.log").read_text()
    assert update.tensors["sum"].isfinite().all()
    for stranger in (TRAIN, 6599):
        assert "ChannelClosedError" in ask(stranger, places, place, "theirs").stderr
    assert not (place / "out" / "theirs").exists()


REFUSED_TO = {
    TRAIN: {"node.key", "ledger.sqlite", "ledger.key", "train.windows", "identity.key"},
    LINK: {"ledger.sqlite", "ledger.key", "train.windows", "identity.key"},
    GATE: {"node.key"},
}


def test_the_kernel_refuses_each_user_what_is_the_others(
    running: tuple[Path, Places, Path], free_port: Callable[[], int]
) -> None:
    mine, _, _ = running
    paths = [
        mine / "federation" / "node.key",
        mine / "ledger" / "ledger.sqlite",
        mine / "ledger" / "ledger.key",
        mine / "holdings" / "train.windows",
        mine / "identity.key",
    ]
    for uid, refused in REFUSED_TO.items():
        words = [sys.executable, "-I", "-S", "-c", LOOK, str(free_port()), *map(str, paths)]
        done = subprocess.run(as_user(uid, words, network=False), check=True, capture_output=True, text=True)
        said = dict(line.split(" ") for line in done.stdout.splitlines())

        assert {name for name, why in said.items() if why == "EACCES"} == refused
        assert said["network"] in ("ENETUNREACH", "EADDRNOTAVAIL")


@pytest.fixture
def free_port() -> Iterator[Callable[[], int]]:
    """Return a function that opens a port which this machine's own network reaches."""
    import socket

    servers: list[socket.socket] = []

    def make() -> int:
        server = socket.create_server(("127.0.0.1", 0))
        servers.append(server)
        return int(server.getsockname()[1])

    yield make
    for server in servers:
        server.close()
