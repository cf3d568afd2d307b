"""Windows: from a site's recordings to windows of equal length and rate, filtered, clipped and numbered."""

import logging
from collections import Counter
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from fedsynth.errors import RecordingError
from fedsynth.recordings.excerpt import Excerpt, excerpt, filtering_of
from fedsynth.recordings.gaps import parts
from fedsynth.recordings.people import is_copy, people_of
from fedsynth.recordings.placement import Bearer, beside_beats, evenly
from fedsynth.recordings.recording import Beats, Recording, Windows
from fedsynth.study import Study

log = logging.getLogger(__name__)


def cut(recording: Recording, *, n_times: int, at_most: int) -> NDArray[np.float32]:
    """Cut a recording into windows that do not overlap, spread evenly from its beginning to its end.

    The recording is parted into as many equal stretches as there are windows, and each window is the middle of
    its stretch.

    Args:
        recording: signal in microvolts, shape (channel, time).
        n_times: window length in samples.
        at_most: the largest number of windows; all that fit, where those are fewer.

    Returns:
        Windows in microvolts, shape (window, channel, time), float32.

    Raises:
        RecordingError: the recording is shorter than one window.

    >>> ramp = np.arange(10, dtype=np.float32)[None]
    >>> cut(Recording(ramp, 128, ("Cz",), "", "", ""), n_times=2, at_most=2)[:, 0, 0].tolist()
    [1.0, 6.0]
    """
    starts = evenly(recording.signal.shape[1], n_times=n_times, at_most=at_most)
    return _at(recording, starts, n_times=n_times)


def around_beats(
    recording: Recording, beats: Beats, *, n_times: int, at_most: int
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Cut a window around each of some beats, which stands at sample `n_times // 2` of its window.

    Of each label, at most `at_most` beats are taken, spread evenly over its beats in their order; one whose window
    would leave the recording is none of them. Windows of beats that follow one another closely overlap.

    Args:
        recording: signal in microvolts, shape (channel, time).
        beats: of that recording, at its rate.
        n_times: window length in samples.
        at_most: the largest number of windows of each label.

    Returns:
        Windows in microvolts, shape (window, channel, time), float32, in the order of time, and their labels,
        shape (window,).

    >>> ramp = np.arange(10, dtype=np.float32)[None]
    >>> beats = Beats(np.array([1, 3, 4, 7, 9]), np.array([0, 0, 1, 0, 0]))
    >>> windows, labels = around_beats(Recording(ramp, 128, ("I",), "", "", ""), beats, n_times=4, at_most=1)
    >>> windows[:, 0, 2].tolist(), labels.tolist()
    ([4.0, 7.0], [1, 0])
    """
    bounds = parts(recording.signal.shape[1], recording.gaps)
    starts, labels = beside_beats(beats, bounds=bounds, n_times=n_times, at_most=at_most)
    return _at(recording, starts, n_times=n_times), labels


def windows_of(
    recordings: list[Recording],
    *,
    study: Study,
    site: str = "",
    progress: Callable[[int, int], None] | None = None,
) -> Windows:
    """Filter every recording, bring it to the study's rate, cut it, and clip it to the study's public range.

    Subjects and recordings are numbered from 0 in the order in which they come; a subject is one person under
    however many names (`fedsynth.recordings.people`), and a recording that is there twice is cut once. Windows with
    an artefact on any channel are left out, unless the study keeps them; others do not take their place, so that
    each window stands or falls alone. How many, by rule and channel, is logged for the site's own eyes.

    Args:
        recordings: of one site, as `read_site` returns them.
        study: for the band, the windows, the labels and the range.
        site: its name, for the log.
        progress: called with (recordings done, recordings in all).

    Raises:
        RecordingError: a recording shorter than one window, or with a label that the study does not have.
    """
    cuts = []
    for number, (recording, copy) in enumerate(zip(recordings, is_copy(recordings), strict=True)):
        unmarked = recording.beats is None and recording.stretches is None
        if unmarked and recording.label not in study.labels.names:
            raise RecordingError(f"a recording's label is not one of the study's names {list(study.labels.names)}")
        if not copy:
            cuts.append((number, *_cut(recording, study)))
            if progress:
                progress(number + 1, len(recordings))
    say_artefacts([found for _, found, _ in cuts], site=site)
    people = people_of(recordings)
    empty = np.empty((0, len(study.signal.channels), study.windows.n_times), dtype=np.float32)
    counts = [len(windows) for _, _, windows in cuts]
    numbers = np.repeat(np.array([number for number, _, _ in cuts], dtype=np.int64), counts)
    return Windows(
        signal=np.concatenate([empty, *(windows for _, _, windows in cuts)]),
        labels=np.concatenate([np.empty(0, dtype=np.int64), *(found.labels for _, found, _ in cuts)]),
        subjects=np.array(people, dtype=np.int64)[numbers] if people else numbers,
        recordings=numbers,
        label_names=study.labels.names,
        channels=study.signal.channels,
        sfreq=study.signal.sfreq,
        covariates=np.array([one.covariates for one in recordings] or [(0,)], dtype=np.int64)[numbers],
    )


def say_artefacts(excerpts: Sequence[Excerpt], *, site: str) -> None:
    """Log how many windows are left out, by rule and channel, for the site's own eyes."""
    broken = Counter[tuple[str, str]]()
    for found in excerpts:
        broken.update(found.told.broken)
    in_all = sum(found.told.placed for found in excerpts)
    left_out = in_all - sum(len(found.labels) for found in excerpts)
    if left_out:
        said = ", ".join(f"{rule} on {channel} {count}" for (rule, channel), count in sorted(broken.items()))
        log.warning("site %r: %d of %d windows are left out for artefacts: %s", site, left_out, in_all, said)


def _cut(recording: Recording, study: Study) -> tuple[Excerpt, NDArray[np.float32]]:
    """Cut the windows of a recording in memory, shape (window, channel, time)."""
    filtering = filtering_of(study.signal, sfreq=recording.sfreq, recorded=recording.channels)
    kept = [np.empty((0, len(study.signal.channels), study.windows.n_times), dtype=np.float32)]
    found = excerpt(
        lambda: iter([recording.signal]),
        total=recording.signal.shape[1],
        gaps=recording.gaps,
        bearer=Bearer(recording.label, recording.beats, recording.stretches),
        filtering=filtering,
        names=recording.channels,
        study=study,
        keep=lambda window: kept.append(window[None].copy()),
    )
    return found, np.concatenate(kept)


def _at(recording: Recording, starts: NDArray[np.int64], *, n_times: int) -> NDArray[np.float32]:
    empty = np.empty((0, len(recording.signal), n_times), dtype=np.float32)
    pieces = [recording.signal[:, start : start + n_times][None] for start in starts.tolist()]
    return np.concatenate([empty, *pieces]).astype(np.float32)
