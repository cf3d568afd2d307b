"""Gaps: where a recording was interrupted, and what that means for positions, stretches and windows.

The samples of a recording with gaps are kept one after another, without the time that is missing. A position is
*stored* where it counts those samples, and *elapsed* where it counts from the first sample at the recording's rate,
gaps included. Annotations, tables and clocks speak of elapsed positions.
"""

from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from fedsynth.recordings.recording import Beats, Gap, Recording, Stretch


def parts(n_times: int, gaps: Sequence[Gap]) -> list[tuple[int, int]]:
    """Return the stored positions of the stretches between gaps, as (first, one after the last).

    >>> parts(100, [Gap(40, 7)])
    [(0, 40), (40, 100)]
    """
    edges = [0, *(gap.start for gap in gaps), n_times]
    return [(start, stop) for start, stop in pairwise(edges) if stop > start]


def elapsed_length(n_times: int, gaps: Sequence[Gap]) -> int:
    """Return how many samples a recording would have without its gaps."""
    return n_times + sum(gap.n_times for gap in gaps)


def stored_beats(beats: Beats, *, n_times: int, gaps: Sequence[Gap]) -> Beats:
    """Return beats at stored positions, without those that fall into a gap.

    Args:
        beats: at elapsed positions.
        n_times: samples that are stored.
        gaps: in order.

    >>> beats = Beats(np.array([39, 40, 47, 100]), np.arange(4))
    >>> stored_beats(beats, n_times=100, gaps=[Gap(40, 7)]).samples.tolist()
    [39, 40, 93]
    """
    if not gaps:
        return beats
    places = np.full(len(beats.samples), -1, dtype=np.int64)
    kept = np.zeros(len(beats.samples), dtype=bool)
    for start, stop, missing in _shifted(n_times, gaps):
        first = start + missing if start or missing else np.iinfo(np.int64).min
        last = stop + missing if stop < n_times else np.iinfo(np.int64).max
        here = (beats.samples >= first) & (beats.samples < last)
        places[here] = beats.samples[here] - missing
        kept |= here
    return Beats(places[kept], beats.labels[kept])


def stored_stretches(stretches: Sequence[Stretch], *, n_times: int, gaps: Sequence[Gap]) -> tuple[Stretch, ...]:
    """Return stretches at stored positions, parted where a gap lies in them.

    Args:
        stretches: at elapsed positions.
        n_times: samples that are stored.
        gaps: in order.

    >>> stored_stretches([Stretch(30, 60, 1)], n_times=100, gaps=[Gap(40, 7)])
    (Stretch(start=30, stop=40, label=1), Stretch(start=40, stop=53, label=1))
    """
    if not gaps:
        return tuple(stretches)
    found = []
    for one in stretches:
        for start, stop, missing in _shifted(n_times, gaps):
            first, last = max(one.start - missing, start), min(one.stop - missing, stop)
            if last > first:
                found.append(Stretch(first, last, one.label))
    return tuple(found)


def split(recording: Recording, *, at_least: int) -> list[Recording]:
    """Return the stretches of a recording between its gaps as recordings, those that are long enough.

    Args:
        recording: with beats and stretches at stored positions.
        at_least: samples, below which a part is left out.
    """
    if not recording.gaps:
        return [recording]
    found = []
    for first, last in parts(recording.signal.shape[1], recording.gaps):
        if last - first < at_least:
            continue
        beats, stretches = recording.beats, recording.stretches
        if beats is not None:
            here = (beats.samples >= first) & (beats.samples < last)
            beats = Beats(beats.samples[here] - first, beats.labels[here])
        if stretches is not None:
            inside = [Stretch(max(s.start, first), min(s.stop, last), s.label) for s in stretches]
            stretches = tuple(Stretch(s.start - first, s.stop - first, s.label) for s in inside if s.stop > s.start)
        signal = recording.signal[:, first:last]
        found.append(replace(recording, signal=signal, beats=beats, stretches=stretches, gaps=()))
    return found


def inside_one_part(
    starts: NDArray[np.int64], n_times: int, bounds: Sequence[tuple[int, int]]
) -> NDArray[np.bool_]:
    """Tell which windows of `n_times` samples lie wholly within one of some stretches, shape (window,)."""
    inside = np.zeros(len(starts), dtype=bool)
    for first, last in bounds:
        inside |= (starts >= first) & (starts + n_times <= last)
    return inside


def _shifted(n_times: int, gaps: Sequence[Gap]) -> list[tuple[int, int, int]]:
    """Return (first, one after the last, samples missing before) of every part, at stored positions."""
    found, missing, start = [], 0, 0
    for gap in gaps:
        found.append((start, gap.start, missing))
        start, missing = gap.start, missing + gap.n_times
    return [*found, (start, n_times, missing)]
