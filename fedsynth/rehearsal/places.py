"""What a rehearsal needs of a machine, asked before it begins: a place, room on the disk, and memory."""

import functools
import os
from collections.abc import Callable
from pathlib import Path
from typing import Protocol, TypeVar

from fedsynth.errors import FedsynthError, RunError
from fedsynth.memory import memory_available
from fedsynth.places import check_space, claimed, gigabytes, masked, place_for
from fedsynth.recordings.readers.registry import READERS
from fedsynth.study import Study, parse_study

_NUMBER = 4  # bytes of a float32
# Measured at 19 to 64 channels and 512 to 5120 samples: highest resident size of plan, prior and first draw.
_ALWAYS = 500_000_000  # bytes: interpreter and libraries
_BANK = 430_000  # bytes for each sample of a window: the simulated waveforms of one channel, and what sorts them
_PUBLIC_WINDOWS = 5500  # whole windows, simulated or drawn, that stand in memory at once
_COPIES = 3  # of the sites' windows: as cut, joined for scores, and one more on the way
_RESERVE = 200_000_000  # bytes on the disk: ledgers, logs, generator
_TOY_PEOPLE = 140  # of a site
_TOY_SITES = 4


class _Asked(Protocol):
    @property
    def sites(self) -> Path | None: ...
    @property
    def out(self) -> Path: ...
    @property
    def study_text(self) -> str: ...


_What = TypeVar("_What", bound=_Asked)
_Run = TypeVar("_Run")


def alone_at_its_place(carry_out: "Callable[..., _Run]") -> "Callable[..., _Run]":
    """Make a rehearsal check its place first and hold it to its end, and keep its files from everybody else.

    The decorated function raises, beside its own errors, RunError where nothing can be written, and RefusedError
    where another process writes already.
    """

    @functools.wraps(carry_out)
    def run(what: _Asked, **others: object) -> "_Run":
        place = place_for(what.out, apart_from=folders_of_recordings(what))
        with masked(0o077), claimed(place, what="a run"):
            return carry_out(what, **others)

    return run


def folders_of_recordings(what: _Asked) -> tuple[Path, ...]:
    """Return the folders that a run must not lie in: those of the sites that the study names, or else of all.

    Who has one folder of recordings works in the folder above it, and wants the run there.
    """
    if what.sites is None:
        return ()
    try:
        named = parse_study(what.study_text).cohort.sites
    except FedsynthError:
        named = ()  # the study is refused in its own words
    return tuple(what.sites / name for name in named) or (what.sites,)


def check_room(study: Study, *, sites: Path | None, people: float, place: Path) -> None:
    """Refuse a study for which this machine has clearly too little memory, or the disk too little space.

    Args:
        study: gives the size of a window and how many are cut from a recording.
        sites: the folder of recordings, or None for the toy cohort.
        people: scales the toy cohort.
        place: where the run goes.

    Raises:
        RunError: with both figures. Nothing was opened or charged.
    """
    windows = windows_at_most(study, sites=sites, people=people)
    check_space(place, needed=windows * window_bytes(study) + _RESERVE, what=f"a run with some {windows} windows")
    needed, there = memory_needed(study, windows=windows), memory_available()
    if there is not None and needed > there:
        seconds = study.windows.n_times / study.signal.sfreq
        raise RunError(
            f"windows of {len(study.signal.channels)} channels at {study.signal.sfreq:g} Hz and {seconds:.3g} s, "
            f"some {windows} of them, take about {gigabytes(needed)} of memory, and this machine has "
            f"{gigabytes(there)} free. Nothing was opened or charged; lower signal.sfreq, windows.n_times, "
            "windows.per_recording or the number of channels, or use a larger machine"
        )


def window_bytes(study: Study) -> int:
    """Return how many bytes one window takes."""
    return len(study.signal.channels) * study.windows.n_times * _NUMBER


def windows_at_most(study: Study, *, sites: Path | None, people: float) -> int:
    """Return about how many windows all sites together cut, from names and sizes of files alone."""
    each = study.windows.per_recording * (len(study.labels.names) if study.labels.source == "beats" else 1)
    if sites is None:
        n_sites = len(study.cohort.sites) or _TOY_SITES
        return max(1, round(_TOY_PEOPLE * people * n_sites * each))
    suffixes, total = READERS[study.signal.format].suffixes, 0
    for folder, _, names in os.walk(sites):
        for name in names:
            if name.lower().endswith(suffixes):
                total += min(each, _fit(Path(folder) / name, study) if study.signal.format == "edf" else each)
    return total


def memory_needed(study: Study, *, windows: int) -> int:
    """Return about how many bytes of memory a rehearsal takes at its highest.

    Besides the windows of all sites there are the simulated ones from which a study's public constants are made.
    """
    of_windows = window_bytes(study) * (_COPIES * windows + _PUBLIC_WINDOWS)
    return _ALWAYS + _BANK * study.windows.n_times + of_windows


def _fit(path: Path, study: Study) -> int:
    """Return how many windows the samples of an EDF file can fill; its channels may be more than the study's."""
    try:
        samples = path.stat().st_size / 2 / len(study.signal.channels)
    except OSError:
        return study.windows.per_recording
    up, down = study.signal.resampling
    return int(samples * up / down / study.windows.n_times) + 1
