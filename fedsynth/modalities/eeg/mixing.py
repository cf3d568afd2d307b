"""Several channels of EEG from a few sources: what the features' spatial basis leaves open, by public constants.

Real channels are neither copies of one source nor independent, and electrodes differ in ways that no smooth map
describes. How windows are mixed says nothing of a label; it is drawn anew for every window, so that a classifier
cannot take one mixture for what recordings look like (docs/log.md).
"""

import math

import torch
from torch import Tensor

from fedsynth.modalities.eeg.features import spatial_basis
from fedsynth.modalities.measures import band_bins
from fedsynth.modalities.shape import Shape
from fedsynth.rng import uniform_of

SOURCES = 3
_SHARED = (0.3, 0.95)  # of a channel's standard deviation comes from the sources, uniform over windows
_TURN = 0.8  # of the maps by which sources reach channels, beside the first source's constant one
_GAIN, _BAND = 0.19, 0.16  # decades of power by which electrodes differ, in all bands and by band
_MOVED_HZ = 0.7  # below, an electrode that moves adds to what bands differ by


def mixing_width(shape: Shape) -> int:
    """Return how many standard normal numbers a window's mixture takes; none for one channel."""
    channels = len(shape.channels)
    if channels == 1:
        return 0
    return 1 + SOURCES * len(spatial_basis(shape)) + channels * (1 + len(band_bins(shape)))


def mix(sources: Tensor, own: Tensor, noise: Tensor, shape: Shape) -> Tensor:
    """Return channels that share smooth mixtures of the sources and have something of their own.

    Args:
        sources: of unit variance, shape (window, SOURCES, time).
        own: the same for each channel, shape (window, channel, time).
        noise: standard normal, shape (window, mixing_width).
        shape: of the windows.
    """
    basis = spatial_basis(shape).to(sources)
    maps = noise[:, 1 : 1 + SOURCES * len(basis)].unflatten(1, (SOURCES, -1))
    weights = maps @ basis * (_TURN / math.sqrt(len(basis)))
    weights = weights + torch.eye(SOURCES, 1).to(weights)
    weights = weights / weights.norm(dim=1, keepdim=True)
    low, high = _SHARED
    share = low + (high - low) * uniform_of(noise[:, :1, None])
    return share * (weights.mT @ sources) + (1 - share.square()).sqrt() * own


def uneven(powers: Tensor, noise: Tensor, shape: Shape) -> Tensor:
    """Return powers of electrodes that differ beyond the spatial basis, whose maps stay as they are.

    Args:
        powers: log10 microvolts squared, shape (window, channel, band).
        noise: as of `mix`.
        shape: of the windows.
    """
    basis, channels = spatial_basis(shape).to(powers), len(shape.channels)
    gain, band = noise[:, 1 + SOURCES * len(basis) :].split([channels, channels * powers.shape[2]], dim=1)
    hertz = [(first + last - 1) / 2 * shape.sfreq / shape.n_times for first, last in band_bins(shape)]
    by_band = _BAND * (1 + _MOVED_HZ / torch.tensor(hertz).to(powers))
    off = _GAIN * gain[:, :, None] + by_band * band.unflatten(1, (channels, -1))
    return powers + off - torch.einsum("mc,md,wdb->wcb", basis, basis, off) / channels
