"""An excerpt: what a study takes of one recording, and what is told of it at the site. All else is let go.

The recording comes in pieces. Windows come out in the order of time, in memory that does not grow with its length.
"""

import functools
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray
from scipy.fft import rfft

from fedsynth.recordings.artefacts import artefacts
from fedsynth.recordings.blocks import Block, Filtering, blocks_of, filtered, stretches_for
from fedsynth.recordings.gaps import parts
from fedsynth.recordings.placement import Bearer, placed
from fedsynth.recordings.recording import Gap
from fedsynth.recordings.reference import derivation, recorded_channels
from fedsynth.study import SignalPlan, Study, rate_ratio

SPECTRUM_HZ = 80
"""The spectrum of a channel is told in bins of one hertz, up to this one or half the rate."""
SPECTRUM_WINDOWS = 16
"""It is the mean over at most so many windows, spread evenly over those of a recording."""
_SHOWN_TIMES = 2048  # samples

_Rows = NDArray[np.float32]
Keep = Callable[[_Rows], None]
"""Takes in a window in microvolts, shape (channel, time), of which it keeps no more than a copy."""


@dataclass(frozen=True)
class Told:
    """What became of a recording's windows, for the site's own eyes.

    `placed` windows were looked at, of which those with an artefact were left out; `broken` counts them by rule and
    channel. `spectrum` is the mean power by channel and hertz, in uV^2, as recorded, over some of them
    (`SPECTRUM_WINDOWS`), and `shown` one window as recorded: the first with an artefact, or the first, shape
    (channel, time).
    """

    placed: int
    broken: dict[tuple[str, str], int]
    spectrum: NDArray[np.float64] = field(repr=False)
    shown: _Rows = field(repr=False)
    shown_rules: tuple[str, ...] = ()


@dataclass(frozen=True)
class Excerpt:
    """The labels of windows, shape (window,), in the order in which they were kept, and what is told."""

    labels: NDArray[np.int64]
    told: Told


def filtering_of(plan: SignalPlan, *, sfreq: float, recorded: tuple[str, ...]) -> Filtering:
    """Return how samples at a rate in Hz, of some channels as recorded, become a study's."""
    derived = recorded == recorded_channels(plan)
    return Filtering(
        sfreq=sfreq,
        bandpass=plan.bandpass,
        ratio=rate_ratio(sfreq, plan.sfreq),
        notch=plan.notch,
        matrix=derivation(plan, recorded) if derived else None,
    )


