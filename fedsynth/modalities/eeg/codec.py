"""The codec of EEG: log band powers and waveform shape, and a simulator for the way back."""

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from fedsynth.modalities.eeg.decoder import SimulatingDecoder, noise_width
from fedsynth.modalities.eeg.features import N_SHAPE, features, n_features
from fedsynth.modalities.eeg.simulator import waveforms
from fedsynth.modalities.measures import band_bins
from fedsynth.modalities.shape import Shape
from fedsynth.rng import numpy_generator

_SHAPE_WEIGHTS = (0.6, 0.6, 0.6, 0.6, 0.3, 0.3, 0.6)  # in the order of `features.waveform_shape`

_RHYTHMS = {
    "delta": (0.0, 4.0),
    "theta": (4.0, 8.0),
    "alpha": (8.0, 13.0),
    "beta": (13.0, 30.0),
    "gamma": (30.0, math.inf),
    "loudness": (0.0, math.inf),
}


@dataclass(frozen=True)
class EegCodec:
    """Features and decoder for EEG windows of one shape (`fedsynth.modalities.codec.Codec`)."""

    shape: Shape

    @property
    def n_features(self) -> int:
        """Return the length of a feature vector."""
        return n_features(self.shape)

    @property
    def block(self) -> int:
        """Return the size of the constant map's bands and the waveform's shape together."""
        return len(band_bins(self.shape)) + N_SHAPE

    @property
    def core(self) -> int:
        """Return 0: bands and the waveform's shape are one."""
        return 0

    @property
    def parts(self) -> tuple[int, ...]:
        """Return none."""
        return ()

    @property
    def n_waveform(self) -> int:
        """Return how many features describe the waveform's shape."""
        return N_SHAPE

    @property
    def weights(self) -> Tensor:
        """Return 1 for bands and less for the waveform's shape.

        Bounded measures of shape have long tails in recordings with transients; at full weight a few would use up
        the bound of a whole vector.
        """
        weights = torch.ones(self.n_features, dtype=torch.float64)
        first = len(band_bins(self.shape))
        weights[first : first + N_SHAPE] = torch.tensor(_SHAPE_WEIGHTS, dtype=torch.float64)
        return weights

    @property
    def directions(self) -> dict[str, Tensor]:
        """Return the mean log power of each rhythm that passes, and of all of them: loudness."""
        middles = [
            (first + last) / 2 * self.shape.sfreq / self.shape.n_times for first, last in band_bins(self.shape)
        ]
        found = {name: _marked(self, middles, low, high) for name, (low, high) in _RHYTHMS.items()}
        return {name: weights for name, weights in found.items() if float(weights.sum()) > 0}

    @property
    def noise_width(self) -> int:
        """Return what the decoder takes."""
        return noise_width(self.shape)

    def features(self, signal: Tensor) -> Tensor:
        """Return feature vectors, shape (window, feature)."""
        return features(signal, self.shape)

    def simulate(self, count: int) -> Tensor:
        """Return windows with amplitudes of 5 to 200 microvolts and uneven channels."""
        shape, rng = self.shape, numpy_generator("feature scale", len(self.shape.channels), self.shape.n_times)
        waves = waveforms(shape, count=2000)
        chosen = waves[torch.from_numpy(rng.integers(0, len(waves), (count, len(shape.channels))))]
        shared = waves[torch.from_numpy(rng.integers(0, len(waves), (count, 1)))]
        amplitude = torch.from_numpy(10 ** rng.uniform(math.log10(5), math.log10(200), (count, 1, 1)))
        gain = torch.from_numpy(np.exp(rng.normal(0, math.log(1.5), (count, len(shape.channels), 1))))
        return ((0.5 * chosen + shared) * gain * amplitude).float()

    def decoder(self) -> nn.Module:
        """Return the simulator behind its equaliser."""
        return SimulatingDecoder(self.shape)


def _marked(codec: EegCodec, middles: list[float], low: float, high: float) -> Tensor:
    """Return weights (feature,) of the constant map's bands between two frequencies, in all 1, or nothing."""
    inside = torch.tensor([float(low <= hertz < high) for hertz in middles], dtype=torch.float64)
    weights = torch.zeros(codec.n_features, dtype=torch.float64)
    weights[: len(middles)] = inside / inside.sum().clamp_min(1)
    return weights
