"""Readers by the format that a study names; a new one is a file beside this one and a row."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from fedsynth.recordings.readers.edf import read_edf
from fedsynth.recordings.readers.samples import Samples
from fedsynth.recordings.readers.text import read_text
from fedsynth.recordings.readers.wfdb import read_wfdb
from fedsynth.study import RecordingFormat, SignalPlan


@dataclass(frozen=True)
class Reader:
    """How recordings of one format are found and read.

    `suffixes` are those of the file that stands for a recording, in lower case. `read` returns the study's channels
    and the digest of all the data; it raises RecordingError, or OSError where a file cannot be opened. With
    `stem_is_subject` a file's name without its suffix names the person; otherwise its part up to the first "_" does
    (Brain Imaging Data Structure), and a person may have several files.
    """

    suffixes: tuple[str, ...]
    read: Callable[[Path, SignalPlan], Samples]
    stem_is_subject: bool = False


READERS: dict[RecordingFormat, Reader] = {
    "edf": Reader((".edf", ".bdf"), read_edf),
    "text": Reader((".txt",), read_text, stem_is_subject=True),
    "wfdb": Reader((".hea",), read_wfdb),
}
