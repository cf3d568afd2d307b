"""Public sets of recordings: from a page of TOML to where each is kept, and its files with their checksums."""

import re
import tomllib
from dataclasses import dataclass
from fnmatch import fnmatch
from importlib import resources
from pathlib import Path, PurePosixPath
from urllib.parse import urlsplit

from pydantic import Field, ValidationError

from fedsynth.errors import FetchError
from fedsynth.recording_plan import Page

LARGEST_SUMS = 1 << 27  # bytes
_LOOPBACK = ("127.0.0.1", "localhost", "::1")
_LINE = re.compile(r"([0-9a-fA-F]{64})[ \t]+\*?(\S.*)")


class PublicSet(Page):
    """Where a set is kept. `sums` names the file of checksums there, and `sums_sha256` pins that file, if not "".

    `preset` is the layout of its folder, "" for none.
    """

    title: str
    address: str
    sums: str
    sums_sha256: str = Field(default="", pattern=r"^([0-9a-f]{64})?$")
    preset: str = ""


@dataclass(frozen=True)
class PublicFile:
    """A file of a set: its path below the address, and its SHA-256."""

    path: str
    sha256: str


def public_sets(registry: Path | None = None) -> dict[str, PublicSet]:
    """Read the sets that are known: those shipped, or those of somebody's own page.

    Raises:
        FetchError: a page that is not as it should be, or an address that is neither https nor on loopback.

    >>> public_sets()["mitbih"].preset
    'mitbih'
    """
    page = registry or resources.files("fedsynth.recordings") / "public_sets.toml"
    try:
        body = tomllib.loads(page.read_text(encoding="utf-8"))
        found = {name: PublicSet.model_validate(one) for name, one in body.items()}
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError, ValidationError) as error:
        raise FetchError(
            f"the page of public sets cannot be used ({type(error).__name__}); each table needs title, address and "
            "sums. Nothing was fetched"
        ) from None
    for name, one in found.items():
        where = urlsplit(one.address)
        if where.scheme != "https" and not (where.scheme == "http" and where.hostname in _LOOPBACK):
            raise FetchError(f"the address of {name!r} does not begin with https://; nothing was fetched")
    return found


def files_of(sums: bytes, *, patterns: tuple[str, ...]) -> tuple[PublicFile, ...]:
    """Read a file of checksums as sha256sum writes it, and return the files that are wanted.

    Args:
        sums: lines of a SHA-256 and a path.
        patterns: of the paths that are wanted; all where there are none.

    Raises:
        FetchError: a line of another kind, a path that leads elsewhere, or no file that is wanted.

    >>> files_of(b"0" * 64 + b" a/b.edf\\n" + b"1" * 64 + b"  *c.txt\\n", patterns=("*.edf",))
    (PublicFile(path='a/b.edf', sha256='0000000000000000000000000000000000000000000000000000000000000000'),)
    """
    found = []
    try:
        lines = [line for line in sums.decode("utf-8").splitlines() if line.strip()]
    except UnicodeDecodeError:
        raise FetchError("the file of checksums is no text; nothing was fetched") from None
    for number, line in enumerate(lines, start=1):
        parts = _LINE.fullmatch(line.strip())
        if parts is None:
            raise FetchError(
                f"line {number} of the file of checksums is no SHA-256 with a path; nothing was fetched"
            )
        path = PurePosixPath(parts[2])
        if (
            path.is_absolute()
            or ".." in path.parts
            or "\\" in parts[2]
            or not path.name
            or parts[2].startswith(".")
        ):
            raise FetchError(f"line {number} of the file of checksums leads out of the set; nothing was fetched")
        if not patterns or any(fnmatch(path.as_posix(), pattern) for pattern in patterns):
            found.append(PublicFile(path.as_posix(), parts[1].lower()))
    if not found:
        raise FetchError("no file of the set is wanted by --files; nothing was fetched")
    return tuple(found)
