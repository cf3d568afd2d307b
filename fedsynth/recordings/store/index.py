"""The index of a store: which windows lie where, whose they are and their labels; to bytes and back."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any

from fedsynth.errors import RecordingError
from fedsynth.recordings.store.seal import WRONG


@dataclass(frozen=True)
class StoreShape:
    """What all windows of a store have in common: channels, samples, rate in Hz, and the names of labels."""

    channels: tuple[str, ...]
    n_times: int
    sfreq: float
    label_names: tuple[str, ...]

    @property
    def window_bytes(self) -> int:
        """Bytes of a window: float32."""
        return 4 * len(self.channels) * self.n_times


@dataclass(frozen=True)
class Entry:
    """The windows of one recording.

    `person` numbers people from 0. The windows begin at byte `at`, in blocks closed by the seal of append `part`,
    numbered from `number`. `labels` are those of the windows in their order. `digest` is that of the windows in
    clear (`fedsynth.recordings.store.digests`). Facts are bytes of the site's own, `facts_bytes` of them in clear.
    `covariates` are the recording's stratum and, of each statement, 0 or 1.
    """

    person: int
    at: int
    part: int
    number: int
    labels: tuple[int, ...] = field(repr=False)
    digest: str = field(repr=False)
    facts_at: int = 0
    facts_bytes: int = 0
    facts_number: int = 0
    facts_digest: str = field(default="", repr=False)
    covariates: tuple[int, ...] = field(default=(0,), repr=False)


@dataclass(frozen=True)
class Index:
    """Everything that is known without opening windows; `salts` are those of each append."""

    shape: StoreShape
    salts: tuple[bytes, ...]
    entries: tuple[Entry, ...]

    @property
    def n_windows(self) -> int:
        """Windows in all."""
        return sum(len(entry.labels) for entry in self.entries)

    def to_bytes(self) -> bytes:
        """Write it."""
        shape = self.shape
        body = {
            "shape": [list(shape.channels), shape.n_times, shape.sfreq, list(shape.label_names)],
            "salts": [salt.hex() for salt in self.salts],
            "entries": [[getattr(entry, one.name) for one in fields(entry)] for entry in self.entries],
        }
        return json.dumps(body, separators=(",", ":")).encode("utf-8")


def read_index(data: bytes) -> Index:
    """Read what `Index.to_bytes` wrote.

    Raises:
        RecordingError: it is damaged.
    """
    try:
        body: dict[str, Any] = json.loads(data)
        channels, n_times, sfreq, names = body["shape"]
        return Index(
            StoreShape(tuple(channels), int(n_times), float(sfreq), tuple(names)),
            tuple(bytes.fromhex(salt) for salt in body["salts"]),
            tuple(_entry(row) for row in body["entries"]),
        )
    except (ValueError, KeyError, TypeError) as error:
        raise RecordingError(WRONG) from error


def _entry(row: Sequence[Any]) -> Entry:
    person, at, part, number, labels, *others = row
    entry = Entry(person, at, part, number, tuple(labels), *others)
    return replace(entry, covariates=tuple(entry.covariates))
