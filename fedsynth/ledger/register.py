"""The register: where the ledgers of real people are, so that nobody begins a second one for the same recordings.

It belongs to one user of one machine and lies in `$XDG_STATE_HOME/fedsynth` (`~/.local/state/fedsynth` by default):
outside of recordings, which may be read-only or move, and outside of studies' folders, which are removed. A ledger
is known by keyed tokens of the recordings that were charged in it, and by the folder they were read from.
"""

import fcntl
import hashlib
import hmac
import json
import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from fedsynth.errors import LedgerError, RunError
from fedsynth.ledger.disk import KEY, write_durably
from fedsynth.places import place_for

_UNTOUCHED = "Nothing was written or charged"


@dataclass(frozen=True)
class Entry:
    """A ledger that is known: whose it is, where it lies, and what was charged in it.

    `name` is a digest of its key, `roots` the folders that sites' recordings were read from, `recordings` keyed
    tokens of their contents.
    """

    name: str
    site: str
    folder: Path
    roots: frozenset[str]
    recordings: frozenset[str]

    def is_at(self, folder: Path) -> bool:
        """Whether this ledger lies in a folder: it is that folder, or it was moved there."""
        if os.path.realpath(folder) == os.path.realpath(self.folder):
            return True
        return not self.is_there and (folder / KEY).is_file() and _name_of((folder / KEY).read_bytes()) == self.name

    @property
    def is_there(self) -> bool:
        """Whether anything lies where the ledger was last."""
        return (self.folder / KEY).exists()


