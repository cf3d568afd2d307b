"""The fork server: torch is loaded once, and every step gets a process of its own, with limits.

Started by `fedsynth.node.train`, which hands it connections of the gate over its standard input. A child sees one
connection, then one open file of windows, and nothing else: it has no network, no key and no right to open a file
of the site. It is killed when the gate hangs up, when its time is over, and with whoever started it.
"""

import fcntl
import gc
import importlib
import json
import logging
import os
import random
import select
import signal
import socket
import sys
import time
import traceback
from contextlib import suppress
from dataclasses import dataclass
from typing import NoReturn

from fedsynth.errors import ConsentError, FedsynthError, NodeError, PrivacyError
from fedsynth.memory import memory_available
from fedsynth.node.channel import Channel, Frame, receive_descriptors
from fedsynth.node.confine import (
    Limits,
    close_all_but,
    end_with_parent,
    keep_privileges_down,
    limit,
)

_MODULES = ("fedsynth.site.steps", "fedsynth.site.worker", "fedsynth.privacy.lattice_optimizer")
_CHARGE_SECONDS = 120.0  # from the size announced to the windows
_LOAD = 2**30  # bytes: Python, torch and one batch
_COPIES = 24  # of what came with an order: parts, their gradients, and those of the units of a batch


@dataclass(frozen=True)
class _Job:
    """A child at work, on a connection that this process only watches."""

    connection: socket.socket
    began: float


def main() -> None:
    """Serve the connections that come over standard input, until nobody is there to send any."""
    end_with_parent(int(sys.argv[1]))
    keep_privileges_down()
    control = socket.socket(fileno=0)
    _load()
    jobs: dict[int, _Job] = {}
    while True:
        poll = select.poll()
        poll.register(control, select.POLLIN)
        for job in jobs.values():
            poll.register(job.connection, select.POLLRDHUP)
        ready = {descriptor for descriptor, _ in poll.poll(200 if jobs else None)}
        for pid, job in list(jobs.items()):
            if job.connection.fileno() in ready:
                _kill(pid)
            if (ended := _reap(pid)) is not None:
                _tell(control, pid, job, ended)
                del jobs[pid]
        if control.fileno() in ready:
            data, descriptors, _ = receive_descriptors(control, 16)
            if not data:
                return
            connection = socket.socket(fileno=descriptors[0])
            parent = os.getpid()
            pid = os.fork()
            if pid == 0:
                _child(connection, parent)
            jobs[pid] = _Job(connection, time.monotonic())


def _load() -> None:
    """Load what every step needs, and keep it out of the garbage collector's way; no tensor is computed here."""
    from fedsynth.privacy.noise import system_noise

    for name in _MODULES:
        importlib.import_module(name)
    system_noise(1)  # builds its table, a public constant
    gc.collect()
    gc.freeze()


def _child(connection: socket.socket, parent: int) -> NoReturn:
    """Carry out one task in a process of its own, and end."""
    status = 1
    try:
        end_with_parent(parent)
        os.setsid()
        nowhere = os.open(os.devnull, os.O_RDWR)
        for number in range(3):
            os.dup2(nowhere, number)
        close_all_but(connection.fileno())
        _reseed()
        with Channel(connection) as channel:
            status = _answer(channel)
    finally:
        os._exit(status)


def _answer(channel: Channel) -> int:
    """Take one task, and answer it; a failure is told to the gate of the same site, for its log."""
    try:
        _work(channel)
    except FedsynthError as error:
        channel.send({"refused": type(error).__name__, "said": str(error)})
        return 1
    except MemoryError:
        channel.send({"refused": "NodeError", "said": "the step needed more memory than it may have"})
        return 1
    except Exception as error:  # noqa: BLE001 - its text may hold a value of somebody's: only the place is told
        places = traceback.extract_tb(error.__traceback__)[-3:]
        where = ", ".join(f"{os.path.basename(place.filename)}:{place.lineno}" for place in places)  # noqa: PTH119
        channel.send({"refused": "NodeError", "said": f"a step failed with {type(error).__name__} at {where}"})
        return 1
    return 0


