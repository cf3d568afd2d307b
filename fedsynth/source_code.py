"""The code that runs, as one digest: plan, release and the card of the weights all name this one.

Everything that decides what leaves a site or stands in a release is covered: sources, templates and weights of
`fedsynth`, and the Flower apps in `client/` and `server/`. What Python makes of them (bytecode) is not.
"""

import hashlib
from dataclasses import dataclass
from functools import lru_cache
from importlib import metadata
from pathlib import Path

from fedsynth.errors import RunError

PACKAGES = ("client", "fedsynth", "server")
_SUFFIXES = frozenset({".html", ".py", ".safetensors"})


@dataclass(frozen=True)
class Code:
    """The version of fedsynth, and the SHA-256 of its files as 64 hexadecimal digits."""

    version: str
    digest: str

    def __str__(self) -> str:
        """Return both in one word, e.g. "0.2.0+3f2a9c41..." with 64 digits."""
        return f"{self.version}+{self.digest}"


@lru_cache(maxsize=1)
def code_in_use() -> Code:
    """Return the code that this process runs.

    Raises:
        RunError: `client` or `server` is not installed beside `fedsynth`.
    """
    return Code(version_of("fedsynth"), digest_of([package_folder(name) for name in PACKAGES]))


def digest_of(packages: list[Path]) -> str:
    """Return the SHA-256 over packages: for each file in order `name`, a zero byte, its length, a zero byte, it.

    Args:
        packages: folders; a file's name is its path from the folder's parent, with `/`.
    """
    digest = hashlib.sha256()
    for package in sorted(packages, key=lambda folder: folder.name):
        for path in sorted(path for path in package.rglob("*") if path.suffix in _SUFFIXES and path.is_file()):
            data = path.read_bytes()
            digest.update(f"{path.relative_to(package.parent).as_posix()}\0{len(data)}\0".encode() + data)
    return digest.hexdigest()


def package_folder(name: str) -> Path:
    """Return the folder of one of `PACKAGES`: the one beside `fedsynth`, whatever else the path would find first.

    Raises:
        RunError: there is none.
    """
    folder = Path(__file__).resolve().parents[1] / name
    if not (folder / "__init__.py").is_file():
        raise RunError(
            f"the package {name!r} is not installed beside fedsynth, and the code of a study covers it; "
            "install fedsynth again"
        )
    return folder


def version_of(package: str) -> str:
    """Return the installed version of a distribution, or "not installed"."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "not installed"
