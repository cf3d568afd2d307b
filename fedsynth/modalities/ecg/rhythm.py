"""Simulated heart rhythms: trains of beats with wide random parameters, from public seeds.

Sinus rhythm with respiratory variation, atrial fibrillation, ectopic beats with and without a pause, almost regular
tachycardia, and nonsense as a beat detector hears it in noise.
"""

import math
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

FIBRILLATION, ECTOPY, NONSENSE = 1, 2, 4
_KINDS, _SHARES = (0, FIBRILLATION, ECTOPY, 3, NONSENSE), (0.4, 0.25, 0.22, 0.06, 0.07)
_ABSENT = -1e3


@dataclass(frozen=True)
class Trains:
    """Beats of many windows.

    `seconds` (window, beat) from the start of the window, far negative where there is none; `gains` the same
    shape; `ectopic` 1 for a beat from the ventricles, else 0; `forms` (window, 3) size, width in seconds and
    after-swing of the ectopic beats; `kinds` (window,) the rhythm.
    """

    seconds: Tensor
    gains: Tensor
    ectopic: Tensor
    forms: Tensor
    kinds: Tensor

    def take(self, rows: Tensor) -> "Trains":
        """Return the trains of these windows."""
        return Trains(self.seconds[rows], self.gains[rows], self.ectopic[rows], self.forms[rows], self.kinds[rows])


def trains(rng: np.random.Generator, *, count: int, seconds: float, centred: bool) -> Trains:
    """Simulate beats for `count` windows of so many seconds; `centred` puts a beat at the middle of each."""
    size = math.ceil((seconds + 2.0) / 0.25) + 2
    times, gains, ectopic = np.full((count, size), _ABSENT), np.ones((count, size)), np.zeros((count, size))
    forms, kinds = np.zeros((count, 3)), rng.choice(_KINDS, count, p=_SHARES)
    for row in range(count):
        intervals, marks = _intervals(rng, int(kinds[row]), size)
        at = np.concatenate([[0.0], np.cumsum(intervals)[:-1]]) - 0.8 - rng.uniform(0, 1) * intervals[0]
        if centred:
            middle = int(np.argmin(np.abs(at - seconds / 2)))
            if kinds[row] == ECTOPY and rng.random() < 0.5 and marks.any():
                near = np.flatnonzero((marks > 0) & (at > 0))
                middle = int(near[0]) if len(near) else middle
            at += seconds / 2 - at[middle]
        keep = at < seconds + 0.8
        times[row, keep], ectopic[row, keep] = at[keep], marks[keep] > 1
        swing = 1 + rng.uniform(0, 0.15) * np.sin(2 * np.pi * rng.uniform(0.12, 0.4) * at + rng.uniform(0, 6.3))
        gains[row] = np.exp(math.exp(rng.uniform(math.log(0.01), math.log(0.25))) * rng.normal(size=size)) * swing
        sign = 1.0 if rng.random() < 0.6 else -1.0
        forms[row] = sign * rng.uniform(0.5, 2.5), rng.uniform(0.012, 0.05), rng.uniform(0.1, 0.7)
    seconds_, gains_, ectopic_, forms_ = (
        torch.from_numpy(part.astype(np.float32)) for part in (times, gains, ectopic, forms)
    )
    return Trains(seconds_, gains_, ectopic_, forms_, torch.from_numpy(kinds))


def _intervals(rng: np.random.Generator, kind: int, size: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return intervals after each beat in seconds, and marks: 0 normal, 1 early from above, 2 ventricular."""
    base = 60.0 / math.exp(rng.uniform(math.log(38), math.log(165)))
    marks = np.zeros(size)
    if kind == NONSENSE:
        return 0.27 + rng.gamma(rng.uniform(1, 6), size=size) * rng.uniform(0.05, 0.25), marks
    if kind == FIBRILLATION:
        spread, memory = rng.uniform(0.08, 0.36), rng.uniform(-0.2, 0.4)
        wander = rng.normal(size=size)
        wander[1:] += memory * wander[:-1]
        return np.maximum(0.28, base * np.exp(spread * wander)), marks
    calm = 0.1 if kind == 3 else 1.0
    depth = calm * math.exp(rng.uniform(math.log(0.004), math.log(0.15)))
    jitter = calm * math.exp(rng.uniform(math.log(0.003), math.log(0.035)))
    phase = 2 * np.pi * rng.uniform(0.12, 0.4) * base * np.arange(size) + rng.uniform(0, 6.3)
    intervals = base * np.exp(depth * np.sin(phase) + jitter * rng.normal(size=size))
    if kind == ECTOPY:
        _insert_ectopic(rng, intervals, marks)
    return np.maximum(0.28, intervals), marks


def _insert_ectopic(rng: np.random.Generator, intervals: NDArray[np.float64], marks: NDArray[np.float64]) -> None:
    size, coupling, pause = len(intervals), rng.uniform(0.45, 0.9), rng.choice([0.0, 0.5, 1.0], p=[0.2, 0.3, 0.5])
    chance, mark = math.exp(rng.uniform(math.log(0.04), math.log(0.5))), 1.0 + (rng.random() < 0.6)
    every = int(rng.integers(2, 5)) if rng.random() < 0.25 else 0
    for beat in range(1, size):
        regular = every and beat % every == 0
        if regular or (not every and rng.random() < chance and marks[beat - 1] == 0):
            early = coupling + rng.normal() * 0.03
            marks[beat] = mark
            intervals[beat] *= 1 + pause * (1 - early)
            intervals[beat - 1] *= early
