"""Control: what people want of a run that is under way, and who drives it; both are files in the run's folder.

A run is driven by one process, which holds `driver.lock`; the kernel frees the lock however that process ends. The
coordinator looks before every exchange, so that a wish takes effect between two of them, where nothing is lost.
"""

import fcntl
import os
import signal
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Literal, get_args

from fedsynth.coordinator.transport import Transport
from fedsynth.errors import RefusedError, RunError

Wish = Literal["run", "pause", "stop"]
DRIVER, COORDINATOR = "driver.lock", "coordinator.lock"
_WISH = "wish"
_LOOK_SECONDS = 0.5
_WATCH_SECONDS = 2.0


def wish(folder: Path) -> Wish:
    """Return what people want of the run in a folder; without a word, that it runs."""
    try:
        said = (folder / _WISH).read_text(encoding="ascii").strip()
    except OSError:
        return "run"
    found: dict[str, Wish] = {one: one for one in get_args(Wish)}
    return found.get(said, "pause")


def ask(folder: Path, wanted: Wish) -> None:
    """Say what is wanted of the run in a folder."""
    beside = folder / f"{_WISH}.new"
    beside.write_text(wanted, encoding="ascii")
    beside.replace(folder / _WISH)


@contextmanager
def held(folder: Path, name: str, *, what: str) -> Iterator[None]:
    """Hold one of a run's locks for as long as the context lasts.

    Args:
        folder: of the run.
        name: `DRIVER` or `COORDINATOR`.
        what: in words, for the refusal.

    Raises:
        RefusedError: another process holds it.
    """
    descriptor = os.open(folder / name, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise RefusedError(f"another process {what} {folder.name} already; this one left it alone") from error
        yield
    finally:
        os.close(descriptor)


def is_held(folder: Path, name: str) -> bool:
    """Whether a process holds one of a run's locks now."""
    try:
        descriptor = os.open(folder / name, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False


@contextmanager
def ends_with_driver(folder: Path) -> Iterator[None]:
    """Interrupt this process, as Ctrl-C would, within seconds after the one that drives the run ended.

    Where something long runs between two exchanges, nobody would look otherwise.
    """
    over, main = threading.Event(), threading.main_thread().ident or 0

    def watch() -> None:
        while not over.wait(_WATCH_SECONDS):
            if not is_held(folder, DRIVER):
                # To that very thread: a signal to this one would not wake it from a system call.
                ignored = signal.getsignal(signal.SIGINT) is signal.SIG_IGN  # as in the background of a shell
                signal.pthread_kill(main, signal.SIGTERM if ignored else signal.SIGINT)
                return

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        yield
    finally:
        over.set()
        watcher.join()


class Controlled:
    """A transport that looks at what is wanted, and at whether anybody drives the run, before every exchange."""

    def __init__(self, transport: Transport, folder: Path) -> None:
        """Wrap the transport of the run in a folder."""
        self._transport, self._folder = transport, folder

    def sites(self) -> tuple[str, ...]:
        """Return the names of the sites."""
        return self._transport.sites()

    def exchange(self, orders: Mapping[str, bytes]) -> Iterator[tuple[str, bytes]]:
        """Exchange orders once the run is wanted.

        Raises:
            RefusedError: the run is to stop.
            RunError: nobody drives it any more.
        """
        while (wanted := wish(self._folder)) != "run":
            if wanted == "stop":
                raise RefusedError(
                    "the run was stopped by a person. What was charged stays charged; nothing was released"
                )
            self._check_driver()
            time.sleep(_LOOK_SECONDS)
        self._check_driver()
        yield from self._transport.exchange(orders)

    def _check_driver(self) -> None:
        if not is_held(self._folder, DRIVER):
            raise RunError("the process that drove this run ended; the same command goes on with it")
