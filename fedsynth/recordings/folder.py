"""A site's folder: from what lies in it to the files that are its recordings, in the order of their names.

Left out are hidden names, what the Brain Imaging Data Structure keeps beside its raw data (derivatives, sourcedata,
code, stimuli; doi:10.1038/sdata.2016.44), and bins, backups and the like. Links are followed inside the folder and
into the annex of its own repository (git-annex, DataLad); a link that leads out needs a person's word.
"""

import fnmatch
import os
import shlex
from collections import Counter
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from fedsynth.errors import RecordingError

BESIDE_RAW_DATA = ("derivatives", "sourcedata", "code", "stimuli", "phenotype")
BINS = (
    "old",
    "backup",
    "backups",
    "bak",
    "trash",
    "trashbox",
    "$recycle.bin",
    "recycler",
    "#recycle",
    "lost+found",
    "@eadir",
    "#snapshot",
    "__macosx",
    "system volume information",
    "recycle bin",
    "papierkorb",
    "corbeille",
    "papelera",
    "cestino",
    "tmp",
    "temp",
    "~snapshot",
    "@recently-snapshot",
    "old[ _-]*",
    "*[ _]old",
    "backup[ _-]*",
    "*[ _]backup",
    "trash[ _-]*",
)
"""Folders whose files are no recordings of a site, as patterns in lower case; a dot at the beginning is another."""
_LEFT_OUT = frozenset((*BESIDE_RAW_DATA, *BINS))
_ANNEX = (".git", "annex", "objects")
_POINTERS = (b"/annex/objects/", b"../.git/annex/", b"version https://git-lfs.github.com/spec/")
_POINTER_BYTES = 1024  # files that stand for content elsewhere are shorter


@dataclass
class Found:
    """What was found in a folder: the files of recordings in name order, and how many others were left out and why.

    `absent` counts files that only point to content that is not on this machine, `outside` links that lead out of
    the folder, and `unreadable` folders that may not be listed.
    """

    files: list[Path] = field(default_factory=list)
    left_out: Counter[str] = field(default_factory=Counter)
    absent: int = 0
    outside: int = 0
    unreadable: int = 0


def find_recordings(folder: Path, *, suffixes: Collection[str], site: str, follow_links: bool) -> Found:
    """List the recordings of a site.

    Args:
        folder: of the site; it may itself be a link.
        suffixes: of the files that stand for recordings, in lower case.
        site: its name, for messages.
        follow_links: whether links may lead out of the folder.

    Returns:
        Files in the order that `LC_ALL=C sort` gives them.

    Raises:
        RecordingError: links that lead out, content that is absent, or a folder that may not be listed.
    """
    found = Found()
    root = Path(os.path.realpath(folder))
    for path in _walk(folder, root, (root,), found, frozenset(suffixes), follow_links):
        found.files.append(path)
    found.files.sort(key=os.fsencode)
    if found.unreadable:
        raise RecordingError(
            f"site {site!r}: {found.unreadable} folders below its folder may not be listed; allow it, or move them "
            "away. Nothing was written"
        )
    if found.absent:
        raise RecordingError(
            f"site {site!r}: {found.absent} recordings are only pointers to content that is not on this "
            "machine, as git-annex, DataLad and Git LFS leave them; get the content (datalad get, git annex "
            "get, git lfs pull), or move them away. Nothing was written"
        )
    if found.outside:
        raise RecordingError(
            f"site {site!r}: {found.outside} links lead out of its folder, or nowhere; say --follow-links if what "
            "they lead to belongs to the site, or copy it there. Nothing was written"
        )
    return found


def command_for(folder: Path, *, suffixes: Collection[str], numbers: Collection[int], links: bool) -> str:
    """Return the shell command that shows the names of files by their places, beside the site's folder."""
    tests = " -o ".join(f"-iname '*{suffix}'" for suffix in sorted(suffixes))
    pruned = " -o ".join(f"-iname {shlex.quote(name)}" for name in sorted(_LEFT_OUT))
    place = shlex.quote(f"{folder.absolute().name}/")
    shown = ";".join(f"{number}p" for number in numbers)
    return (
        f"find {'-L ' if links else ''}{place} -mindepth 1 '(' -name '.*' -o -type d '(' {pruned} ')' ')' "
        f"-prune -o '(' {tests} ')' -print | LC_ALL=C sort | sed -n {shlex.quote(shown) if ';' in shown else shown}"
    )


