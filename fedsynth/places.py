"""Places on a disk: whether work may be written somewhere, by whom it is being written, and what a killed one left.

Everything is asked before work begins, so that nobody waits, or is charged, for something that has nowhere to go.
"""

import contextlib
import errno
import fcntl
import os
import re
import secrets
import shutil
import time
from collections.abc import Collection, Iterator
from pathlib import Path

from fedsynth.errors import RefusedError, RunError

PREFIX = ".fedsynth-"
_UNTOUCHED = "Nothing was written or charged"
_OF_A_DISK = frozenset({"lost+found"})
_LEFTOVER = re.compile(rf"{re.escape(PREFIX)}(?:([0-9]+)-[0-9a-f]{{16}}|[a-z0-9_]{{8}})")  # the latter until 0.1
_FRESH = 10.0  # seconds within which a folder may have been made and not yet held
_LONGEST_NAME = 200  # bytes; staging and locks stand beside a folder under a longer name


def place_for(out: Path, *, apart_from: Collection[Path] = ()) -> Path:
    """Return where `out` is, links followed, if a folder can be made or filled there; writes nothing.

    Args:
        out: a folder to be; it may be there already, as a mount point or from an earlier run.
        apart_from: folders of recordings, which `out` must not lie in.

    Raises:
        RunError: a link that leads nowhere or in a circle, a file, a name that is too long, a folder that one may
            not write to, or one among the recordings.
    """
    try:
        place = Path(os.path.realpath(out, strict=False))
        if out.is_symlink() and not out.exists():
            raise RunError(f"{out} is a link that leads nowhere. {_UNTOUCHED}; name a folder")
        if out.exists() and not out.is_dir():
            raise RunError(f"{out} is a file, and it was left as it is. {_UNTOUCHED}; name a folder")
        above = next(folder for folder in (place, *place.parents) if folder.exists())
    except (OSError, ValueError) as error:
        raise RunError(
            f"no folder can stand at {str(out)[:80]!r} ({_why(error)}). {_UNTOUCHED}; name another"
        ) from None
    missing = [folder.name for folder in place.parents if not folder.exists()]
    if any(len(os.fsencode(name)) > _LONGEST_NAME for name in (place.name, *missing)):
        raise RunError(
            f"a name in {str(out)[:80]!r} has more than {_LONGEST_NAME} bytes. {_UNTOUCHED}; name another folder"
        )
    if not above.is_dir():
        raise RunError(f"{above} is a file, so that no folder can stand at {out}. {_UNTOUCHED}; name another")
    if not os.access(above, os.W_OK | os.X_OK):
        raise RunError(
            f"{above} may not be written to, so that {out} cannot be made. {_UNTOUCHED}; name another folder, "
            "or ask for the right to write there"
        )
    for folder in apart_from:
        if place.is_relative_to(os.path.realpath(folder)):
            raise RunError(
                f"{out} would lie among the recordings in {folder}. {_UNTOUCHED}; name a folder apart from them"
            )
    return place


def is_vacant(place: Path) -> bool:
    """Whether nothing stands there but, perhaps, an empty folder, a disk's own or what a killed run left."""
    if not place.exists():
        return True
    return place.is_dir() and all(path.name in _OF_A_DISK or is_leftover(path) for path in place.iterdir())


def is_leftover(path: Path) -> bool:
    """Whether a folder is staging, perhaps of a process that was killed."""
    return bool(_LEFTOVER.fullmatch(path.name))


def check_space(place: Path, *, needed: int, what: str) -> None:
    """Refuse work for which the disk has no room.

    Args:
        place: where it would go; it need not exist.
        needed: bytes.
        what: it is, in words.

    Raises:
        RunError: with both figures.
    """
    above = next(folder for folder in (place, *place.parents) if folder.exists())
    free = shutil.disk_usage(above).free
    if needed > free:
        raise RunError(
            f"{what} takes about {gigabytes(needed)}, and the disk of {above} has {gigabytes(free)} left. "
            f"{_UNTOUCHED}; free some space or name a folder on another disk"
        )


def gigabytes(count: int) -> str:
    """Write a number of bytes for people.

    >>> gigabytes(2_500_000_000)
    '2.5 GB'
    """
    return f"{count / 1e9:.1f} GB" if count >= 1e8 else f"{max(count, 0) / 1e6:.1f} MB"


@contextlib.contextmanager
def claimed(place: Path, *, what: str) -> Iterator[None]:
    """Hold a place for this process; another one that asks for it meanwhile is refused at once.

    The claim is a locked file beside the place, or the place itself where nothing may be written beside it. It ends
    with the process, however that ends.

    Args:
        place: a folder that is there, or that will be.
        what: is being made there, in words.

    Raises:
        RefusedError: another process holds it.
        RunError: nothing can be written there.
    """
    made = [folder for folder in place.parents if not folder.exists()]
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        lock = place.parent / f".{place.name}.lock"
        descriptor = _locked(lock)
    except PermissionError:
        descriptor, lock = _locked_folder(place), None
    except OSError as error:
        raise RunError(f"nothing can be written to {place.parent} ({_why(error)}). {_UNTOUCHED}") from error
    if descriptor is None:
        raise RefusedError(
            f"another process is making {what} at {place}; this one left it alone. Nothing was charged. "
            "Wait for the other, or name another folder"
        )
    try:
        yield
    finally:
        if lock is not None:
            lock.unlink(missing_ok=True)
        os.close(descriptor)
        with contextlib.suppress(OSError):  # ends at the first that holds something
            for folder in made:
                folder.rmdir()


