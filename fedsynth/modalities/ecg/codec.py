"""The codec of ECG: rhythm, median beat and noise of a window, and the way back."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from fedsynth.modalities.ecg.decoder import EcgDecoder, noise_width
from fedsynth.modalities.ecg.features import VARIABILITY, bands, features, n_features, n_rhythm
from fedsynth.modalities.ecg.simulator import simulate
from fedsynth.modalities.shape import Shape


@dataclass(frozen=True)
class EcgCodec:
    """Features and decoder for ECG windows of one shape (`fedsynth.modalities.codec.Codec`)."""

    shape: Shape

    @property
    def n_features(self) -> int:
        """Return the length of a feature vector."""
        return n_features(self.shape)

    @property
    def block(self) -> int:
        """Return how many features get a full covariance: all."""
        return n_features(self.shape)

    @property
    def core(self) -> int:
        """Return how many features describe rhythm and variability."""
        return n_rhythm(self.shape) + VARIABILITY

    @property
    def parts(self) -> tuple[int, ...]:
        """Return how many features describe rhythm and variability, the beat, and what lies between beats."""
        between = len(bands(self.shape)) + 1
        return self.core, self.n_features - self.core - between, between

    @property
    def n_waveform(self) -> int:
        """Return 0: the beat is described, not the waveform."""
        return 0

    @property
    def weights(self) -> Tensor:
        """Return 1 for every feature."""
        return torch.ones(self.n_features, dtype=torch.float64)

    @property
    def directions(self) -> dict[str, Tensor]:
        """Return rate (minus the log interval), irregularity and amplitude; of centred windows amplitude alone."""
        places = {"amplitude": (self.core, 1.0)}
        if not self.shape.centred:
            places |= {"rate": (0, -1.0), "irregularity": (1, 1.0)}
        every = torch.eye(self.n_features, dtype=torch.float64)
        return {name: sign * every[place] for name, (place, sign) in places.items()}

    @property
    def noise_width(self) -> int:
        """Return one choice of a rhythm, one of a shared noise, and one of a noise for each channel."""
        return noise_width(self.shape)

    def features(self, signal: Tensor) -> Tensor:
        """Return feature vectors in natural units, shape (window, feature)."""
        return features(signal, self.shape)

    def simulate(self, count: int) -> Tensor:
        """Return simulated windows in microvolts, shape (count, channel, time), always the same."""
        return simulate(self.shape, count=count, purpose="scale")

    def decoder(self) -> nn.Module:
        """Return the decoder."""
        return EcgDecoder(self.shape)
