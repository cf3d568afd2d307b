"""The closed manifest: from a release's folder to one line for every file in it, and back.

`sha256sum -c` checks the files a list names and does not see a file that was added. Here the list is closed: a
file, link or empty folder that stands in the folder and not in the list is a difference. Nothing is followed or
opened that is not a regular file inside the folder.
"""

import hashlib
import os
import re
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from fedsynth.errors import VerificationError

SUMS = "integrity/SHA256SUMS"
SUMS_SIGNATURE = "integrity/SHA256SUMS.sig"
ENVELOPE = "integrity/release.dsse.json"
UNCOVERED = frozenset({SUMS, SUMS_SIGNATURE, ENVELOPE})
"""The files that cannot stand in the manifest: itself and what signs it. The signatures cover them."""

LARGEST_TEXT = 64 * 1024**2
"""Bytes of a text file beyond which it is not read into memory: three hundred thousand files fit a manifest."""

_CHUNK = 1024**2
_PART = re.compile(r"[A-Za-z0-9._+-]{1,200}")
_LINE = re.compile(r"([0-9a-f]{64})  (.+)")


@dataclass(frozen=True)
class Tree:
    """What stands in a folder, as paths from it with forward slashes.

    `odd` pairs a path with what it is: a symbolic or hard link, a pipe, socket or device. `empty` are folders
    with nothing in them.
    """

    files: tuple[str, ...]
    odd: tuple[tuple[str, str], ...]
    empty: tuple[str, ...]


def scan(folder: Path) -> Tree:
    """List a folder without following a link and without opening a file.

    Raises:
        VerificationError: no folder stands there, or a part of it cannot be listed.
    """
    if not folder.is_dir():
        raise VerificationError("no release: the folder does not exist, or is not a folder")
    files: list[str] = []
    odd: list[tuple[str, str]] = []
    empty: list[str] = []
    waiting = [""]
    while waiting:
        prefix = waiting.pop()
        try:
            with os.scandir(folder / prefix) as listing:
                entries = list(listing)
            for entry in entries:
                path, kind = prefix + entry.name, _kind(entry)
                if kind == "folder":
                    waiting.append(f"{path}/")
                elif kind == "file":
                    files.append(path)
                else:
                    odd.append((path, kind))
        except OSError as error:
            raise VerificationError(
                f"cannot be read: {shown(prefix or '.')} ({type(error).__name__}). Nothing was verified"
            ) from error
        if prefix and not entries:
            empty.append(prefix)
    return Tree(tuple(sorted(files)), tuple(sorted(odd)), tuple(sorted(empty)))


def build_manifest(folder: Path) -> dict[str, str]:
    """Return the SHA-256 of every file of a release but those that cannot cover themselves.

    Raises:
        VerificationError: a link, an odd file, an empty folder, or a name the manifest cannot hold.
    """
    tree = scan(folder)
    if tree.odd or tree.empty:
        found = [f"{kind}: {shown(path)}" for path, kind in tree.odd]
        found += [f"empty folder: {shown(path)}" for path in tree.empty]
        raise VerificationError(f"a release holds regular files only; found {'; '.join(found[:5])}")
    return {path: sha256_of(folder, path) for path in tree.files if path not in UNCOVERED}


def format_manifest(digests: Mapping[str, str]) -> bytes:
    """Write digests as `sha256sum` does: sorted, two spaces, forward slashes.

    >>> format_manifest({"a.txt": "0" * 64}).endswith(b"0  a.txt" + bytes([10]))
    True

    Raises:
        VerificationError: a name outside letters, digits and `._+-` in each part, or two names that differ
            only in case, which one file system in two cannot hold.
    """
    _check_names(list(digests))
    return "".join(f"{digests[path]}  {path}\n" for path in sorted(digests)).encode("ascii")


