"""What windows that are locked to events have in common: the mean waveform, and when each band is loud.

The event-related potential is the mean of windows that begin at the same moment of an event (Dawson 1954); the
event-related spectral perturbation is the mean course of log power over the window, band by band (Makeig 1993,
doi:10.1016/0013-4694(93)90110-H). Fixed functions of one window, whose loudness is divided out.
"""

import itertools
import math
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from fedsynth.modalities.bands import band_parts
from fedsynth.modalities.shape import Shape

SEGMENTS = 8
"""Equal parts of a window for which power is told."""

_FLOOR_UV2 = 1e-2
_LEAST_SHARE = 1e-2  # of the band's mean power, that a silent segment counts as
_MOST = 2.0  # nats above or below the window's mean


@dataclass(frozen=True)
class EventRelatedPlan:
    """What is asked of each channel: the mean waveform up to `hertz`, and the course of power in every band."""

    hertz: float = 20.0

    def n_waveform(self, shape: Shape) -> int:
        """Return how many numbers tell a channel's waveform: cosines of one half wave a window and more."""
        seconds = shape.n_times / shape.sfreq
        return max(1, min(shape.n_times - 1, math.floor(2 * seconds * min(self.hertz, shape.bandpass[1]))))

    def waveforms(self, signal: Tensor, shape: Shape) -> Tensor:
        """Return cosine coefficients of windows of unit size, shape (window, channel, cosine).

        A channel's squares add up to 1 at most.

        Args:
            signal: microvolts, shape (window, channel, time).
            shape: of the windows.
        """
        centred = signal - signal.mean(dim=-1, keepdim=True)
        size = (centred.square().sum(dim=-1, keepdim=True) + _FLOOR_UV2 * shape.n_times).sqrt()
        return centred / size @ self.cosines(shape).to(signal).T

    def cosines(self, shape: Shape) -> Tensor:
        """Return orthonormal cosines, shape (cosine, time), float32."""
        return _cosines(shape.n_times, self.n_waveform(shape))


def courses(signal: Tensor, shape: Shape) -> Tensor:
    """Return the course of log power, in nats from the band's mean over the window, within 2 of it.

    Args:
        signal: microvolts, shape (window, channel, time).
        shape: of the windows.

    Returns:
        Shape (window, channel, band, segment).
    """
    power = band_parts(signal, shape).square()
    edges = torch.linspace(0, shape.n_times, SEGMENTS + 1).round().long().tolist()
    segments = torch.stack(
        [power[..., first:last].mean(dim=-1) for first, last in itertools.pairwise(edges)], dim=-1
    )
    mean = segments.mean(dim=-1, keepdim=True) + _FLOOR_UV2
    return torch.log(segments / mean + _LEAST_SHARE).clamp(-_MOST, _MOST)


def over_time(course: Tensor, shape: Shape) -> Tensor:
    """Return numbers by segment as numbers by sample, on lines between the segments' centres, (..., time)."""
    return course @ _lines(shape.n_times).to(course)


@lru_cache(maxsize=8)
def _cosines(n_times: int, count: int) -> Tensor:
    at = (torch.arange(n_times, dtype=torch.float64) + 0.5) * math.pi / n_times
    order = torch.arange(1, count + 1, dtype=torch.float64)
    return (math.sqrt(2 / n_times) * torch.cos(order[:, None] * at)).to(torch.float32)


@lru_cache(maxsize=8)
def _lines(n_times: int) -> Tensor:
    """Return weights from segments to samples, shape (segment, time)."""
    at = ((torch.arange(n_times) + 0.5) / n_times * SEGMENTS - 0.5).clamp(0, SEGMENTS - 1)
    left = at.floor().long().clamp(max=SEGMENTS - 2)
    share, columns = at - left, torch.arange(n_times)
    weights = torch.zeros(SEGMENTS, n_times)
    weights[left, columns] = 1 - share
    weights[left + 1, columns] = share
    return weights
