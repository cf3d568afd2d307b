"""Refuse large files and merge markers; run by pre-commit with the files of a commit."""

import re
import sys
from pathlib import Path

LARGEST = 500_000  # bytes
MARKER = re.compile(rb"^(<{7}|\|{7}|>{7})( |$)", flags=re.MULTILINE)


def faults(path: Path) -> list[str]:
    """Return what is wrong with a file."""
    found, data = [], path.read_bytes()
    if len(data) > LARGEST:
        found.append(f"{path} has {len(data)} bytes, {LARGEST} at most; keep it elsewhere")
    if MARKER.search(data):
        found.append(f"{path} holds a merge marker; finish the merge")
    return found


if __name__ == "__main__":
    said = [fault for name in sys.argv[1:] for fault in faults(Path(name))]
    sys.stderr.write("".join(f"{fault}\n" for fault in said))
    sys.exit(bool(said))
