"""An arrangement: from a site's folder, its page and its tables to the recordings to be read, and whose each is."""

from dataclasses import dataclass, field, replace
from fnmatch import fnmatch
from pathlib import Path

from fedsynth.errors import RecordingError
from fedsynth.recording_plan import RecordingFormat
from fedsynth.recordings.covariates import WITHOUT_CONDITION, Covariates, covariates_of
from fedsynth.recordings.folder import Found, find_recordings
from fedsynth.recordings.layout import Layout, layout_for
from fedsynth.recordings.options import SiteOptions
from fedsynth.recordings.participants import Entry, Participants, read_participants
from fedsynth.recordings.readers.registry import Reader, reader_of
from fedsynth.recordings.readers.samples import Request
from fedsynth.recordings.readers.tracks import check_rate
from fedsynth.recordings.reference import recorded_channels
from fedsynth.recordings.register import Register, register_of
from fedsynth.study import Study

BY_TABLE = ("file name", "participants.tsv", "recordings.tsv")
"""Sources of labels that tell whose a recording is by themselves."""

WITHOUT_LABEL = "no label of the study, or nothing that bears one, and were left out"


@dataclass(frozen=True)
class Place:
    """A recording among the files of a site: its file, and its name within it where the file holds several."""

    path: Path
    part: str = ""
    label: str | None = None


@dataclass(frozen=True)
class Arrangement:
    """What is known of a site's folder before a recording is opened.

    `places` are its recordings in the order of their names, and `left_out` counts other files by the reason.
    """

    folder: Path
    study: Study
    layout: Layout
    form: RecordingFormat
    reader: Reader
    request: Request
    places: tuple[Place, ...]
    register: Register | Participants = field(repr=False)
    covariates: Covariates = field(repr=False)
    left_out: dict[str, int]
    follow_links: bool

    def entry(self, place: Place) -> Entry | str:
        """Look up whose a recording is, its raw label and its covariates; or say why it is to be left out.

        Raises:
            RecordingError: it cannot be told.
        """
        entry = self._registered(place)
        if entry is None:
            return WITHOUT_LABEL
        told = self.covariates.numbers(place.path, entry.subject)
        return WITHOUT_CONDITION if told is None else replace(entry, covariates=told)

    def _registered(self, place: Place) -> Entry | None:
        if isinstance(self.register, Participants):
            return self.register.entry(place.path)
        if place.label is not None and self.study.labels.source == "layout":
            return Entry(place.part, place.label)
        return self.register.entry(place.path, place.part)


def arrange(folder: Path, *, site: str, study: Study, options: SiteOptions) -> Arrangement:
    """Look at a site's folder; no recording is read.

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

    Raises:
        RecordingError: no recordings, or pages, tables or links that are not as they should be.
    """
    named = layout_for(
        folder, site=site, preset=study.recordings.preset, root=None if options.follow_links else folder
    )
    layout = named or Layout()
    follow = options.follow_links or layout.follow_links
    form = layout.format or study.signal.format
    reader = reader_of(form)
    found = site_files(folder, reader, layout, site=site, follow_links=follow)
    request = Request(
        channels=recorded_channels(study.signal),
        sfreq=study.signal.rate_as_recorded,
        unit=options.unit or layout.unit,
        columns=layout.columns,
        root=None if follow else folder,
        aliases=layout.aliases,
        twins=layout.twins == "first",
    )
    if layout.sfreq is not None:
        check_rate(layout.sfreq, request)
    return Arrangement(
        folder=folder,
        study=study,
        layout=layout,
        form=form,
        reader=reader,
        request=request,
        places=tuple(_places(found.files, reader, site=site)),
        register=_register(folder, named, study, found.files, reader, site=site, root=request.root),
        covariates=covariates_of(folder, layout, study=study, site=site, root=request.root),
        left_out=dict(found.left_out),
        follow_links=follow,
    )


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


def _places(files: list[Path], reader: Reader, *, site: str) -> list[Place]:
    if reader.parts is None:
        return [Place(path) for path in files]
    places = []
    for number, path in enumerate(files, start=1):
        try:
            places += [Place(path, part, label) for part, label in reader.parts(path).items()]
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
