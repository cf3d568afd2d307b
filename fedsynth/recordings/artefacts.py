"""Artefacts: which windows of a recording are no signal of a body, by rules with public constants.

Every rule looks at one channel of one window and at nothing else, so that no window of one person changes what
becomes of another's. Rules are applied to samples as they were recorded, before any filter. Their constants are
public and fixed here:

- flat: the same value for a second, or for the whole window where that is shorter. A flat lead of a second is what
  ECG quality checks look for (Hayn, Jammerbund and Schreier 2012, doi:10.1088/0967-3334/33/9/1449). Likewise a
  second, in steps of half a one, within the noise of an amplifier (`fedsynth.recordings.plausible`), as when an
  open input dithers; and values that are held for a tenth of a second or more, again and again, for a quarter of
  the window: packets that a radio lost.
- clipped: at its largest or smallest value for a twentieth of the window, in runs of at least three samples: an
  amplifier or converter at its rail, wherever that is.
- jump: a step from one sample to the next that no source makes, and that stays: the medians of a tenth of a second
  before and after differ by half of it. It exceeds the steepest slope of the kind of signal
  (`fedsynth.recordings.plausible`) and twenty times the window's median step. Spikes and QRS complexes come back.
- line noise: within a hertz of 50 or 60 Hz and of their multiples lies four times the power of everything else from
  1 Hz on; or of the 16.7 Hz of railways, where a window is long enough to tell it from a rhythm.
"""

import functools

import numpy as np
from numpy.typing import NDArray
from scipy.fft import rfft

from fedsynth.recordings.plausible import limits_of
from fedsynth.study import Modality

FLAT_SECONDS = 1.0
HELD_SECONDS, HELD_SHARE = 0.1, 0.25
CLIPPED_SHARE, CLIPPED_RUN = 0.05, 3
JUMP_SHORTEST_MS, JUMP_SIDE_MS, JUMP_TIMES_MEDIAN = 4.0, 100.0, 20.0
LINE_HZ, LINE_WIDTH_HZ, LINE_TIMES = (50.0, 60.0), 1.0, 4.0
RAILWAY_HZ = 50 / 3
_ROUNDING = 1e-6  # of single precision, relative
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
        "flat": _flat(window, sfreq) | _quiet(window, sfreq, modality),
        "clipped": _clipped(window),
        "jump": _jump(window, sfreq, modality),
        "line noise": _line_noise(window, sfreq),
    }


def _flat(window: _Rows, sfreq: float) -> _Flags:
    least = min(window.shape[1], max(2, round(FLAT_SECONDS * sfreq)))
    still = window[:, 1:] == window[:, :-1]
    held, enough = max(CLIPPED_RUN, round(HELD_SECONDS * sfreq)) - 1, HELD_SHARE * window.shape[1]
    told = np.count_nonzero(still, axis=1) + 1 >= min(least, enough)
    for index in np.flatnonzero(told):
        runs = _runs(still[index])
        told[index] = runs.max(initial=0) + 1 >= least or runs[runs >= held].sum() >= enough
    return np.asarray(told, dtype=bool)


def _quiet(window: _Rows, sfreq: float, modality: Modality) -> _Flags:
    """Tell which channels stay within the noise of an amplifier for a second, in steps of half a one."""
    half = max(1, round(FLAT_SECONDS * sfreq / 2))
    count = window.shape[1] // half
    if count < 2:
        return np.zeros(len(window), dtype=bool)
    halves = window[:, : count * half].reshape(len(window), count, half)
    largest, smallest = halves.max(axis=2), halves.min(axis=2)
    spans = np.maximum(largest[:, 1:], largest[:, :-1]) - np.minimum(smallest[:, 1:], smallest[:, :-1])
    return np.asarray((spans < limits_of(modality).quiet_uv).any(axis=1), dtype=bool)


def _clipped(window: _Rows) -> _Flags:
    edges = window.max(axis=1), window.min(axis=1)
    at_edge = [window == edge[:, None] for edge in edges]
    least = CLIPPED_SHARE * window.shape[1]
    told = (edges[0] > edges[1]) & (sum(np.count_nonzero(one, axis=1) for one in at_edge) >= least)
    for index in np.flatnonzero(told):
        runs = np.concatenate([_runs(one[index]) for one in at_edge])
        told[index] = runs[runs >= CLIPPED_RUN].sum() >= least
    return np.asarray(told, dtype=bool)


def _jump(window: _Rows, sfreq: float, modality: Modality) -> _Flags:
    lag = max(1, round(JUMP_SHORTEST_MS * sfreq / 1000))
    side = max(2, round(JUMP_SIDE_MS * sfreq / 1000))
    bound = limits_of(modality).slope_uv_per_ms * 1000 * lag / sfreq
    told = np.zeros(len(window), dtype=bool)
    largest = np.abs(window[:, lag:] - window[:, :-lag]).max(axis=1, initial=0.0)
    for index in np.flatnonzero(largest > (1 - _ROUNDING) * bound):
        row = window[index].astype(np.float64)
        steps = row[lag:] - row[:-lag]
        sizes = np.abs(steps)
        least = max(bound, JUMP_TIMES_MEDIAN * float(np.median(sizes)))
        for place in np.flatnonzero(sizes > least):
            before, after = row[max(0, place + 1 - side) : place + 1], row[place + lag : place + lag + side]
            if (np.median(after) - np.median(before)) * np.sign(steps[place]) > sizes[place] / 2:
                told[index] = True
                break
    return told


def _line_noise(window: _Rows, sfreq: float) -> _Flags:
    n_times = window.shape[1]
    near_lines, taper = _lines(n_times, sfreq)
    centred = window - window.mean(axis=1, keepdims=True, dtype=np.float64).astype(np.float32)
    spectrum = rfft(centred * taper, axis=1)
    spectrum = spectrum[:, np.fft.rfftfreq(n_times, 1 / sfreq) >= 1.0]
    power = np.square(spectrum.real, dtype=np.float64) + np.square(spectrum.imag, dtype=np.float64)
    told = np.zeros(len(window), dtype=bool)
    for near in near_lines:
        told |= power @ near > LINE_TIMES * (power @ (1 - near))
    return told


@functools.lru_cache(maxsize=4)
def _lines(n_times: int, sfreq: float) -> tuple[list[NDArray[np.float64]], _Rows]:
    """Return which bins from 1 Hz on lie near each line, as 0 and 1, and the taper of a window."""
    frequencies = np.fft.rfftfreq(n_times, 1 / sfreq)
    # A window's spectrum has leaked two bins to either side.
    width = max(LINE_WIDTH_HZ, 2 * sfreq / n_times)
    multiples = [line * np.arange(1, int(sfreq / 2 / line) + 1) for line in LINE_HZ if line < sfreq / 2]
    if width == LINE_WIDTH_HZ:
        multiples.append(np.array([RAILWAY_HZ]))
    distances = [np.abs(frequencies[frequencies >= 1.0] - lines[:, None]).min(axis=0) for lines in multiples]
    near = [one <= width for one in distances]
    return [one.astype(np.float64) for one in near if one.any()], np.hanning(n_times).astype(np.float32)


def _runs(flags: _Flags) -> NDArray[np.int64]:
    """Return how long the runs of true values are, in their order."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], flags, [False]])))
    return np.asarray(edges[1::2] - edges[::2], dtype=np.int64)
