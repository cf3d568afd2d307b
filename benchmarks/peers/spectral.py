"""Feature spaces: from windows to short standardised vectors and back, and public draws of such vectors.

`Spectral` is what the peers are given: log band powers, a random-phase decoder and a spectral simulator. `Codec`
lends them the product's own features, decoder and simulator, so that the estimator alone is compared. Neither is
fitted to recordings.
"""

import itertools
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from fedsynth.modalities.shape import Shape

BOUND = 4.0  # a standardised feature beyond this counts as this
_BANDS = 24  # of one channel; several channels share about as many in the square root
_COHERENCE = 0.8  # of a channel's amplitude follows the phases that all channels share
_SIMULATED = 4000
Vectors = NDArray[np.float64]


class Space(Protocol):
    """Standardised feature vectors, float64, shape (vector, size), each coordinate about -4 to 4."""

    @property
    def size(self) -> int:
        """Return the length of a vector."""
        ...

    def encode(self, signal: NDArray[np.float32]) -> Vectors:
        """Return the vector of each window of shape (window, channel, time) in microvolts."""
        ...

    def decode(self, vectors: Vectors, *, rng: np.random.Generator) -> NDArray[np.float32]:
        """Return a window in microvolts for each vector, shape (window, channel, time)."""
        ...

    def simulate(self, count: int, *, rng: np.random.Generator) -> Vectors:
        """Return vectors of the public simulator."""
        ...


