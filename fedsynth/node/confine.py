"""What a process gives up before it works: privileges, descriptors, memory, time, and outliving its parent.

Linux only: prctl(2), setrlimit(2), unshare(2). Each function is for the process that calls it.
"""

import ctypes
import os
import resource
import signal
import sys
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from fedsynth.errors import NodeError

_PR_SET_PDEATHSIG, _PR_SET_DUMPABLE, _PR_SET_NO_NEW_PRIVS = 1, 4, 38
_CLONE_NEWUSER, _CLONE_NEWNET = 0x10000000, 0x40000000
_SPARE_TASKS = 64  # beside those that the user runs already: the threads of a training


@dataclass(frozen=True)
class Limits:
    """What one step may use: bytes of private memory, and seconds on the wall."""

    memory: int
    seconds: float


def end_with_parent(parent: int) -> None:
    """Be killed when the process `parent`, which started this one, ends; at once, if it has ended already."""
    _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os.kill(os.getpid(), signal.SIGKILL)


def keep_privileges_down() -> None:
    """Never gain a privilege again, by no program that is executed, and leave no core of what was in memory."""
    _prctl(_PR_SET_NO_NEW_PRIVS, 1)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def hide_memory() -> None:
    """Let no other process of the same user look into this one's memory: it holds keys."""
    _prctl(_PR_SET_DUMPABLE, 0)


def limit(limits: Limits) -> None:
    """Bound memory, processor time, processes and written files; what this process uses now is not counted.

    Private memory is bounded (RLIMIT_DATA), not addresses: torch reserves many of those and uses few.
    """
    used = _private_bytes()
    resource.setrlimit(resource.RLIMIT_DATA, (used + limits.memory, used + limits.memory))
    cores = os.cpu_count() or 1
    processor = max(1, int(limits.seconds * cores) + 1)
    resource.setrlimit(resource.RLIMIT_CPU, (processor, processor + 5))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    tasks = _tasks_of(os.geteuid()) + _SPARE_TASKS
    _, most = resource.getrlimit(resource.RLIMIT_NPROC)
    if most != resource.RLIM_INFINITY:
        tasks = min(tasks, most)
    resource.setrlimit(resource.RLIMIT_NPROC, (tasks, tasks))


def close_all_but(*kept: int) -> None:
    """Close every descriptor beside the standard ones and `kept`."""
    for descriptor in [int(path.name) for path in Path("/proc/self/fd").iterdir()]:
        if descriptor > 2 and descriptor not in kept:
            with suppress(OSError):  # the one that listed them
                os.close(descriptor)


def leave_network() -> bool:
    """Move into a network of its own that reaches nobody; whether the system allowed it.

    Sockets at a path work on. As an ordinary user this takes a user namespace, in which the user stays who it is.
    """
    uid, gid = os.geteuid(), os.getegid()
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(_CLONE_NEWNET) == 0:
        return True
    if libc.unshare(_CLONE_NEWUSER | _CLONE_NEWNET) != 0:
        return False
    with suppress(OSError):
        Path("/proc/self/setgroups").write_text("deny", encoding="ascii")
        Path("/proc/self/uid_map").write_text(f"{uid} {uid} 1", encoding="ascii")
        Path("/proc/self/gid_map").write_text(f"{gid} {gid} 1", encoding="ascii")
    return True


def _prctl(option: int, value: int) -> None:
    if not sys.platform.startswith("linux"):
        raise NodeError("the processes of a site need Linux; rehearse with the engines in process instead")
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(option, ctypes.c_ulong(value), 0, 0, 0) != 0:
        raise NodeError(f"the system refused prctl {option} ({os.strerror(ctypes.get_errno())})")


def _private_bytes() -> int:
    """Return what RLIMIT_DATA counts of this process now."""
    for line in Path("/proc/self/status").read_text(encoding="ascii", errors="replace").splitlines():
        if line.startswith("VmData:"):
            return int(line.split()[1]) * 1024
    return 0


def _tasks_of(uid: int) -> int:
    """Return how many processes and threads a user runs now: RLIMIT_NPROC counts them all."""
    count = 0
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            if folder.stat().st_uid == uid:
                count += sum(1 for _ in (folder / "task").iterdir())
    return count
