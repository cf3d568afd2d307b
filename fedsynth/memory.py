"""Memory: how much of it is free for this process, by what the system and a container's limit say."""

from pathlib import Path


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
