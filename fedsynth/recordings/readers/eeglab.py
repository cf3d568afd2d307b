"""EEGLAB: a .set file, with its samples in it or in the .fdt file beside it, to microvolts and marks, in pieces.

Of the variable EEG are taken: the numbers of channels, samples and trials, the rate, the labels of channels, the
events and the samples, which are microvolts by convention. Subject, comments and history stay behind.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fedsynth.errors import RecordingError
from fedsynth.recordings.folder import check_beside
from fedsynth.recordings.readers.matlab import Value, read_variables
from fedsynth.recordings.readers.samples import Notes, Piece, Request
from fedsynth.recordings.readers.tracks import Track, check_rate, choose_tracks
from fedsynth.recordings.recording import Gap, Mark

PIECE_SAMPLES = 1 << 20  # in all channels together
_BOUNDARY = "boundary"
"""The type of events where EEGLAB joined two stretches that did not follow one another."""


def looks_like_eeglab(path: Path, head: bytes) -> bool:
    """Tell an EEGLAB file by its name and MATLAB's first words."""
    return path.suffix.lower() == ".set" and head.startswith(b"MATLAB")


def read_eeglab(path: Path, request: Request, notes: Notes) -> Iterator[Piece]:
    """Read the study's channels of a continuous recording.

    Raises:
        MissingChannelError: a channel of the study is missing.
        RecordingError: whatever else the file leaves in doubt.
        OSError: a file that cannot be opened.
    """
    body = _body(path)
    sfreq, n_times, tracks = _described(body)
    check_rate(sfreq, request)
    notes.sfreq = sfreq
    chosen = choose_tracks(tracks, request)
    frames = _frames(path, body.get("data"), len(tracks), n_times, request)
    _note_events(body.get("event"), notes, n_times=n_times)
    rows = [*chosen, *(index for index in range(len(tracks)) if index not in chosen)]
    scale = tracks[chosen[0]].microvolts(request.unit)
    at_once = max(1, PIECE_SAMPLES // len(tracks))
    for start in range(0, n_times, at_once):
        values = np.ascontiguousarray(frames[start : start + at_once].T)[rows]
        notes.content.update(values.tobytes())
        with np.errstate(over="ignore"):  # the gate refuses what becomes infinite
            signal = (values[: len(chosen)].astype(np.float64) * scale).astype(np.float32)
        yield Piece(signal, tuple(values))


def eeglab_heading(path: Path) -> tuple[float, tuple[str, ...], int]:
    """Return the rate in Hz, the labels of channels, and the number of samples.

    Raises:
        RecordingError: a file that cannot be read.
        OSError: a file that cannot be opened.
    """
    sfreq, n_times, tracks = _described(_body(path))
    return sfreq, tuple(track.label for track in tracks), n_times


def _body(path: Path) -> dict[str, Value]:
    """Return what is saved as the variable EEG, or as its fields."""
    held = read_variables(path)
    body = _one(held.get("EEG")) if "EEG" in held else held
    if body is None:
        raise RecordingError("it holds no recording of EEGLAB; save it again")
    return body


def _described(body: dict[str, Value]) -> tuple[float, int, list[Track]]:
    """Return rate, number of samples and channels."""
    sfreq, count, n_times = (_number(body.get(key), key) for key in ("srate", "nbchan", "pnts"))
    if _number(body.get("trials", np.ones(1)), "trials") > 1:
        raise RecordingError("it is cut into trials; save the continuous recording")
    if count != int(count) or n_times != int(n_times) or not (1 <= count <= 10_000 and 1 <= n_times < 1e12):
        raise RecordingError("its number of channels or of samples is not usable; save it again")
    return sfreq, int(n_times), _tracks(body.get("chanlocs"), int(count))


def _frames(path: Path, data: Value, count: int, n_times: int, request: Request) -> NDArray[Any]:
    """Return all samples, shape (time, channel)."""
    if isinstance(data, str):
        if not data.lower().endswith((".fdt", ".dat")):
            raise RecordingError("its samples are neither in it nor in a .fdt file; save it again")
        beside = path.with_suffix(".fdt")
        check_beside(beside, root=request.root)
        if beside.stat().st_size != 4 * count * n_times:
            raise RecordingError(
                f"its .fdt file does not hold {n_times} samples of {count} channels, so it was cut short or is of "
                "another file; copy it again"
            )
        return np.memmap(beside, dtype="<f4", mode="r", shape=(n_times, count))
    if not isinstance(data, np.ndarray) or data.shape != (count, n_times):
        raise RecordingError(f"it does not hold {n_times} samples of {count} channels; save it again")
    return np.asarray(data.T)


def _tracks(locations: Value, count: int) -> list[Track]:
    labels = [one.get("labels") for one in locations] if isinstance(locations, list) else []
    if len(labels) != count or not all(isinstance(label, str) for label in labels):
        raise RecordingError("its channels are not named, or not as many as it announces; add chanlocs")
    return [Track(label, b"uV") for label in labels]


def _note_events(events: Value, notes: Notes, *, n_times: int) -> None:
    for event in events if isinstance(events, list) else []:
        start = _number(event.get("latency"), "a latency") - 1
        length = event.get("duration")
        size = _number(length, "a duration") if isinstance(length, np.ndarray) and length.size else 0.0
        if not abs(start) < 1e15 or not 0 <= size < 1e15:
            raise RecordingError("an event has no usable latency or duration; save it again")
        kind = event.get("type")
        text = kind if isinstance(kind, str) else f"{_number(kind, 'the type of an event'):g}"
        if text == _BOUNDARY:
            # What was cut out is gone from the samples and from the times of all events.
            place = int(np.ceil(start))
            if 0 < place < n_times and Gap(place, 0) not in notes.gaps:
                notes.gaps.append(Gap(place, 0))
            continue
        notes.marks.append(Mark(round(start), round(size), text))
    notes.gaps.sort(key=lambda gap: gap.start)


def _one(value: Value) -> dict[str, Value] | None:
    return value[0] if isinstance(value, list) and len(value) == 1 and isinstance(value[0], dict) else None


def _number(value: Value, what: str) -> float:
    number = (
        np.asarray(value, dtype=np.float64).reshape(-1) if isinstance(value, np.ndarray | float) else np.empty(0)
    )
    if len(number) != 1 or not np.isfinite(number[0]):
        raise RecordingError(f"{what} is no finite number; save it again")
    return float(number[0])
