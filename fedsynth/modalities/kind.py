"""A kind of signal: everything the rest of the house asks of EEG, of ECG, or of the next one."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from torch import Tensor

from fedsynth.modalities.codec import Codec, FeatureScale
from fedsynth.modalities.frame import Frame
from fedsynth.modalities.pretraining import Pool
from fedsynth.modalities.shape import Shape


@dataclass(frozen=True)
class BeatKind:
    """What is known of beats that follow one another, where a kind of signal has any.

    `count` says how many numbers a shape has, and `measure` takes them of windows, shape (window, number). `drawn`
    returns those of all labels, shape (label, number), as windows are to be given them, and `added` what to add to
    windows so that they have numbers like these.
    """

    count: Callable[[Shape], int]
    measure: Callable[[Tensor, Shape], Tensor]
    drawn: Callable[[Tensor], Tensor]
    added: Callable[[Tensor, Tensor, Shape], Tensor]


@dataclass(frozen=True)
class Kind:
    """Makers of what a kind of signal consists of.

    `codec` and `frame` make those of a shape. `pools` simulates windows to pretrain on, about so many of each shape
    that a study may have. `loud_powers` draws log10 microvolts squared, shape (channel, band), so many deviations
    up or down of what the public scale says; an audit's canaries have them. `within_range` brings a signal in
    microvolts, shape (window, channel, time), of these channels within plus or minus a range, so that what holds
    between channels still holds. `beats` is for what consists of them.
    """

    codec: Callable[[Shape], Codec]
    frame: Callable[[Shape], Frame]
    pools: Callable[[int], list[Pool]]
    loud_powers: Callable[[np.random.Generator, Shape, FeatureScale, float], Tensor]
    within_range: Callable[[Tensor, tuple[str, ...], float], Tensor]
    beats: BeatKind | None = None
