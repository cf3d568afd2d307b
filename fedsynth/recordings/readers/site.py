"""A site: from its folder to its recordings, by the reader of the format that the study names.

Messages and logs name a file by its place in name order, never by its name: names, ids and labels come from
people.
"""

import logging
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from fnmatch import fnmatch
from pathlib import Path

from fedsynth.errors import RecordingError
from fedsynth.montage import canonical_channel
from fedsynth.recording_plan import RecordingFormat
from fedsynth.recordings.folder import Found, command_for, find_recordings
from fedsynth.recordings.gaps import elapsed_length, stored_beats, stored_stretches
from fedsynth.recordings.gate import MissingChannelError, check_recording, check_site
from fedsynth.recordings.intervals import events_of, stretches_of
from fedsynth.recordings.layout import Layout, layout_for
from fedsynth.recordings.options import SiteOptions
from fedsynth.recordings.participants import Entry, Participants, name_of, read_participants
from fedsynth.recordings.people import copies
from fedsynth.recordings.readers.faults import Faults
from fedsynth.recordings.readers.marks import marks_of
from fedsynth.recordings.readers.registry import Reader, reader_of
from fedsynth.recordings.readers.samples import Notes, Request, Samples, gather
from fedsynth.recordings.readers.sidecars import OTHER_UNIT, check_sidecar, read_sidecar
from fedsynth.recordings.readers.tracks import check_rate
from fedsynth.recordings.readers.wfdb import read_beats
from fedsynth.recordings.recording import Beats, Recording, Stretch
from fedsynth.recordings.register import Register, register_of
from fedsynth.study import Study

log = logging.getLogger(__name__)

BY_TABLE = ("file name", "participants.tsv", "recordings.tsv")
"""Sources of labels that tell whose a recording is by themselves."""
BY_MARKS = ("intervals", "events")
OUTSIDE = "annotations before they begin or after they end, which label nothing"
_UNIT_BY_WORD = "their unit by the site's word ({unit}), whatever they say themselves"


@dataclass(frozen=True)
class _Place:
    """A recording among the files of a site: its file, and its name within it where the file holds several."""

    path: Path
    part: str = ""
    label: str | None = None


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
    upper and lower case of the suffix are equal. How they are arranged says the page `recordings.toml` in the
    folder, or the preset that the study names (`fedsynth.recordings.layout`). Without either, the subject is the
    file's stem up to the first "_" (Brain Imaging Data Structure), or all of it for text; a label is the letters
    before the digits of the file name, or stands in the folder's participants.tsv or recordings.tsv, which says
    whose a recording is, whatever its name. Beats, intervals and events bear labels themselves.

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
    options = options or SiteOptions()
    named = layout_for(
        folder, site=site, preset=study.recordings.preset, root=None if options.follow_links else folder
    )
    layout = named or Layout()
    follow = options.follow_links or layout.follow_links
    form = layout.format or study.signal.format
    reader = reader_of(form)
    found = site_files(folder, reader, layout, site=site, follow_links=follow)
    request = Request(
        channels=study.signal.channels,
        sfreq=study.signal.rate_as_recorded,
        unit=options.unit or layout.unit,
        columns=layout.columns,
        root=None if follow else folder,
        aliases=layout.aliases,
        twins=layout.twins == "first",
    )
    if layout.sfreq is not None:
        check_rate(layout.sfreq, request)
    places = _places(found.files, reader, site=site)
    register = _register(folder, named, study, found.files, reader, site=site, root=request.root)
    reading = _Reading(study, layout, form, reader, request)
    recordings, remarks, faults = list[Recording](), Counter[str](), Faults()
    for number, place in enumerate(places, start=1):
        with faults.of(number):
            try:
                read = reading.recording(place, _entry(register, place, study), faults)
            except MissingChannelError:
                if study.signal.missing == "refuse":
                    raise
                remarks["no channel of a name that the study asks for, and were left out"] += 1
                read = None
            else:
                remarks["no label of the study, or nothing that bears one, and were left out"] += read is None
            if read is not None:
                recordings.append(read[0])
                remarks.update(read[1])
        if progress:
            progress(number, len(places))
    for kind, count in sorted(found.left_out.items()):
        if count:
            log.warning("site %r: %d files were left out: %s", site, count, kind)
    if faults.found:
        links = follow or any(path.is_symlink() for path in folder.rglob("*"))
        command = command_for(folder, suffixes=reader.suffixes, numbers=list(faults.found), links=links)
        if len(faults.found) > 1:
            table = faults.table(len(places))
            log.warning("site %r: recordings that cannot be used, by place in name order:\n%s", site, table)
        raise RecordingError(faults.said(site, len(places), command=command))
    check_site(recordings, site=site, least_subjects=study.cohort.least_subjects)
    own, others = copies(recordings)
    remarks["the samples of another recording of the same person; they count once"] = own
    remarks["exactly the samples of another person's recording; the names count as one person"] = others
    if request.unit is not None:
        remarks[_UNIT_BY_WORD.format(unit=request.unit)] = len(recordings)
    for remark, count in remarks.items():
        if count:
            log.warning("site %r: %d of %d recordings have %s", site, count, len(places), remark)
    return recordings


