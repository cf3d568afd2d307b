"""Readers by the format that a study or a layout names; a new one is a file beside this one and a row.

A reader of somebody's own is an entry point of the group `fedsynth.readers`, in any package that is installed: its
value is a `Reader`, and a study names it as `reader:NAME`.
"""

from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import entry_points
from pathlib import Path

from fedsynth.errors import RecordingError
from fedsynth.recording_plan import RecordingFormat
from fedsynth.recordings.readers.brainvision import looks_like_brainvision, read_brainvision
from fedsynth.recordings.readers.delimited import (
    looks_like_delimited,
    looks_like_npz,
    looks_like_parquet,
    read_delimited,
    read_npz,
    read_parquet,
)
from fedsynth.recordings.readers.edf import looks_like_edf, read_edf
from fedsynth.recordings.readers.eeglab import looks_like_eeglab, read_eeglab
from fedsynth.recordings.readers.fif import looks_like_fif, read_fif
from fedsynth.recordings.readers.rows import looks_like_rows, parts_of_rows, read_rows
from fedsynth.recordings.readers.samples import Read
from fedsynth.recordings.readers.text import looks_like_text, read_text
from fedsynth.recordings.readers.wfdb import looks_like_wfdb, read_wfdb

ENTRY_POINTS = "fedsynth.readers"
_OWN = "reader:"


@dataclass(frozen=True)
class Reader:
    """How recordings of one format are found and read.

    `suffixes` are those of the file that stands for a recording, in lower case. `looks_like(path, head)` tells by a
    file's name and its first bytes whether it is of the format, and `read(path, request, notes)` gives the study's
    channels in pieces (`fedsynth.recordings.readers.samples.Read`). With `stem_is_subject` a file's name without
    its suffix names the person; otherwise its part up to the first "_" does (Brain Imaging Data Structure), and a
    person may have several files. `parts(path)` gives the recordings of a file that holds several, with the label
    of each; `request.part` then says which is read.
    """

    suffixes: tuple[str, ...]
    looks_like: Callable[[Path, bytes], bool]
    read: Read
    stem_is_subject: bool = False
    parts: Callable[[Path], dict[str, str]] | None = None


READERS: dict[RecordingFormat, Reader] = {
    "brainvision": Reader((".vhdr",), looks_like_brainvision, read_brainvision),
    "delimited": Reader((".csv",), looks_like_delimited, read_delimited),
    "edf": Reader((".edf", ".bdf"), looks_like_edf, read_edf),
    "eeglab": Reader((".set",), looks_like_eeglab, read_eeglab),
    "fif": Reader((".fif",), looks_like_fif, read_fif),
    "npz": Reader((".npz",), looks_like_npz, read_npz),
    "parquet": Reader((".parquet",), looks_like_parquet, read_parquet),
    "rows": Reader((".csv",), looks_like_rows, read_rows, parts=parts_of_rows),
    "text": Reader((".txt",), looks_like_text, read_text, stem_is_subject=True),
    "wfdb": Reader((".hea",), looks_like_wfdb, read_wfdb),
}


def reader_of(form: RecordingFormat) -> Reader:
    """Return the reader of a format, built in or of an entry point.

    Raises:
        RecordingError: no such entry point, or one that is not a reader.
    """
    if form in READERS:
        return READERS[form]
    name = form.removeprefix(_OWN)
    found = list(entry_points(group=ENTRY_POINTS, name=name))
    if len(found) != 1:
        raise RecordingError(
            f"{len(found)} packages bring a reader {name!r} (entry points of the group {ENTRY_POINTS!r}), and "
            "one is needed; install the package that does, or one of them alone"
        )
    reader = found[0].load()
    if not isinstance(reader, Reader):
        raise RecordingError(
            f"the entry point {name!r} of the group {ENTRY_POINTS!r} is no Reader; correct its package"
        )
    return reader
