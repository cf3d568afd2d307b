#!/usr/bin/env python3
"""Write the lock file of a wheel of fedsynth: every package that it needs, with version and hashes.

    python deploy/lock.py dist/fedsynth-0.2.0-py3-none-any.whl --out wheels

writes into the folder `wheels` a copy of the wheel, `lock.txt` and `tools.txt` (what lists the contents of an
image), and fetches what both name from the package index. `lock.txt` is what the authority hands out, by
`fedsynth provision --lock`; a site installs from this folder alone, with --no-index and --require-hashes.

The wheel is made by `python -m pip wheel --no-deps --wheel-dir dist .`. Takes uv to resolve
(https://docs.astral.sh/uv/), and pip to fetch.
"""

import argparse
import hashlib
import re
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
EXTRAS = ("train", "flower", "recordings")
PYTHON = "3.11"
TOOLS = "cyclonedx-bom==7.5.0\n"


def resolving(source: str, *, index: str | None) -> list[str]:
    """Return the command that resolves a file, or standard input as `-`, with all hashes of every package."""
    command = ["uv", "pip", "compile", source, "--generate-hashes", "--python-version", PYTHON, "--no-header"]
    command += ["--no-annotate", "--quiet"]
    return [*command, *(["--default-index", index] if index else [])]


def needed(*, index: str | None) -> str:
    """Return the lock of all that fedsynth needs, at the versions that were tested together."""
    command = [
        *resolving(str(ROOT / "pyproject.toml"), index=index),
        "--constraints",
        str(ROOT / "constraints.txt"),
    ]
    for extra in EXTRAS:
        command += ["--extra", extra]
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout


def listed(*, index: str | None) -> str:
    """Return the lock of the tool that lists what an image holds."""
    command = resolving("-", index=index)
    return subprocess.run(command, input=TOOLS, check=True, stdout=subprocess.PIPE, text=True).stdout


def pinned(wheel: Path) -> str:
    """Return the line of the lock file for the wheel itself.

    Raises:
        SystemExit: it is no wheel of fedsynth.
    """
    found = re.fullmatch(r"fedsynth-([^-]+)-py3-none-any\.whl", wheel.name)
    if found is None:
        raise SystemExit(f"{wheel.name} is no wheel of fedsynth; make one with `python -m pip wheel`")
    digest = hashlib.sha256(wheel.read_bytes()).hexdigest()
    return f"fedsynth=={found[1]} \\\n    --hash=sha256:{digest}\n"


def main() -> None:
    """Resolve, write, and fetch."""
    parser = argparse.ArgumentParser(
        description="write the lock file of a wheel of fedsynth, and fetch its packages"
    )
    parser.add_argument("wheel", type=Path)
    parser.add_argument("--out", type=Path, required=True, help="a new folder")
    parser.add_argument("--index", help="the package index, if not the usual one")
    parser.add_argument("--no-fetch", action="store_true", help="write the files only")
    given = parser.parse_args()
    own = pinned(given.wheel)
    others = needed(index=given.index)
    tools = listed(index=given.index)
    given.out.mkdir(parents=True)
    shutil.copy(given.wheel, given.out)
    (given.out / "lock.txt").write_text(own + others, encoding="utf-8")
    (given.out / "tools.txt").write_text(tools, encoding="utf-8")
    if not given.no_fetch:
        for name in ("lock.txt", "tools.txt"):
            subprocess.run(fetching(given.out, name, index=given.index), check=True)


def fetching(folder: Path, name: str, *, index: str | None) -> list[str]:
    """Return the command that fetches the wheels that a lock file names, and no others, into its folder."""
    command = [sys.executable, "-m", "pip", "download", "--require-hashes", "--only-binary", ":all:", "--no-deps"]
    command += ["--find-links", str(folder), "--dest", str(folder), "--requirement", str(folder / name)]
    return [*command, *(["--index-url", index] if index else [])]


if __name__ == "__main__":
    main()