@dataclass(frozen=True)
class _Reading:
    """What is the same for all recordings of a site."""

    study: Study
    layout: Layout
    form: RecordingFormat
    reader: Reader
    request: Request

    def recording(
        self, place: _Place, entry: Entry | None, faults: Faults
    ) -> tuple[Recording, tuple[str, ...]] | None:
        """Read a recording and check it; None leaves it out. The strings say what was put right."""
        study, plan = self.study, self.study.signal
        if entry is None:
            return None
        label = ""
        if entry.label is not None:
            faults.labels.append(entry)
            name = name_of(entry.label, study.labels)
            if name is None:
                return None
            label = name
        try:
            _check_kind(place.path)
            sidecar = read_sidecar(place.path, root=self.request.root)
            self._check_status(sidecar.bad)
            notes = Notes()
            samples = gather(self.reader.read(place.path, replace(self.request, part=place.part), notes), notes)
            check_sidecar(sidecar, sfreq=notes.sfreq or self.request.sfreq)
            if any(notes.units.get(label, unit) != unit for label, unit in sidecar.units.items()):
                notes.remarks.append(OTHER_UNIT)
            beats, stretches = self._labelled(place.path, entry, samples, notes, faults)
        except OSError as error:
            raise RecordingError(f"it cannot be opened and read ({type(error).__name__}); check the file") from None
        empty = (beats is not None and len(beats.samples) == 0) or stretches == ()
        if empty and (study.labels.others == "leave out" or study.labels.source in BY_MARKS):
            return None
        recording = Recording(
            signal=samples.signal,
            sfreq=plan.rate_as_recorded,
            channels=plan.channels,
            subject=entry.subject,
            label=label,
            digest=samples.digest,
            beats=beats,
            fingerprints=samples.fingerprints,
            stretches=stretches,
            gaps=samples.gaps,
        )
        up, down = plan.resampling
        check_recording(recording, n_times=(study.windows.n_times - 1) * down // up + 1, modality=plan.modality)
        return recording, tuple(notes.remarks)

    def _check_status(self, labels: frozenset[str]) -> None:
        """Hold the study's channels against those that a channels.tsv calls bad: such a one counts as missing."""
        bad = {canonical_channel(self.request.name_of(label)) for label in labels}
        for channel in self.request.channels:
            if canonical_channel(channel) in bad:
                raise MissingChannelError(
                    f"channel {channel!r} of the study is marked as bad in its channels.tsv; leave such recordings "
                    "out (signal.missing)"
                )

    def _labelled(
        self, path: Path, entry: Entry, samples: Samples, notes: Notes, faults: Faults
    ) -> tuple[Beats | None, tuple[Stretch, ...] | None]:
        """Return the beats, events or stretches that bear a recording's labels, where it has none itself."""
        plan, gaps, sfreq = self.study.labels, samples.gaps, samples.sfreq or self.request.sfreq
        n_times, stored = elapsed_length(samples.signal.shape[1], gaps), samples.signal.shape[1]
        if entry.label is not None:
            return None, None
        if plan.source == "beats":
            beats = read_beats(path, plan, n_times=n_times, sfreq=self.request.sfreq, root=self.request.root)
            return stored_beats(beats, n_times=stored, gaps=gaps), None
        marks = marks_of(path, samples, where=self.layout.marks, request=self.request)
        faults.labels += [Entry(entry.subject, mark.text) for mark in marks]
        if any(mark.start >= n_times or mark.start + (mark.n_times or 0) < 0 for mark in marks):
            notes.remarks.append(OUTSIDE)
        if plan.source == "intervals":
            stretches = stretches_of(marks, plan, n_times=n_times, sfreq=sfreq)
            return None, stored_stretches(stretches, n_times=stored, gaps=gaps)
        up, down = self.study.signal.resampling
        window = self.study.windows.n_times * down / up
        events = events_of(marks, plan, n_times=n_times, sfreq=sfreq, window=window)
        return stored_beats(events, n_times=stored, gaps=gaps), None


def _check_kind(path: Path) -> None:
    """Refuse a queue or a device, which would be waited for without end; a folder is refused by opening it."""
    if path.exists() and not path.is_file() and not path.is_dir():
        raise RecordingError("it is a queue or a device and no file; move it away")


def site_files(folder: Path, reader: Reader, layout: Layout, *, site: str, follow_links: bool) -> Found:
    """List the recordings of a site, but for those that its layout leaves out.

    Raises:
        RecordingError: as `find_recordings`, or no recordings.
    """
    found = find_recordings(folder, suffixes=reader.suffixes, site=site, follow_links=follow_links)
    if layout.files or layout.leave_out:
        below = {path: path.relative_to(folder).as_posix() for path in found.files}
        kept = [
            path
            for path, name in below.items()
            if any(fnmatch(name, pattern) for pattern in layout.files or ("*",))
            and not any(fnmatch(name, pattern) for pattern in layout.leave_out)
        ]
        found.left_out["files that the layout does not name"] = len(found.files) - len(kept)
        found.files = kept
    if not found.files:
        wanted = " or ".join(f"*{suffix}" for suffix in reader.suffixes)
        aside = f" but for {found.left_out.total()} that are left out" if found.left_out.total() else ""
        raise RecordingError(
            f"site {site!r} holds no recordings: there is no {wanted} file in its folder{aside}; give it its "
            "recordings, or leave it out. Nothing was written"
        )
    return found


def _places(files: list[Path], reader: Reader, *, site: str) -> list[_Place]:
    if reader.parts is None:
        return [_Place(path) for path in files]
    places = []
    for number, path in enumerate(files, start=1):
        try:
            places += [_Place(path, part, label) for part, label in reader.parts(path).items()]
        except OSError as error:
            raise RecordingError(
                f"site {site!r}: file {number} of {len(files)} (in name order) cannot be opened "
                f"({type(error).__name__}). Nothing was written"
            ) from None
        except RecordingError as error:
            raise RecordingError(
                f"site {site!r}: file {number} of {len(files)} (in name order): {error}. Nothing was written"
            ) from None
    return places


def _register(
    folder: Path,
    layout: Layout | None,
    study: Study,
    files: list[Path],
    reader: Reader,
    *,
    site: str,
    root: Path | None,
) -> Register | Participants:
    source = study.labels.source
    tells = layout is not None and (layout.person or layout.table or layout.label)
    if source in BY_TABLE or (source == "beats" and not tells):
        return read_participants(
            folder, files, site=site, study=study, stem_is_subject=reader.stem_is_subject, root=root
        )
    return register_of(
        folder,
        layout or Layout(),
        site=site,
        needs_label=source == "layout",
        whole_stem=reader.stem_is_subject,
        root=root,
    )


def _entry(register: Register | Participants, place: _Place, study: Study) -> Entry | None:
    if isinstance(register, Participants):
        return register.entry(place.path)
    if place.label is not None and study.labels.source == "layout":
        return Entry(place.part, place.label)
    return register.entry(place.path, place.part)