@dataclass(frozen=True)
class Register:
    """What one user's machine knows of ledgers; `home` is made when something is first written."""

    home: Path

    @contextmanager
    def held(self) -> Iterator[None]:
        """Hold the register, so that two runs that begin at once find each other's ledgers.

        Raises:
            RunError: it cannot be written to.
        """
        self.check()
        known = self.home / "known-ledgers"
        known.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(known / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)

    def check(self) -> None:
        """Refuse a home that cannot be written to; writes nothing.

        Raises:
            RunError: it cannot.
        """
        try:
            place_for(self.home)
        except RunError as error:
            raise RunError(
                f"the ledgers of real people are registered in {self.home}, which cannot be written to. "
                f"{_UNTOUCHED}; set XDG_STATE_HOME to a folder that stays"
            ) from error

    def place_for(self, site: str, *, root: Path, digests: Iterable[str], given: Path | None) -> Path:
        """Return the folder of a site's ledger: the one that knows its recordings, or a new one.

        Args:
            site: its name.
            root: the folder with the folder of the site's recordings.
            digests: of the recordings' contents.
            given: where a person says it is; None for wherever it is known to be.

        Raises:
            LedgerError: another ledger knows these recordings, or the one that does is gone.
        """
        known = self.owners(site, root=root, digests=digests)
        place = given
        if place is None:
            place = known[0].folder if len(known) == 1 else self._new_place(site, root)
        for entry in known:
            if not entry.is_there and not (entry.is_at(place) and (place / KEY).exists()):
                raise LedgerError(self._lost(site, entry))
        others = [entry for entry in known if not entry.is_at(place)]
        if others:
            raise LedgerError(self._second(site, others, also=len(known) - len(others)))
        return place

    def owners(self, site: str, *, root: Path, digests: Iterable[str]) -> tuple[Entry, ...]:
        """Return the ledgers that know any of a site's recordings, or the site in this very folder."""
        entries = tuple(self._entries())
        if not entries:
            return ()
        mine, here = self._tokens(digests), os.path.realpath(root)
        return tuple(
            entry
            for entry in entries
            if not mine.isdisjoint(entry.recordings) or (entry.site == site and here in entry.roots)
        )

    def add(self, folder: Path, *, site: str, root: Path, digests: Iterable[str]) -> None:
        """Note that a site's recordings are charged in the ledger in `folder`; to be called while `held`."""
        name = _name_of((folder / KEY).read_bytes())
        before = next((entry for entry in self._entries() if entry.name == name), None)
        roots = {os.path.realpath(root)} | (set(before.roots) if before else set())
        tokens = self._tokens(digests) | (before.recordings if before else frozenset())
        body = {
            "site": site,
            "folder": os.path.realpath(folder),
            "roots": sorted(roots),
            "recordings": sorted(tokens),
        }
        write_durably(self._path(name), json.dumps(body).encode(), like=self.home)

    def _second(self, site: str, others: list[Entry], *, also: int) -> str:
        where = " and ".join(f"{entry.folder} (site {entry.site})" for entry in others)
        files = " and ".join(str(self._path(entry.name)) for entry in others)
        more = ", beside the one that was found" if also else ""
        return (
            f"recordings of site {site} were charged in the ledger {where}{more}, and a second ledger would not "
            f"know of it. {_UNTOUCHED}; continue that one (leave out --ledgers, or name the folder that holds it), "
            "and keep each recording at one site; or, if whoever answers for these people decides that what was "
            f"spent there shall not count, remove {files}"
        )

    def _lost(self, site: str, entry: Entry) -> str:
        return (
            f"the ledger is gone: recordings of site {site} were charged in {entry.folder}, where nothing is now. "
            f"{_UNTOUCHED}; mount its disk, or say with --ledgers where it was moved to; or, if whoever answers "
            f"for these people decides that what was spent shall not count, remove {self._path(entry.name)}"
        )

    def _new_place(self, site: str, root: Path) -> Path:
        real = os.path.realpath(root)
        key = hashlib.sha256(os.fsencode(real)).hexdigest()[:8]
        return self.home / "ledgers" / f"{Path(real).name}-{key}" / site

    def _path(self, name: str) -> Path:
        return self.home / "known-ledgers" / f"{name}.json"

    def _entries(self) -> Iterator[Entry]:
        for path in sorted((self.home / "known-ledgers").glob("*.json")):
            try:
                raw = json.loads(path.read_bytes())
                yield Entry(
                    name=path.stem,
                    site=str(raw["site"]),
                    folder=Path(raw["folder"]),
                    roots=frozenset(raw["roots"]),
                    recordings=frozenset(raw["recordings"]),
                )
            except (OSError, ValueError, KeyError, TypeError) as error:
                raise LedgerError(
                    f"the register's {path} cannot be read ({type(error).__name__}), so that nobody can tell whose "
                    f"ledger it names. {_UNTOUCHED}; restore it from a backup, or have a person decide to remove it"
                ) from error

    def _tokens(self, digests: Iterable[str]) -> frozenset[str]:
        path = self.home / "known-ledgers" / "key"
        if not path.exists():
            write_durably(path, os.urandom(32), like=self.home)
        key = path.read_bytes()
        return frozenset(hmac.new(key, digest.encode(), hashlib.sha256).hexdigest()[:32] for digest in digests)


def register_of_user(environment: Mapping[str, str] = os.environ) -> Register:
    """Return the register of whoever runs this process (XDG Base Directory Specification 0.8).

    Raises:
        RunError: this user has no home.
    """
    state = environment.get("XDG_STATE_HOME", "")
    if Path(state).is_absolute():
        return Register(Path(state) / "fedsynth")
    try:
        return Register(Path.home() / ".local" / "state" / "fedsynth")
    except RuntimeError as error:
        raise RunError(
            f"this user has no home to keep the ledgers of real people in. {_UNTOUCHED}; set XDG_STATE_HOME to a "
            "folder that stays"
        ) from error


def refuse_shared(places: Mapping[str, Path]) -> None:
    """Refuse two sites in one ledger: each has to be charged alone.

    Raises:
        LedgerError: naming both.
    """
    seen: dict[str, str] = {}
    for site, place in places.items():
        first = seen.setdefault(os.path.realpath(place), site)
        if first != site:
            raise LedgerError(
                f"sites {first} and {site} hold recordings that were charged in one ledger, {place}. {_UNTOUCHED}; "
                "put them into one site, or leave one of them out"
            )


def _name_of(key: bytes) -> str:
    """Return a public name for the ledger with this key."""
    return hmac.new(key, b"name of a ledger", hashlib.sha256).hexdigest()[:32]
