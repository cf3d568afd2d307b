"""Artefacts: which windows of a recording are no signal of a body, by rules with public constants.

Every rule looks at one channel of one window and at nothing else, so that no window of one person changes what
becomes of another's. Rules are applied to samples as they were recorded, before any filter. Their constants are
public and fixed here:

- flat: the same value for a second, or for the whole window where that is shorter. A flat lead of a second is what
  ECG quality checks look for (Hayn, Jammerbund and Schreier 2012, doi:10.1088/0967-3334/33/9/1449).
- clipped: at its largest or smallest value for a twentieth of the window, in runs of at least three samples: an
  amplifier or converter at its rail, wherever that is.
- jump: a step from one sample to the next that no source makes, and that stays: the medians of a tenth of a second
  before and after differ by half of it. It exceeds the steepest slope of the kind of signal
  (`fedsynth.recordings.plausible`) and twenty times the window's median step. Spikes and QRS complexes come back.
- line noise: within a hertz of 50 or 60 Hz lies four times the power of everything else from 1 Hz on.
"""

import numpy as np
from numpy.typing import NDArray

from fedsynth.recordings.plausible import limits_of
from fedsynth.study import Modality

FLAT_SECONDS = 1.0
CLIPPED_SHARE, CLIPPED_RUN = 0.05, 3
JUMP_SHORTEST_MS, JUMP_SIDE_MS, JUMP_TIMES_MEDIAN = 4.0, 100.0, 20.0
LINE_HZ, LINE_WIDTH_HZ, LINE_TIMES = (50.0, 60.0), 1.0, 4.0
RULES = ("flat", "clipped", "jump", "line noise")

_Rows = NDArray[np.float32]
_Flags = NDArray[np.bool_]


def artefacts(window: _Rows, *, sfreq: float, modality: Modality) -> dict[str, _Flags]:
    """Hold a window against every rule.

    Args:
        window: as recorded, in microvolts, shape (channel, time), finite.
        sfreq: of the recording in Hz.
        modality: for the steepest slope that a body makes.

    Returns:
        For each of `RULES`, which channels break it, shape (channel,).

    >>> wave = np.random.default_rng(1).normal(0, 20, (2, 256)).astype(np.float32)
    >>> wave[1, 100:] = 7
    >>> [rule for rule, found in artefacts(wave, sfreq=128.0, modality="eeg").items() if found.any()]
    ['flat']
    """
    return {
        "flat": _flat(window, sfreq),
        "clipped": _clipped(window),
        "jump": _jump(window, sfreq, modality),
        "line noise": _line_noise(window, sfreq),
    }


def _flat(window: _Rows, sfreq: float) -> _Flags:
    least = min(window.shape[1], max(2, round(FLAT_SECONDS * sfreq)))
    return np.array([_longest_run(np.diff(row) == 0) + 1 >= least for row in window], dtype=bool)


def _clipped(window: _Rows) -> _Flags:
    told = []
    for row in window:
        counts = [_in_runs(row == edge) for edge in (row.max(), row.min())]
        told.append(row.max() > row.min() and sum(counts) >= CLIPPED_SHARE * len(row))
    return np.array(told, dtype=bool)


def _jump(window: _Rows, sfreq: float, modality: Modality) -> _Flags:
    lag = max(1, round(JUMP_SHORTEST_MS * sfreq / 1000))
    side = max(2, round(JUMP_SIDE_MS * sfreq / 1000))
    bound = limits_of(modality).slope_uv_per_ms * 1000 * lag / sfreq
    told = np.zeros(len(window), dtype=bool)
    for index, row in enumerate(window.astype(np.float64)):
        steps = row[lag:] - row[:-lag]
        sizes = np.abs(steps)
        least = max(bound, JUMP_TIMES_MEDIAN * float(np.median(sizes))) if len(sizes) else bound
        for place in np.flatnonzero(sizes > least):
            before, after = row[max(0, place + 1 - side) : place + 1], row[place + lag : place + lag + side]
            if (np.median(after) - np.median(before)) * np.sign(steps[place]) > sizes[place] / 2:
                told[index] = True
                break
    return told


def _line_noise(window: _Rows, sfreq: float) -> _Flags:
    n_times = window.shape[1]
    frequencies = np.fft.rfftfreq(n_times, 1 / sfreq)
    centred = window.astype(np.float64) - window.mean(axis=1, keepdims=True, dtype=np.float64)
    power = np.abs(np.fft.rfft(centred * np.hanning(n_times), axis=1)) ** 2
    power[:, frequencies < 1.0] = 0.0
    # A window's spectrum has leaked two bins to either side.
    width = max(LINE_WIDTH_HZ, 2 * sfreq / n_times)
    told = np.zeros(len(window), dtype=bool)
    for line in LINE_HZ:
        near = np.abs(frequencies - line) <= width
        if line < sfreq / 2 and near.any():
            told |= power[:, near].sum(axis=1) > LINE_TIMES * power[:, ~near].sum(axis=1)
    return told


def _longest_run(flags: _Flags) -> int:
    """Return the length of the longest run of true values."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], flags, [False]])))
    return int((edges[1::2] - edges[::2]).max(initial=0))


def _in_runs(flags: _Flags) -> int:
    """Return how many true values stand in runs of at least `CLIPPED_RUN`."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], flags, [False]])))
    lengths = edges[1::2] - edges[::2]
    return int(lengths[lengths >= CLIPPED_RUN].sum())
