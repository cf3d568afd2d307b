"""Reading: from one recording of a site to what is known of the whole of it, checked, and what bears its labels."""

from dataclasses import dataclass, field, replace
from pathlib import Path

from fedsynth.errors import RecordingError
from fedsynth.montage import canonical_channel
from fedsynth.recordings.gaps import elapsed_length, stored_beats, stored_stretches
from fedsynth.recordings.gate import MissingChannelError, check_facts
from fedsynth.recordings.intervals import events_of, has_no_end, stretches_of
from fedsynth.recordings.layout import Layout
from fedsynth.recordings.participants import Entry, name_of
from fedsynth.recordings.placement import Bearer
from fedsynth.recordings.readers.arrangement import Place
from fedsynth.recordings.readers.first_pass import FirstPass, first_pass
from fedsynth.recordings.readers.marks import marks_of
from fedsynth.recordings.readers.registry import Reader
from fedsynth.recordings.readers.samples import Request
from fedsynth.recordings.readers.sidecars import OTHER_UNIT, check_sidecar, read_sidecar
from fedsynth.recordings.readers.wfdb import read_beats
from fedsynth.study import Study

BY_MARKS = ("intervals", "events")
WITHOUT_END = "annotations of a label without a duration; nothing behind them is background"
OUTSIDE = "annotations before they begin or after they end, which label nothing"


@dataclass(frozen=True)
class Seen:
    """A recording that may be used: whose it is, what bears its labels, what is known of it, and its covariates."""

    subject: str = field(repr=False)
    bearer: Bearer
    seen: FirstPass
    covariates: tuple[int, ...] = field(default=(0,), repr=False)


@dataclass(frozen=True)
class Reading:
    """What is the same for all recordings of a site."""

    study: Study
    layout: Layout
    reader: Reader
    request: Request

    def look(self, place: Place, entry: Entry, labels: list[Entry]) -> Seen | None:
        """Go through a recording and check it; None leaves it out.

        Args:
            place: of the recording.
            entry: whose it is, and its raw label.
            labels: takes the raw labels that are met.

        Raises:
            MissingChannelError: it lacks a channel of the study.
            RecordingError: everything else that is not as the study says.
        """
        study, plan = self.study, self.study.signal
        label = ""
        if entry.label is not None:
            labels.append(entry)
            name = name_of(entry.label, study.labels)
            if name is None:
                return None
            label = name
        request = replace(self.request, part=place.part)
        try:
            _check_kind(place.path)
            sidecar = read_sidecar(place.path, root=self.request.root)
            self._check_status(sidecar.bad)
            found = first_pass(lambda notes: self.reader.read(place.path, request, notes), sfreq=request.sfreq)
            check_sidecar(sidecar, sfreq=found.sfreq or request.sfreq)
            remarks = list(found.remarks)
            if any(found.units.get(name, unit) != unit for name, unit in sidecar.units.items()):
                remarks.append(OTHER_UNIT)
            bearer = self._bearer(place, entry, label, found, labels, remarks)
        except OSError as error:
            raise RecordingError(f"it cannot be opened and read ({type(error).__name__}); check the file") from None
        empty = (bearer.beats is not None and len(bearer.beats.samples) == 0) or bearer.stretches == ()
        if empty and (study.labels.others == "leave out" or study.labels.source in BY_MARKS):
            return None
        up, down = plan.resampling
        check_facts(
            found.channels,
            channels=request.channels,
            total=found.n_times,
            gaps=found.gaps,
            n_times=(study.windows.n_times - 1) * down // up + 1,
            modality=plan.modality,
        )
        return Seen(entry.subject, bearer, replace(found, remarks=tuple(remarks)), entry.covariates)

    def _check_status(self, labels: frozenset[str]) -> None:
        """Hold the study's channels against those that a channels.tsv calls bad: such a one counts as missing."""
        bad = {canonical_channel(self.request.name_of(label)) for label in labels}
        for channel in self.request.channels:
            if canonical_channel(channel) in bad:
                raise MissingChannelError(
                    f"channel {channel!r} of the study is marked as bad in its channels.tsv; leave such recordings "
                    "out (signal.missing)"
                )

    def _bearer(
        self, place: Place, entry: Entry, label: str, seen: FirstPass, labels: list[Entry], remarks: list[str]
    ) -> Bearer:
        """Return what bears a recording's labels, at the positions of samples that are stored."""
        plan, gaps, sfreq = self.study.labels, seen.gaps, seen.sfreq or self.request.sfreq
        stored, n_times = seen.n_times, elapsed_length(seen.n_times, gaps)
        if entry.label is not None:
            return Bearer(label)
        if plan.source == "beats":
            root = self.request.root
            beats = read_beats(place.path, plan, n_times=n_times, sfreq=self.request.sfreq, root=root)
            return Bearer(beats=stored_beats(beats, n_times=stored, gaps=gaps))
        marks = marks_of(place.path, seen, where=self.layout.marks, request=self.request)
        labels += [Entry(entry.subject, mark.text) for mark in marks]
        if any(mark.start >= n_times or mark.start + (mark.n_times or 0) < 0 for mark in marks):
            remarks.append(OUTSIDE)
        if plan.source == "intervals":
            if plan.background is not None and any(has_no_end(mark, plan) for mark in marks):
                remarks.append(WITHOUT_END)
            stretches = stretches_of(marks, plan, n_times=n_times, sfreq=sfreq)
            return Bearer(stretches=stored_stretches(stretches, n_times=stored, gaps=gaps))
        up, down = self.study.signal.resampling
        window = self.study.windows.n_times * down / up
        events = events_of(marks, plan, n_times=n_times, sfreq=sfreq, window=window)
        return Bearer(beats=stored_beats(events, n_times=stored, gaps=gaps))


def _check_kind(path: Path) -> None:
    """Refuse a queue or a device, which would be waited for without end; a folder is refused by opening it."""
    if path.exists() and not path.is_file() and not path.is_dir():
        raise RecordingError("it is a queue or a device and no file; move it away")
