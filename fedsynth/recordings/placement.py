"""Placement: where the windows of a recording begin, at the study's rate."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from fedsynth.errors import RecordingError
from fedsynth.recordings.filters import at_rate
from fedsynth.recordings.gaps import inside_one_part
from fedsynth.recordings.intervals import windows_in
from fedsynth.recordings.recording import Beats, Stretch
from fedsynth.study import Study


@dataclass(frozen=True)
class Bearer:
    """What bears the labels of a recording: itself (`label`), or beats, or stretches, in samples as recorded."""

    label: str = field(default="", repr=False)
    beats: Beats | None = None
    stretches: tuple[Stretch, ...] | None = None

    def within(self, first: int, last: int) -> "Bearer":
        """Return what of it lies in a stretch of the recording, counted from where that begins."""
        beats, stretches = self.beats, self.stretches
        if beats is not None:
            here = (beats.samples >= first) & (beats.samples < last)
            beats = Beats(beats.samples[here] - first, beats.labels[here])
        if stretches is not None:
            inside = [Stretch(max(s.start, first), min(s.stop, last), s.label) for s in stretches]
            stretches = tuple(Stretch(s.start - first, s.stop - first, s.label) for s in inside if s.stop > s.start)
        return Bearer(self.label, beats, stretches)


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


def placed(
    bearer: Bearer, *, between: Sequence[tuple[int, int]], ratio: tuple[int, int], study: Study
) -> tuple[NDArray[np.int64], NDArray[np.int64], list[int]]:
    """Place the windows of a recording in the stretches between its gaps.

    Args:
        bearer: of labels.
        between: the stretches, (first, one after the last), in samples as recorded.
        ratio: (up, down) from the recording's rate to the study's.
        study: for the windows and the labels.

    Returns:
        Where windows begin at the study's rate, counted as if the stretches stood one after another, their labels,
        shape (window,), and the edges of the stretches in that count.

    Raises:
        RecordingError: a recording without gaps that is shorter than one window.
    """
    up, down = ratio
    n_times, at_most = study.windows.n_times, study.windows.per_recording
    edges = [0]
    for first, last in between:
        edges.append(edges[-1] - (-(last - first) * up // down))
    bounds = list(pairwise(edges))
    parts = [at_rate(one.beats, one.stretches, ratio=ratio) for one in (bearer.within(*part) for part in between)]
    if bearer.beats is not None:
        found = [
            (beats.samples + edge, beats.labels) for (beats, _), edge in zip(parts, edges, strict=False) if beats
        ]
        empty = np.empty(0, dtype=np.int64)
        beats = Beats(
            np.concatenate([empty, *(samples for samples, _ in found)]),
            np.concatenate([empty, *(labels for _, labels in found)]),
        )
        return *beside_beats(beats, bounds=bounds, n_times=n_times, at_most=at_most), edges
    if bearer.stretches is not None:
        stretches = [
            Stretch(one.start + edge, one.stop + edge, one.label)
            for (_, mine), edge in zip(parts, edges, strict=False)
            for one in mine or ()
        ]
        return *windows_in(stretches, n_times=n_times, at_most=at_most), edges
    label = study.labels.names.index(bearer.label)
    if len(bounds) != 1:
        stretches = [Stretch(*bound, label) for bound in bounds]
        return *windows_in(stretches, n_times=n_times, at_most=at_most), edges
    starts = evenly(edges[-1], n_times=n_times, at_most=at_most)
    return starts, np.full(len(starts), label, dtype=np.int64), edges
