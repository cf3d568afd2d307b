"""A store: one file of windows, contiguous by person within each append, with an index at its end.

    head (64 bytes) | windows, facts, index, tail (64 bytes) of append 1 | the same of append 2 | …

An append writes behind what is there and rewrites nothing; its index is of everything. Which end counts is whoever
keeps the store's to say: bytes behind that end were never there. Windows are float32 in little-endian order and in
the clear are read by mapping the file into memory; under a key they lie in blocks of about a megabyte.
"""

import contextlib
import hashlib
import os
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from fedsynth.errors import RecordingError
from fedsynth.recordings.recording import Windows
from fedsynth.recordings.store.digests import Digest, of_kind
from fedsynth.recordings.store.index import Entry, Index, StoreShape, read_index
from fedsynth.recordings.store.seal import WRONG, Seal, checksum

VERSION = 1
BLOCK_BYTES = 1 << 20
_MAGIC, _SEALED = b"fedsynth", 1
_HEAD = struct.Struct("<8sII48x")
_TAIL = struct.Struct("<8sQQQ32s")  # where the index is, how long, of which append, and its checksum

_Rows = NDArray[np.float32]


@dataclass(frozen=True)
class Store:
    """An open store. `end` is where it ends; `index` says what lies in it."""

    file: BinaryIO
    key: bytes | None
    index: Index
    end: int

    def rows(self, entry: Entry) -> _Rows:
        """Return the windows of an entry, shape (window, channel, time), held against their digest.

        In the clear they are mapped from the file.

        Raises:
            RecordingError: they are damaged.
        """
        shape = self.index.shape
        form = (len(entry.labels), len(shape.channels), shape.n_times)
        if self.key is None and entry.labels:
            rows = self._mapped(entry.at, form)
        else:
            rows = np.empty(form, dtype="<f4")
            self._unseal(rows.reshape(-1).view(np.uint8).data, entry)
        _hold(rows, entry)
        return rows

    def facts(self, entry: Entry) -> bytes:
        """Return the facts of an entry.

        Raises:
            RecordingError: they are damaged.
        """
        seal = Seal(self.key, self.index.salts[entry.part])
        data = self._read(entry.facts_at, entry.facts_bytes + seal.overhead)
        facts = seal.open(data, number=entry.facts_number, bound=b"facts")
        if hashlib.sha256(facts).hexdigest() != entry.facts_digest:
            raise RecordingError(WRONG)
        return facts

    def of_person(self, person: int) -> Iterator[_Rows]:
        """Yield the windows of a person, a recording at a time; nothing else is read."""
        for entry in self.index.entries:
            if entry.person == person:
                yield self.rows(entry)

    def check(self) -> None:
        """Read everything.

        Raises:
            RecordingError: something is damaged.
        """
        for entry in self.index.entries:
            self.rows(entry)
            self.facts(entry)

    def windows(self) -> Windows:
        """Return all windows in the order of the index, mapped from the file where that is possible.

        It is for a store in the clear that was written at once; others are read.

        Raises:
            RecordingError: a window is damaged.
        """
        shape, entries = self.index.shape, [entry for entry in self.index.entries if entry.labels]
        counts = [len(entry.labels) for entry in entries]
        ends = [entry.at + count * shape.window_bytes for entry, count in zip(entries, counts, strict=True)]
        starts = [entry.at for entry in entries]
        form = (sum(counts), len(shape.channels), shape.n_times)
        signal: _Rows
        if self.key is None and entries and starts[1:] == ends[:-1]:
            signal, first = self._mapped(starts[0], form), 0
            for entry, count in zip(entries, counts, strict=True):
                _hold(signal[first : first + count], entry)
                first += count
        else:
            empty = np.empty((0, *form[1:]), dtype=np.float32)
            signal = np.concatenate([empty, *(self.rows(entry) for entry in entries)])
        return Windows(
            signal=signal,
            labels=np.array([label for entry in entries for label in entry.labels], dtype=np.int64),
            subjects=np.repeat(np.array([entry.person for entry in entries], dtype=np.int64), counts),
            recordings=np.repeat(np.arange(len(entries), dtype=np.int64), counts),
            label_names=shape.label_names,
            channels=shape.channels,
            sfreq=shape.sfreq,
            covariates=np.repeat(
                np.array([entry.covariates for entry in entries] or [(0,)], dtype=np.int64), counts or [0], axis=0
            ),
        )

    def _mapped(self, at: int, form: tuple[int, int, int]) -> _Rows:
        """Map windows for this process alone: torch wants to be able to write, and the file stays as it is."""
        try:
            return np.asarray(np.memmap(self.file, dtype="<f4", mode="c", offset=at, shape=form))
        except ValueError:  # the file is shorter
            raise RecordingError(WRONG) from None

    def _unseal(self, data: memoryview, entry: Entry) -> None:
        """Fill a buffer with the windows of an entry, in clear."""
        seal = Seal(self.key, self.index.salts[entry.part])
        at, done = entry.at, 0
        for number, size in enumerate(_sizes(len(data), self.index.shape), start=entry.number):
            block = self._read(at, size + seal.overhead)
            data[done : done + size] = seal.open(block, number=number, bound=b"windows")
            at, done = at + len(block), done + size

    def _read(self, at: int, size: int) -> bytes:
        data = os.pread(self.file.fileno(), size, at)
        while len(data) < size:
            more = os.pread(self.file.fileno(), size - len(data), at + len(data))
            if not more:
                raise RecordingError(WRONG)
            data += more
        return data


