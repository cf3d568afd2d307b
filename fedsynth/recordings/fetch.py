"""Fetch: from the name of a public set to its files in a folder, each held against its checksum. The door to pooch.

A download that was broken off goes on where it was. A file that is there and right is not fetched again. The file
of checksums of a set that nobody pinned is trusted once, by somebody's word; then a lock in the folder pins it.
"""

import hashlib
import re
import tomllib
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path
from urllib.parse import quote, urljoin, urlsplit

from fedsynth.errors import FetchError
from fedsynth.extras import explained
from fedsynth.recordings.public_sets import LARGEST_SUMS, PublicFile, PublicSet, files_of

TIMEOUT = 60.0  # seconds without a byte
_AT_ONCE = 1 << 20  # bytes
_PART = ".part"
LOCK = ".fedsynth-fetch.toml"
"""In the folder of a set: which file of checksums it was fetched by."""


@dataclass(frozen=True)
class Fetched:
    """What lies in the folder now: files in all, those fetched now, and the digest of the file of checksums.

    `trusted_now` is whether that digest was taken on trust by this call.
    """

    files: int
    fetched: int
    sums_sha256: str
    trusted_now: bool = False


def fetch(
    what: PublicSet,
    folder: Path,
    *,
    patterns: tuple[str, ...] = (),
    unpinned: bool = False,
    progress: Callable[[int, int], None],
) -> Fetched:
    """Fetch a set.

    Args:
        what: where it is kept.
        folder: where it goes; made if it is missing.
        patterns: of the files that are wanted, below the address; all by default.
        unpinned: fetch a set whose checksums nobody pinned, as its server gives them the first time.
        progress: called with (files done, files in all).

    Raises:
        FetchError: no pin and no word for it, no network, a file with another checksum, which is not kept, or a
            file of checksums that is no longer the one of the lock.
        MissingPackageError: pooch is not installed.
        OSError: the disk is full, say.
    """
    locked = _locked(what, folder)
    if not what.sums_sha256 and not locked and not unpinned:
        raise FetchError(
            f"nobody has pinned the checksums of {what.title}; nothing was fetched. Say --unpinned to take what "
            "its server gives this once, or pin sums_sha256 in a page of your own (--registry)"
        )
    folder.mkdir(parents=True, exist_ok=True)
    sums = _sums(what, folder, pin=what.sums_sha256 or locked)
    digest = hashlib.sha256(sums).hexdigest()
    wanted = files_of(sums, patterns=patterns)
    _lock(what, folder, digest)
    fetched = 0
    for done, one in enumerate(wanted, start=1):
        fetched += _fetch_file(what, one, folder)
        progress(done, len(wanted))
    return Fetched(len(wanted), fetched, digest, trusted_now=not what.sums_sha256 and not locked)


def _locked(what: PublicSet, folder: Path) -> str:
    """Return the digest of the file of checksums by which a folder was fetched before, "" where it was not.

    Raises:
        FetchError: the lock is of another address, or damaged.
    """
    try:
        body = tomllib.loads((folder / LOCK).read_text(encoding="utf-8"))
        address, digest = str(body["address"]), str(body["sums_sha256"])
    except FileNotFoundError:
        return ""
    except (OSError, ValueError, KeyError) as error:
        raise FetchError(
            f"the lock of the folder ({LOCK}) cannot be used ({type(error).__name__}); nothing was fetched. Fetch "
            "into another folder, or remove the lock to trust the server once more"
        ) from None
    if address != what.address or not re.fullmatch(r"[0-9a-f]{64}", digest):
        raise FetchError(f"the folder holds another set, as its lock ({LOCK}) says; fetch into another folder")
    return digest


def _lock(what: PublicSet, folder: Path, digest: str) -> None:
    """Write the lock where there is none."""
    if (folder / LOCK).exists():
        return
    new = folder / f"{LOCK}.new"
    new.write_text(f'address = "{what.address}"\nsums_sha256 = "{digest}"\n', encoding="utf-8")
    new.replace(folder / LOCK)


def _sums(what: PublicSet, folder: Path, *, pin: str) -> bytes:
    """Return the file of checksums, held against its pin where there is one."""
    path = folder / what.sums
    if pin:
        try:
            _fetch_file(what, PublicFile(what.sums, pin), folder)
        except FetchError as error:
            if what.sums_sha256 or "checksum" not in str(error):
                raise
            raise FetchError(
                f"the checksums of {what.title} are no longer those that this folder was fetched by ({LOCK}); "
                "nothing was fetched. If its publisher says that the set was changed, fetch it into another folder"
            ) from None
    else:
        path.unlink(missing_ok=True)
        _download(urljoin(what.address, quote(what.sums)), path)
    if path.stat().st_size > LARGEST_SUMS:
        raise FetchError("the file of checksums is too long to be one; nothing else was fetched")
    return path.read_bytes()


def _fetch_file(what: PublicSet, one: PublicFile, folder: Path) -> bool:
    """Fetch a file unless it is there and right; return whether it was fetched."""
    with explained():
        import pooch
    path = folder / one.path
    if path.is_file() and pooch.file_hash(str(path), alg="sha256") == one.sha256:
        return False
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + _PART)

    def download(url: str, output: object, _: object) -> None:
        _download(url, part)
        part.replace(Path(str(output)))

    try:
        pooch.retrieve(
            urljoin(what.address, quote(one.path)),
            known_hash=f"sha256:{one.sha256}",
            fname=path.name,
            path=path.parent,
            downloader=download,
        )
    except ValueError:  # how pooch says that the hash is another
        raise FetchError(
            f"{one.path}: its checksum is not the one of the set; it was not kept. Try again, and if it happens "
            "again tell who publishes the set"
        ) from None
    return True


def _download(url: str, path: Path) -> None:
    """Fetch an address into a file, from where the file ends."""
    begun = path.stat().st_size if path.is_file() else 0
    request = urllib.request.Request(url, headers={"User-Agent": "fedsynth"})  # https, or loopback
    if begun:
        request.add_header("Range", f"bytes={begun}-")
    try:
        with urllib.request.urlopen(request, timeout=TIMEOUT) as answer:
            goes_on = answer.status == 206 and answer.headers.get("Content-Range", "").startswith(f"bytes {begun}-")
            with path.open("ab" if goes_on else "wb") as file:
                while data := answer.read(_AT_ONCE):
                    file.write(data)
            length = answer.headers.get("Content-Length")
            if length is not None and path.stat().st_size != int(length) + (begun if goes_on else 0):
                raise HTTPException
    except urllib.error.HTTPError as error:
        if error.code == 416 and begun:  # there is nothing behind what is here
            return
        raise FetchError(
            f"{urlsplit(url).hostname} answered {error.code} for a file of the set; what was fetched so far is kept"
        ) from None
    except (urllib.error.URLError, HTTPException, TimeoutError, ConnectionError) as error:
        raise FetchError(
            f"{urlsplit(url).hostname} cannot be reached, or broke off ({type(error).__name__}): is there a "
            "network? What was fetched so far is kept; give the same command again and it goes on"
        ) from None
