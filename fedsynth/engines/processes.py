"""The processes of one engine run: a private home, an offline environment, and an end to every one of them."""

import os
import secrets
import shutil
import socket
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Self

from fedsynth.engines import tether
from fedsynth.engines.guardian import Guardian
from fedsynth.engines.relatives import GRACE_SECONDS, end_relatives
from fedsynth.engines.termination import unwound
from fedsynth.errors import RunError

LOOPBACK = "127.0.0.1"
Process = subprocess.Popen[bytes]
_MARK = "FEDSYNTH_ENGINE"
_OFFLINE = {
    "FLWR_DISABLE_RUNTIME_DEPENDENCY_INSTALLATION": "1",
    "FLWR_TELEMETRY_ENABLED": "0",
    "FLWR_DISABLE_UPDATE_CHECK": "1",
    "RAY_USAGE_STATS_ENABLED": "0",
    # Of no system alone: Ray then takes the loopback address for its own and listens nowhere else.
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
}
_LONGEST_TEMP = 25
_GRACE_SECONDS = GRACE_SECONDS
_START_SECONDS = 60.0
_PORT_SECONDS = 15.0


class Processes:
    """The processes of one run, their home and their logs; leaving the context ends them and removes the home.

    Flower and Ray detach some of their children, which leave every process group and may outlive their parents.
    Each process therefore carries this run's mark in its environment, by which it is found again, by id. Should
    this process end without leaving the context, as by SIGKILL, a guardian of its own ends the others and removes
    the home: keys are in it.
    """

    def __init__(self, logs: Path) -> None:
        """Make a private home; `logs` is made when missing, and stays."""
        # Ray's sockets live below the home, and a socket's path holds 107 bytes.
        crowded = len(tempfile.gettempdir()) > _LONGEST_TEMP and Path("/tmp").is_dir()
        self.home = Path(tempfile.mkdtemp(prefix="fedsynth-", dir="/tmp" if crowded else None))
        self.logs = logs
        self._mark = secrets.token_hex(16)
        self._started: list[Process] = []
        self._restore = ExitStack()
        self._guardian = Guardian(self.home, mark=f"{_MARK}={self._mark}")
        logs.mkdir(parents=True, exist_ok=True)

    def __enter__(self) -> Self:
        """Begin with nothing running; from here on a request to terminate unwinds, as Ctrl-C does."""
        self._restore.enter_context(unwound())
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End every process of this run and remove its home."""
        with self._restore:
            try:
                self.stop()
            finally:
                shutil.rmtree(self.home, ignore_errors=True)
                self._guardian.dismiss()

    def start(
        self, log: str, command: Sequence[str], *, home: Path | None = None, extra: Mapping[str, str] | None = None
    ) -> Process:
        """Start one of Flower's commands, its words going to `logs/LOG.log`.

        Args:
            log: name of the log.
            command: the first word is a program installed beside this Python.
            home: Flower's home for this process; by default the one of the run.
            extra: more environment variables.

        Raises:
            RunError: there is no such program.
        """
        environment = {**self._environment(home or self.home), **(extra or {})}
        program = shutil.which(command[0], path=environment["PATH"])
        if program is None:
            raise RunError(f"{command[0]} is not installed beside this Python; nothing was started")
        with self._log(log).open("ab") as output:
            process = subprocess.Popen(
                [sys.executable, "-I", "-S", tether.__file__, str(os.getpid()), program, *command[1:]],
                cwd=self.home,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self._started.append(process)
        return process

    def run(self, log: str, command: Sequence[str]) -> None:
        """Start a command and wait for its end.

        Raises:
            RunError: it failed.
        """
        if self.start(log, command).wait() != 0:
            raise RunError(f"`{' '.join(command[:2])}` failed; its last words are in {self._log(log)}")

    def answer(self, log: str, command: Sequence[str]) -> str:
        """Run a command to its end and return what it wrote, its words also going to its log.

        Raises:
            RunError: it failed.
        """
        before = self._log(log).stat().st_size if self._log(log).exists() else 0
        self.run(log, command)
        return self._log(log).read_bytes()[before:].decode("utf-8", errors="replace")

    def start_server(self, log: str, command: Sequence[str], *, port: int) -> Process:
        """Start a command and wait until it listens on a port.

        Raises:
            RunError: somebody else listens there, it ended first, or does not listen within a minute.
        """
        ends = time.monotonic() + _PORT_SECONDS
        while _is_taken(port):  # what ran here before may be about to end
            if time.monotonic() >= ends:
                raise RunError(
                    f"another program listens on port {port} of {LOOPBACK}; stop it, or name another port"
                )
            time.sleep(0.1)
        process = self.start(log, command)
        ends = time.monotonic() + _START_SECONDS
        while process.poll() is None and time.monotonic() < ends:
            if _is_taken(port):
                return process
            time.sleep(0.1)
        raise RunError(f"{command[0]} does not listen; its last words are in {self._log(log)}")

    def wait(self, process: Process, *, needs: Process, meanwhile: Callable[[], None]) -> None:
        """Wait for a process to end, doing something meanwhile.

        Raises:
            RunError: the process that it needs ended first.
        """
        while process.poll() is None:
            meanwhile()
            if needs.poll() is not None:
                raise RunError(f"Flower's SuperLink ended during the run; its last words are in {self.logs}")
            time.sleep(0.2)
        meanwhile()

    def stop(self) -> None:
        """End every process of this run, politely and then by force, and return when none is left."""
        own = [process.pid for process in self._started if process.poll() is None]
        end_relatives(f"{_MARK}={self._mark}", own, grace_seconds=_GRACE_SECONDS)
        for process in self._started:
            if process.poll() is None:  # /proc hides who keeps its memory to itself where hidepid is set (proc(5))
                _end(process)

    def _log(self, name: str) -> Path:
        return self.logs / f"{name}.log"

    def _environment(self, home: Path) -> dict[str, str]:
        inherited = {name: value for name, value in os.environ.items() if not name.startswith(("FLWR_", "RAY_"))}
        direct = ",".join(filter(None, [os.environ.get("NO_PROXY"), LOOPBACK, "localhost"]))
        return {
            **inherited,
            **_OFFLINE,
            _MARK: self._mark,
            "FLWR_HOME": str(home),
            "RAY_TMPDIR": str(self.home),
            # What a killed process leaves behind goes with the home.
            "TMPDIR": str(self.home),
            "PATH": os.pathsep.join([sysconfig.get_path("scripts"), os.environ.get("PATH", os.defpath)]),
            "NO_PROXY": direct,
            "no_proxy": direct,
        }


def _end(process: Process) -> None:
    process.terminate()
    try:
        process.wait(timeout=_GRACE_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _is_taken(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex((LOOPBACK, port)) == 0


def free_ports(count: int) -> list[int]:
    """Return ports of the loopback address that nobody uses now."""
    with ExitStack() as held:
        sockets = [held.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind((LOOPBACK, 0))
        return [int(one.getsockname()[1]) for one in sockets]