def excerpt(
    pieces: Callable[[], Iterator[_Rows]],
    *,
    total: int,
    gaps: Sequence[Gap] = (),
    bearer: Bearer,
    filtering: Filtering,
    names: tuple[str, ...],
    study: Study,
    keep: Keep,
) -> Excerpt:
    """Cut the windows of a study from a recording, those with an artefact left out unless the study keeps them.

    Args:
        pieces: go through its samples as recorded, shape (channel, time) each; called once.
        total: samples of the recording.
        gaps: where it was interrupted.
        bearer: of labels.
        filtering: from samples as recorded to the study's.
        names: of the channels as recorded.
        study: for the windows, the labels and the range.
        keep: is given every window, filtered and clipped, in the order of time.

    Raises:
        RecordingError: a recording shorter than one window.
    """
    n_times, limit = study.windows.n_times, study.signal.range_uv
    up, down = filtering.ratio
    # No filter reaches over a gap, and no window does: each stretch between gaps goes its way alone.
    between = [(0, total)]
    if gaps:
        between = [one for one in parts(total, gaps) if one[1] - one[0] >= (n_times - 1) * down // up + 1]
    starts, labels, edges = placed(bearer, between=between, ratio=filtering.ratio, study=study)
    blocks: list[Block] = []
    local = starts.copy()
    for (first, last), (edge, next_edge) in zip(between, pairwise(edges), strict=True):
        low, high = np.searchsorted(starts, (edge, next_edge)).tolist()
        local[low:high] -= edge
        parted = blocks_of(
            local[low:high], n_times=n_times, total=last - first, n_channels=len(names), filtering=filtering
        )
        for one in parted:
            windows = (one.windows[0] + low, one.windows[1] + low)
            blocks.append(replace(one, windows=windows, begin=first))
    lengths = {first: last - first for first, last in between}
    looks = _Looks(study, filtering, names, every=max(1, -(-len(starts) // SPECTRUM_WINDOWS)))
    kept: list[int] = []
    for block, samples in stretches_for(pieces() if blocks else iter(()), blocks):
        low, high = block.windows
        length = lengths[block.begin]
        good = [number for number in range(low, high) if looks.at(samples, block.first, int(local[number]), length)]
        if not good:
            continue
        there, offset = filtered(block, samples, total=length, filtering=filtering)
        np.clip(there, -limit, limit, out=there)
        for number in good:
            start = int(local[number]) - offset
            keep(there[:, start : start + n_times])
        kept += good
    return Excerpt(labels[kept] if kept else labels[:0], looks.told())


class _Looks:
    """Looks at windows as recorded: for artefacts, and for what the site is told."""

    def __init__(self, study: Study, filtering: Filtering, names: tuple[str, ...], *, every: int) -> None:
        self._study, self._names, self._filtering = study, names, filtering
        self._placed, self._every = 0, every
        self._broken = Counter[tuple[str, str]]()
        bins = min(SPECTRUM_HZ, int(filtering.sfreq / 2))
        self._power = np.zeros((len(names), bins))
        self._shown: _Rows = np.empty((len(names), 0), dtype=np.float32)
        self._rules: tuple[str, ...] = ()

    def at(self, samples: _Rows, offset: int, start: int, total: int) -> bool:
        """Look at a window; return whether it is kept. `samples` begin at `offset`, as recorded."""
        up, down = self._filtering.ratio
        sfreq, n_times = self._filtering.sfreq, self._study.windows.n_times
        first, last = start * down // up, min(total, -((-(start + n_times) * down) // up))
        window = samples[:, first - offset : last - offset]
        if self._placed % self._every == 0:
            self._power += _power(window, sfreq=sfreq, bins=self._power.shape[1])
        self._placed += 1
        rules: tuple[str, ...] = ()
        if self._study.windows.artefacts == "leave out":
            found = artefacts(window, sfreq=sfreq, modality=self._study.signal.modality)
            for rule, broken in found.items():
                self._broken.update((rule, self._names[index]) for index in np.flatnonzero(broken))
            rules = tuple(rule for rule, broken in found.items() if broken.any())
        if not self._shown.size or (rules and not self._rules):
            self._shown, self._rules = window[:, :_SHOWN_TIMES].copy(), rules
        return not rules

    def told(self) -> Told:
        measured = max(1, -(-self._placed // self._every))
        return Told(self._placed, dict(self._broken), self._power / measured, self._shown, self._rules)


def _power(window: _Rows, *, sfreq: float, bins: int) -> NDArray[np.float64]:
    """Return the power of every hertz, shape (channel, bin), by a periodogram under a Hann window (Welch 1967)."""
    taper, hertz, starts, stop, scale = _bins(window.shape[1], sfreq, bins)
    centred = window - window.mean(axis=1, keepdims=True, dtype=np.float64).astype(np.float32)
    centred *= taper
    spectrum = rfft(centred, axis=1)[:, :stop]
    power = np.zeros((len(window), bins))
    gathered = np.square(spectrum.real) + np.square(spectrum.imag)
    power[:, hertz] = scale * np.add.reduceat(gathered, starts, axis=1, dtype=np.float64)
    return power


@functools.lru_cache(maxsize=4)
def _bins(n_times: int, sfreq: float, bins: int) -> tuple[_Rows, NDArray[np.int64], NDArray[np.int64], int, float]:
    """Return the taper, which hertz have frequencies, where these begin and all end, and what scales power."""
    taper = np.hanning(n_times).astype(np.float32)
    at = np.fft.rfftfreq(n_times, 1 / sfreq).astype(np.int64)
    hertz, starts = np.unique(at[at < bins], return_index=True)
    scale = 2 / (np.sum(taper**2, dtype=np.float64) * n_times) if taper.any() else 0.0
    return taper, hertz, starts, int(np.count_nonzero(at < bins)), float(scale)
