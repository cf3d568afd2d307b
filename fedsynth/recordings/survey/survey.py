"""A survey: from a folder of recordings to what a study of them may say, and what is for the eyes of its owner.

Headers, tables and names of files are read, and no sample. What goes into a study is the same for everybody
(`fedsynth.recordings.survey.draft`); names of people and exact numbers stay in `Survey`, which never leaves.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from fedsynth.errors import RecordingError
from fedsynth.recording_plan import RecordingFormat
from fedsynth.recordings.layout import Layout
from fedsynth.recordings.readers.registry import READERS
from fedsynth.recordings.register import register_of
from fedsynth.recordings.survey.channels import Channels, channels_of
from fedsynth.recordings.survey.headings import Heading, heading_of
from fedsynth.recordings.survey.known import Known
from fedsynth.recordings.survey.labels import Labels, Told, labelled, labels_of
from fedsynth.recordings.survey.sites import Found, sites_of
from fedsynth.study import Modality

MOST_HEADERS = 200  # of each site, spread evenly over its files


@dataclass(frozen=True)
class Survey:
    """What a folder holds. `people` and `recordings` are by site; all but `folders` and these is public by kind.

    `unread` counts headers that cannot be read. `below` is whether the sites are folders below the one surveyed.
    """

    form: RecordingFormat
    known: Known | None
    channels: Channels
    labels: Labels
    sites: tuple[str, ...]
    below: bool
    people: tuple[int, ...]
    recordings: tuple[int, ...]
    unread: int = 0
    has_layout: bool = False
    folders: tuple[Path, ...] = field(default=(), repr=False)


def survey(
    folder: Path, *, follow_links: bool = False, progress: Callable[[int, int], None] | None = None
) -> Survey:
    """Look at a folder of recordings: one hospital's, or one with a folder for each hospital.

    Args:
        folder: of recordings; nothing is written.
        follow_links: whether links may lead out of a hospital's folder.
        progress: called with (headers read, headers in all).

    Raises:
        RecordingError: no folder, no recordings, no header that can be read, or hospitals with different formats.
    """
    found = sites_of(folder, follow_links=follow_links)
    forms = {one.form for one in found}
    if len(forms) > 1:
        raise RecordingError(
            f"the {len(found)} hospitals' folders hold recordings of {len(forms)} formats; survey one of them, and "
            "let the others name theirs in a recordings.toml. Nothing was written"
        )
    form, known = found[0].form, found[0].known
    if any(one.known != known for one in found):
        known = None
    headings, unread = _headings(found, progress)
    channels = channels_of(headings, hint=_hint(found))
    labels = _labels(found, known, sfreq=channels.sfreq)
    people = tuple(map(len, labels.people)) or tuple(len(_people(one)) for one in found)
    return Survey(
        form=form,
        known=known if labels.table.get("source") not in ("participants.tsv", "recordings.tsv") else None,
        channels=channels,
        labels=labels,
        sites=tuple(one.name for one in found),
        below=found[0].place.folder != folder,
        people=people,
        recordings=tuple(len(one.place.files) for one in found),
        unread=unread,
        has_layout=any(one.layout is not None and one.known is None for one in found),
        folders=tuple(one.place.folder for one in found),
    )


def _headings(
    found: tuple[Found, ...], progress: Callable[[int, int], None] | None
) -> tuple[list[tuple[str, Heading]], int]:
    """Read headers; return each with its person, and how many cannot be read."""
    chosen = []
    for one in found:
        files = one.place.files
        step = max(1, -(-len(files) // MOST_HEADERS))
        chosen += [(one, path) for path in files[::step]]
    headings, unread, first = list[tuple[str, Heading]](), 0, ""
    for number, (one, path) in enumerate(chosen, start=1):
        try:
            headings.append((f"{one.name}/{one.place.person(path)}", heading_of(one.form, path)))
        except (RecordingError, OSError) as error:
            first = first or (str(error) if isinstance(error, RecordingError) else type(error).__name__)
            unread += 1
        if progress:
            progress(number, len(chosen))
    if not headings:
        raise RecordingError(f"none of {len(chosen)} headers can be read; the first: {first}. Nothing was written")
    return headings, unread


def _hint(found: tuple[Found, ...]) -> Modality | None:
    """Return the kind of signal that the names of all files tell, as BIDS has them."""
    ends = {path.stem.rpartition("_")[2].lower() for one in found for path in one.place.files}
    return "eeg" if ends == {"eeg"} else "ecg" if ends == {"ecg"} else None


def _labels(found: tuple[Found, ...], known: Known | None, *, sfreq: float | None) -> Labels:
    own = [one for one in found if one.layout is not None and one.known is None]
    if len(own) == len(found) and all(_tells_labels(one.layout) for one in own):
        told = labelled(_by_layout(found))
        if told is not None:
            table = dict(told.table)
            return Labels(
                {"names": table.pop("names"), "source": "layout", **table}, told.counts, told.people, told.left_out
            )
    seen = labels_of([one.place for one in found], sfreq=sfreq)
    if known is not None and seen.table.get("source") not in ("participants.tsv", "recordings.tsv"):
        return Labels(known.labels)
    return seen


def _tells_labels(layout: Layout | None) -> bool:
    return layout is not None and bool(layout.label or (layout.table and layout.table.label))


def _by_layout(found: tuple[Found, ...]) -> Told:
    """Return the people of each site and their labels, as its layout tells them."""
    told = []
    for one in found:
        register = register_of(
            one.place.folder,
            one.layout or Layout(),
            site=one.name,
            needs_label=True,
            whole_stem=one.place.whole_stem,
            root=one.place.folder,
        )
        people: dict[str, list[str]] = {}
        for path in one.place.files:
            entry = register.entry(path)
            if entry is not None and entry.label is not None:
                people.setdefault(entry.subject, []).append(entry.label)
        told.append(people)
    return told


def _people(one: Found) -> set[str]:
    """Return the people of a site, by its layout or by the names of its files."""
    parts = READERS[one.form].parts
    if parts is not None:
        return {name for path in one.place.files for name in parts(path)}
    if one.layout is None or (one.layout.person is None and one.layout.table is None):
        return {one.place.person(path) for path in one.place.files}
    register = register_of(
        one.place.folder,
        one.layout,
        site=one.name,
        needs_label=False,
        whole_stem=one.place.whole_stem,
        root=one.place.folder,
    )
    return {entry.subject for path in one.place.files if (entry := register.entry(path)) is not None}
