"""The single-user mode: the three processes of a site as children of one, for a laptop or a trial.

They are the same processes as under three users, with the same messages between them. What one user gives up is
said in `GIVEN_UP`. All three end together, also when one of them, or this one, is killed.
"""

import fcntl
import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from fedsynth.errors import NodeError
from fedsynth.node.confine import end_with_parent

GIVEN_UP = (
    "one user runs all three processes of this site: code that trains could read the ledger, the keys and windows "
    "that nobody charged for, and nothing but this program keeps it from that. In a hospital, give each of them a "
    "user of its own"
)
ROLES = ("train", "gate", "link")
log = logging.getLogger("fedsynth.supervisor")
_GRACE_SECONDS = 5.0
_LOCK = "site.lock"


@dataclass(frozen=True)
class Places:
    """Where a site's processes keep their lock, their logs, and the sockets of gate and train."""

    run: Path
    logs: Path
    gate: Path
    train: Path


def places_of(site: Path) -> Places:
    """Return where they are for a site that one user runs."""
    run = site / "run"
    return Places(run=run, logs=site / "logs", gate=run / "gate.sock", train=run / "train.sock")


def command_of(
    role: str,
    *,
    site: Path,
    kit: Path,
    places: Places,
    users: Sequence[int],
    mode: int = 0o600,
    more: Sequence[str] = (),
) -> list[str]:
    """Return the command line of one process of a site."""
    words = [sys.executable, "-m", "fedsynth.node", role]
    words += ["--users", ",".join(map(str, users)), "--mode", f"{mode:o}"]
    words += {
        "train": ["--train-socket", str(places.train)],
        "gate": ["--site", str(site), "--gate-socket", str(places.gate), "--train-socket", str(places.train)],
        "link": ["--kit", str(kit), "--gate-socket", str(places.gate)],
    }[role]
    return [*words, *more]


def supervise(site: Path, *, kit: Path) -> None:
    """Run a site's three processes as this user, until asked to end or until one of them ends.

    Args:
        site: its folder.
        kit: the folder of `fedsynth.node.kit`.

    Raises:
        NodeError: the site runs already, or one of the processes ended by itself.
    """
    places = places_of(site)
    places.run.mkdir(mode=0o700, exist_ok=True)
    lock = _hold(places.run)
    stopping: list[int] = []
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, lambda *_: stopping.append(1))
    started: dict[str, subprocess.Popen[bytes]] = {}
    try:
        for role in ROLES:
            started[role] = _start(role, site=site, kit=kit, places=places)
        while not stopping:
            for role, process in started.items():
                if process.poll() is not None:
                    raise NodeError(
                        f"{role} ended ({_how(process.returncode)}), so the other two were ended as well; "
                        f"its last words are in {places.logs.name}/{role}.jsonl"
                    )
            time.sleep(0.2)
    finally:
        _end(started)
        os.close(lock)


def pid_of(site: Path) -> int | None:
    """Return the process that runs a site, or None where none does."""
    path = places_of(site).run / _LOCK
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
    except OSError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return None
    except BlockingIOError:
        return int(os.pread(descriptor, 20, 0) or 0) or None
    finally:
        os.close(descriptor)


def _start(role: str, *, site: Path, kit: Path, places: Places) -> "subprocess.Popen[bytes]":
    me = os.getpid()
    more = ["--parent", str(me), "--log", str(places.logs / f"{role}.jsonl")]
    if role != "link":
        more.append("--no-network")
    command = command_of(role, site=site, kit=kit, places=places, users=[os.geteuid()] * 3, more=more)
    return subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        preexec_fn=lambda: end_with_parent(me),
        start_new_session=True,
    )


def _end(started: dict[str, "subprocess.Popen[bytes]"]) -> None:
    """End every process, politely and then by force."""
    for process in reversed(started.values()):
        with suppress(ProcessLookupError):
            process.terminate()
    ends = time.monotonic() + _GRACE_SECONDS
    for process in started.values():
        try:
            process.wait(max(0.1, ends - time.monotonic()))
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _hold(run: Path) -> int:
    descriptor = os.open(run / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        raise NodeError("this site runs already; see `fedsynth site status`") from None
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, str(os.getpid()).encode(), 0)
    return descriptor


def _how(code: int) -> str:
    return f"signal {-code}" if code < 0 else f"exit code {code}"
