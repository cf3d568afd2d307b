"""Kinds of signals by name: the codec, the frame, the public scale and the pretraining windows of a shape.

The only module that reaches into `fedsynth.modalities.eeg` and `fedsynth.modalities.ecg`. Another kind of signal is
a folder beside them and three lines in `kind_of`; mypy lists whatever else must know of it.
"""

import typing
from functools import lru_cache
from typing import assert_never

import numpy as np
import torch
from torch import Tensor

from fedsynth.modalities.codec import BOUND, Codec, FeatureScale
from fedsynth.modalities.coherence import CoherencePlan, nearest_coherence
from fedsynth.modalities.equaliser import equalise
from fedsynth.modalities.event_related import courses
from fedsynth.modalities.frame import Frame
from fedsynth.modalities.kind import BeatKind, Kind
from fedsynth.modalities.measures import band_powers
from fedsynth.modalities.modulation import modulation
from fedsynth.modalities.pretraining import Pool
from fedsynth.modalities.shape import Shape
from fedsynth.rng import torch_generator
from fedsynth.study import Modality

MODALITIES: tuple[Modality, ...] = typing.get_args(Modality)
"""In the order of pretraining: each begins where the one before it ended."""

_RENDERED = 600  # windows that say what the public decoder gives channels in common
_SIMULATED = 1000  # windows behind the public scale


def kind_of(modality: Modality) -> Kind:
    """Return a kind of signal; what it is made of is imported when it is asked for."""
    match modality:
        case "eeg":
            from fedsynth.modalities.eeg.kind import EEG

            return EEG
        case "ecg":
            from fedsynth.modalities.ecg.kind import ECG

            return ECG
        case other:
            assert_never(other)


@lru_cache(maxsize=8)
def codec_of(shape: Shape) -> Codec:
    """Return the codec of a shape."""
    return kind_of(shape.modality).codec(shape)


def frame_of(shape: Shape) -> Frame:
    """Return the frame of a shape."""
    return kind_of(shape.modality).frame(shape)


def pools_of(modality: Modality, *, count: int) -> list[Pool]:
    """Simulate windows to pretrain on, about `count` of each shape that lasts a second or less; fewer of others."""
    return kind_of(modality).pools(count)


@lru_cache(maxsize=8)
def scale_of(shape: Shape) -> FeatureScale:
    """Return the public scale of a shape's features."""
    codec = codec_of(shape)
    vectors = codec.features(codec.simulate(_SIMULATED))
    centre, std = vectors.mean(dim=0), vectors.std(dim=0).clamp_min(0.05)
    standard = ((vectors - centre) / std).clamp(-BOUND, BOUND).to(torch.float64)
    return FeatureScale(centre, std, torch.cov(standard.T))


@lru_cache(maxsize=4)
def rendered_by_prior(shape: Shape) -> Tensor:
    """Return windows of the public decoder at the public prior, in microvolts; always the same."""
    codec = codec_of(shape)
    generator = torch_generator("rendered by the prior", len(shape.channels), shape.n_times)
    drawn = torch.randn(_RENDERED, codec.n_features, generator=generator)
    noise = torch.randn(_RENDERED, codec.noise_width, generator=generator)
    with torch.no_grad():
        windows: Tensor = codec.decoder()(natural(drawn, shape), noise)
    return windows


@lru_cache(maxsize=8)
def usual_coherence(shape: Shape, plan: CoherencePlan) -> Tensor:
    """Return the mean coherence of the public decoder's windows, complex128 (band, channel, channel)."""
    mean = plan.matrices(rendered_by_prior(shape), shape).mean(dim=0)
    return nearest_coherence(mean.to(torch.complex128))


@lru_cache(maxsize=8)
def usual_courses(shape: Shape) -> Tensor:
    """Return the mean course of power of the public decoder's windows, shape (channel, band, segment)."""
    return courses(rendered_by_prior(shape), shape).mean(dim=0)


@lru_cache(maxsize=8)
def usual_modulation(shape: Shape) -> Tensor:
    """Return the mean modulation of the public decoder's windows, shape (number,)."""
    return modulation(rendered_by_prior(shape), shape).mean(dim=0)


def n_beat_series(shape: Shape) -> int:
    """Return how many numbers say how beats follow one another; none where there are no such beats."""
    beats = kind_of(shape.modality).beats
    return beats.count(shape) if beats else 0


def beat_series(signal: Tensor, shape: Shape) -> Tensor:
    """Return those numbers of windows in microvolts, shape (window, number).

    Raises:
        TypeError: this kind of signal has no beats.
    """
    return _beats_of(shape).measure(signal, shape)


def beat_series_drawn(numbers: Tensor, shape: Shape) -> Tensor:
    """Return the numbers of all labels, shape (label, number), as windows are to be given them.

    Raises:
        TypeError: this kind of signal has no beats.
    """
    return _beats_of(shape).drawn(numbers)


def beat_series_added(signal: Tensor, numbers: Tensor, shape: Shape) -> Tensor:
    """Return what to add to windows, in microvolts, so that beats follow one another as `numbers` say.

    Raises:
        TypeError: this kind of signal has no beats.
    """
    return _beats_of(shape).added(signal, numbers, shape)


@lru_cache(maxsize=8)
def usual_beat_series(shape: Shape) -> Tensor:
    """Return the mean numbers of the public decoder's windows, shape (number,)."""
    return beat_series(rendered_by_prior(shape), shape).mean(dim=0)


def _beats_of(shape: Shape) -> BeatKind:
    beats = kind_of(shape.modality).beats
    if beats is None:
        raise TypeError(f"{shape.modality} has no beats")
    return beats


def equalised(signal: Tensor, *, like: Tensor, shape: Shape) -> Tensor:
    """Return a signal with the band powers of another, channel by channel, by a gain that turns no phase."""
    return equalise(signal, band_powers(like, shape), shape)


def standardise(vector: Tensor, shape: Shape) -> Tensor:
    """Express features in units of the public prior's standard deviation, bounded, float64."""
    return scale_of(shape).standardise(vector)


def natural(standard: Tensor, shape: Shape) -> Tensor:
    """Undo `standardise`, float32."""
    return scale_of(shape).natural(standard)


def loud_powers(rng: np.random.Generator, shape: Shape, *, deviations: float) -> Tensor:
    """Draw log10 microvolts squared, shape (channel, band), so many deviations up or down of what the prior has."""
    return kind_of(shape.modality).loud_powers(rng, shape, scale_of(shape), deviations)


def within_range(signal: Tensor, *, modality: Modality, channels: tuple[str, ...], range_uv: float) -> Tensor:
    """Bring microvolts, shape (window, channel, time), within plus or minus a range; leads stay consistent."""
    return kind_of(modality).within_range(signal, channels, range_uv)
