"""What a run was asked about, as keyed digests, so that the same command on the same recordings is known again.

The key is drawn for the run and stays in its folder: names and contents of recordings cannot be guessed from a
digest elsewhere. A glance at sizes and times of files is enough where nothing was touched; where something was, the
contents decide, so that recordings may be moved or copied.
"""

import hashlib
import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

from fedsynth.errors import RecordingError
from fedsynth.ledger.chain import mac
from fedsynth.progress import Progress
from fedsynth.recordings.options import SiteOptions
from fedsynth.rehearsal.sites import site_names
from fedsynth.study import Study

_GLANCE, _CONTENT = "glance", "content"
_WORDS = {
    "cohort": "people (made up for one, not for the other)",
    "people": "made-up people (another number of them)",
    "ledgers": "ledgers (--ledgers)",
    "heads": "heads of ledgers (--heads)",
    "options": "ways of reading recordings (--unit, --follow-links)",
}


class Asked(Protocol):
    """What is compared of a rehearsal."""

    @property
    def sites(self) -> Path | None: ...
    @property
    def people(self) -> float: ...
    @property
    def ledgers(self) -> Path | None: ...
    @property
    def heads(self) -> Path | None: ...
    @property
    def options(self) -> SiteOptions: ...


def asked_about(what: Asked, study: Study, *, progress: Progress) -> dict[str, str]:
    """Return the digests of what a new run is asked about, and their key, as they stand in the run's facts.

    Raises:
        RecordingError: a file cannot be read.
    """
    key = secrets.token_bytes(32)
    found = _settings(what, key)
    if what.sites is not None:
        found[_GLANCE] = _glance(what.sites, study, key)
        found[_CONTENT] = _content(what.sites, study, key, progress=progress)
    return {"key": key.hex(), **found}


def difference(asked: Mapping[str, str], what: Asked, study: Study, *, progress: Progress) -> str:
    """Return in words what another run was asked about than `what` asks; nothing where it is the same.

    Raises:
        RecordingError: there is no such folder of sites, or a file in it cannot be read.
    """
    if what.sites is not None:
        site_names(what.sites, study)
    if "key" not in asked:
        return "people that it does not tell, as it is of an earlier version"
    key = bytes.fromhex(asked["key"])
    for name, digest in _settings(what, key).items():
        if asked.get(name) != digest:
            return f"other {_WORDS[name]}"
    if what.sites is None or asked.get(_GLANCE) == _glance(what.sites, study, key):
        return ""
    same = asked.get(_CONTENT) == _content(what.sites, study, key, progress=progress)
    return "" if same else "other recordings than those in --sites"


def _settings(what: Asked, key: bytes) -> dict[str, str]:
    facts = {
        "cohort": "toy" if what.sites is None else "recordings",
        "people": what.people if what.sites is None else 1.0,
        "ledgers": _place(what.ledgers),
        "options": repr(what.options),
        "heads": _place(what.heads),
    }
    return {name: mac(key, name, value).hex() for name, value in facts.items()}


def _place(folder: Path | None) -> str:
    return "" if folder is None else str(folder.resolve())


def _glance(folder: Path, study: Study, key: bytes) -> str:
    """Return the digest of names, sizes, times and numbers of the sites' files; none of them is read."""
    told = []
    for name, path in _files(folder, study):
        facts = path.stat()
        told.append([name, facts.st_size, facts.st_mtime_ns, facts.st_ctime_ns, facts.st_dev, facts.st_ino])
    return mac(key, _GLANCE, told).hex()


def _content(folder: Path, study: Study, key: bytes, *, progress: Progress) -> str:
    """Return the digest of names and contents of the sites' files."""
    files = _files(folder, study)
    told = []
    for number, (name, path) in enumerate(files):
        try:
            with path.open("rb") as stream:
                told.append([name, hashlib.file_digest(stream, "sha256").hexdigest()])
        except OSError as error:
            raise RecordingError(
                f"a file of site {name.split('/')[0]} cannot be read ({error.strerror}); nothing was charged"
            ) from error
        progress("files known again", number + 1, len(files))
    return mac(key, _CONTENT, told).hex()


def _files(folder: Path, study: Study) -> list[tuple[str, Path]]:
    """Return the files of every site, by the name that they have below `folder`, without hidden ones."""
    found = []
    for site in site_names(folder, study):
        for path in (folder / site).rglob("*"):
            name = path.relative_to(folder)
            if path.is_file() and not any(part.startswith(".") for part in name.parts):
                found.append((name.as_posix(), path))
    return sorted(found)
