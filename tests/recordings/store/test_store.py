"""A store gives back what was put in, person by person; whatever was changed in it is refused."""

import hashlib
import os
import subprocess
import sys
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import pytest

from fedsynth.errors import RecordingError
from fedsynth.recordings.store.digests import Crc32, Digest
from fedsynth.recordings.store.file import Store, StoreWriter, open_store
from fedsynth.recordings.store.index import StoreShape
from fedsynth.recordings.store.seal import Seal

SHAPE = StoreShape(("C3", "C4"), 64, 128.0, ("rest", "task"))
KEY = bytes(range(32))
keys = pytest.mark.parametrize("key", [None, KEY], ids=["in the clear", "sealed"])


def windows_of_recording(number: int, *, count: int = 3) -> np.ndarray:
    return np.random.default_rng(number).normal(0, 30, (count, 2, 64)).astype(np.float32)


def write(
    path: Path,
    people: list[int],
    *,
    key: bytes | None = None,
    after: Store | None = None,
    first: int = 0,
    digest: Callable[[], Digest] = hashlib.sha256,
) -> int:
    writer = StoreWriter(path, shape=SHAPE, key=key, after=after, digest=digest)
    for number, person in enumerate(people, start=first):
        for window in windows_of_recording(number):
            writer.keep(window)
        writer.end_recording(person=person, labels=np.array([0, 1, 1]), facts=b"fact %d" % number)
    return writer.finish()


def opened(path: Path, key: bytes | None = None) -> Store:
    return open_store(path.open("rb"), key=key)


def watched_reads(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int]]:
    """Return the list to which what is read or mapped of a file adds (where, how many bytes)."""
    reads: list[tuple[int, int]] = []
    pread, memmap = os.pread, np.memmap

    def one(file: int, size: int, at: int) -> bytes:
        reads.append((at, size))
        return pread(file, size, at)

    def mapped(file: BinaryIO, *, offset: int, **named: Any) -> np.memmap:
        found = memmap(file, offset=offset, **named)
        reads.append((offset, found.nbytes))
        return found

    monkeypatch.setattr(os, "pread", one)
    monkeypatch.setattr(np, "memmap", mapped)
    return reads


@keys
def test_a_store_gives_back_what_was_put_in(tmp_path: Path, key: bytes | None) -> None:
    write(tmp_path / "a", [0, 0, 1], key=key)

    store = opened(tmp_path / "a", key)
    windows = store.windows()

    store.check()
    np.testing.assert_array_equal(windows.signal, np.concatenate([windows_of_recording(n) for n in range(3)]))
    assert windows.labels.tolist() == [0, 1, 1] * 3
    assert windows.subjects.tolist() == [0] * 6 + [1] * 3
    assert windows.recordings.tolist() == [0] * 3 + [1] * 3 + [2] * 3
    assert [store.facts(entry) for entry in store.index.entries] == [b"fact 0", b"fact 1", b"fact 2"]


def test_windows_in_the_clear_are_mapped_and_not_read(tmp_path: Path) -> None:
    write(tmp_path / "a", [0, 1])
    store = opened(tmp_path / "a")

    for signal in (store.windows().signal, store.rows(store.index.entries[1])):
        assert isinstance(signal.base, np.memmap)
    signal[:] = 0  # in memory alone
    store.check()


def test_a_store_that_was_cut_while_it_was_open_is_refused(tmp_path: Path) -> None:
    write(tmp_path / "a", [0, 1])
    store = opened(tmp_path / "a")
    os.truncate(tmp_path / "a", store.index.entries[1].at + 4)

    for give in (store.windows, lambda: store.rows(store.index.entries[1])):
        with pytest.raises(RecordingError, match="damaged"):
            give()


@keys
def test_a_month_is_appended_and_nothing_is_rewritten(tmp_path: Path, key: bytes | None) -> None:
    end = write(tmp_path / "a", [0, 1], key=key)
    before = (tmp_path / "a").read_bytes()

    write(tmp_path / "a", [1, 2], key=key, after=opened(tmp_path / "a", key), first=2)

    store = opened(tmp_path / "a", key)
    assert (tmp_path / "a").read_bytes()[:end] == before
    assert (
        np.concatenate(list(store.of_person(1))).tolist()
        == np.concatenate([windows_of_recording(1), windows_of_recording(2)]).tolist()
    )
    assert store.windows().signal.shape == (12, 2, 64)


@keys
def test_an_append_that_is_abandoned_leaves_the_bytes_as_they_were(tmp_path: Path, key: bytes | None) -> None:
    write(tmp_path / "a", [0], key=key)
    before = (tmp_path / "a").read_bytes()
    writer = StoreWriter(tmp_path / "a", shape=SHAPE, key=key, after=opened(tmp_path / "a", key))
    for _ in range(100):
        writer.keep(windows_of_recording(7)[0])

    writer.abandon()

    assert (tmp_path / "a").read_bytes() == before


@keys
def test_what_an_append_left_that_was_killed_does_not_count(tmp_path: Path, key: bytes | None) -> None:
    end = write(tmp_path / "a", [0], key=key)
    with (tmp_path / "a").open("ab") as file:
        file.write(b"half of a window")

    with pytest.raises(RecordingError, match="damaged"):
        opened(tmp_path / "a", key)
    store = open_store((tmp_path / "a").open("rb"), key=key, end=end)
    store.check()
    write(tmp_path / "a", [1], key=key, after=store, first=1)
    opened(tmp_path / "a", key).check()


