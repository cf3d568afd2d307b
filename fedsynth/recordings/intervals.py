"""Intervals: from the annotations of a recording to stretches that have one label each.

Nothing here opens a file. A stretch lies inside its annotation to the sample. Where annotations of different labels
overlap, nobody knows, and the overlap has no label.
"""

import math
from collections.abc import Sequence
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from fedsynth.recording_plan import LabelPlan
from fedsynth.recordings.participants import name_of
from fedsynth.recordings.recording import DOUBTFUL, Beats, Mark, Stretch

_NOBODY, _UNKNOWN = -1, -2


def stretches_of(marks: Sequence[Mark], plan: LabelPlan, *, n_times: int, sfreq: float) -> tuple[Stretch, ...]:
    """Turn annotations into stretches.

    Args:
        marks: of the recording, in the order of time; one without an end lasts until the next without one.
        plan: names the labels. `before` are stretches that end where an interval begins; `background` is what is
            left at a distance of `gap_seconds` from all of these.
        n_times: samples of the recording.
        sfreq: in Hz.

    Raises:
        UnknownLabelError: an annotation that is none of the study's, where the study refuses such.

    >>> plan = LabelPlan(names=("rest", "fit"), source="intervals", positive="fit", background="rest")
    >>> stretches_of([Mark(30, 20, "fit")], plan, n_times=100, sfreq=10.0)
    (Stretch(start=0, stop=30, label=0), Stretch(start=30, stop=50, label=1), Stretch(start=50, stop=100, label=0))
    """
    owner: NDArray[np.int16] = np.full(n_times, _NOBODY, dtype=np.int16)
    onsets: list[tuple[int, int]] = []
    for start, stop, text in _ends(marks, n_times):
        number = _UNKNOWN
        if text != DOUBTFUL:
            name = name_of(text, plan)
            number = _UNKNOWN if name is None else plan.names.index(name)
        part = owner[max(0, start) : max(0, stop)]
        part[(part != _NOBODY) & (part != number)] = _UNKNOWN
        part[part == _NOBODY] = number
        onsets.append((start, number))
    before = [
        (start, plan.names.index(target), rule)
        for target, rule in plan.before.items()
        for start, number in onsets
        if number >= 0 and plan.names[number] == rule.of
    ]
    for start, target, rule in before:
        first = start - round(rule.seconds * sfreq)
        part = owner[max(0, first) : max(0, start - round(rule.gap_seconds * sfreq))]
        part[part == _NOBODY] = target
        rest = owner[max(0, start - round(rule.gap_seconds * sfreq)) : max(0, start)]
        rest[rest == _NOBODY] = _UNKNOWN
    if plan.background is not None:
        near = _near(owner != _NOBODY, round(plan.gap_seconds * sfreq))
        owner[(owner == _NOBODY) & ~near] = plan.names.index(plan.background)
    edges = np.flatnonzero(np.diff(np.concatenate([[_UNKNOWN - 1], owner, [_UNKNOWN - 1]])))
    return tuple(
        Stretch(start, stop, int(owner[start])) for start, stop in pairwise(edges.tolist()) if owner[start] >= 0
    )


def events_of(marks: Sequence[Mark], plan: LabelPlan, *, n_times: int, sfreq: float, window: float) -> Beats:
    """Turn annotations into events, each of which a window is locked to.

    Args:
        marks: of the recording; where each begins is the event.
        plan: names the labels; a window begins `offset_seconds` after its event (before it where that is negative).
        n_times: samples of the recording.
        sfreq: in Hz.
        window: length in samples at that rate; a window is cut around its middle.

    Raises:
        UnknownLabelError: an annotation that is none of the study's, where the study refuses such.
    """
    found = []
    for mark in sorted(marks, key=lambda one: one.start):
        name = None if mark.text == DOUBTFUL else name_of(mark.text, plan)
        if name is not None and 0 <= mark.start < n_times:
            found.append((mark.start, plan.names.index(name)))
    shift = math.floor(plan.offset_seconds * sfreq + window / 2 + 0.5)
    samples = np.array([start + shift for start, _ in found], dtype=np.int64)
    return Beats(samples, np.array([label for _, label in found], dtype=np.int64))


def windows_in(
    stretches: Sequence[Stretch], *, n_times: int, at_most: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Place windows inside stretches, at most `at_most` of each label, spread evenly over all that fit.

    Within a stretch windows do not overlap, and stand as evenly as they can.

    Returns:
        Where they begin, and their labels, shape (window,), in the order of time.

    >>> starts, labels = windows_in([Stretch(0, 10, 0), Stretch(10, 14, 1)], n_times=4, at_most=5)
    >>> starts.tolist(), labels.tolist()
    ([0, 5, 10], [0, 0, 1])
    """
    fitting: dict[int, list[int]] = {}
    for stretch in stretches:
        length = stretch.stop - stretch.start
        count = length // n_times
        fitting.setdefault(stretch.label, []).extend(
            stretch.start + ((2 * index + 1) * length - count * n_times) // (2 * count) for index in range(count)
        )
    chosen = []
    for label, starts in fitting.items():
        count = min(at_most, len(starts))
        chosen += [(starts[(2 * i + 1) * len(starts) // (2 * count)], label) for i in range(count)]
    chosen.sort()
    return np.array([start for start, _ in chosen], dtype=np.int64), np.array(
        [x for _, x in chosen], dtype=np.int64
    )


def _ends(marks: Sequence[Mark], n_times: int) -> list[tuple[int, int, str]]:
    """Return (start, stop, text) of every mark; an open one ends where the next open one begins."""
    opened = sorted(mark.start for mark in marks if mark.n_times is None)
    found = []
    for mark in marks:
        if mark.n_times is None:
            stop = next((start for start in opened if start > mark.start), n_times)
        else:
            stop = mark.start + mark.n_times
        found.append((mark.start, stop, mark.text))
    return found


def _near(flags: NDArray[np.bool_], distance: int) -> NDArray[np.bool_]:
    """Tell which samples are at most `distance` from a true one."""
    if distance == 0 or not flags.any():
        return flags
    counts = np.concatenate([[0], np.cumsum(flags)])
    places = np.arange(len(flags))
    low, high = np.maximum(0, places - distance), np.minimum(len(flags), places + distance + 1)
    return np.asarray(counts[high] > counts[low])
