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
from fedsynth.recordings.lines import lines_of
from fedsynth.recordings.readers.arrays import read_arrays
from fedsynth.recordings.readers.parquet import parquet_columns
from fedsynth.recordings.readers.samples import Notes, Piece, Request, whole
from fedsynth.recordings.readers.tracks import Track, check_rate, choose_tracks

LARGEST_SIDECAR = 1 << 20  # bytes
_DELIMITERS = ("\t", ";", ",", None)


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
    names, table = parse_table(path.read_bytes())
    columns = request.columns or _sidecar(path, request).get("channels") or names
    if columns is None:
        raise RecordingError(
            "its first line names no channels; name them (columns in the site's recordings.toml), or write them "
            "there"
        )
    if len(columns) != table.shape[1]:
        raise RecordingError(f"{len(columns)} channels are named, and a line has {table.shape[1]} cells")
    return _given(path, request, notes, list(columns), table.T, {})


def read_npz(path: Path, request: Request, notes: Notes) -> Iterator[Piece]:
    """Read the study's channels of a .npz file; nothing in it is unpickled.

    Raises:
        As `read_delimited`.
    """
    held = read_arrays(path, ("signal", "channels", "sfreq", "unit"))
    signal = held.get("signal")
    if signal is None or signal.ndim != 2 or signal.dtype.kind not in "iuf":
        raise RecordingError("it holds no array `signal` of numbers, shape (channel, time); save it again")
    said: dict[str, Any] = {}
    if "sfreq" in held and held["sfreq"].size == 1 and held["sfreq"].dtype.kind in "iuf":
        said["sfreq"] = float(held["sfreq"].reshape(-1)[0])
    if "unit" in held and held["unit"].size == 1:
        said["unit"] = str(held["unit"].reshape(-1)[0])
    names = [str(name) for name in held["channels"].reshape(-1)] if "channels" in held else None
    columns = request.columns or _sidecar(path, request).get("channels") or names
    if columns is None or len(columns) != len(signal):
        raise RecordingError("its channels are not named, or not as many as it has rows; add `channels`")
    return _given(path, request, notes, list(columns), signal, said)


def read_parquet(path: Path, request: Request, notes: Notes) -> Iterator[Piece]:
    """Read the study's channels of a Parquet file.

    Raises:
        As `read_delimited`.
    """
    names, signal = parquet_columns(path)
    return _given(path, request, notes, list(request.columns) or names, signal, {})


def parse_table(data: bytes) -> tuple[list[str] | None, NDArray[np.float64]]:
    """Read delimited text: the names of its first line, None where that holds numbers, and a row for each sample.

    Raises:
        RecordingError: empty, binary, not UTF-8, or lines that are not as many finite numbers as the first has
        cells.

    >>> parse_table(b"C3;C4\\n1,5;2\\n3;4\\n")
    (['C3', 'C4'], array([[1.5, 2. ],
           [3. , 4. ]]))
    """
    try:
        lines = [line for line in lines_of(data.decode("utf-8-sig")) if line.strip()]
    except UnicodeDecodeError:
        raise RecordingError("it is not text in UTF-8; export it again") from None
    if not lines or b"\0" in data:
        raise RecordingError("the table is empty or binary; export it again")
    delimiter = next((one for one in _DELIMITERS if one is None or one in lines[0]), None)
    comma = delimiter in (";", "\t")  # a decimal comma is one only where commas do not part cells
    head = [cell.strip().strip('"') for cell in lines[0].split(delimiter)]
    named = any(_float(cell, comma) is None for cell in head)
    rows = []
    for number, line in enumerate(lines[named:], start=1 + named):
        cells = [_float(cell, comma) for cell in line.split(delimiter)]
        if len(cells) != len(head) or None in cells:
            raise RecordingError(
                f"line {number} of the table is not {len(head)} finite numbers, as the first line has cells; "
                "export it again"
            )
        rows.append(cells)
    if not rows:
        raise RecordingError("the table holds no samples; export it again")
    return head if named else None, np.array(rows, dtype=np.float64)


def names_of_table(path: Path) -> tuple[str, ...]:
    """Return the names of channels in the first line of delimited text, none where it holds numbers.

    Raises:
        OSError: a file that cannot be opened.
    """
    with path.open("rb") as file:
        first = file.readline(LARGEST_SIDECAR).decode("utf-8-sig", errors="replace").rstrip("\r\n")
    delimiter = next((one for one in _DELIMITERS if one is None or one in first), None)
    head = tuple(cell.strip().strip('"') for cell in first.split(delimiter))
    return head if any(_float(cell, delimiter in (";", "\t")) is None for cell in head) else ()


def sidecar_of(path: Path) -> dict[str, Any]:
    """Read `channels`, `sfreq` and `unit` of the .json file beside a table, as far as they are there.

    Raises:
        RecordingError: a sidecar that cannot be used.
    """
    return _sidecar(path, Request((), 1.0))


def _given(
    path: Path, request: Request, notes: Notes, names: list[str], values: NDArray[Any], said: dict[str, Any]
) -> Iterator[Piece]:
    """Give a table as one piece, after its rate and unit were found and checked."""
    beside = _sidecar(path, request)
    for key in said.keys() & beside.keys():
        if said[key] != beside[key]:
            raise RecordingError(f"it and its sidecar (.json) give another {key}; correct the wrong one")
    said = said | beside
    if "sfreq" in said:
        check_rate(float(said["sfreq"]), request)
    unit = request.unit or said.get("unit")
    tracks = [Track(name, str(unit or "").encode()) for name in names]
    chosen = choose_tracks(tracks, request)
    notes.content.update(np.ascontiguousarray(values, dtype="<f8").tobytes())
    scale = tracks[chosen[0]].microvolts(request.unit)
    with np.errstate(over="ignore"):
        signal = (values[list(chosen)].astype(np.float64) * scale).astype(np.float32)
    others = [values[index] for index in range(len(values)) if index not in chosen]
    return whole(signal, (*(values[index] for index in chosen), *others))


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


def _float(cell: str, comma: bool) -> float | None:
    text = cell.strip().strip('"')
    if "_" in text or len(text) > 40:
        return None
    try:
        value = float(text.replace(",", ".") if comma else text)
    except ValueError:
        return None
    return value if math.isfinite(value) else None
