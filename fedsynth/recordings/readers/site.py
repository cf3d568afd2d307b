"""A site: from its folder to its recordings, whole and in memory, by the reader of the format that the study names.

Messages and logs name a file by its place in name order, never by its name: names, ids and labels come from
people. A site takes recordings in by `fedsynth.recordings.intake`, which holds none of them as a whole.
"""

import logging
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from fedsynth.errors import RecordingError
from fedsynth.recordings.folder import command_for
from fedsynth.recordings.gate import MissingChannelError, check_site
from fedsynth.recordings.options import SiteOptions
from fedsynth.recordings.people import Known, copies
from fedsynth.recordings.readers.arrangement import WITHOUT_LABEL, Arrangement, arrange
from fedsynth.recordings.readers.faults import Faults
from fedsynth.recordings.readers.reading import Reading, Seen
from fedsynth.recordings.readers.samples import Notes
from fedsynth.recordings.recording import Recording
from fedsynth.recordings.reference import recorded_channels
from fedsynth.study import Study

log = logging.getLogger(__name__)

WITHOUT_CHANNEL = "no channel of a name that the study asks for, and were left out"
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

    Args:
        folder: of one site.
        site: its name, for messages.
        study: what a recording must look like.
        options: what the site's people say about the folder.
        progress: called with (files done, files in all).

    Returns:
        Recordings in the order of their files' names; those with another label, without anything that has a label,
        or without a channel are left out where the study says so.

    Raises:
        RecordingError: everything that is not as the study says; the message names no one.
    """
    there = arrange(folder, site=site, study=study, options=options or SiteOptions())
    reading = Reading(study, there.layout, there.reader, there.request)
    recordings, remarks, faults = list[Recording](), Counter[str](), Faults()
    for number, place in enumerate(there.places, start=1):
        with faults.of(number):
            try:
                entry = there.entry(place)
                read = None if isinstance(entry, str) else reading.look(place, entry, faults.labels)
            except MissingChannelError:
                if study.signal.missing == "refuse":
                    raise
                remarks[WITHOUT_CHANNEL] += 1
                read = None
            else:
                remarks[entry if isinstance(entry, str) else WITHOUT_LABEL] += read is None
            if read is not None:
                recordings.append(_whole(read, study))
                remarks.update(read.seen.remarks)
        if progress:
            progress(number, len(there.places))
    refuse_or_say(there, recordings, remarks, faults, site=site)
    return recordings


def refuse_or_say(
    there: Arrangement, recordings: Sequence[Known], remarks: Counter[str], faults: Faults, *, site: str
) -> None:
    """Refuse a site whose recordings cannot all be used, or log what was put right.

    Args:
        there: the site's arrangement.
        recordings: that can be used.
        remarks: how many have what.
        faults: of the others.
        site: its name, for messages.

    Raises:
        RecordingError: a fault, no recordings, or too few people.
    """
    for kind, count in sorted(there.left_out.items()):
        if count:
            log.warning("site %r: %d files were left out: %s", site, count, kind)
    if faults.found:
        links = there.follow_links or any(path.is_symlink() for path in there.folder.rglob("*"))
        command = command_for(there.folder, suffixes=there.reader.suffixes, numbers=list(faults.found), links=links)
        if len(faults.found) > 1:
            table = faults.table(len(there.places))
            log.warning("site %r: recordings that cannot be used, by place in name order:\n%s", site, table)
        raise RecordingError(faults.said(site, len(there.places), command=command))
    check_site(recordings, site=site, least_subjects=there.study.cohort.least_subjects)
    own, others = copies(recordings)
    remarks["the samples of another recording of the same person; they count once"] = own
    remarks["exactly the samples of another person's recording; the names count as one person"] = others
    if there.request.unit is not None:
        remarks[_UNIT_BY_WORD.format(unit=there.request.unit)] = len(recordings)
    for remark, count in remarks.items():
        if count:
            log.warning("site %r: %d of %d recordings have %s", site, count, len(there.places), remark)


def _whole(read: Seen, study: Study) -> Recording:
    pieces = [piece.in_microvolts() for piece in read.seen.read(Notes())]
    signal = np.concatenate(pieces, axis=1) if len(pieces) != 1 else pieces[0]
    return Recording(
        signal=np.ascontiguousarray(signal, dtype=np.float32),
        sfreq=study.signal.rate_as_recorded,
        channels=recorded_channels(study.signal),
        subject=read.subject,
        label=read.bearer.label,
        digest=read.seen.digest,
        beats=read.bearer.beats,
        fingerprints=read.seen.fingerprints,
        stretches=read.bearer.stretches,
        gaps=read.seen.gaps,
        covariates=read.covariates,
    )
