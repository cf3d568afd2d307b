"""gate: the process that decides. Policy, approvals, ledger, windows and the identity key; no network, no torch.

It listens for the site's link, answers one order at a time, and has the work done by the site's train process,
which gets an open file of windows once the charge is on the disk. Orders that come meanwhile wait their turn.
"""

import fcntl
import logging
import os
import socket
import threading
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fedsynth.errors import FedsynthError, NodeError, RefusedError
from fedsynth.node.channel import Channel, accept, listen
from fedsynth.node.confine import Limits, hide_memory, keep_privileges_down
from fedsynth.node.remote_worker import RemoteWorker
from fedsynth.site.policy import check_switch, load_policy
from fedsynth.site.requests import take_in
from fedsynth.site.session import SiteSession

log = logging.getLogger("fedsynth.gate")
_ASK_SECONDS = 30.0
_AT_ONCE = 16


@dataclass(frozen=True)
class Users:
    """The user ids of the three processes of a site; in the single-user mode they are one."""

    link: int
    gate: int
    train: int


class GateServer:
    """Answers the link for one site's folder."""

    def __init__(self, folder: Path, *, path: Path, train: Path, users: Users, mode: int = 0o600) -> None:
        """Take the site for this process, and listen.

        Args:
            folder: the site's.
            path: of this socket.
            train: the train process' socket.
            users: who may ask, and who must be listening there.
            mode: of this socket.

        Raises:
            StudyError: the folder has no policy.
            NodeError: another gate serves this site, or nobody can listen there.
        """
        policy = load_policy(folder)
        self._folder, self._users = folder, users
        self._lock = _hold(folder)
        self._server = listen(path, mode=mode)
        limits = Limits(memory=int(policy.memory_gigabytes * 2**30), seconds=60 * policy.step_minutes)
        self._session = SiteSession(
            folder,
            worker=RemoteWorker(train, uid=users.train, limits=limits, check=self._check, progress=self._told),
        )
        self._one = threading.Lock()
        self._stop, self._ended = threading.Event(), threading.Event()
        self._slots = threading.Semaphore(_AT_ONCE)
        self._state: dict[str, Any] = {"doing": "", "done": 0, "all": 0, "since": 0.0}
        self._answered, self._asked_at = 0, 0.0

    def serve(self) -> None:
        """Serve until `end`."""
        keep_privileges_down()
        hide_memory()
        log.info("listening")
        while not self._ended.is_set():
            try:
                channel = accept(
                    self._server, uids=frozenset({self._users.link, self._users.gate, os.geteuid(), 0})
                )
            except OSError:
                if self._ended.is_set():
                    return
                raise
            if channel is None:
                log.warning("a connection of another user was hung up")
            elif self._slots.acquire(blocking=False):
                threading.Thread(target=self._converse, args=(channel,), daemon=True).start()
            else:
                log.warning("too many connections at once; one was hung up")
                channel.close()

    def end(self) -> None:
        """Stop what runs, and serve no more; may be called by a signal's handler."""
        self._ended.set()
        self._stop.set()
        with suppress(OSError):
            self._server.shutdown(socket.SHUT_RDWR)
        self._server.close()

    def _converse(self, channel: Channel) -> None:
        try:
            with channel:
                frame = channel.receive(seconds=_ASK_SECONDS)
                header, payload = self._reply(str(frame.header.get("ask")), frame.payload, uid=channel.peer.uid)
                channel.send(header, payload)
        except FedsynthError as error:
            log.warning("a connection was lost: %s", error)
        finally:
            self._slots.release()

    def _reply(self, ask: str, payload: bytes, *, uid: int) -> tuple[dict[str, Any], bytes]:
        if ask == "order":
            return {"answer": "update"}, self._order(payload)
        if ask == "name":
            self._asked_at = time.monotonic()
            return {"name": load_policy(self._folder).name}, b""
        if ask == "request":
            return {"kept": self._keep_request(payload)}, b""
        if ask == "status":
            return self.status(), b""
        if ask == "stop" and uid in (0, os.geteuid()):
            # A link may not stop what was charged: that is for the site's own people.
            self._stop.set()
            return {"stopped": True}, b""
        log.warning("something was asked that a gate does not answer")
        return {"refused": "unknown"}, b""

    def status(self) -> dict[str, Any]:
        """Return what this gate is doing, in words and numbers without a name of anybody."""
        state = dict(self._state)
        since = state.pop("since")
        heard = round(time.monotonic() - self._asked_at, 1) if self._asked_at else None
        return {
            **state,
            "busy": self._one.locked(),
            "seconds": round(time.monotonic() - since, 1) if since else 0.0,
            "answered": self._answered,
            "link_heard_seconds_ago": heard,
            "pid": os.getpid(),
        }

    def _order(self, data: bytes) -> bytes:
        self._asked_at = time.monotonic()
        with self._one:
            if not self._ended.is_set():
                self._stop.clear()
            self._state |= {"doing": "an order", "done": 0, "all": 0, "since": time.monotonic()}
            try:
                update = self._session.handle(data)
            finally:
                self._state |= {"doing": "", "since": 0.0}
            self._answered += 1
            return update

    def _keep_request(self, data: bytes) -> bool:
        """Lay a study request before the site's people, as if it had come as a file; whether it was kept.

        Nothing of it is carried out, and nobody is told why it was not kept but the site's own log.
        """
        try:
            request = take_in(self._folder, data)
        except FedsynthError as error:
            log.warning("a request was not kept: %s", error)
            return False
        except OSError as error:
            log.error("a request could not be kept (%s)", error.strerror or type(error).__name__)
            return False
        log.info("a request waits for approval", extra={"facts": {"request": request.digest[:12]}})
        return True

    def _check(self) -> None:
        """Refuse to go on: called while a step runs.

        Raises:
            RefusedError: somebody stopped it, or threw the kill switch.
        """
        if self._stop.is_set():
            raise RefusedError("the step was stopped; what was charged stays charged")
        check_switch(load_policy(self._folder), self._folder)

    def _told(self, what: str, done: int, total: int) -> None:
        self._state |= {"doing": what, "done": done, "all": total}


def _hold(folder: Path) -> int:
    """Return a lock that only one gate of a site can have; it ends with the process."""
    descriptor = os.open(folder / ".gate.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        raise NodeError("another gate serves this site already; stop it first") from None
    return descriptor