@pytest.mark.parametrize(
    ("key", "digest"),
    [
        pytest.param(None, hashlib.sha256, id="in the clear"),
        pytest.param(KEY, hashlib.sha256, id="sealed"),
        pytest.param(None, Crc32, id="a part, in the clear"),
        pytest.param(KEY, Crc32, id="a part, sealed"),
    ],
)
def test_every_byte_that_is_changed_is_noticed(
    tmp_path: Path, key: bytes | None, digest: Callable[[], Digest]
) -> None:
    write(tmp_path / "a", [0, 1], key=key, digest=digest)
    opened(tmp_path / "a", key).check()
    data = (tmp_path / "a").read_bytes()

    for place in [*range(0, len(data), 97), *range(64 + 2 * 1536, len(data), 11)]:
        changed = bytearray(data)
        changed[place] ^= 1
        (tmp_path / "b").write_bytes(changed)
        with pytest.raises(RecordingError):
            opened(tmp_path / "b", key).check()


def test_what_is_kept_has_cryptographic_digests_and_parts_checksums(tmp_path: Path) -> None:
    write(tmp_path / "kept", [0])
    write(tmp_path / "part", [0], digest=Crc32)
    data = windows_of_recording(0).tobytes()

    assert opened(tmp_path / "kept").index.entries[0].digest == hashlib.sha256(data).hexdigest()
    assert opened(tmp_path / "part").index.entries[0].digest == f"{zlib.crc32(data):08x}"
    opened(tmp_path / "part").windows()


def test_a_full_disk_leaves_the_store_as_it_was(tmp_path: Path) -> None:
    """The kernel refuses to let the file grow, as on a full disk, in the middle of an append."""
    write(tmp_path / "a", [0])
    before = (tmp_path / "a").read_bytes()
    code = f"""
import resource, signal, numpy as np
from pathlib import Path
from fedsynth.recordings.store.file import StoreWriter, open_store
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, ({len(before)} + 300_000, resource.RLIM_INFINITY))
path = Path({str(tmp_path / "a")!r})
store = open_store(path.open("rb"))
writer = StoreWriter(path, shape=store.index.shape, after=store)
try:
    for _ in range(10_000):
        writer.keep(np.zeros((2, 64), np.float32))
    writer.end_recording(person=0, labels=np.zeros(10_000, np.int64))
    writer.finish()
except OSError:
    writer.abandon()
    print("full")
"""
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout

    assert said == "full\n"
    assert (tmp_path / "a").read_bytes() == before


def test_nothing_of_a_sealed_store_is_in_the_clear(tmp_path: Path) -> None:
    write(tmp_path / "a", [0, 1], key=KEY)
    write(tmp_path / "b", [0, 1])
    sealed, clear = ((tmp_path / name).read_bytes() for name in "ab")

    # Long enough that chance does not put them among random bytes.
    for told in (windows_of_recording(0)[0, 0, :4].tobytes(), b"fact", b'"C3"', b"task"):
        assert told in clear
        assert told not in sealed


@pytest.mark.parametrize(
    ("written", "asked", "said"),
    [
        pytest.param(KEY, None, "is sealed", id="no key"),
        pytest.param(None, KEY, "is not sealed", id="a key for nothing"),
        pytest.param(KEY, bytes(32), "not its key", id="another key"),
    ],
)
def test_a_store_opens_under_its_own_key_alone(
    tmp_path: Path, written: bytes | None, asked: bytes | None, said: str
) -> None:
    write(tmp_path / "a", [0], key=written)

    with pytest.raises(RecordingError, match=said):
        opened(tmp_path / "a", asked)


def test_no_nonce_is_used_twice_under_one_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where an append is abandoned and done again: each has a salt, hence a key, of its own."""
    used: list[tuple[bytes, int]] = []
    close = Seal.close

    def noted(self: Seal, block: bytes, *, bound: bytes) -> bytes:
        used.append((self.salt, self.count))
        return close(self, block, bound=bound)

    monkeypatch.setattr(Seal, "close", noted)
    write(tmp_path / "a", [0, 1, 2], key=KEY)
    store = opened(tmp_path / "a", KEY)
    for _ in range(2):
        writer = StoreWriter(tmp_path / "a", shape=SHAPE, key=KEY, after=store)
        writer.keep(windows_of_recording(1)[0])
        writer.end_recording(person=0, labels=np.array([0]))
        writer.abandon()
    write(tmp_path / "a", [3], key=KEY, after=store)

    assert len(used) == len(set(used)) > 8


def test_a_store_of_many_people_opens_at_once_and_draws_one_without_a_scan(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    writer = StoreWriter(tmp_path / "a", shape=SHAPE)
    for person in range(5000):
        for window in windows_of_recording(0):
            writer.keep(window)
        writer.end_recording(person=person, labels=np.array([0, 1, 1]))
    writer.finish()

    reads = watched_reads(monkeypatch)

    store = opened(tmp_path / "a")
    [entry] = [one for one in store.index.entries if one.person == 4321]
    opening, windows_end = list(reads), max(one.at for one in store.index.entries)
    reads.clear()
    [rows] = store.of_person(4321)

    assert not [at for at, _ in opening if 0 < at < windows_end]
    assert reads == [(entry.at, rows.nbytes)]
    np.testing.assert_array_equal(rows, windows_of_recording(0))


def test_a_store_is_for_its_owner_alone(tmp_path: Path) -> None:
    write(tmp_path / "a", [0])

    assert (tmp_path / "a").stat().st_mode & 0o777 == 0o600