@dataclass(frozen=True)
class Spectral:
    """Log10 power in bands that are even in log frequency, for each channel; decoding draws random phases."""

    shape: Shape

    @property
    def size(self) -> int:
        """Return channels times bands."""
        return len(self.shape.channels) * len(self._bins)

    def encode(self, signal: NDArray[np.float32]) -> Vectors:
        """Return standardised log band powers, channel by channel."""
        taper = np.hanning(self.shape.n_times)
        spectrum = np.abs(np.fft.rfft(signal * taper)) ** 2 * (2 / (self.shape.n_times * np.sum(taper**2)))
        bands = np.stack([spectrum[..., first:last].sum(axis=-1) for first, last in self._bins], axis=-1)
        return self._standardise(np.log10(bands + 1e-4).reshape(len(signal), -1))

    def decode(self, vectors: Vectors, *, rng: np.random.Generator) -> NDArray[np.float32]:
        """Spread each band's power evenly over its bins and give every bin a random phase."""
        centre, spread = self._scale
        powers = 10 ** (vectors * spread + centre).reshape(len(vectors), len(self.shape.channels), -1)
        amplitude = np.zeros((*powers.shape[:2], self.shape.n_times // 2 + 1))
        for band, (first, last) in enumerate(self._bins):
            # irfft of a bin of modulus a has mean square 2 (a / n_times)^2.
            bin_power = powers[..., band, None] / (last - first)
            amplitude[..., first:last] = self.shape.n_times * np.sqrt(bin_power / 2)
        shared, own = (
            np.exp(2j * np.pi * rng.random((len(vectors), channels, amplitude.shape[-1])))
            for channels in (1, len(self.shape.channels))
        )
        mixed = shared if len(self.shape.channels) == 1 else _COHERENCE * shared + (1 - _COHERENCE**2) ** 0.5 * own
        return np.fft.irfft(amplitude * mixed, self.shape.n_times).astype(np.float32)

    def simulate(self, count: int, *, rng: np.random.Generator) -> Vectors:
        """Return vectors of spectra with a 1/f slope, up to three peaks and a random size."""
        return self._standardise(self._simulate(count, rng))

    @cached_property
    def _bins(self) -> tuple[tuple[int, int], ...]:
        low, high = self.shape.bandpass
        bands = max(6, round(_BANDS / len(self.shape.channels) ** 0.5))
        resolution = self.shape.sfreq / self.shape.n_times
        edges = np.unique(np.maximum(1, np.round(np.geomspace(low, high, bands + 1) / resolution)).astype(int))
        return tuple((int(a), int(b)) for a, b in itertools.pairwise(edges))

    @cached_property
    def _scale(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        vectors = self._simulate(_SIMULATED, np.random.default_rng(0))
        return vectors.mean(axis=0), vectors.std(axis=0)

    def _standardise(self, vectors: Vectors) -> Vectors:
        centre, spread = self._scale
        return np.clip((vectors - centre) / spread, -BOUND, BOUND)

    def _simulate(self, count: int, rng: np.random.Generator) -> Vectors:
        """Return log10 band powers: density at the band's centre times its width, with an estimate's scatter."""
        widths = np.array([last - first for first, last in self._bins], dtype=float)
        hertz = np.array([(a + b - 1) / 2 for a, b in self._bins]) * self.shape.sfreq / self.shape.n_times
        channels, low, high = len(self.shape.channels), *self.shape.bandpass
        density = -rng.uniform(0.3, 3.5, (count, 1)) * np.log10(hertz)
        for _ in range(3):
            centre = np.exp(rng.uniform(np.log(low), np.log(high), (count, 1)))
            width = np.log(rng.uniform(1.1, 1.8, (count, 1)))
            height = rng.uniform(0, 1.8, (count, 1)) * (rng.random((count, 1)) < 0.5)
            density = density + height * np.exp(-0.5 * (np.log(hertz / centre) / width) ** 2)
        powers = density + np.log10(widths)
        quietest, loudest = (5, 300) if self.shape.modality == "eeg" else (30, 1000)
        rms = np.exp(rng.uniform(np.log(quietest), np.log(loudest), (count, 1)))
        powers += 2 * np.log10(rms) - np.log10(np.sum(10**powers, axis=1, keepdims=True))
        gains = rng.normal(0, 0.3, (count, channels, 1)) * (channels > 1)
        scatter = rng.normal(size=(count, channels, len(widths))) * 0.43 / np.sqrt(widths)
        vectors: Vectors = (powers[:, None] + gains + scatter).reshape(count, -1)
        return vectors


@dataclass(frozen=True)
class Codec:
    """The product's codec as a space: its features, its simulator, its decoder."""

    shape: Shape

    @property
    def size(self) -> int:
        """Return the codec's number of features."""
        from fedsynth.modalities.registry import codec_of

        return codec_of(self.shape).n_features

    def encode(self, signal: NDArray[np.float32]) -> Vectors:
        """Return the codec's features, standardised as the product does."""
        from fedsynth.modalities.registry import codec_of, standardise

        parts = torch.from_numpy(signal).split(256)
        vectors = torch.cat([standardise(codec_of(self.shape).features(part), self.shape) for part in parts])
        return vectors.numpy()

    def decode(self, vectors: Vectors, *, rng: np.random.Generator) -> NDArray[np.float32]:
        """Return the decoder's windows."""
        from fedsynth.modalities.registry import codec_of, natural

        codec, decoder = codec_of(self.shape), self._decoder
        noise = torch.from_numpy(rng.standard_normal((len(vectors), codec.noise_width)).astype(np.float32))
        vectors_as_asked = natural(torch.from_numpy(vectors), self.shape)
        with torch.no_grad():
            parts = zip(vectors_as_asked.split(256), noise.split(256), strict=True)
            return torch.cat([decoder(mine, given) for mine, given in parts]).numpy()

    def simulate(self, count: int, *, rng: np.random.Generator) -> Vectors:
        """Return features of simulated windows, drawn with replacement where more are asked for than there are."""
        pool = self._pool
        return pool[rng.integers(0, len(pool), count)]

    @cached_property
    def _pool(self) -> Vectors:
        from fedsynth.modalities.registry import codec_of

        return self.encode(codec_of(self.shape).simulate(1000).numpy())

    @cached_property
    def _decoder(self) -> torch.nn.Module:
        from fedsynth.modalities.registry import codec_of

        return codec_of(self.shape).decoder().eval()
