"""Memory: how much of it is free for this process, and that what was freed is used again."""

from pathlib import Path

import numpy as np

_LARGEST_KEPT = 31 << 20
"""Bytes; the C library of Linux learns from nothing that is larger than 32 MiB."""


def use_again() -> None:
    """Have the C library keep the memory of large arrays that were freed, for the next ones.

    It gives such memory back to the system at once, which must clear every page that is asked for anew: a fifth of
    the time of an ingestion. That of an array which was freed once it keeps from then on, up to twice its size
    (mallopt(3), M_MMAP_THRESHOLD). Where the library does otherwise nothing changes.
    """
    np.empty(_LARGEST_KEPT, dtype=np.uint8)


def memory_available() -> int | None:
    """Return how many bytes of memory are free for this process, None where the system does not say."""
    found = [_meminfo(), _left_in_group()]
    known = [one for one in found if one is not None]
    return min(known) if known else None


def _meminfo() -> int | None:
    try:
        for line in Path("/proc/meminfo").read_text(encoding="ascii").splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    except (OSError, ValueError, IndexError):
        pass
    return None


def _left_in_group() -> int | None:
    """Return what a container's limit leaves (cgroup v2)."""
    group = Path("/sys/fs/cgroup")
    try:
        most, used = (
            (group / name).read_text(encoding="ascii").strip() for name in ("memory.max", "memory.current")
        )
        return None if most == "max" else max(0, int(most) - int(used))
    except (OSError, ValueError):
        return None
