"""Sources: whether a recording and all that was said of it are still what they were, without opening it."""

import hashlib
import json
import secrets
from collections.abc import Iterator
from pathlib import Path

from fedsynth.recordings.identity import Token
from fedsynth.recordings.participants import Entry
from fedsynth.recordings.readers.arrangement import Arrangement, Place

VERSION = 2
"""Of the way from recordings to windows: with another one everything is read again."""
_ALONE = ("edf", "fif", "npz", "parquet", "rows", "text", "delimited")
"""Formats of which a recording lies in files that begin with its own name."""


def source_of(there: Arrangement, place: Place, entry: Entry, *, token: Token) -> str:
    """Return a token of everything that a recording's windows depend on: files, tables, study, page and options.

    Files count by name, size, and the times at which they and their entry in the file system were last changed.
    Where a header may name files of other names, or annotations lie in such, all files of the folder count.
    """
    study, request = there.study, there.request
    pages = [page.model_dump(mode="json") for page in (study.signal, study.windows, study.labels)]
    try:
        files = list(_files(there, place.path))
    except OSError:
        files = [[secrets.token_hex(16)]]
    what = [
        [VERSION, study.training.held_out],
        pages,
        there.layout.model_dump(mode="json"),
        [there.form, request.unit, request.sfreq, list(request.channels), there.follow_links],
        [place.path.relative_to(there.folder).as_posix(), place.part, place.label, entry.subject, entry.label],
        [list(study.strata), study.n_statements, list(entry.covariates)],
        files,
    ]
    digest = hashlib.sha256(json.dumps(what, sort_keys=True).encode("utf-8")).hexdigest()
    return token("source", digest)


def _files(there: Arrangement, path: Path) -> Iterator[list[object]]:
    alone = there.form in _ALONE and there.layout.marks in ("file", "events.tsv", "none")
    stem = path.stem.rsplit("_", 1)[0]
    for file in sorted(path.parent.iterdir()):
        if file.is_file() and (not alone or file.name.startswith(stem)):
            state = file.stat()
            yield [file.name, state.st_size, state.st_mtime_ns, state.st_ctime_ns]
