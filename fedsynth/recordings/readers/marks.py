"""Marks: where a layout says that a recording's annotations stand, to these annotations."""

from pathlib import Path

from fedsynth.errors import RecordingError
from fedsynth.recordings.gaps import elapsed_length
from fedsynth.recordings.layout import Marks
from fedsynth.recordings.readers.events import bids_marks
from fedsynth.recordings.readers.first_pass import FirstPass
from fedsynth.recordings.readers.samples import Request
from fedsynth.recordings.readers.seizure_lists import chb_mit_marks, seizeit_marks, siena_marks
from fedsynth.recordings.readers.wfdb import read_rhythms
from fedsynth.recordings.recording import Mark


def marks_of(path: Path, seen: FirstPass, *, where: Marks, request: Request) -> list[Mark]:
    """Return the annotations of a recording, which count samples with those that are missing in gaps.

    Args:
        path: of its file.
        seen: what was seen of it; its marks are the file's own.
        where: "file" is an `_events.tsv` of BIDS where there is one, else what the file itself holds, and for WFDB
            the rhythms of its .atr file.
        request: for the rate, and for where links may lead.

    Raises:
        RecordingError: annotations that are missing or damaged, or none at all where labels need some.
        OSError: a file that cannot be opened.
    """
    n_times, root = elapsed_length(seen.n_times, seen.gaps), request.root
    # Times in seconds are counted at the file's own rate: within the tolerance of rates, an hour is a second off.
    sfreq = request.sfreq if seen.sfreq is None else seen.sfreq
    match where:
        case "siena":
            return siena_marks(path, sfreq=sfreq, n_times=n_times, root=root)
        case "chb-mit":
            return chb_mit_marks(path, sfreq=sfreq, n_times=n_times, root=root)
        case "seizeit":
            return seizeit_marks(path, sfreq=sfreq, root=root)
        case "atr":
            return read_rhythms(path, n_times=n_times, sfreq=request.sfreq, root=root)
        case "none":
            return []
        case "file" | "events.tsv":
            found = bids_marks(path, sfreq=sfreq, root=root)
            if found is not None:
                return found
            if where == "events.tsv":
                raise RecordingError("its events.tsv is missing, and it bears the labels; put it beside it")
            if path.suffix.lower() == ".hea":
                return read_rhythms(path, n_times=n_times, sfreq=request.sfreq, root=root)
            return list(seen.marks)
