"""Windows: from a site's recordings to windows of equal length and rate, filtered, clipped and numbered."""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from fedsynth.errors import RecordingError
from fedsynth.recordings.filters import band_pass, resample
from fedsynth.recordings.people import is_copy, people_of
from fedsynth.recordings.recording import Beats, Recording, Windows
from fedsynth.study import Study


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
    total = recording.signal.shape[1]
    n_windows = min(at_most, total // n_times)
    if n_windows == 0:
        raise RecordingError(f"the recording is too short: {total} samples, and one window takes {n_times}")
    starts = [((2 * index + 1) * total - n_windows * n_times) // (2 * n_windows) for index in range(n_windows)]
    return np.stack([recording.signal[:, start : start + n_times] for start in starts]).astype(np.float32)


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
    starts = beats.samples - n_times // 2
    inside = (starts >= 0) & (starts + n_times <= recording.signal.shape[1])
    chosen: list[int] = []
    for label in np.unique(beats.labels):
        mine = np.flatnonzero(inside & (beats.labels == label))
        count = min(at_most, len(mine))
        chosen += [int(mine[(2 * index + 1) * len(mine) // (2 * count)]) for index in range(count)]
    chosen.sort()
    empty = np.empty((0, len(recording.signal), n_times), dtype=np.float32)
    pieces = [recording.signal[:, starts[index] : starts[index] + n_times][None] for index in chosen]
    return np.concatenate([empty, *pieces]).astype(np.float32), beats.labels[np.array(chosen, dtype=np.int64)]


def windows_of(
    recordings: list[Recording], *, study: Study, progress: Callable[[int, int], None] | None = None
) -> Windows:
    """Filter every recording, bring it to the study's rate, cut it, and clip it to the study's public range.

    Subjects and recordings are numbered from 0 in the order in which they come; a subject is one person under
    however many names (`fedsynth.recordings.people`), and a recording that is there twice is cut once. How many
    samples were clipped is not reported: that would be a statement about the recordings.

    Args:
        recordings: of one site, as `read_site` returns them.
        study: for the band, the windows, the labels and the range.
        progress: called with (recordings done, recordings in all).

    Raises:
        RecordingError: a recording shorter than one window, or with a label that the study does not have.
    """
    signals, labels, subjects, numbers = [], [], [], []
    limit = study.signal.range_uv
    for number, (recording, person, copy) in enumerate(
        zip(recordings, people_of(recordings), is_copy(recordings), strict=True)
    ):
        if recording.beats is None and recording.label not in study.labels.names:
            raise RecordingError(f"a recording's label is not one of the study's names {list(study.labels.names)}")
        if copy:
            continue
        filtered = resample(band_pass(recording, bandpass=study.signal.bandpass), sfreq=study.signal.sfreq)
        n_times, at_most = study.windows.n_times, study.windows.per_recording
        if filtered.beats is not None:
            windows, found = around_beats(filtered, filtered.beats, n_times=n_times, at_most=at_most)
            labels += found.tolist()
        else:
            windows = cut(filtered, n_times=n_times, at_most=at_most)
            labels += [study.labels.names.index(recording.label)] * len(windows)
        signals.append(np.clip(windows, -limit, limit))
        subjects += [person] * len(windows)
        numbers += [number] * len(windows)
        if progress:
            progress(number + 1, len(recordings))
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
