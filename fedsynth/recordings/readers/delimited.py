"""Tables of samples: delimited text, NumPy's .npz and Parquet, with what they do not say in a sidecar.

Delimited text has a column for each channel and a line for each sample. Its first line names the channels, unless
all its cells are numbers; then the site's recordings.toml does (`columns`). The unit is the sidecar's or the site's
word, since no cell says it. A .npz file holds `signal`, shape (channel, time), and may hold `channels`, `sfreq` and
`unit`. A Parquet file has a column for each channel.
"""

import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fedsynth.errors import RecordingError
from fedsynth.recordings.folder import check_beside
from fedsynth.recordings.readers.arrays import open_array, read_arrays
from fedsynth.recordings.readers.parquet import parquet_batches, parquet_heading
from fedsynth.recordings.readers.samples import Notes, Piece, Request
from fedsynth.recordings.readers.tables import TableParser, blocks_of
from fedsynth.recordings.readers.tracks import Track, check_rate, choose_tracks

LARGEST_SIDECAR = 1 << 20  # bytes
AT_ONCE = 1 << 16  # samples of a channel


def looks_like_delimited(path: Path, head: bytes) -> bool:
    """Tell delimited text by its name and its first bytes."""
    return path.suffix.lower() == ".csv" and b"\0" not in head


def looks_like_npz(path: Path, head: bytes) -> bool:
    """Tell a .npz file by its name and its first bytes: it is a ZIP archive."""
    return path.suffix.lower() == ".npz" and head[:2] == b"PK"


def looks_like_parquet(path: Path, head: bytes) -> bool:  # noqa: ARG001
    """Tell a Parquet file by its first bytes."""
    return head[:4] == b"PAR1"


def read_delimited(path: Path, request: Request, notes: Notes) -> Iterator[Piece]:
    """Read the study's channels of delimited text.

    Raises:
        MissingChannelError: a channel of the study is missing.
        RecordingError: a line that is not as many numbers as there are columns, no names, or no unit.
        OSError: a file that cannot be opened.
    """
    parser, given = TableParser(), None
    for block in blocks_of(path):
        table = parser.take(block)
        if given is None and parser.width:
            columns = request.columns or _sidecar(path, request).get("channels") or parser.names
            if columns is None:
                raise RecordingError(
                    "its first line names no channels; name them (columns in the site's recordings.toml), or write "
                    "them there"
                )
            if len(columns) != parser.width:
                raise RecordingError(f"{len(columns)} channels are named, and a line has {parser.width} cells")
            given = _Given(path, request, list(columns), {})
        if given is not None and len(table):
            yield given.piece(table.T, notes)
    if given is None or not given.taken:
        raise RecordingError("the table is empty or holds no samples; export it again")


def read_npz(path: Path, request: Request, notes: Notes) -> Iterator[Piece]:
    """Read the study's channels of a .npz file; nothing in it is unpickled.

    Raises:
        As `read_delimited`.
    """
    with open_array(path, "signal") as signal:
        if signal is None or len(signal.shape) != 2 or signal.dtype.kind not in "iuf":
            raise RecordingError("it holds no array `signal` of numbers, shape (channel, time); save it again")
        given = _given_of_arrays(path, request, signal.shape[0])
        for start in range(0, signal.shape[1], AT_ONCE):
            yield given.piece(signal.columns(start, min(signal.shape[1], start + AT_ONCE)), notes)


def _given_of_arrays(path: Path, request: Request, n_channels: int) -> "_Given":
    """Read what stands beside the signal of a .npz file."""
    held = read_arrays(path, ("channels", "sfreq", "unit"))
    said: dict[str, Any] = {}
    if "sfreq" in held and held["sfreq"].size == 1 and held["sfreq"].dtype.kind in "iuf":
        said["sfreq"] = float(held["sfreq"].reshape(-1)[0])
    if "unit" in held and held["unit"].size == 1:
        said["unit"] = str(held["unit"].reshape(-1)[0])
    names = [str(name) for name in held["channels"].reshape(-1)] if "channels" in held else None
    columns = request.columns or _sidecar(path, request).get("channels") or names
    if columns is None or len(columns) != n_channels:
        raise RecordingError("its channels are not named, or not as many as it has rows; add `channels`")
    return _Given(path, request, list(columns), said)


