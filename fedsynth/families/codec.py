"""Codecs: public physiological features of a window, and the way back, for one shape.

Everything is a fixed function of one window or is simulated from public seeds; nothing is fitted to recordings.
"""

from dataclasses import dataclass
from functools import lru_cache
from typing import Protocol

import torch
from torch import Tensor, nn

from fedsynth.families.shape import Shape

BOUND = 4.0
"""A standardised feature beyond this counts as this."""

_SIMULATED = 1000


class Codec(Protocol):
    """From windows to feature vectors and back.

    `features` is finite for finite windows and treats rows independently. The decoder's buffers are public and are
    part of no message.
    """

    @property
    def n_features(self) -> int:
        """Return the length of a feature vector."""
        ...

    @property
    def block(self) -> int:
        """Return how many of the first features get a full covariance; the others get variances alone."""
        ...

    @property
    def core(self) -> int:
        """Return how many of the first features have a form within labels that tells labels apart, 0 for none in
        particular; private sums ask for their second moments apart."""
        ...

    @property
    def parts(self) -> tuple[int, ...]:
        """Return the sizes of parts, the core first, across which second moments tell little; () for no parts."""
        ...

    @property
    def weights(self) -> Tensor:
        """Return how much each feature counts in a private sum's bound, float64 (feature,); public constants."""
        ...

    @property
    def noise_width(self) -> int:
        """Return how many standard normal numbers the decoder takes for a window."""
        ...

    def features(self, signal: Tensor) -> Tensor:
        """Return vectors in natural units, shape (window, feature), of microvolts (window, channel, time)."""
        ...

    def simulate(self, count: int) -> Tensor:
        """Return windows of the public simulator in microvolts, shape (count, channel, time), always the same."""
        ...

    def decoder(self) -> nn.Module:
        """Return a module from (vectors in natural units, noise (window, noise_width)) to windows in microvolts."""
        ...


@dataclass(frozen=True)
class Scale:
    """Centre and spread of each feature over simulated windows, float32 (feature,), and the covariance of the
    standardised ones, float64 (feature, feature)."""

    centre: Tensor
    spread: Tensor
    covariance: Tensor


@lru_cache(maxsize=8)
def codec_of(shape: Shape) -> Codec:
    """Return the codec of a shape."""
    # Imported here: a codec needs `scale_of`.
    if shape.modality == "ecg":
        from fedsynth.families.ecg_codec import EcgCodec

        return EcgCodec(shape)
    from fedsynth.families.eeg_codec import EegCodec

    return EegCodec(shape)


@lru_cache(maxsize=8)
def scale_of(shape: Shape) -> Scale:
    """Return the public scale of a shape's features."""
    codec = codec_of(shape)
    vectors = codec.features(codec.simulate(_SIMULATED))
    centre, spread = vectors.mean(dim=0), vectors.std(dim=0).clamp_min(0.05)
    standard = ((vectors - centre) / spread).clamp(-BOUND, BOUND).to(torch.float64)
    return Scale(centre, spread, torch.cov(standard.T))


def standardise(vector: Tensor, shape: Shape) -> Tensor:
    """Express features in units of the public prior's spread, bounded, float64."""
    scale = scale_of(shape)
    return ((vector - scale.centre.to(vector)) / scale.spread.to(vector)).clamp(-BOUND, BOUND).to(torch.float64)


def natural(standard: Tensor, shape: Shape) -> Tensor:
    """Undo `standardise`, float32."""
    scale = scale_of(shape)
    return (standard * scale.spread.to(standard) + scale.centre.to(standard)).to(torch.float32)
