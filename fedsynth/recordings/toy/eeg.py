"""One made-up person's EEG: stochastic oscillators in the time domain, mixed to the scalp."""

import math

import numpy as np
from numpy.typing import NDArray
from scipy.signal import lfilter

from fedsynth.study import Study


def person(rng: np.random.Generator, ill: bool, seconds: int, study: Study) -> NDArray[np.float64]:
    """Return one person's signal in microvolts, shape (channel, time)."""
    sfreq, n_channels = study.signal.rate_as_recorded, len(study.signal.channels)
    n_times = int(seconds * sfreq)
    scalp = _mixing(n_channels)
    amplitude = rng.lognormal(math.log(9), 0.3)
    background = scalp @ lfilter([1], [1, -rng.uniform(0.90, 0.97)], rng.normal(size=(n_channels, n_times)))
    signal = background / background.std() + 0.25 * rng.normal(size=(n_channels, n_times))
    alpha = rng.normal(8.4 if ill else 10.4, 0.7)
    theta = rng.normal(5.4, 0.6)
    gradient = np.linspace(0.4, 1.3, n_channels)[:, None]
    signal += gradient * rng.lognormal(0.2, 0.35) * _rhythm(rng, alpha, 0.985, n_times, sfreq)
    signal += rng.lognormal(0.3 if ill else -0.8, 0.35) * _rhythm(rng, theta, 0.97, n_times, sfreq)
    if ill and rng.random() < 0.7:
        signal += _sharp_waves(rng, n_channels, n_times, sfreq)
    return np.asarray(amplitude * signal, dtype=np.float64)


def _rhythm(rng: np.random.Generator, hertz: float, pole: float, n_times: int, sfreq: float) -> NDArray[np.float64]:
    """Return a noise-driven damped oscillator of unit variance, shape (1, time)."""
    angle = 2 * math.pi * hertz / sfreq
    driven = lfilter([1], [1, -2 * pole * math.cos(angle), pole**2], rng.normal(size=n_times + 512))[512:]
    return np.asarray(driven / driven.std(), dtype=np.float64)[None]


def _sharp_waves(rng: np.random.Generator, n_channels: int, n_times: int, sfreq: float) -> NDArray[np.float64]:
    """Return sharp waves of 70 to 120 ms, about one in two seconds, strongest at one place."""
    out = np.zeros((n_channels, n_times))
    place = rng.integers(n_channels)
    field = np.exp(-0.5 * ((np.arange(n_channels) - place) / 1.5) ** 2)[:, None]
    for start in np.flatnonzero(rng.random(n_times) < 0.5 / sfreq):
        width = rng.uniform(0.07, 0.12) * sfreq
        time = np.arange(n_times) - start
        out += field * rng.uniform(2, 5) * np.exp(-0.5 * (time / (width / 3)) ** 2) * np.cos(time / width)
    return out


def _mixing(n_channels: int) -> NDArray[np.float64]:
    distance = np.abs(np.subtract.outer(np.arange(n_channels), np.arange(n_channels)))
    return np.asarray(np.exp(-distance / 2.5), dtype=np.float64)