def read_parquet(path: Path, request: Request, notes: Notes) -> Iterator[Piece]:
    """Read the study's channels of a Parquet file.

    Raises:
        As `read_delimited`.
    """
    given = _Given(path, request, list(request.columns or parquet_heading(path)), {})
    for batch in parquet_batches(path, rows=AT_ONCE):
        yield given.piece(batch, notes)
    if not given.taken:
        raise RecordingError("it holds no samples; write it again")


def names_of_table(path: Path) -> tuple[str, ...]:
    """Return the names of channels in the first line of delimited text, none where it holds numbers.

    Raises:
        OSError: a file that cannot be opened.
    """
    parser = TableParser()
    with path.open("rb") as file:
        first = file.readline(LARGEST_SIDECAR).replace(b"\0", b"?")
    try:
        parser.take(first.decode("utf-8-sig", errors="replace").encode())
    except RecordingError:
        return ()
    return tuple(parser.names or ())


def sidecar_of(path: Path) -> dict[str, Any]:
    """Read `channels`, `sfreq` and `unit` of the .json file beside a table, as far as they are there.

    Raises:
        RecordingError: a sidecar that cannot be used.
    """
    return _sidecar(path, Request((), 1.0))


class _Given:
    """What is the same for all pieces of a table; its rate and its unit are checked before the first."""

    def __init__(self, path: Path, request: Request, names: list[str], said: dict[str, Any]) -> None:
        beside = _sidecar(path, request)
        for key in said.keys() & beside.keys():
            if said[key] != beside[key]:
                raise RecordingError(f"it and its sidecar (.json) give another {key}; correct the wrong one")
        said = said | beside
        if "sfreq" in said:
            check_rate(float(said["sfreq"]), request)
        unit = request.unit or said.get("unit")
        tracks = [Track(name, str(unit or "").encode()) for name in names]
        self._chosen = choose_tracks(tracks, request)
        self._scale = tracks[self._chosen[0]].microvolts(request.unit)
        self._others = [index for index in range(len(names)) if index not in self._chosen]
        self._count = len(names)
        self.taken = 0

    def piece(self, values: NDArray[Any], notes: Notes) -> Piece:
        """Return a stretch of all columns, shape (channel, time), as a piece."""
        if len(values) != self._count:
            raise RecordingError(f"{self._count} channels are named, and it has {len(values)}; correct the names")
        self.taken += values.shape[1]
        notes.content.update(np.ascontiguousarray(values.T, dtype="<f8").tobytes())
        with np.errstate(over="ignore"):  # the gate refuses what becomes infinite
            signal = (values[list(self._chosen)].astype(np.float64) * self._scale).astype(np.float32)
        return Piece(signal, tuple(values[index] for index in (*self._chosen, *self._others)))


def _sidecar(path: Path, request: Request) -> dict[str, Any]:
    """Read `channels`, `sfreq` and `unit` of the .json file of the same name, if there is one."""
    beside = path.with_suffix(".json")
    if not beside.exists():
        return {}
    check_beside(beside, root=request.root)
    try:
        body = json.loads(beside.read_bytes()[:LARGEST_SIDECAR])
    except (ValueError, RecursionError):
        raise RecordingError("its sidecar (.json) cannot be read as JSON; write it again") from None
    if not isinstance(body, dict):
        raise RecordingError("its sidecar (.json) is not a table of keys; write it again")
    channels, sfreq, unit = body.get("channels"), body.get("sfreq"), body.get("unit")
    bad = (
        (channels is not None and not (isinstance(channels, list) and all(isinstance(x, str) for x in channels)))
        or (sfreq is not None and (not isinstance(sfreq, int | float) or not math.isfinite(sfreq)))
        or (unit is not None and not isinstance(unit, str))
    )
    if bad:
        raise RecordingError("its sidecar (.json) has a channels, sfreq or unit of another type; write it again")
    return {key: body[key] for key in ("channels", "sfreq", "unit") if body.get(key) is not None}
