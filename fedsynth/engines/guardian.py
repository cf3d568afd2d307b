"""Guardian: a small process that outlives its parent to tidy up after it, should the parent be killed.

It waits at a pipe. A parent that leaves in order says so first; one that was killed cannot, and the pipe just ends:
then the guardian ends the processes that bear the mark, and removes the home.
"""

import shutil
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

from fedsynth.engines.relatives import end_relatives

_IN_ORDER = b"."
_GRACE_SECONDS = 2.0


class Guardian:
    """Watches over one home of processes from another process."""

    def __init__(self, home: Path, *, mark: str) -> None:
        """Start watching.

        Args:
            home: to be removed.
            mark: `NAME=VALUE` in the environment of the processes to be ended.
        """
        self._process = subprocess.Popen(
            [sys.executable, "-m", __name__, str(home), mark],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )

    def dismiss(self) -> None:
        """Let it go: everything is tidied up."""
        with suppress(OSError):
            self._process.communicate(_IN_ORDER)


def watch(home: Path, mark: str) -> None:
    """Wait for the parent, and tidy up unless it left in order."""
    if sys.stdin.buffer.read() != _IN_ORDER:
        end_relatives(mark, grace_seconds=_GRACE_SECONDS)
        shutil.rmtree(home, ignore_errors=True)


if __name__ == "__main__":
    watch(Path(sys.argv[1]), sys.argv[2])
