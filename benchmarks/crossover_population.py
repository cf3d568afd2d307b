"""Populations without end, fitted to a public set: mixtures of Gaussians over codec features, and what is added.

"features": two labels of Bonn, each a mixture of its own, so that features tell all there is. "evoked" and "chirp":
both labels have one mixture, fitted to all of Bonn, and differ in what no feature tells: a wave that is locked to
the window or anywhere in it, a chirp that falls or rises. People are drawn anew for every cohort; nothing of a
recording is kept but the fit. The public decoder draws their windows, so people are easier for the product than
recordings are: the map is about people, epsilon and arms, and not about decoders.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from blind_spot_cohorts import Cohort
from numpy.typing import NDArray
from sklearn.mixture import GaussianMixture
from torch import nn
from utility_data import Half

from fedsynth.modalities.registry import codec_of, natural, standardise
from fedsynth.modalities.shape import Shape

LABELS = ("one", "other")
POPULATIONS = ("features", "evoked", "chirp")
SFREQ, N_TIMES = 173.61, 256
SHAPE = Shape(("EEG",), N_TIMES, SFREQ, (0.5, 40.0), 2, "eeg")
_PAIR = (2, 3)  # interictal recordings from the opposite side and from the epileptogenic zone
_COMPONENTS = 3
_FLOOR = 0.05  # of a component's variance along an axis
_EVOKED, _CHIRP = 1.4, 1.5  # root mean squares of a window
_SECONDS = np.arange(N_TIMES) / SFREQ

Signal = NDArray[np.float64]


@dataclass(frozen=True)
class Fit:
    """How people of one label differ (a mixture of their means), and the covariance of windows within people."""

    people: GaussianMixture
    within: Signal

    @classmethod
    def of(cls, vectors: Signal, people: NDArray[np.int64]) -> "Fit":
        """Fit standardised features, shape (window, feature), of people (window,)."""
        _, person = np.unique(people, return_inverse=True)
        means = np.stack([vectors[person == number].mean(axis=0) for number in range(person.max() + 1)])
        mixture = GaussianMixture(_COMPONENTS, covariance_type="diag", reg_covar=_FLOOR, random_state=0)
        # Axes of the covariance, so that components need no covariance of their own.
        return cls(mixture.fit(means), np.cov((vectors - means[person]).T))

    def draw(self, rng: np.random.Generator, *, people: int, windows: int) -> Signal:
        """Return standardised features of so many people, shape (people * windows, feature)."""
        chosen = rng.choice(_COMPONENTS, people, p=self.people.weights_)
        means = rng.normal(self.people.means_[chosen], np.sqrt(self.people.covariances_[chosen]))
        own = rng.multivariate_normal(np.zeros(len(self.within)), self.within, people * windows)
        return np.repeat(means, windows, axis=0) + own


@dataclass(frozen=True)
class Population:
    """`fits` has one entry for each label; `added` draws what is laid over a window of unit size, or nothing."""

    name: str
    fits: tuple[Fit, Fit]
    added: Callable[[np.random.Generator, int], Signal] | None

    def cohort(self, *, people: int, windows: int, seed: int) -> Cohort:
        """Draw people, every other one of the second label, with so many windows each."""
        rng = np.random.default_rng([seed, *self.name.encode()])
        labels = np.repeat(np.arange(people) % 2, windows)
        vectors = np.empty((people * windows, self.fits[0].within.shape[0]))
        for label, fit in enumerate(self.fits):
            mine = labels == label
            vectors[mine] = fit.draw(rng, people=int(mine.sum()) // windows, windows=windows)
        signal = self._decoded(vectors, rng)
        if self.added is not None:
            size = signal.std(axis=2, keepdims=True)
            signal = signal + size * np.stack([self.added(rng, label) for label in labels])[:, None]
        return Cohort(signal.astype(np.float32), labels, np.repeat(np.arange(people), windows))

    def _decoded(self, vectors: Signal, rng: np.random.Generator) -> Signal:
        codec = codec_of(SHAPE)
        noise = rng.normal(size=(len(vectors), codec.noise_width)).astype(np.float32)
        with torch.no_grad():
            windows = self._decoder(natural(torch.from_numpy(vectors).clamp(-4, 4), SHAPE), torch.from_numpy(noise))
        return windows.numpy().astype(np.float64)

    @cached_property
    def _decoder(self) -> nn.Module:
        return codec_of(SHAPE).decoder()


def populations(real: Half) -> dict[str, Population]:
    """Fit every population to windows of Bonn, at least `N_TIMES` samples long."""
    vectors = standardise(codec_of(SHAPE).features(torch.from_numpy(real.signal[..., :N_TIMES])), SHAPE).numpy()

    def fit(*labels: int) -> Fit:
        mine = np.isin(real.labels, labels)
        return Fit.of(vectors[mine], real.recordings[mine])

    everybody = fit(*range(int(real.labels.max()) + 1))
    one, other = (fit(label) for label in _PAIR)
    return {
        "features": Population("features", (one, other), None),
        "evoked": Population("evoked", (everybody, everybody), _evoked),
        "chirp": Population("chirp", (everybody, everybody), _chirp),
    }


def _evoked(rng: np.random.Generator, label: int) -> Signal:
    at = 0.4 if label else rng.uniform(0.1, 1.1)
    wave = -1.2 * _bump(at, 0.035) + 1.5 * _bump(at + 0.16, 0.06)
    return _EVOKED * wave


def _chirp(rng: np.random.Generator, label: int) -> Signal:
    time = np.clip(_SECONDS - rng.uniform(0.05, 0.4), 0, 1)
    turns = 5 * time + 7.5 * time**2 if label else 20 * time - 7.5 * time**2
    return _CHIRP * np.sin(2 * np.pi * turns + rng.uniform(0, 2 * np.pi)) * np.sin(np.pi * time)


def _bump(at: float, width: float) -> Signal:
    return np.exp(-0.5 * ((_SECONDS - at) / width) ** 2)