def is_left_out(name: str) -> bool:
    """Tell whether a folder's files are no recordings, by its name.

    >>> is_left_out("Backup_2023"), is_left_out("derivatives"), is_left_out("sub-old1")
    (True, True, False)
    """
    return any(fnmatch.fnmatchcase(name.lower(), pattern) for pattern in _LEFT_OUT)


def check_beside(path: Path, *, root: Path | None) -> None:
    """Refuse a file that a recording needs beside it, and that is missing, absent, or outside the site's folder.

    Args:
        path: of the file.
        root: the site's folder, which links may not lead out of; None where they may.

    Raises:
        RecordingError: as above; a queue or a device, which would be waited for without end, counts as missing.
    """
    if path.is_symlink() and not path.exists():
        raise RecordingError(
            "a file that its header names is a link to content that is not on this machine; get the content"
        )
    if not path.is_file():
        raise RecordingError("the signal file that its header names is missing beside it; copy it there")
    if leads_out(path, root=root):
        raise RecordingError(
            "a file that its header names is a link out of the site's folder; say --follow-links, or copy it there"
        )
    if is_pointer(path):
        raise RecordingError(
            "a file that its header names only points to content that is not on this machine (git-annex, DataLad, "
            "Git LFS); get the content"
        )


def leads_out(path: Path, *, root: Path | None) -> bool:
    """Tell whether a file is a link out of the folder `root` and its annex; never where that is None."""
    if root is None or not path.is_symlink():
        return False
    return not Path(os.path.realpath(path)).is_relative_to(os.path.realpath(root)) and not _in_annex(path)


def is_pointer(path: Path) -> bool:
    """Tell whether a file only points to content elsewhere, as an unlocked file of git-annex or Git LFS does.

    Raises:
        OSError: a file that cannot be opened.
    """
    if not path.is_file() or path.stat().st_size > _POINTER_BYTES:
        return False
    with path.open("rb") as file:
        return file.read(_POINTER_BYTES).startswith(_POINTERS)


def _walk(
    folder: Path, root: Path, above: tuple[Path, ...], found: Found, suffixes: frozenset[str], follow: bool
) -> Iterator[Path]:
    """Yield the recordings below a folder; `above` are the real places of the folders that lead to it."""
    try:
        entries = sorted(os.scandir(folder), key=lambda entry: os.fsencode(entry.name))
    except FileNotFoundError:
        return
    except OSError:
        found.unreadable += 1
        return
    for entry in entries:
        path = folder / entry.name
        is_recording = path.suffix.lower() in suffixes
        if entry.name.startswith("."):
            found.left_out["hidden names"] += _count(path, suffixes)
            continue
        if entry.is_dir() and is_left_out(entry.name):
            kind = "derivatives, sources and code" if entry.name.lower() in BESIDE_RAW_DATA else "bins and backups"
            found.left_out[f"folders of {kind}"] += _count(path, suffixes)
            continue
        if entry.is_symlink():
            target = Path(os.path.realpath(path))
            if is_recording and _in_annex(path):
                found.absent += not target.exists()
                if target.exists():
                    yield path
                continue
            if not follow and not target.is_relative_to(root):
                found.outside += is_recording or not target.exists() or target.is_dir()
                continue
            if not target.exists():
                found.outside += is_recording
                continue
        if entry.is_dir() and not is_recording:
            real = Path(os.path.realpath(path))
            if real in above:
                continue  # a link to a folder above: all of it is being listed
            yield from _walk(path, root, (*above, real), found, suffixes, follow)
        elif is_recording:
            if _points(path):
                found.absent += 1
            else:
                yield path


def _points(path: Path) -> bool:
    try:
        return is_pointer(path)
    except OSError:
        return False  # refused by the reader, with its place


def _in_annex(path: Path) -> bool:
    """Whether a link leads into the annex of the repository that the link lies in."""
    target = Path(os.path.normpath(Path(os.path.realpath(path.parent)) / path.readlink()))
    parts = target.parts
    for index in range(len(parts) - len(_ANNEX)):
        if parts[index : index + len(_ANNEX)] == _ANNEX:
            return Path(os.path.realpath(path.parent)).is_relative_to(Path(*parts[:index]))
    return False


def _count(path: Path, suffixes: frozenset[str]) -> int:
    """Count recordings at or below a path that is left out; links are not followed."""
    if path.suffix.lower() in suffixes and not path.is_dir():
        return 1
    if path.is_symlink() or not path.is_dir():
        return 0
    return sum(Path(name).suffix.lower() in suffixes for _, _, names in os.walk(path) for name in names)