def open_store(file: BinaryIO, *, key: bytes | None = None, end: int | None = None) -> Store:
    """Open a store by its index, in a time that does not grow with its windows.

    Args:
        file: open for reading.
        key: the site's, where it is sealed.
        end: where the store ends; by default where the file does.

    Raises:
        RecordingError: it is no store, damaged, of another version, sealed and there is no key, or of another key.
    """
    end = os.fstat(file.fileno()).st_size if end is None else end
    head, tail = (
        os.pread(file.fileno(), _HEAD.size, 0),
        os.pread(file.fileno(), _TAIL.size, max(0, end - _TAIL.size)),
    )
    if len(head) < _HEAD.size or len(tail) < _TAIL.size:
        raise RecordingError(WRONG)
    magic, version, flags = _HEAD.unpack(head)
    if magic != _MAGIC:
        raise RecordingError(WRONG)
    if version != VERSION:
        raise RecordingError(f"a store of windows is of version {version}, and {VERSION} is known; ingest again")
    if bool(flags & _SEALED) != (key is not None):
        raise RecordingError(
            "a store of windows is sealed, and the site's rules name no key (windows_key)"
            if key is None
            else "the site's rules name a key (windows_key), and its store is not sealed; ingest again"
        )
    mark, at, size, part, check = _TAIL.unpack(tail)
    if mark != _MAGIC or at + size + _TAIL.size != end:
        raise RecordingError(WRONG)
    data = os.pread(file.fileno(), size, at)
    if check != checksum(key, head, _numbers(at, size, part), data):
        raise RecordingError(WRONG)
    if key is None:
        return Store(file, key, read_index(data), end)
    salt, number, sealed = data[:32], int.from_bytes(data[32:44], "big"), data[44:]
    return Store(file, key, read_index(Seal(key, salt).open(sealed, number=number, bound=b"index")), end)


