"""train: the process that computes on windows. No network, no keys, no files but the one that it is handed.

It listens for the site's gate and for nobody else. While nothing is trained it holds neither torch nor anything of
a study: those are in a fork server, which leaves when it has been idle for a while.
"""

import json
import logging
import os
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from fedsynth.node.channel import accept, listen
from fedsynth.node.confine import keep_privileges_down

log = logging.getLogger("fedsynth.train")
_ENVIRONMENT = ("PATH", "LANG", "LC_ALL", "PYTHONPATH", "TMPDIR", "OMP_NUM_THREADS", "CUDA_VISIBLE_DEVICES")


class TrainServer:
    """Listens at a socket for the gate, and has every step computed by a process of its own."""

    def __init__(
        self,
        path: Path,
        *,
        gate_uid: int,
        mode: int = 0o600,
        idle_seconds: float = 300.0,
        program: Sequence[str] = ("-m", "fedsynth.node.fork_server"),
    ) -> None:
        """Listen; nothing is loaded yet.

        Args:
            path: of the socket.
            gate_uid: the only user who is heard.
            mode: of the socket.
            idle_seconds: how long torch stays loaded after a step.
            program: what Python runs as the fork server; tests only pass something else.

        Raises:
            NodeError: nobody can listen there.
        """
        self._server = listen(path, mode=mode)
        self._gate = frozenset({gate_uid})
        self._idle, self._program = idle_seconds, tuple(program)
        self._fork_server: subprocess.Popen[bytes] | None = None
        self._control: socket.socket | None = None
        self._jobs, self._last = 0, time.monotonic()

    def serve(self) -> None:
        """Serve until SIGTERM; whatever trains then is killed with this process."""
        keep_privileges_down()
        log.info("listening")
        try:
            while True:
                self._turn()
        finally:
            self._let_go()

    def _turn(self) -> None:
        poll = select.poll()
        poll.register(self._server, select.POLLIN)
        if self._control is not None:
            poll.register(self._control, select.POLLIN)
        ready = {descriptor for descriptor, _ in poll.poll(1000)}
        if self._control is not None and self._control.fileno() in ready:
            self._hear()
        if self._server.fileno() in ready:
            channel = accept(self._server, uids=self._gate)
            if channel is None:
                log.warning("a connection of another user than the gate's was hung up")
            else:
                self._pass_on(channel.socket)
        if self._control is not None and not self._jobs and time.monotonic() - self._last > self._idle:
            log.info("idle: torch is let go")
            self._let_go()

    def _pass_on(self, connection: socket.socket) -> None:
        """Hand a connection to the fork server, which is started if there is none."""
        # Closed, not shut down: the connection lives on in the child.
        with connection:
            if self._control is None:
                self._begin()
            assert self._control is not None
            try:
                socket.send_fds(self._control, [b"job"], [connection.fileno()])
                self._jobs += 1
            except (BrokenPipeError, ConnectionResetError):
                log.warning("the fork server ended; a step was not begun")
                self._let_go()

    def _begin(self) -> None:
        self._control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        environment = {name: os.environ[name] for name in _ENVIRONMENT if name in os.environ}
        with theirs:
            self._fork_server = subprocess.Popen(
                [sys.executable, *self._program, str(os.getpid())],
                stdin=theirs.fileno(),
                stdout=subprocess.DEVNULL,
                env={**environment, "OMP_WAIT_POLICY": "PASSIVE"},
            )

    def _hear(self) -> None:
        """Take the fork server's word on a step that ended, or notice that it is gone."""
        assert self._control is not None
        data = b""
        with suppress(ConnectionResetError):
            data = self._control.recv(4096)
        if not data:
            log.warning("the fork server ended; steps that ran are lost")
            self._let_go()
            return
        self._jobs -= 1
        self._last = time.monotonic()
        log.info("a step ended", extra={"facts": json.loads(data)})

    def _let_go(self) -> None:
        if self._control is not None:
            self._control.close()
            self._control = None
        if self._fork_server is not None:
            self._fork_server.send_signal(signal.SIGKILL)  # its children are killed with it
            self._fork_server.wait()
            self._fork_server = None
        self._jobs = 0
