"""Windows: from a site's recordings to windows of equal length and rate, filtered, clipped and numbered."""

import logging
from collections import Counter
from collections.abc import Callable, Sequence
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from fedsynth.errors import RecordingError
from fedsynth.recordings.artefacts import artefacts
from fedsynth.recordings.filters import band_pass, resample
from fedsynth.recordings.gaps import inside_one_part, parts, split
from fedsynth.recordings.intervals import windows_in
from fedsynth.recordings.people import is_copy, people_of
from fedsynth.recordings.recording import Beats, Recording, Stretch, Windows
from fedsynth.study import Study, rate_ratio

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


def evenly(total: int, *, n_times: int, at_most: int) -> NDArray[np.int64]:
    """Return where windows begin that are spread evenly over a stretch of `total` samples, shape (window,).

    Raises:
        RecordingError: the stretch is shorter than one window.
    """
    n_windows = min(at_most, total // n_times)
    if n_windows == 0:
        raise RecordingError(f"the recording is too short: {total} samples, and one window takes {n_times}")
    starts = [((2 * index + 1) * total - n_windows * n_times) // (2 * n_windows) for index in range(n_windows)]
    return np.array(starts, dtype=np.int64)


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


def beside_beats(
    beats: Beats, *, bounds: Sequence[tuple[int, int]], n_times: int, at_most: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return where the windows of `around_beats` begin, and their labels, shape (window,).

    `bounds` are the stretches between gaps; a window that would leave its own is none.
    """
    starts = beats.samples - n_times // 2
    inside = inside_one_part(starts, n_times, bounds)
    chosen: list[int] = []
    for label in np.unique(beats.labels):
        mine = np.flatnonzero(inside & (beats.labels == label))
        count = min(at_most, len(mine))
        chosen += [int(mine[(2 * index + 1) * len(mine) // (2 * count)]) for index in range(count)]
    kept = np.array(sorted(chosen), dtype=np.int64)
    return starts[kept], beats.labels[kept]


def clean(
    recording: Recording, starts: NDArray[np.int64], *, ratio: tuple[int, int], n_times: int, study: Study
) -> tuple[NDArray[np.bool_], Counter[tuple[str, str]]]:
    """Tell which windows are free of artefacts in the samples as recorded.

    Args:
        recording: as read, before any filter.
        starts: of windows at the study's rate, shape (window,).
        ratio: (up, down) from the recording's rate to the study's.
        n_times: of a window at the study's rate.
        study: for the kind of signal.

    Returns:
        Flags, shape (window,), and how many windows broke each rule on each channel.
    """
    up, down = ratio
    counts: Counter[tuple[str, str]] = Counter()
    flags = np.ones(len(starts), dtype=bool)
    for place, start in enumerate(starts.tolist()):
        first, last = start * down // up, -((-(start + n_times) * down) // up)
        window = recording.signal[:, first : min(last, recording.signal.shape[1])]
        found = artefacts(window, sfreq=recording.sfreq, modality=study.signal.modality)
        for rule, broken in found.items():
            counts.update((rule, recording.channels[index]) for index in np.flatnonzero(broken))
            flags[place] &= not broken.any()
    return flags, counts


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
    signals, labels, subjects, numbers = list[NDArray[np.float32]](), list[int](), list[int](), list[int]()
    limit, n_times, band = study.signal.range_uv, study.windows.n_times, study.signal.bandpass
    broken, left_out, in_all = Counter[tuple[str, str]](), 0, 0
    for number, (recording, person, copy) in enumerate(
        zip(recordings, people_of(recordings), is_copy(recordings), strict=True)
    ):
        unmarked = recording.beats is None and recording.stretches is None
        if unmarked and recording.label not in study.labels.names:
            raise RecordingError(f"a recording's label is not one of the study's names {list(study.labels.names)}")
        if copy:
            continue
        up, down = rate_ratio(recording.sfreq, study.signal.sfreq)
        # No filter reaches over a gap, and no window does: each stretch between gaps goes its way alone.
        between = split(recording, at_least=(n_times - 1) * down // up + 1)
        filtered = [resample(band_pass(x, bandpass=band), sfreq=study.signal.sfreq) for x in between]
        starts, found = _placed(filtered, study)
        first = 0
        for part, done in zip(between, filtered, strict=True):
            last = first + done.signal.shape[1]
            mine = (starts >= first) & (starts < last)
            inside, named = starts[mine] - first, found[mine]
            first = last
            if study.windows.artefacts == "leave out":
                kept, counts = clean(part, inside, ratio=(up, down), n_times=n_times, study=study)
                broken.update(counts)
                left_out, in_all = left_out + int((~kept).sum()), in_all + len(kept)
                inside, named = inside[kept], named[kept]
            windows = _at(done, inside, n_times=n_times)
            labels += named.tolist()
            signals.append(np.clip(windows, -limit, limit))
            subjects += [person] * len(windows)
            numbers += [number] * len(windows)
        if progress:
            progress(number + 1, len(recordings))
    if left_out:
        said = ", ".join(f"{rule} on {channel} {count}" for (rule, channel), count in sorted(broken.items()))
        log.warning("site %r: %d of %d windows are left out for artefacts: %s", site, left_out, in_all, said)
    empty = np.empty((0, len(study.signal.channels), study.windows.n_times), dtype=np.float32)
    return Windows(
        signal=np.concatenate([empty, *signals]),
        labels=np.array(labels, dtype=np.int64),
        subjects=np.array(subjects, dtype=np.int64),
        recordings=np.array(numbers, dtype=np.int64),
        label_names=study.labels.names,
        channels=study.signal.channels,
        sfreq=study.signal.sfreq,
    )


def _placed(between: list[Recording], study: Study) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Place the windows of a recording in the stretches between its gaps.

    Args:
        between: the stretches, filtered, at the study's rate.
        study: for the windows and the labels.

    Returns:
        Where windows begin, counted as if the stretches stood one after another, and their labels, shape (window,).
    """
    n_times, at_most = study.windows.n_times, study.windows.per_recording
    edges = np.cumsum([0, *(part.signal.shape[1] for part in between)]).tolist()
    bounds = list(pairwise(edges))
    if between and between[0].beats is not None:
        places = [part.beats.samples + edge for part, edge in zip(between, edges[:-1], strict=True) if part.beats]
        named = [part.beats.labels for part in between if part.beats]
        beats = Beats(np.concatenate(places), np.concatenate(named))
        return beside_beats(beats, bounds=bounds, n_times=n_times, at_most=at_most)
    if between and between[0].stretches is not None:
        stretches = [
            Stretch(one.start + edge, one.stop + edge, one.label)
            for part, edge in zip(between, edges[:-1], strict=True)
            for one in part.stretches or ()
        ]
        return windows_in(stretches, n_times=n_times, at_most=at_most)
    label = study.labels.names.index(between[0].label) if between else 0
    if len(between) != 1:
        return windows_in([Stretch(*bound, label) for bound in bounds], n_times=n_times, at_most=at_most)
    starts = evenly(edges[-1], n_times=n_times, at_most=at_most)
    return starts, np.full(len(starts), label, dtype=np.int64)


def _at(recording: Recording, starts: NDArray[np.int64], *, n_times: int) -> NDArray[np.float32]:
    empty = np.empty((0, len(recording.signal), n_times), dtype=np.float32)
    pieces = [recording.signal[:, start : start + n_times][None] for start in starts.tolist()]
    return np.concatenate([empty, *pieces]).astype(np.float32)
