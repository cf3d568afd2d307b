"""Known data sets: from the paths and first bytes of a folder's recordings to the preset that fits, if one does."""

import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

from fedsynth.recording_plan import Modality, RecordingFormat
from fedsynth.recordings.survey.headings import heading_of

_LOOKED_AT = 5  # headers
_HEADER_BYTES = 1 << 16


@dataclass(frozen=True)
class Known:
    """A public data set: how a folder of it is recognised, and what a study of it asks for (`known.toml`)."""

    name: str
    title: str
    format: RecordingFormat
    path: str
    modality: Modality
    n_times: int
    unit: str
    labels: Mapping[str, Any]
    channels: tuple[str, ...] = ()
    missing: str = "refuse"
    sfreq: float | None = None
    rate: float | None = None
    beside: str | None = None
    words: str | None = None
    range_uv: float | None = None
    per_recording: int | None = None
    anywhere: bool = False


@cache
def known_sets() -> tuple[Known, ...]:
    """Return the data sets that are recognised, in the order in which they are tried."""
    text = (resources.files("fedsynth.recordings.survey") / "known.toml").read_text(encoding="utf-8")
    return tuple(
        Known(name=name, **(body | {"channels": tuple(body.get("channels", ()))}))
        for name, body in tomllib.loads(text).items()
    )


def recognise(folder: Path, files: Sequence[Path], *, form: RecordingFormat) -> Known | None:
    """Return the data set that a folder is a copy of, or a part of one; None where it is none that is known.

    Args:
        folder: of recordings.
        files: its recordings.
        form: their format.

    Raises:
        RecordingError: a header that cannot be used.
        OSError: one that cannot be opened.
    """
    below = [path.relative_to(folder).with_suffix("").as_posix() for path in files]
    for known in known_sets():
        if known.format != form or not all(re.fullmatch(known.path, name) for name in below):
            continue
        if known.beside is not None and next(folder.glob(known.beside), None) is None:
            continue
        some = files[:_LOOKED_AT]
        if known.words is not None and not all(_says(path, known.words) for path in some):
            continue
        if known.rate is not None and any(heading_of(form, path).sfreq != known.rate for path in some):
            continue
        return known
    return None


def _says(path: Path, words: str) -> bool:
    with path.open("rb") as file:
        return re.search(words, file.read(_HEADER_BYTES).decode("latin-1")) is not None
