"""A disk that loses power: what a worker wrote goes in, every folder that could be found afterwards comes out.

`record` runs a worker under strace. `Disk` replays its calls one by one and knows, of every file and folder, what
was synced and what was not. `Disk.cut` returns what the next boot could find, in one of several modes. A sync
covers a file's bytes only; its name is durable when its folder was synced. What a process wrote to the file
`told` was sent to the world: no cut takes it back.
"""

import random
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ledger_judge import traced

MODES = (
    "everything unsynced is lost",
    "any unsynced write is kept or lost",
    "the last write is torn",
    "any unsynced sector is kept or lost",
    "names are kept before data",
    "data is kept before names",
)
SECTOR = 512
_CALLS = "openat,close,dup,fcntl,mkdir,write,pwrite64,writev,fsync,fdatasync,ftruncate,rename,unlink"
_UNKNOWN = (
    "pwritev,pwritev2,renameat,renameat2,link,linkat,symlink,truncate,fallocate,sync_file_range,copy_file_range"
)


@dataclass(frozen=True)
class Call:
    """One system call that succeeded or failed; `begun` and `ended` are its places in the trace."""

    process: int
    name: str
    arguments: tuple[str | bytes, ...]
    result: int
    begun: int
    ended: int


@dataclass
class Write:
    """A write that no sync has covered yet; `data` None cuts the file to `offset`."""

    offset: int
    data: bytes | None
    at: int


@dataclass
class File:
    """A file: what is surely on the disk, and what may be."""

    durable: bytes = b""
    pending: list[Write] = field(default_factory=list)
    size: int = 0


@dataclass
class Folder:
    """A folder: the names that are surely on the disk, all names, and the changes in between."""

    durable: dict[str, "File | Folder"] = field(default_factory=dict)
    names: dict[str, "File | Folder"] = field(default_factory=dict)
    pending: list[dict[str, "File | Folder | None"]] = field(default_factory=list)

    def change(self, change: dict[str, "File | Folder | None"]) -> None:
        """Set or, with None, take away names, all at once or not at all."""
        self.pending.append(change)
        _merge(self.names, change)


def record(place: Path, *workers: str, strace: Sequence[str] = (), in_turn: bool = False) -> list[Call]:
    """Run workers in `place` and return their calls, in the order in which they ended."""
    trace = place.parent / f"{place.name}.trace"
    what = ["-xx", "-s", "99999999", "-e", f"trace={_CALLS},{_UNKNOWN}", *strace]
    traced(place, *workers, trace=trace, strace=what, in_turn=in_turn)
    return list(read_trace(trace.read_text()))


def read_trace(text: str) -> Iterator[Call]:
    """Read what strace wrote with -f and -xx."""
    begun: dict[int, tuple[str, int]] = {}
    for at, line in enumerate(text.splitlines()):
        process, rest = line.split(maxsplit=1)
        start = at
        if rest.endswith("<unfinished ...>"):
            begun[int(process)] = rest.removesuffix("<unfinished ...>"), at
            continue
        resumed = re.match(r"<\.\.\. \w+ resumed>", rest)
        if resumed:
            first, start = begun.pop(int(process))
            rest = first + rest[resumed.end() :]
        whole = re.match(r"(\w+)\((.*)\) += (-?\d+)", rest)
        if whole:
            name, arguments, result = whole.groups()
            yield Call(
                int(process), name, tuple(_argument(one) for one in arguments.split(", ")), int(result), start, at
            )


