"""A site: from its folder to its recordings, by the reader of the format that the study names.

Messages and logs name a file by its place in name order, never by its name: names, ids and labels come from
people.
"""

import logging
import os
import shlex
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from fedsynth.errors import RecordingError
from fedsynth.recordings.gate import MissingChannelError, check_recording, check_site, copies
from fedsynth.recordings.participants import Participants, name_of, read_participants
from fedsynth.recordings.readers.registry import READERS
from fedsynth.recordings.readers.wfdb import read_beats
from fedsynth.recordings.recording import Recording
from fedsynth.study import Study

log = logging.getLogger(__name__)


def read_site(
    folder: Path, *, site: str, study: Study, progress: Callable[[int, int], None] | None = None
) -> list[Recording]:
    """Read and check every recording of a site; nothing is written.

    Files lie in the folder or in folders below it, names that begin with a dot aside; upper and lower case of the
    suffix are equal. `text`: *.txt, one number a line in microvolts; the subject is the file's stem. `edf`: *.edf
    and *.bdf; the subject is the stem up to the first "_" (Brain Imaging Data Structure), and may have several
    files. `wfdb`: *.hea beside their signal files; the subject as with `edf`. A label is the letters before the
    digits of the file name, or stands in the folder's participants.tsv or recordings.tsv, or is that of each beat
    in the .atr file; recordings.tsv says whose a recording is, whatever its name.

    Args:
        folder: of one site.
        site: its name, for messages.
        study: what a recording must look like.
        progress: called with (files done, files in all).

    Returns:
        Recordings in the order of their files' names; those with another label, without a beat that has a label,
        or without a channel are left out where the study says so.

    Raises:
        RecordingError: the first thing that is not as the study says; the message names no one.
    """
    reader = READERS[study.signal.format]
    files = _files(folder, reader.suffixes)
    if not files:
        wanted = " or ".join(f"*{suffix}" for suffix in reader.suffixes)
        raise RecordingError(
            f"site {site!r} holds no recordings: there is no {wanted} file in its folder; give it its recordings, "
            "or leave it out. Nothing was written"
        )
    register = read_participants(folder, files, site=site, study=study, stem_is_subject=reader.stem_is_subject)
    recordings, remarks = [], Counter[str]()
    for number, path in enumerate(files, start=1):
        with _named(folder, site, reader.suffixes, number, len(files)):
            try:
                read = _recording(path, register, study)
            except MissingChannelError:
                if study.signal.missing == "refuse":
                    raise
                remarks["no channel of a name that the study asks for, and were left out"] += 1
                read = None
            if read is not None:
                recordings.append(read[0])
                remarks.update(read[1])
        if progress:
            progress(number, len(files))
    check_site(recordings, site=site, least_subjects=study.cohort.least_subjects)
    if twice := copies(recordings):
        remarks["exactly the samples of another person's recording; the names count as one person"] = twice
    for remark, count in remarks.items():
        log.warning("site %r: %d of %d recordings have %s", site, count, len(files), remark)
    return recordings


def _files(folder: Path, suffixes: tuple[str, ...]) -> list[Path]:
    """Return the files of recordings in the order that `LC_ALL=C sort` gives them."""
    found = [
        path for path in folder.rglob("*") if path.suffix.lower() in suffixes and not path.name.startswith(".")
    ]
    return sorted(found, key=os.fsencode)


@contextmanager
def _named(folder: Path, site: str, suffixes: tuple[str, ...], number: int, total: int) -> Iterator[None]:
    """Put the place of a file before what is wrong with it, and how to find its name behind."""
    try:
        yield
    except RecordingError as error:
        tests = " -o ".join(f"-iname '*{suffix}'" for suffix in suffixes)
        tests = f"'(' {tests} ')'" if " -o " in tests else tests
        place = shlex.quote(f"{folder.absolute().name}/")
        raise RecordingError(
            f"site {site!r}: recording {number} of {total} (in name order): {error}. Nothing was written; beside "
            f"the site's folder, its name is shown by: find {place} {tests} ! -name '.*' | LC_ALL=C sort | "
            f"sed -n {number}p"
        ) from None  # the cause may hold the file's name


def _recording(path: Path, register: Participants, study: Study) -> tuple[Recording, tuple[str, ...]] | None:
    """Read a file and check it; None leaves it out. The strings say what was put right."""
    plan, entry = study.signal, register.entry(path)
    label = "" if entry.label is None else name_of(entry.label, study.labels)
    if label is None:
        return None
    try:
        samples, beats = READERS[plan.format].read(path, plan), None
        if entry.label is None:
            n_times = samples.signal.shape[1]
            beats = read_beats(path, study.labels, n_times=n_times, sfreq=plan.rate_as_recorded)
    except OSError as error:
        raise RecordingError(f"it cannot be opened and read ({type(error).__name__}); check the file") from None
    if beats is not None and len(beats.samples) == 0 and study.labels.others == "leave out":
        return None
    rate, subject = plan.rate_as_recorded, entry.subject
    recording = Recording(samples.signal, rate, plan.channels, subject, label, samples.digest, beats)
    up, down = plan.resampling
    check_recording(recording, n_times=(study.windows.n_times - 1) * down // up + 1)
    return recording, samples.remarks
