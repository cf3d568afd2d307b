"""A tether: start a program that ends when its parent does, however the parent ends.

    python -I -S tether.py PARENT PROGRAM ARGUMENT…

The kernel sends SIGKILL when the parent dies (`PR_SET_PDEATHSIG`, prctl(2)); the wish survives exec. The standard
library alone is imported, so that a tether costs some milliseconds.
"""

import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1


def hold_on_to_parent(parent: int) -> None:
    """Have the kernel end this process when its parent ends.

    Args:
        parent: the parent's process id, as the parent knows it.

    Raises:
        SystemExit: the parent is gone already, or the kernel refuses.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0) != 0:
        sys.exit(f"prctl failed: {os.strerror(ctypes.get_errno())}")
    if os.getppid() != parent:
        sys.exit("the parent ended before its child began")


if __name__ == "__main__":
    hold_on_to_parent(int(sys.argv[1]))
    os.execv(sys.argv[2], sys.argv[2:])