def parse_manifest(data: bytes) -> dict[str, str]:
    """Read what `format_manifest` wrote, and nothing looser.

    Raises:
        VerificationError: not ASCII, a line of another shape, a name that leaves the folder, a name listed twice,
            lines out of order.
    """
    try:
        text = data.decode("ascii")
    except UnicodeDecodeError as error:
        raise VerificationError(f"malformed: {SUMS} is not ASCII text") from error
    if not text.endswith("\n"):
        raise VerificationError(f"malformed: {SUMS} is empty, or its last line is cut")
    paths: list[str] = []
    digests: dict[str, str] = {}
    for number, line in enumerate(text[:-1].split("\n"), start=1):
        match = _LINE.fullmatch(line)
        if match is None:
            raise VerificationError(f"malformed: line {number} of {SUMS} is not a digest and a path")
        paths.append(match[2])
        digests[match[2]] = match[1]
    _check_names(paths)
    if paths != sorted(paths):
        raise VerificationError(f"malformed: the lines of {SUMS} are not sorted by path")
    return digests


def sha256_of(folder: Path, path: str) -> str:
    """Hash a file that `scan` listed, in pieces of one megabyte.

    Raises:
        VerificationError: it became a link, or cannot be read.
    """
    digest = hashlib.sha256()
    with open_regular(folder, path) as stream:
        try:
            while chunk := stream.read(_CHUNK):
                digest.update(chunk)
        except OSError as error:
            raise VerificationError(f"cannot be read: {shown(path)} ({type(error).__name__})") from error
    return digest.hexdigest()


def read_bounded(folder: Path, path: str) -> bytes:
    """Read a small file that `scan` listed.

    Raises:
        VerificationError: it is larger than `LARGEST_TEXT`, became a link, or cannot be read.
    """
    with open_regular(folder, path) as stream:
        try:
            data = stream.read(LARGEST_TEXT + 1)
        except OSError as error:
            raise VerificationError(f"cannot be read: {shown(path)} ({type(error).__name__})") from error
    if len(data) > LARGEST_TEXT:
        raise VerificationError(f"malformed: {shown(path)} is larger than {LARGEST_TEXT} bytes")
    return data


def open_regular(folder: Path, path: str) -> BinaryIO:
    """Open a regular file for reading; a link is refused by the system call itself, and a pipe cannot block.

    Raises:
        VerificationError: a link, a file of another kind, or one that cannot be opened.
    """
    flags = os.O_RDONLY
    for name in ("O_NOFOLLOW", "O_NONBLOCK", "O_CLOEXEC", "O_BINARY"):
        flags |= getattr(os, name, 0)
    try:
        descriptor = os.open(folder / path, flags)
    except OSError as error:
        raise VerificationError(f"cannot be read: {shown(path)} ({type(error).__name__})") from error
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise VerificationError(f"not a regular file: {shown(path)}")
    return os.fdopen(descriptor, "rb")


def shown(path: str) -> str:
    """Make a path safe to print: ASCII only, no control characters, at most 120 characters.

    >>> shown("a" + chr(10) + "b")
    'a\\\\nb'
    """
    text = ascii(path)[1:-1]
    return text if len(text) <= 120 else text[:117] + "..."


def _kind(entry: os.DirEntry[str]) -> str:
    facts = entry.stat(follow_symlinks=False)
    if stat.S_ISLNK(facts.st_mode):
        return "symbolic link"
    if stat.S_ISDIR(facts.st_mode):
        return "folder"
    if not stat.S_ISREG(facts.st_mode):
        return "not a regular file"
    # Another name outside the folder could change the content after it was verified.
    return "hard link" if facts.st_nlink > 1 else "file"


def _check_names(paths: list[str]) -> None:
    seen: set[str] = set()
    for path in paths:
        parts = path.split("/")
        if path.startswith("/") or ".." in parts:
            raise VerificationError(f"malformed: {SUMS} names a path outside the release: {shown(path)}")
        if any(part == "." or not _PART.fullmatch(part) for part in parts) or path in UNCOVERED:
            raise VerificationError(f"malformed: {SUMS} cannot hold the name {shown(path)}")
        if path.casefold() in seen:
            raise VerificationError(f"malformed: {SUMS} names {shown(path)} twice, or but for case")
        seen.add(path.casefold())
