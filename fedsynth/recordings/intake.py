"""Intake: from a site's folder to the windows of its recordings, a recording at a time, in bounded memory.

This is the one way in, for a hospital and for a rehearsal. Recordings are read in processes of their own where that
is worth it. The windows of each stand in a part of their own until somebody joins them, so that an intake which was
broken off goes on where it was.
"""

import multiprocessing
import os
from collections import Counter
from collections.abc import Callable, Generator, Mapping
from concurrent.futures import ProcessPoolExecutor
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fedsynth.errors import RecordingError
from fedsynth.memory import use_again
from fedsynth.progress import NOTE, Progress
from fedsynth.recordings.excerpt import Excerpt
from fedsynth.recordings.identity import Token, in_clear
from fedsynth.recordings.options import SiteOptions
from fedsynth.recordings.people import is_copy, people_of
from fedsynth.recordings.readers.arrangement import Arrangement, arrange
from fedsynth.recordings.readers.faults import Faults
from fedsynth.recordings.readers.reading import Reading
from fedsynth.recordings.readers.site import refuse_or_say
from fedsynth.recordings.sources import source_of
from fedsynth.recordings.store.file import Store, open_store
from fedsynth.recordings.store.index import Entry, StoreShape
from fedsynth.recordings.take import Job, Outcome, Recorded, Setting, take
from fedsynth.recordings.windows import say_artefacts
from fedsynth.study import Study

IN_PARALLEL_BYTES = 1 << 28
"""Folders of this size are worth processes of their own."""
MOST_PROCESSES = 8
MOST_SHOWN = 10
"""So many recordings, those with the largest share of artefacts, are shown by a window as recorded."""

Told = Callable[[int, int, float], None]
"""Progress: recordings done, recordings in all, and hours of them read so far."""


@dataclass(frozen=True)
class Keeping:
    """How a site keeps what it takes in.

    `parts` is the folder of parts; without one no window is kept, and nothing written. `token` stands for names and
    digests; without one they stay in memory as they are. `group` tells a person's group by the name. `key` seals
    parts. `held` are recordings that are held already, by their source: they are not read again.
    """

    parts: Path | None
    token: Token = in_clear
    group: Callable[[str], str] = str
    key: bytes | None = field(default=None, repr=False)
    held: Mapping[str, tuple[Store, Entry]] = field(default_factory=dict, repr=False)


@dataclass(frozen=True)
class TakenIn:
    """What a site has taken in: its recordings in the order of their names, and where their windows are.

    `people` numbers the person of each recording from 0, `copies` tells which were there before, and `numbers` are
    their places in name order among all of the site. `remarks` count what was put right or left out, by the reason.
    `channels` are those as recorded.
    """

    recordings: tuple[Recorded, ...]
    people: tuple[int, ...]
    copies: tuple[bool, ...]
    numbers: tuple[int, ...]
    remarks: dict[str, int]
    channels: tuple[str, ...]
    shape: StoreShape
    keeping: Keeping

    def rows(self, number: int) -> NDArray[np.float32]:
        """Return the windows of a recording, shape (window, channel, time); none of one that is a copy.

        Raises:
            RecordingError: a part is damaged.
        """
        one = self.recordings[number]
        if self.copies[number] or not len(one.labels):
            return np.empty((0, len(self.shape.channels), self.shape.n_times), dtype=np.float32)
        if one.source in self.keeping.held:
            store, entry = self.keeping.held[one.source]
            return store.rows(entry)
        part = part_of(self.keeping, one.source)
        assert part is not None  # who keeps nothing does not ask
        with part.open("rb") as file:
            store = open_store(file, key=self.keeping.key)
            return store.rows(store.index.entries[0])

    @property
    def labelled(self) -> "Labels":
        """The labels of all windows, in the order of recordings."""
        firsts = [number for number, copy in enumerate(self.copies) if not copy]
        counts = [len(self.recordings[number].labels) for number in firsts]
        empty = np.empty(0, dtype=np.int64)
        return Labels(
            labels=np.concatenate([empty, *(self.recordings[number].labels for number in firsts)]),
            recordings=np.repeat(np.array(firsts, dtype=np.int64), counts),
            label_names=self.shape.label_names,
        )


@dataclass(frozen=True)
class Labels:
    """What labels windows bear, indices of the names, and of which recording each is; shape (window,) both."""

    labels: NDArray[np.int64]
    recordings: NDArray[np.int64]
    label_names: tuple[str, ...]


