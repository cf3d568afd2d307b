"""Intervals: from the annotations of a recording to stretches that have one label each.

Nothing here opens a file. A stretch lies inside its annotation to the sample. Where annotations of different labels
overlap, nobody knows, and the overlap has no label.
"""

import math
from bisect import bisect_right
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

    Behind a point in time that has a label other than the background's (`has_no_end`) nothing is background.

    Raises:
        UnknownLabelError: an annotation that is none of the study's, where the study refuses such.

    >>> plan = LabelPlan(names=("rest", "fit"), source="intervals", positive="fit", background="rest")
    >>> stretches_of([Mark(30, 20, "fit")], plan, n_times=100, sfreq=10.0)
    (Stretch(start=0, stop=30, label=0), Stretch(start=30, stop=50, label=1), Stretch(start=50, stop=100, label=0))
    """
    spans = _ends(marks, n_times)
    numbers = [_number(text, plan) for _, _, text in spans]
    before = [
        (start, plan.names.index(target), rule)
        for target, rule in plan.before.items()
        for (start, _, _), number in zip(spans, numbers, strict=True)
        if number >= 0 and plan.names[number] == rule.of
    ]
    painted = _Painted(
        n_times,
        [
            *(edge for start, stop, _ in spans for edge in (start, stop)),
            *(start - round(seconds * sfreq) for start, _, rule in before for seconds in (rule.seconds, 0.0)),
            *(start - round(rule.gap_seconds * sfreq) for start, _, rule in before),
        ],
        near=round(plan.gap_seconds * sfreq),
    )
    owner = painted.owner
    for (start, stop, _), number in zip(spans, numbers, strict=True):
        part = painted.between(start, stop)
        part[(part != _NOBODY) & (part != number)] = _UNKNOWN
        part[part == _NOBODY] = number
    for mark in marks:
        if has_no_end(mark, plan):
            behind = painted.between(mark.start, n_times)
            behind[behind == _NOBODY] = _UNKNOWN
    for start, target, rule in before:
        late = start - round(rule.gap_seconds * sfreq)
        part = painted.between(start - round(rule.seconds * sfreq), late)
        part[part == _NOBODY] = target
        rest = painted.between(late, start)
        rest[rest == _NOBODY] = _UNKNOWN
    if plan.background is not None:
        owner[(owner == _NOBODY) & ~painted.near()] = plan.names.index(plan.background)
    return painted.stretches()


def has_no_end(mark: Mark, plan: LabelPlan) -> bool:
    """Tell whether an annotation should be an interval of a label and is a point: how long it lasted, nobody knows.

    >>> plan = LabelPlan(names=("rest", "fit"), source="intervals", positive="fit", background="rest")
    >>> [has_no_end(Mark(30, 0, text), plan) for text in ("fit", "rest", "blink")]
    [True, False, False]
    """
    label = plan.rename.get(mark.text, mark.text)
    return mark.n_times == 0 and label in plan.names and label != plan.background


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
            later = bisect_right(opened, mark.start)
            stop = opened[later] if later < len(opened) else n_times
        else:
            stop = mark.start + mark.n_times
        found.append((mark.start, stop, mark.text))
    return found


def _number(text: str, plan: LabelPlan) -> int:
    name = None if text == DOUBTFUL else name_of(text, plan)
    return _UNKNOWN if name is None else plan.names.index(name)


class _Painted:
    """Who owns which samples, kept by the pieces between edges, so that memory does not grow with the recording.

    Args:
        n_times: samples in all.
        edges: where an owner can change.
        near: samples to either side of which `near` tells.
    """

    def __init__(self, n_times: int, edges: Sequence[int], *, near: int) -> None:
        inside = {min(max(edge + shift, 0), n_times) for edge in edges for shift in (-near, 0, near)}
        self._edges: NDArray[np.int64] = np.array(sorted(inside | {0, n_times}), dtype=np.int64)
        self._distance = near
        self.owner: NDArray[np.int16] = np.full(len(self._edges) - 1, _NOBODY, dtype=np.int16)

    def between(self, start: int, stop: int) -> NDArray[np.int16]:
        """Return the owners of the pieces between two edges, to be written to."""
        first, last = np.searchsorted(self._edges, np.clip([start, stop], 0, self._edges[-1]))
        return self.owner[first:last]

    def near(self) -> NDArray[np.bool_]:
        """Tell which pieces lie at most the distance from one that is owned."""
        owned = np.flatnonzero(self.owner != _NOBODY)
        count = np.zeros(len(self._edges), dtype=np.int64)
        np.add.at(count, np.searchsorted(self._edges, self._edges[owned] - self._distance), 1)
        last = np.minimum(self._edges[owned + 1] + self._distance, self._edges[-1])
        np.subtract.at(count, np.searchsorted(self._edges, last), 1)
        return np.asarray(np.cumsum(count)[:-1] > 0)

    def stretches(self) -> tuple[Stretch, ...]:
        """Return neighbouring pieces of one owner as stretches."""
        changes = np.flatnonzero(np.diff(np.concatenate([[_UNKNOWN - 1], self.owner, [_UNKNOWN - 1]])))
        return tuple(
            Stretch(int(self._edges[first]), int(self._edges[last]), int(self.owner[first]))
            for first, last in pairwise(changes.tolist())
            if self.owner[first] >= 0
        )