class Disk:
    """The disk under `root` as a trace leaves it, call by call."""

    def __init__(self, root: Path) -> None:
        """Begin with the folders that are there; they are durable."""
        self._root = str(root)
        self._top = Folder()
        self._open: dict[tuple[int, int], tuple[File | Folder, int]] = {}
        self.told = ""
        for path in sorted(root.rglob("*")):
            parent, name = self._at(str(path))
            parent.change({name: Folder()})
            _sync_folder(parent)

    def apply(self, call: Call) -> bool:
        """Let a call happen; return whether it touched this disk."""
        if call.name in _UNKNOWN.split(","):
            raise AssertionError(f"no model of {call.name}")
        if call.name in ("openat", "mkdir", "rename", "unlink"):
            return self._named(call)
        entry = self._open.get((call.process, int(call.arguments[0])))
        if call.name == "close":
            self._open.pop((call.process, int(call.arguments[0])), None)
            return False
        if entry is None or (call.name == "fcntl" and b"DUPFD" not in bytes(str(call.arguments[1]), "ascii")):
            return False
        if call.name in ("dup", "fcntl"):
            raise AssertionError("no model of a descriptor that was doubled")
        return self._opened(call, *entry)

    def _named(self, call: Call) -> bool:
        paths = [one.decode() for one in call.arguments if isinstance(one, bytes)]
        if call.result < 0 or not paths[0].startswith(self._root):
            return False
        if call.name == "openat":
            return self._opens(call, paths[0])
        parent, name = self._at(paths[0])
        if call.name == "mkdir":
            parent.change({name: Folder()})
        elif call.name == "unlink":
            parent.change({name: None})
        else:
            there, new = self._at(paths[1])
            assert there is parent, "no model of a file that moves to another folder"
            parent.change({name: None, new: parent.names[name]})
        return True

    def _opens(self, call: Call, path: str) -> bool:
        flags, key = str(call.arguments[2]), (call.process, call.result)
        if path == self._root:
            self._open[key] = self._top, 0
            return False
        parent, name = self._at(path)
        changed = False
        if name not in parent.names:
            assert "O_CREAT" in flags
            parent.change({name: File()})
            changed = True
        node = parent.names[name]
        if "O_TRUNC" in flags and isinstance(node, File) and node.size:
            _write(node, Write(0, None, call.ended))
            changed = True
        self._open[key] = node, 0
        return changed

    def _opened(self, call: Call, node: File | Folder, position: int) -> bool:
        failed = call.result < 0
        if isinstance(node, Folder):
            if not failed:
                _sync_folder(node)
            return True
        if call.name in ("fsync", "fdatasync"):
            covered = [one for one in node.pending if one.at < call.begun]
            if not failed:
                node.durable = _applied(node.durable, covered)
            # After a sync that failed the pages count as clean: what they held never reaches the disk.
            node.pending = [one for one in node.pending if one.at >= call.begun]
            return True
        if failed:
            return False
        if call.name == "ftruncate":
            _write(node, Write(int(call.arguments[1]), None, call.ended))
            return True
        data = b"".join(one for one in call.arguments if isinstance(one, bytes))[: call.result]
        if node is self._top.names.get("told"):
            self.told += data.decode()
            return False
        if call.name == "pwrite64":
            _write(node, Write(int(call.arguments[3]), data, call.ended))
        else:
            _write(node, Write(position, data, call.ended))
            self._open[call.process, int(call.arguments[0])] = node, position + len(data)
        return True

    def cut(self, mode: str, rng: random.Random, target: Path) -> None:
        """Write into `target` what the next boot could find."""
        share = rng.choice([0.1, 0.5, 0.9])
        _boot(self._top, mode, rng, share, target)
        (target / "told").unlink(missing_ok=True)

    def _at(self, path: str) -> tuple[Folder, str]:
        parent, (*above, name) = self._top, path[len(self._root) + 1 :].split("/")
        for one in above:
            below = parent.names[one]
            assert isinstance(below, Folder)
            parent = below
        return parent, name


def _boot(folder: Folder, mode: str, rng: random.Random, share: float, target: Path) -> None:
    target.mkdir(exist_ok=True)
    names = dict(folder.durable)
    for change in folder.pending:
        certain = mode in ("the last write is torn", "names are kept before data")
        chance = mode in ("any unsynced write is kept or lost", "any unsynced sector is kept or lost")
        if certain or (chance and rng.random() < share):
            _merge(names, change)
    for name, node in names.items():
        if isinstance(node, Folder):
            _boot(node, mode, rng, share, target / name)
        else:
            data = _found(node, mode, rng, share)
            # Shared memory is never synced: whatever it held, a reboot may find anything there.
            (target / name).write_bytes(rng.randbytes(len(data)) if name.endswith("-shm") else data)


def _found(file: File, mode: str, rng: random.Random, share: float) -> bytes:
    pending = file.pending
    if mode == "everything unsynced is lost":
        return file.durable
    if mode == "names are kept before data":
        # A file system may know the new length before it has the bytes: they read as zeros.
        longer = rng.random() < 0.5 and file.size > len(file.durable)
        return file.durable.ljust(file.size, b"\0") if longer else file.durable
    if mode == "data is kept before names":
        return _applied(file.durable, pending)
    if mode == "any unsynced write is kept or lost":
        return _applied(file.durable, [one for one in pending if rng.random() < share])
    if mode == "the last write is torn":
        return _applied(file.durable, [*pending[:-1], *_torn(pending[-1:], rng, share)])
    return _applied(file.durable, _torn(pending, rng, share))


def _torn(writes: list[Write], rng: random.Random, share: float) -> Iterator[Write]:
    for one in writes:
        if one.data is None:
            if rng.random() < share:
                yield one
            continue
        # Sectors are those of the disk: a write that begins inside one shares it with its neighbour.
        start = one.offset
        while start < one.offset + len(one.data):
            end = min((start // SECTOR + 1) * SECTOR, one.offset + len(one.data))
            if rng.random() < share:
                yield Write(start, one.data[start - one.offset : end - one.offset], one.at)
            start = end


def _applied(data: bytes, writes: Sequence[Write] | Iterator[Write]) -> bytes:
    out = bytearray(data)
    for one in writes:
        if one.data is None:
            out = out[: one.offset].ljust(one.offset, b"\0")
        else:
            out = out.ljust(one.offset, b"\0")
            out[one.offset : one.offset + len(one.data)] = one.data
    return bytes(out)


def _write(file: File, write: Write) -> None:
    file.pending.append(write)
    file.size = write.offset if write.data is None else max(file.size, write.offset + len(write.data))


def _merge(names: dict[str, File | Folder], change: dict[str, "File | Folder | None"]) -> None:
    for name, node in change.items():
        if node is None:
            names.pop(name, None)
        else:
            names[name] = node


def _sync_folder(folder: Folder) -> None:
    for change in folder.pending:
        _merge(folder.durable, change)
    folder.pending.clear()


def _argument(text: str) -> str | bytes:
    quoted = re.search(r'"((?:\\x[0-9a-f]{2})*)"', text)
    return bytes.fromhex(quoted[1].replace("\\x", "")) if quoted else text
