"""A request to terminate, or a terminal that goes away, unwinds as Ctrl-C does, and everything is tidied up."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

_ASKED = (signal.SIGTERM, signal.SIGHUP)


@contextmanager
def unwound() -> Iterator[None]:
    """Leave by SystemExit, code 128 and its number, when SIGTERM or SIGHUP comes.

    Where somebody else answers one already, or ignores it (nohup), they still do.
    """
    in_charge = threading.current_thread() is threading.main_thread()
    ours = [one for one in _ASKED if in_charge and signal.getsignal(one) is signal.SIG_DFL]
    for one in ours:
        signal.signal(one, _leave)
    try:
        yield
    finally:
        for one in ours:
            signal.signal(one, signal.SIG_DFL)


def _leave(number: int, _frame: FrameType | None) -> None:
    raise SystemExit(128 + number)