@contextlib.contextmanager
def staging_for(place: Path, *, private: bool = True) -> Iterator[Path]:
    """Yield a new folder on the disk of `place`; it is removed unless `settle` moved it.

    What earlier processes left beside the place when they were killed is removed first.

    Args:
        place: vacant.
        private: nobody but this user may look in.
    """
    home = place if place.exists() else place.parent
    home.mkdir(parents=True, exist_ok=True)
    for folder in {home, place.parent}:
        remove_leftovers(folder)
    staging = home / f"{PREFIX}{os.getpid()}-{secrets.token_hex(8)}"
    staging.mkdir(mode=0o700 if private else 0o777)
    descriptor = os.open(staging, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        with contextlib.suppress(OSError):  # a file system without locks; the process id in the name still helps
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield staging
    finally:
        shutil.rmtree(staging, ignore_errors=True)
        os.close(descriptor)


def settle(staging: Path, place: Path, *, last: str = "") -> None:
    """Move a finished staging folder to its place: in one step, or entry by entry into a folder that is there.

    Args:
        staging: from `staging_for(place)`.
        place: vacant.
        last: the entry that makes the folder what it is; moved after all others.

    Raises:
        OSError: the place filled up meanwhile, or the disk fails; what was moved is moved back.
    """
    if staging.parent != place:
        staging.rename(place)  # refused by the system where something stands
        return
    if not is_vacant(place):
        raise OSError(errno.ENOTEMPTY, os.strerror(errno.ENOTEMPTY))
    moved: list[Path] = []
    try:
        for entry in sorted(staging.iterdir(), key=lambda path: path.name == last):
            entry.rename(place / entry.name)
            moved.append(place / entry.name)
    except OSError:
        for path in reversed(moved):
            path.rename(staging / path.name)
        raise


def settle_the_rest(place: Path, *, last: str) -> None:
    """Move what a `settle` into `place` left behind when it was killed on the way; nothing where none was."""
    if not place.is_dir() or is_vacant(place) or (place / last).exists():
        return
    for staging in [path for path in place.iterdir() if is_leftover(path) and (path / last).is_file()]:
        for entry in sorted(staging.iterdir(), key=lambda path: path.name == last):
            entry.rename(place / entry.name)
        staging.rmdir()


def remove_leftovers(folder: Path) -> int:
    """Remove staging folders whose process is dead, and return how many there were."""
    removed = 0
    try:
        found = [path for path in folder.iterdir() if is_leftover(path) and not path.is_symlink()]
    except OSError:
        return 0
    for path in found:
        with contextlib.suppress(OSError):
            descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC | os.O_NOFOLLOW)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if _is_abandoned(path, os.fstat(descriptor)):
                    shutil.rmtree(path)
                    removed += 1
            finally:
                os.close(descriptor)
    return removed


@contextlib.contextmanager
def masked(bits: int) -> Iterator[None]:
    """Keep rights away from whatever is made meanwhile: 0o077 from everybody else, 0o022 to write from them."""
    before = os.umask(0)
    os.umask(before | bits)
    try:
        yield
    finally:
        os.umask(before)


def _locked(lock: Path) -> int | None:
    """Return a descriptor of a file that this process alone has locked, or None where another has."""
    while True:
        descriptor = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.path.samestat(os.fstat(descriptor), lock.lstat()):
                return descriptor
        except BlockingIOError:
            os.close(descriptor)
            return None
        except FileNotFoundError:
            pass  # its last owner removed it between our two steps
        os.close(descriptor)


def _locked_folder(place: Path) -> int | None:
    try:
        descriptor = os.open(place, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise RunError(f"nothing can be written to {place.parent} ({_why(error)}). {_UNTOUCHED}") from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    return descriptor


def _is_abandoned(path: Path, facts: os.stat_result) -> bool:
    """Whether a staging folder that nobody has locked belongs to nobody: its maker locks it a moment after."""
    match = _LEFTOVER.fullmatch(path.name)
    maker = int(match[1]) if match and match[1] else 0
    if maker:
        try:
            os.kill(maker, 0)
        except ProcessLookupError:
            return True
        except (OSError, OverflowError):
            pass
        if maker == os.getpid():
            return True
    return abs(time.time() - facts.st_mtime) > _FRESH


def _why(error: Exception) -> str:
    return error.strerror or type(error).__name__ if isinstance(error, OSError) else type(error).__name__