def _work(channel: Channel) -> None:
    from fedsynth.plan import Plan
    from fedsynth.site.worker import LocalWorker, Task
    from fedsynth.source_code import code_in_use
    from fedsynth.wire.order import PackedOrder
    from fedsynth.wire.packed import pack_arrays

    asked = channel.receive(seconds=_CHARGE_SECONDS)
    limits = Limits(memory=int(asked.header["memory"]), seconds=float(asked.header["seconds"]))
    _check_memory(limits, n_bytes=len(asked.payload))
    limit(limits)
    plan = Plan.from_json(asked.header["plan"])
    if plan.code != str(code_in_use()):
        raise ConsentError(
            f"the gate approved code {plan.code}, and code {code_in_use()} would train; restart both"
        )
    named = asked.header["order"]
    order = PackedOrder(named["run"], named["plan"], named["step"], named["stage"], asked.payload)
    told = 0.0

    def progress(what: str, done: int, total: int) -> None:
        nonlocal told
        if time.monotonic() - told >= 1 or done == total:
            told = time.monotonic()
            channel.send({"progress": [what, done, total]})

    with LocalWorker(progress=progress).prepare(Task(order, plan, str(asked.header["device"]))) as work:
        channel.send({"size": work.size})
        with os.fdopen(_windows(channel.receive(seconds=_CHARGE_SECONDS)), "rb") as windows:
            answer = work.run(windows)
    channel.send({"done": True}, pack_arrays(answer))


def _windows(frame: Frame) -> int:
    """Return the descriptor that came after the charge.

    Raises:
        PrivacyError: none came, or one that can be written through.
    """
    if frame.descriptor < 0:
        raise NodeError("the gate sent no windows")
    if fcntl.fcntl(frame.descriptor, fcntl.F_GETFL) & os.O_ACCMODE != os.O_RDONLY:
        raise PrivacyError("the gate handed out windows that could be written to; nothing was read")
    return frame.descriptor


def _check_memory(limits: Limits, *, n_bytes: int) -> None:
    """Refuse what would not fit, before it is charged; by public sizes only, so that nobody's people decide.

    Raises:
        NodeError: the site's limit, or what this machine has free, is less than the step needs.
    """
    needed = _LOAD + _COPIES * n_bytes
    free = memory_available()
    have = limits.memory if free is None else min(limits.memory, free)
    if needed > have:
        raise NodeError(
            f"the step needs about {needed / 2**30:.1f} GiB and may use {have / 2**30:.1f} (memory_gigabytes in "
            "site.toml, and what is free); nothing was charged"
        )


def _reseed() -> None:
    """Part this process' generators from those of the other children: all begin as copies of one."""
    import numpy as np
    import torch

    torch.seed()
    np.random.seed()  # noqa: NPY002
    random.seed()


def _kill(pid: int) -> None:
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


def _reap(pid: int) -> tuple[int, int] | None:
    """Return the status and the most memory, in KiB, of a child that ended, or None while it runs."""
    ended, status, usage = os.wait4(pid, os.WNOHANG)
    return (status, usage.ru_maxrss) if ended else None


def _tell(control: socket.socket, pid: int, job: _Job, ended: tuple[int, int]) -> None:
    """Say how a step ended, for the log of the process that outlives this one."""
    job.connection.close()
    status, memory = ended
    seconds = round(time.monotonic() - job.began, 2)
    code = -os.WTERMSIG(status) if os.WIFSIGNALED(status) else os.WEXITSTATUS(status)
    body = {"pid": pid, "seconds": seconds, "memory_mb": memory // 1024, "status": code}
    with suppress(OSError):
        control.send(json.dumps(body).encode())


if __name__ == "__main__":
    logging.disable(logging.CRITICAL)  # what a unit's failure says may be somebody's
    main()
