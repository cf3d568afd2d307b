"""Codecs: public physiological features of a window, and the way back, for one shape.

Everything is a fixed function of one window or is simulated from public seeds; nothing is fitted to recordings.
"""

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor, nn

BOUND = 4.0
"""A standardised feature beyond this counts as this."""


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
    def n_waveform(self) -> int:
        """Return how many features, of a single channel the last, describe the waveform's shape, 0 for none."""
        ...

    @property
    def weights(self) -> Tensor:
        """Return how much each feature counts in a private sum's bound, float64 (feature,); public constants."""
        ...

    @property
    def directions(self) -> dict[str, Tensor]:
        """Return by name what a made-up subject may be asked for: weights of features in natural units, float64."""
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
class FeatureScale:
    """Mean `centre` and standard deviation of each feature over simulated windows, float32 (feature,), and the
    covariance of the standardised ones, float64 (feature, feature)."""

    centre: Tensor
    std: Tensor
    covariance: Tensor

    def standardise(self, vector: Tensor) -> Tensor:
        """Express features in units of the public prior's standard deviation, bounded, float64."""
        away = (vector - self.centre.to(vector)) / self.std.to(vector)
        return away.clamp(-BOUND, BOUND).to(torch.float64)

    def natural(self, standard: Tensor) -> Tensor:
        """Undo `standardise`, float32."""
        return (standard * self.std.to(standard) + self.centre.to(standard)).to(torch.float32)
