"""Sites: from a folder to the format of what lies in it, and to the folders below it that are hospitals.

A folder below is a hospital's only where something says so: a table of several people, a page of layout, a data
set that is known, or its name and recordings of several labels. Otherwise it may be a person's, and its name goes
nowhere.
"""

import os
import re
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from fedsynth.errors import RecordingError
from fedsynth.recording_plan import RecordingFormat
from fedsynth.recordings.folder import find_recordings, is_left_out
from fedsynth.recordings.layout import PAGE, Layout, layout_for
from fedsynth.recordings.participants import PARTICIPANTS, RECORDINGS
from fedsynth.recordings.readers.arrangement import site_files
from fedsynth.recordings.readers.registry import READERS
from fedsynth.recordings.survey.known import Known, recognise
from fedsynth.recordings.survey.labels import Place, letters_of, people_of_table

_LOOKED_AT = 5  # files of each suffix
_HEAD_BYTES = 4096
_TABLES = (
    "participants.tsv", "recordings.tsv", "dataset_description.json", PAGE,
    "REFERENCE.csv", "ptbxl_database.csv", "RECORDS",
)  # fmt: skip
_HOSPITAL = re.compile(r"(hospital|site|centre|center|clinic)s?[-_. ]?\w*", re.IGNORECASE)
_EVERYTHING = frozenset(suffix for reader in READERS.values() for suffix in reader.suffixes)


@dataclass(frozen=True)
class Found:
    """A hospital's folder, its layout, its recordings, and the data set that it is a copy of, if that is known."""

    name: str
    place: Place
    form: RecordingFormat
    layout: Layout | None
    known: Known | None


def sites_of(folder: Path, *, follow_links: bool) -> tuple[Found, ...]:
    """Return the hospitals whose recordings a folder holds: those below it, or the folder itself for one.

    Raises:
        RecordingError: no folder, no recordings, or what `find_recordings` refuses.
    """
    if not folder.is_dir():
        raise RecordingError(f"{folder} is not a folder; name the folder that holds the recordings")
    below = [
        path
        for path in sorted(folder.iterdir())
        if path.is_dir() and not path.name.startswith(".") and not is_left_out(path.name)
    ]
    held = [path for path in below if _any_recording(path)]
    alone = any((folder / name).is_file() for name in _TABLES) or not held or _any_recording(folder, deep=False)
    if not alone and all(_is_site(path, follow_links=follow_links) for path in held):
        return tuple(_found(path, follow_links=follow_links) for path in held)
    return (_found(folder, follow_links=follow_links),)


def format_of(folder: Path, *, follow_links: bool) -> RecordingFormat:
    """Return the format of most recordings of a folder, judged by names and first bytes.

    Raises:
        RecordingError: none that is known.
    """
    name = os.path.basename(os.path.abspath(folder))  # noqa: PTH100, PTH119  # "." has a name, too
    files = find_recordings(folder, suffixes=_EVERYTHING, site=name, follow_links=follow_links).files
    counts: Counter[RecordingFormat] = Counter()
    for form, reader in READERS.items():
        mine = [path for path in files if path.suffix.lower() in reader.suffixes]
        looks = [reader.looks_like(path, _head(path)) for path in mine[:_LOOKED_AT]]
        # A table of rows is one file with many recordings, and delimited text to whoever looks at its name alone.
        if looks and all(looks):
            counts[form] = len(mine) + (form == "rows")
    if not counts:
        raise RecordingError(
            f"{folder} holds no recordings of a format that is read here ({', '.join(sorted(_EVERYTHING))}); "
            "docs/recordings.md lists them, and says how a reader of your own is added"
        )
    return counts.most_common(1)[0][0]


def _found(folder: Path, *, follow_links: bool) -> Found:
    name = os.path.basename(os.path.abspath(folder))  # noqa: PTH100, PTH119
    layout = layout_for(folder, site=name, preset=None)
    form = (layout.format if layout is not None else None) or format_of(folder, follow_links=follow_links)
    if form not in READERS:
        raise RecordingError(
            f"{PAGE} names a reader of your own, whose headers are not known here; begin with an example of "
            "docs/study.md instead"
        )
    reader = READERS[form]
    follow = follow_links or (layout is not None and layout.follow_links)
    files = site_files(folder, reader, layout or Layout(), site=name, follow_links=follow).files
    known = recognise(folder, files, form=form) if layout is None else None
    if known is not None:
        layout = layout_for(folder, site=name, preset=known.name)
        files = site_files(folder, reader, layout or Layout(), site=name, follow_links=follow).files
    return Found(name, Place(folder, tuple(files), reader.stem_is_subject), form, layout, known)


def _is_site(folder: Path, *, follow_links: bool) -> bool:
    """Tell whether a folder below is a hospital's for sure."""
    if (folder / PAGE).is_file() or any(people_of_table(folder / name) > 1 for name in (PARTICIPANTS, RECORDINGS)):
        return True
    found = _found(folder, follow_links=follow_links)
    if found.known is not None and not found.known.anywhere:
        return True
    letters = {letters_of(path.stem) for path in found.place.files}
    return _HOSPITAL.fullmatch(folder.name) is not None and None not in letters and len(letters) > 1


def _any_recording(folder: Path, *, deep: bool = True) -> bool:
    """Tell whether files that may be recordings lie in a folder, or below it."""
    for path, _, names in os.walk(folder):
        for name in names:
            file = Path(path, name)
            forms = [form for form, reader in READERS.items() if file.suffix.lower() in reader.suffixes]
            if any(READERS[form].looks_like(file, _head(file)) for form in forms):
                return True
        if not deep:
            return False
    return False


def _head(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(_HEAD_BYTES)
    except OSError:
        return b""
