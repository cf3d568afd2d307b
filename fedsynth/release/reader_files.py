"""What a reader brings to a verification, a key file or the file of seen ledgers: from a path to few bytes.

Unlike a file in a release it may stand behind a link. Like one it must be a regular file: a device never ends, and
a pipe waits for somebody.
"""

import os
import stat
from pathlib import Path

from fedsynth.errors import ReaderFileError


def read_reader_file(path: Path, *, what: str, most: int) -> bytes | None:
    """Read a file of at most `most` bytes; None if there is none.

    Args:
        path: may be a link.
        what: how messages call it; they never show the path.
        most: bytes.

    Raises:
        ReaderFileError: a folder, device or pipe; larger than `most`; or it cannot be read.
    """
    flags = os.O_RDONLY
    for name in ("O_NONBLOCK", "O_NOCTTY", "O_CLOEXEC", "O_BINARY"):
        flags |= getattr(os, name, 0)
    try:
        descriptor = os.open(path, flags)
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise ReaderFileError(f"{what} cannot be read ({cause_of(error)})") from error
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise ReaderFileError(
                f"{what} is not a regular file, but a folder, a device or a pipe; nothing was read"
            )
        with os.fdopen(descriptor, "rb", closefd=False) as stream:
            data = stream.read(most + 1)
    except OSError as error:
        raise ReaderFileError(f"{what} cannot be read ({cause_of(error)})") from error
    finally:
        os.close(descriptor)
    if len(data) > most:
        raise ReaderFileError(f"{what} is larger than {most} bytes, so it is something else")
    return data


def cause_of(error: Exception) -> str:
    """Say what the system said, without the path that it names."""
    return (isinstance(error, OSError) and error.strerror) or type(error).__name__