def take_in(
    folder: Path,
    *,
    site: str,
    study: Study,
    options: SiteOptions | None = None,
    keeping: Keeping,
    progress: Told | None = None,
    processes: int | None = None,
) -> TakenIn:
    """Read, check and window every recording of a site.

    Args:
        folder: of one site (`fedsynth.recordings.readers.arrangement.arrange`).
        site: its name, for messages.
        study: what recordings must look like, and which windows it asks for.
        options: what the site's people say about the folder.
        keeping: where parts go.
        progress: as above.
        processes: how many read at once; by default as many as processors where the folder is large.

    Raises:
        RecordingError: everything that is not as the study says, all bad recordings in one message that names none.
        OSError: parts cannot be written.
    """
    use_again()
    there = arrange(folder, site=site, study=study, options=options or SiteOptions())
    setting = Setting(
        Reading(study, there.layout, there.reader, there.request), keeping.token, keeping.group, keeping.key
    )
    taken, remarks, faults = _Gathered(), Counter[str](), Faults()
    with closing(_outcomes(there, setting, keeping, processes or _processes(there))) as outcomes:
        for done, outcome in enumerate(outcomes, start=1):
            faults.labels += outcome.labels
            if outcome.fault is not None:
                with faults.of(outcome.number):
                    raise outcome.fault
            elif outcome.recorded is None:
                remarks[outcome.left_out] += 1
            else:
                taken.add(outcome.number, outcome.recorded)
                remarks.update(outcome.recorded.remarks)
            if progress:
                progress(done, len(there.places), taken.n_times / there.request.sfreq / 3600)
    refuse_or_say(there, list(taken.found.values()), remarks, faults, site=site)
    # What is held stays before what is new, so that nothing of it becomes a copy.
    order = {source: number for number, source in enumerate(keeping.held)}
    numbers = sorted(taken.found, key=lambda number: order.get(taken.found[number].source, len(order)))
    recorded = [taken.found[number] for number in numbers]
    copies = is_copy(recorded)
    firsts = [one for one, copy in zip(recorded, copies, strict=True) if not copy]
    say_artefacts([Excerpt(one.labels, one.told) for one in firsts], site=site)
    return TakenIn(
        recordings=tuple(recorded),
        people=tuple(people_of(recorded)),
        copies=tuple(copies),
        numbers=tuple(numbers),
        remarks={kind: count for kind, count in (Counter(there.left_out) + remarks).items() if count},
        channels=there.request.channels,
        shape=setting.shape,
        keeping=keeping,
    )


class _Gathered:
    """The recordings taken in so far, by number; windows are shown of the few worst alone."""

    def __init__(self) -> None:
        self.found: dict[int, Recorded] = {}
        self.n_times = 0
        self._worst: list[int] = []

    def add(self, number: int, one: Recorded) -> None:
        self.found[number] = one
        self.n_times += one.n_times
        if one.told.shown.size:
            self._worst = sorted([*self._worst, number], key=lambda n: (-self.found[n].badness, n))
            for other in self._worst[MOST_SHOWN:]:
                self.found[other] = self.found[other].unshown()
            del self._worst[MOST_SHOWN:]


def hours_told(progress: Progress, what: str) -> Told:
    """Return what tells a progress of files and hours."""
    return lambda done, total, hours: progress(f"{what}{NOTE}{hours:.1f} h", done, total)


def part_of(keeping: Keeping, source: str) -> Path | None:
    """Return where the part of a recording goes, by its source: a token, or in clear nothing but a digest."""
    return None if keeping.parts is None else keeping.parts / f"{source}.part"


def _outcomes(
    there: Arrangement, setting: Setting, keeping: Keeping, processes: int
) -> Generator[Outcome, None, None]:
    """Yield what becomes of every recording, in the order of their names."""
    jobs: list[Job | Outcome] = []
    for number, place in enumerate(there.places, start=1):
        try:
            entry = there.entry(place)
        except RecordingError as error:
            jobs.append(Outcome(number, fault=error))
            continue
        if isinstance(entry, str):
            jobs.append(Outcome(number, left_out=entry))
            continue
        source = source_of(there, place, entry, token=setting.token)
        ready = _ready(source, keeping)
        if ready is not None:
            jobs.append(Outcome(number, recorded=ready))
            continue
        jobs.append(Job(number, place, entry, source, part_of(keeping, source)))
    open_ones = [job for job in jobs if isinstance(job, Job)]
    if processes < 2 or len(open_ones) < 2:
        for job in jobs:
            yield take(job, setting) if isinstance(job, Job) else job
        return
    with ProcessPoolExecutor(
        min(processes, len(open_ones)),
        mp_context=multiprocessing.get_context("spawn"),
        initializer=_begin,
        initargs=(setting,),
    ) as pool:
        results = pool.map(_do, open_ones)
        try:
            for job in jobs:
                yield next(results) if isinstance(job, Job) else job
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def _ready(source: str, keeping: Keeping) -> Recorded | None:
    """Return what was taken in before, where it is whole."""
    try:
        if source in keeping.held:
            store, entry = keeping.held[source]
            return Recorded.from_bytes(store.facts(entry), labels=entry.labels)
        part = part_of(keeping, source)
        if part is None:
            return None
        with part.open("rb") as file:
            store = open_store(file, key=keeping.key)
            [entry] = store.index.entries
            store.rows(entry)
            return Recorded.from_bytes(store.facts(entry), labels=entry.labels)
    except (OSError, RecordingError, ValueError):
        return None


def _processes(there: Arrangement) -> int:
    """Return how many processes to read in: one, where starting more takes longer than reading."""
    size = 0
    for root, _, names in os.walk(there.folder):
        for name in names:
            try:
                size += os.stat(os.path.join(root, name)).st_size  # noqa: PTH116, PTH118
            except OSError:
                continue
        if size >= IN_PARALLEL_BYTES:
            return min(MOST_PROCESSES, len(os.sched_getaffinity(0)))
    return 1


_setting: Setting | None = None


def _begin(setting: Setting) -> None:
    """Note the setting in a process that was just begun."""
    global _setting
    use_again()
    _setting = setting


def _do(job: Job) -> Outcome:
    assert _setting is not None  # `_begin` came first
    return take(job, _setting)
