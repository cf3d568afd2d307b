"""A site: from its folder to its recordings, by the reader of the format that the study names.

Messages and logs name a file by its place in name order, never by its name: names, ids and labels come from
people.
"""

import logging
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from fedsynth.errors import RecordingError
from fedsynth.recordings.folder import command_for, find_recordings
from fedsynth.recordings.gate import MissingChannelError, check_recording, check_site
from fedsynth.recordings.options import SiteOptions
from fedsynth.recordings.participants import (
    Entry,
    UnknownLabelError,
    labels_found,
    name_of,
    read_participants,
)
from fedsynth.recordings.people import copies
from fedsynth.recordings.readers.registry import READERS
from fedsynth.recordings.readers.samples import Notes, Request, gather
from fedsynth.recordings.readers.wfdb import read_beats
from fedsynth.recordings.recording import Recording
from fedsynth.study import Study

log = logging.getLogger(__name__)


_UNIT_BY_WORD = "their unit by the site's word ({unit}), whatever they say themselves"


def read_site(
    folder: Path,
    *,
    site: str,
    study: Study,
    options: SiteOptions | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> list[Recording]:
    """Read and check every recording of a site; nothing is written.

    Files lie in the folder or in folders below it, but for those that `fedsynth.recordings.folder` leaves out;
    upper and lower case of the suffix are equal. `text`: *.txt, one number a line in microvolts; the subject is the
    file's stem. `edf`: *.edf and *.bdf; the subject is the stem up to the first "_" (Brain Imaging Data Structure),
    and may have several files. `wfdb`: *.hea beside their signal files; the subject as with `edf`. A label is the
    letters before the digits of the file name, or stands in the folder's participants.tsv or recordings.tsv, or is
    that of each beat in the .atr file; recordings.tsv says whose a recording is, whatever its name.

    Args:
        folder: of one site.
        site: its name, for messages.
        study: what a recording must look like.
        options: what the site's people say about the folder.
        progress: called with (files done, files in all).

    Returns:
        Recordings in the order of their files' names; those with another label, without a beat that has a label,
        or without a channel are left out where the study says so.

    Raises:
        RecordingError: everything that is not as the study says; the message names no one.
    """
    options = options or SiteOptions()
    reader = READERS[study.signal.format]
    found = find_recordings(folder, suffixes=reader.suffixes, site=site, follow_links=options.follow_links)
    files = found.files
    if not files:
        wanted = " or ".join(f"*{suffix}" for suffix in reader.suffixes)
        aside = f" but for {sum(found.left_out.values())} that are left out" if found.left_out.total() else ""
        raise RecordingError(
            f"site {site!r} holds no recordings: there is no {wanted} file in its folder{aside}; give it its "
            "recordings, or leave it out. Nothing was written"
        )
    register = read_participants(folder, files, site=site, study=study, stem_is_subject=reader.stem_is_subject)
    root = None if options.follow_links else folder
    request = Request(study.signal.channels, study.signal.rate_as_recorded, unit=options.unit, root=root)
    recordings, remarks, faults, entries = [], Counter[str](), _Faults(), list[Entry]()
    for number, path in enumerate(files, start=1):
        with faults.of(number):
            entries.append(register.entry(path))
            try:
                read = _recording(path, entries[-1], study, request)
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
    for kind, count in sorted(found.left_out.items()):
        if count:
            log.warning("site %r: %d files were left out: %s", site, count, kind)
    if faults.found:
        links = options.follow_links or any(path.is_symlink() for path in folder.rglob("*"))
        command = command_for(folder, suffixes=reader.suffixes, numbers=list(faults.found), links=links)
        raise RecordingError(faults.said(site, len(files), command=command, labels=labels_found(entries)))
    check_site(recordings, site=site, least_subjects=study.cohort.least_subjects)
    own, others = copies(recordings)
    remarks["the samples of another recording of the same person; they count once"] = own
    remarks["exactly the samples of another person's recording; the names count as one person"] = others
    if options.unit is not None:
        remarks[_UNIT_BY_WORD.format(unit=options.unit)] = len(recordings)
    for remark, count in remarks.items():
        if count:
            log.warning("site %r: %d of %d recordings have %s", site, count, len(files), remark)
    return recordings


class _Faults:
    """Gathers what is wrong with the recordings of a site, by their places in name order."""

    def __init__(self) -> None:
        self.found: dict[int, str] = {}
        self._labels = False

    @contextmanager
    def of(self, number: int) -> Iterator[None]:
        """Note a recording that is refused, and go on."""
        try:
            yield
        except RecordingError as error:
            self.found[number] = str(error)
            self._labels |= isinstance(error, UnknownLabelError)

    def said(self, site: str, total: int, *, command: str, labels: str) -> str:
        """Put all of it into one message, and how to find the names of the files behind."""
        labels = f" ({labels})" if self._labels else ""
        if len(self.found) == 1:
            [(number, cause)] = self.found.items()
            return (
                f"site {site!r}: recording {number} of {total} (in name order): {cause}{labels}. Nothing was "
                f"written; beside the site's folder, its name is shown by: {command}"
            )
        width = len(str(total))
        table = "\n".join(f"  {number:>{width}}  {cause}" for number, cause in self.found.items())
        return (
            f"site {site!r}: {len(self.found)} of {total} recordings cannot be used{labels}. Nothing was "
            f"written. By place in name order:\n{table}\nBeside the site's folder, their names are shown by: "
            f"{command}"
        )


def _recording(
    path: Path, entry: Entry, study: Study, request: Request
) -> tuple[Recording, tuple[str, ...]] | None:
    """Read a file and check it; None leaves it out. The strings say what was put right."""
    plan = study.signal
    label = "" if entry.label is None else name_of(entry.label, study.labels)
    if label is None:
        return None
    try:
        notes, beats = Notes(), None
        samples = gather(READERS[plan.format].read(path, request, notes), notes)
        if entry.label is None:
            n_times = samples.signal.shape[1]
            beats = read_beats(path, study.labels, n_times=n_times, sfreq=plan.rate_as_recorded)
    except OSError as error:
        raise RecordingError(f"it cannot be opened and read ({type(error).__name__}); check the file") from None
    if beats is not None and len(beats.samples) == 0 and study.labels.others == "leave out":
        return None
    rate, subject = plan.rate_as_recorded, entry.subject
    recording = Recording(
        samples.signal, rate, plan.channels, subject, label, samples.digest, beats, samples.fingerprints
    )
    up, down = plan.resampling
    check_recording(recording, n_times=(study.windows.n_times - 1) * down // up + 1, modality=plan.modality)
    return recording, samples.remarks