class StoreWriter:
    """Writes a store, or one more append behind an old end; what was there is not touched.

    Windows get digests of the kind `digest`.

    Raises:
        OSError: the disk is full, or another fault of the system; the file up to its old end is as it was.
    """

    def __init__(
        self,
        path: Path,
        *,
        shape: StoreShape,
        key: bytes | None = None,
        after: Store | None = None,
        file: BinaryIO | None = None,
        digest: Callable[[], Digest] = hashlib.sha256,
    ) -> None:
        flags = os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC | (0 if after else os.O_CREAT | os.O_EXCL)
        self._file = file or os.fdopen(os.open(path, flags, 0o600), "r+b")
        self._path, self._key, self._seal, self._fresh_digest = path, key, Seal.fresh(key), digest
        before = after.index if after else Index(shape, (), ())
        self._index = Index(shape, (*before.salts, self._seal.salt), before.entries)
        self._start = after.end if after else 0
        self._file.truncate(self._start)
        self._file.seek(self._start)
        self._head = _HEAD.pack(_MAGIC, VERSION, 0 if key is None else _SEALED)
        if after is None:
            self._file.write(self._head)
        self._entries: list[Entry] = []
        self._facts: list[bytes] = []
        self._held = np.empty((_at_once(shape), len(shape.channels), shape.n_times), dtype="<f4")
        self._begin()

    def keep(self, window: _Rows) -> None:
        """Write a window of the recording that is being written, shape (channel, time)."""
        self._held[self._n_held] = window
        self._n_held += 1
        if self._n_held == len(self._held):
            self._flush()

    def end_recording(
        self, *, person: int, labels: NDArray[np.int64], facts: bytes = b"", covariates: tuple[int, ...] = (0,)
    ) -> None:
        """Note whose the windows were that were given since the last recording, their labels and covariates."""
        self._flush()
        entry = Entry(
            person=person,
            at=self._at,
            part=len(self._index.salts) - 1,
            number=self._number,
            labels=tuple(labels.tolist()),
            digest=self._digest.hexdigest(),
            facts_bytes=len(facts),
            covariates=covariates,
        )
        self._entries.append(entry)
        self._facts.append(facts)
        self._begin()

    def finish(self, *, people: list[int] | None = None, close: bool = True, sync: bool = True) -> int:
        """Write the index, have the disk take everything, and return where the store ends.

        Args:
            people: the number of each entry's person, earlier appends included, where these are others now.
            close: close the file as well.
            sync: wait until the disk has it; not for what can be made again.
        """
        entries = []
        for entry, facts in zip(self._entries, self._facts, strict=True):
            at, number = self._file.tell(), self._seal.count
            self._file.write(self._seal.close(facts, bound=b"facts"))
            digest = hashlib.sha256(facts).hexdigest()
            entries.append(replace(entry, facts_at=at, facts_number=number, facts_digest=digest))
        every = (*self._index.entries, *entries)
        if people is not None:
            every = tuple(replace(entry, person=person) for entry, person in zip(every, people, strict=True))
        data = Index(self._index.shape, self._index.salts, every).to_bytes()
        if self._key is not None:
            counted = self._seal.count.to_bytes(12, "big")
            data = self._seal.salt + counted + self._seal.close(data, bound=b"index")
        at = self._file.tell()
        part = len(self._index.salts)
        check = checksum(self._key, self._head, _numbers(at, len(data), part), data)
        self._file.write(data + _TAIL.pack(_MAGIC, at, len(data), part, check))
        end = self._file.tell()
        self._file.flush()
        if sync:
            os.fsync(self._file.fileno())
        if close:
            self._file.close()
        return end

    def abandon(self) -> None:
        """Cut off what was written since the old end."""
        with contextlib.suppress(OSError):
            self._file.close()  # writes what is held, or fails to
        with contextlib.suppress(OSError):
            os.truncate(self._path, self._start)

    def _begin(self) -> None:
        self._n_held = 0
        self._digest = self._fresh_digest()
        self._at, self._number = self._file.tell(), self._seal.count

    def _flush(self) -> None:
        if self._n_held:
            data = self._held[: self._n_held].reshape(-1).view(np.uint8).data
            self._digest.update(data)
            self._file.write(self._seal.close(data, bound=b"windows"))
            self._n_held = 0


def _hold(rows: _Rows, entry: Entry) -> None:
    """Hold the windows of an entry against their digest."""
    digest = of_kind(entry.digest)
    digest.update(rows.reshape(-1).view(np.uint8).data)
    if digest.hexdigest() != entry.digest:
        raise RecordingError(WRONG)


def _at_once(shape: StoreShape) -> int:
    return max(1, BLOCK_BYTES // shape.window_bytes)


def _sizes(total: int, shape: StoreShape) -> Iterator[int]:
    size = _at_once(shape) * shape.window_bytes
    for start in range(0, total, size):
        yield min(size, total - start)


def _numbers(at: int, size: int, part: int) -> bytes:
    return struct.pack("<QQQ", at, size, part)
