"""Readers by the format that a study names; a new one is a file beside this one and a row."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from fedsynth.recordings.readers.edf import looks_like_edf, read_edf
from fedsynth.recordings.readers.samples import Read
from fedsynth.recordings.readers.text import looks_like_text, read_text
from fedsynth.recordings.readers.wfdb import looks_like_wfdb, read_wfdb
from fedsynth.study import RecordingFormat


@dataclass(frozen=True)
class Reader:
    """How recordings of one format are found and read.

    `suffixes` are those of the file that stands for a recording, in lower case. `looks_like(path, head)` tells by a
    file's name and its first bytes whether it is of the format, and `read(path, request, notes)` gives the study's
    channels in pieces (`fedsynth.recordings.readers.samples.Read`). With `stem_is_subject` a file's name without
    its suffix names the person; otherwise its part up to the first "_" does (Brain Imaging Data Structure), and a
    person may have several files.
    """

    suffixes: tuple[str, ...]
    looks_like: Callable[[Path, bytes], bool]
    read: Read
    stem_is_subject: bool = False


READERS: dict[RecordingFormat, Reader] = {
    "edf": Reader((".edf", ".bdf"), looks_like_edf, read_edf),
    "text": Reader((".txt",), looks_like_text, read_text, stem_is_subject=True),
    "wfdb": Reader((".hea",), looks_like_wfdb, read_wfdb),
}
