"""FIF files to microvolts and marks, in pieces; recordings' only door to MNE.

Of what MNE-Python reads, the names of channels, the rate, the samples and the annotations are taken; the subject,
the date and every free text stay behind.
"""

import re
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from fedsynth.errors import RecordingError
from fedsynth.extras import explained
from fedsynth.recordings.readers.samples import Notes, Piece, Request
from fedsynth.recordings.readers.tags import check_fif
from fedsynth.recordings.readers.tracks import Track, check_rate, choose_tracks
from fedsynth.recordings.recording import Gap, Mark
from fedsynth.recordings.units import MICROVOLTS, VOLTS

PIECE_SAMPLES = 1 << 20  # in all channels together
_FIFF_UNIT_V = 107
_BOUNDARY = re.compile(r"(?i)^(bad |edge )?boundary$")
"""Where MNE-Python joined two stretches that did not follow one another."""


def looks_like_fif(path: Path, head: bytes) -> bool:
    """Tell a FIF file by its first tag, the file's id."""
    return path.suffix.lower() == ".fif" or head[:4] == b"\0\0\0\x64"


def read_fif(path: Path, request: Request, notes: Notes) -> Iterator[Piece]:
    """Read the study's channels of a raw FIF file.

    Raises:
        MissingPackageError: MNE-Python is not installed.
        MissingChannelError: a channel of the study is missing.
        RecordingError: a file that cannot be read, or whatever it leaves in doubt.
        OSError: a file that cannot be opened.
    """
    check_fif(path)
    raw = _opened(path)
    check_rate(float(raw.info["sfreq"]), request)
    tracks = [Track(str(one["ch_name"]), _unit(one)) for one in raw.info["chs"]]
    chosen = choose_tracks(tracks, request)
    sfreq, first = float(raw.info["sfreq"]), float(raw.first_time)
    notes.sfreq = sfreq
    for each in raw.annotations:
        start, text = round((float(each["onset"]) - first) * sfreq), str(each["description"])
        if _BOUNDARY.search(text):
            # What was cut out is gone from the samples and from the times of all annotations.
            if 0 < start < int(raw.n_times) and Gap(start, 0) not in notes.gaps:
                notes.gaps.append(Gap(start, 0))
            continue
        notes.marks.append(Mark(start, round(float(each["duration"]) * sfreq), text))
    notes.gaps.sort(key=lambda gap: gap.start)
    voltages = [index for index, track in enumerate(tracks) if index not in chosen and track.unit in VOLTS]
    rows = [*chosen, *voltages]
    # The numbers are volts by MNE's word; another word of the site's is about the numbers in the file.
    scale = 1e6 if request.unit is None else MICROVOLTS[request.unit]
    at_once = max(1, PIECE_SAMPLES // len(rows))
    for start in range(0, int(raw.n_times), at_once):
        try:
            values = raw.get_data(
                picks=rows, start=start, stop=min(start + at_once, int(raw.n_times)), verbose="ERROR"
            )
        except Exception as error:  # noqa: BLE001  # parsers of other people's files raise what they like
            raise _refusal(error) from None
        notes.content.update(np.ascontiguousarray(values, dtype="<f8").tobytes())
        with np.errstate(over="ignore"):
            signal = (values[: len(chosen)] * scale).astype(np.float32)
        yield Piece(signal, tuple(values))


def fif_heading(path: Path) -> tuple[float, tuple[str, ...], int]:
    """Return the rate in Hz, the labels of channels in volts, and the number of samples, by the header alone.

    Raises:
        MissingPackageError: MNE-Python is not installed.
        RecordingError: a file that cannot be read.
        OSError: a file that cannot be opened.
    """
    check_fif(path)
    raw = _opened(path)
    labels = tuple(str(one["ch_name"]) for one in raw.info["chs"] if _unit(one) in VOLTS)
    return float(raw.info["sfreq"]), labels, int(raw.n_times)


def _opened(path: Path) -> Any:
    with explained():
        import mne  # imported here: a study of other files does not pay for it
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return mne.io.read_raw_fif(path, preload=False, on_split_missing="raise", verbose="ERROR")
    except OSError:
        raise
    except Exception as error:  # noqa: BLE001
        raise _refusal(error) from None


def _refusal(error: Exception) -> RecordingError:
    if isinstance(error, MemoryError):
        return RecordingError(
            "it asks for more memory than there is, so it is damaged, or too long; export it as EDF"
        )
    return RecordingError(f"it cannot be decoded ({type(error).__name__}); it may be cut short, so export it again")


def _unit(channel: Any) -> bytes:
    plain = int(channel["unit"]) == _FIFF_UNIT_V and int(channel.get("unit_mul", 0)) == 0
    return b"V" if plain else b"another"
