"""Files of a federation: written whole, never over another one, and for their owner alone where private."""

import base64
import contextlib
import json
import os
import stat
import tomllib
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from fedsynth.errors import FederationError, FederationFileError, RefusedError

LARGEST = 16 * 1024**2
"""Bytes; no file of a federation is larger."""


def make_folder(folder: Path) -> None:
    """Make a folder, and those above it that are missing, which only the owner may enter."""
    for missing in reversed([place for place in (folder, *folder.parents) if not place.exists()]):
        missing.mkdir(mode=0o700)


def check_vacant(folder: Path) -> None:
    """Refuse a folder in which something stands already.

    Raises:
        RefusedError: something does.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise RefusedError(f"{folder} is not empty, and it was left as it is; name another folder")


def write_new(path: Path, data: bytes, *, private: bool = False) -> None:
    """Write a file that must not be there yet, whole or not at all; mode 0600 where it is private, else 0644.

    Raises:
        RefusedError: it is there, or its folder is not.
    """
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600 if private else 0o644)
    except FileExistsError:
        raise RefusedError(f"{path.name} is there already, and it was left as it is; remove or rename it") from None
    except (FileNotFoundError, NotADirectoryError):
        raise RefusedError(f"the folder that {path.name} shall lie in is not there; make it first") from None
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(descriptor)
    except BaseException:
        path.unlink(missing_ok=True)  # half of it would be taken for the whole, and stand in the way
        raise


def replace(path: Path, data: bytes, *, private: bool = False) -> None:
    """Write a file over an older one so that a reader finds the one or the other, and a crash loses neither."""
    partial = path.with_name(f".{path.name}.partial")
    partial.unlink(missing_ok=True)
    write_new(partial, data, private=private)
    partial.replace(path)
    descriptor = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def read(path: Path, *, what: str) -> bytes:
    """Read a file of a federation.

    Raises:
        FederationFileError: missing, unreadable or larger than any such file is.
    """
    try:
        with path.open("rb") as file:
            data = file.read(LARGEST + 1)
    except FileNotFoundError as error:
        raise FederationFileError(
            f"{what} cannot be read (No such file or directory); docs/federation.md says which command makes it, "
            "or who sends it"
        ) from error
    except OSError as error:
        raise FederationFileError(f"{what} cannot be read ({error.strerror or type(error).__name__})") from error
    check_size(data, what=what)
    return data


def check_size(data: bytes, *, what: str) -> None:
    """Refuse what is too large to be a file of a federation.

    Raises:
        FederationFileError: it is.
    """
    if len(data) > LARGEST:
        raise FederationFileError(f"{what} is larger than {LARGEST} bytes, and no such file is")


def read_private(path: Path, *, what: str) -> bytes:
    """Read a private file.

    Raises:
        FederationFileError: missing or unreadable.
        FederationError: others than its owner may read it.
    """
    data = read(path, what=what)
    if stat.S_IMODE(path.stat().st_mode) & 0o077:
        raise FederationError(f"{what} can be read by others; run chmod 600 on {path.name}, and ask who read it")
    return data


def read_json(data: bytes, *, what: str) -> dict[str, Any]:
    """Read one JSON object in which no key stands twice.

    Raises:
        FederationFileError: it is none.
    """

    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        if len({key for key, _ in pairs}) != len(pairs):
            raise ValueError("a key stands twice")
        return dict(pairs)

    try:
        found = json.loads(data.decode("utf-8"), object_pairs_hook=once)
    except (ValueError, RecursionError) as error:
        raise FederationFileError(f"{what} is not JSON") from error
    if not isinstance(found, dict):
        raise FederationFileError(f"{what} is not a JSON object")
    return found


def read_toml(data: bytes, *, what: str) -> dict[str, Any]:
    """Read TOML.

    Raises:
        FederationFileError: it is none.
    """
    try:
        return tomllib.loads(data.decode("utf-8"))
    except (UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise FederationFileError(f"{what} is not TOML: {error}") from error


def canonical(value: Mapping[str, Any]) -> bytes:
    """Write JSON in one way only: sorted keys, no spaces, ASCII."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False).encode("ascii")


def unbase64(text: str, *, what: str) -> bytes:
    """Decode base64.

    Raises:
        FederationFileError: it is none.
    """
    try:
        return base64.b64decode(text, validate=True)
    except ValueError as error:
        raise FederationFileError(f"{what} holds something that is not base64") from error


def text_of(moment: datetime) -> str:
    """Write a moment in UTC, to the second.

    >>> text_of(datetime(2027, 3, 1, 12, tzinfo=UTC))
    '2027-03-01T12:00:00Z'
    """
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def moment_of(text: Any, *, what: str) -> datetime:
    """Read a moment that `text_of` wrote.

    Raises:
        FederationFileError: it is none.
    """
    with contextlib.suppress(ValueError, TypeError):
        return datetime.strptime(text, "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC)
    raise FederationFileError(f"{what} holds no date such as 2027-03-01T12:00:00Z where one is needed")
