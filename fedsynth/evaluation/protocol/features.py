"""Twelve features of a window and its loudness, each a number that a reader knows.

EEG: those of GenEEG (docs/families/vae-ldm.md): relative power in five bands, Hjorth's mobility and complexity,
spectral and permutation entropy, Higuchi's fractal dimension, kurtosis, time until the autocorrelation vanishes.
ECG: the beat's rate and regularity by autocorrelation, shares of power, and the same measures of shape.
"""

import math
from itertools import pairwise, permutations
from typing import assert_never

import numpy as np
from numpy.typing import NDArray

from fedsynth.modalities.shape import Shape

Rows = NDArray[np.float64]

_EEG_BANDS = (
    ("delta", 0.5, 4.0),
    ("theta", 4.0, 8.0),
    ("alpha", 8.0, 13.0),
    ("beta", 13.0, 30.0),
    ("gamma", 30.0, 70.0),
)
_ECG_BANDS = (("baseline", 0.0, 0.7), ("P and T", 0.7, 7.0), ("QRS", 7.0, 20.0), ("noise", 20.0, 1e9))
_BEATS = (0.3, 1.5)  # seconds between two beats, from 40 to 200 a minute
_ORDER = 3  # of permutation entropy (Bandt and Pompe 2002)
_STRIDES = 8  # of Higuchi's curve lengths (1988)
_LOUDNESS = "log rms"
_SHAPES = (
    "Hjorth mobility",
    "Hjorth complexity",
    "spectral entropy",
    "permutation entropy",
    "Higuchi dimension",
    "kurtosis",
)


def feature_names(shape: Shape) -> tuple[str, ...]:
    """Return what the columns of `features_by_channel` are."""
    match shape.modality:
        case "eeg":
            return (*(f"{name} share" for name, *_ in _EEG_BANDS), *_SHAPES, "decorrelation time (s)", _LOUDNESS)
        case "ecg":
            own = (*(f"{name} share" for name, *_ in _ECG_BANDS), "beat interval (s)", "beat regularity")
            return (*own, *_SHAPES, _LOUDNESS)
        case other:
            assert_never(other)


def features_by_channel(signal: NDArray[np.float32], *, shape: Shape) -> Rows:
    """Return features of each channel, shape (window, channel, feature).

    Args:
        signal: microvolts, shape (window, channel, time).
        shape: for rate and kind of signal.
    """
    flat = signal.reshape(-1, signal.shape[-1]).astype(np.float64)
    flat = flat - flat.mean(axis=1, keepdims=True)
    power = np.abs(np.fft.rfft(flat * np.hanning(flat.shape[1]), axis=1)) ** 2
    hertz: Rows = np.fft.rfftfreq(flat.shape[1], 1 / shape.sfreq).astype(np.float64)
    lags = _autocorrelation(flat)
    shapes = [*_hjorth(flat), _spectral_entropy(power), _permutation_entropy(flat), _higuchi(flat), _kurtosis(flat)]
    loud = np.log(flat.std(axis=1) + 1e-3)
    match shape.modality:
        case "eeg":
            columns = [*_shares(power, hertz, _EEG_BANDS), *shapes, _decorrelation(lags) / shape.sfreq, loud]
        case "ecg":
            columns = [*_shares(power, hertz, _ECG_BANDS), *_beats(lags, shape.sfreq), *shapes, loud]
        case other:
            assert_never(other)
    return np.stack(columns, axis=1).reshape(*signal.shape[:2], -1)


def features_of(signal: NDArray[np.float32], *, shape: Shape) -> Rows:
    """Return features averaged over channels, shape (window, feature)."""
    return features_by_channel(signal, shape=shape).mean(axis=1)


def _shares(power: Rows, hertz: Rows, bands: tuple[tuple[str, float, float], ...]) -> list[Rows]:
    total = power.sum(axis=1) + 1e-12
    return [power[:, (hertz >= low) & (hertz < high)].sum(axis=1) / total for _, low, high in bands]


def _hjorth(flat: Rows) -> tuple[Rows, Rows]:
    """Return mobility and complexity (Hjorth 1970), slopes taken from sample to sample."""
    deviations = [np.diff(flat, n=order, axis=1).std(axis=1) + 1e-9 for order in range(3)]
    mobility, next_mobility = (after / before for before, after in pairwise(deviations))
    return mobility, next_mobility / mobility


def _spectral_entropy(power: Rows) -> Rows:
    share = power / (power.sum(axis=1, keepdims=True) + 1e-12)
    return -(share * np.log(share + 1e-12)).sum(axis=1) / math.log(power.shape[1])


def _permutation_entropy(flat: Rows) -> Rows:
    """Return the entropy of the order of three neighbours, 1 where all orders are as frequent."""
    ranks = np.argsort(np.lib.stride_tricks.sliding_window_view(flat, _ORDER, axis=1), axis=2)
    numbers = ranks @ (_ORDER ** np.arange(_ORDER))
    shares = np.stack(
        [
            (numbers == np.dot(order, _ORDER ** np.arange(_ORDER))).mean(axis=1)
            for order in permutations(range(_ORDER))
        ],
        axis=1,
    )
    return -(shares * np.log(shares + 1e-12)).sum(axis=1) / math.log(math.factorial(_ORDER))


def _higuchi(flat: Rows) -> Rows:
    """Return the slope of log curve length over log stride."""
    n_times = flat.shape[1]
    lengths = []
    for stride in range(1, _STRIDES + 1):
        each = []
        for start in range(stride):
            curve = flat[:, start::stride]
            steps = max(curve.shape[1] - 1, 1)
            each.append(np.abs(np.diff(curve, axis=1)).sum(axis=1) * (n_times - 1) / (steps * stride**2))
        lengths.append(np.log(np.mean(each, axis=0) + 1e-9))
    x = np.log(1 / np.arange(1, _STRIDES + 1))
    x = x - x.mean()
    return (np.stack(lengths, axis=1) * x).sum(axis=1) / (x**2).sum()


def _kurtosis(flat: Rows) -> Rows:
    return (flat**4).mean(axis=1) / ((flat**2).mean(axis=1) ** 2 + 1e-12) - 3


def _autocorrelation(flat: Rows) -> Rows:
    """Return the unbiased autocorrelation at half the window's lags, 1 at lag zero."""
    n_times = flat.shape[1]
    raw = np.fft.irfft(np.abs(np.fft.rfft(flat, 2 * n_times, axis=1)) ** 2, axis=1)[:, : n_times // 2]
    unbiased = raw / (n_times - np.arange(raw.shape[1]))
    return unbiased / (unbiased[:, :1] + 1e-12)


def _decorrelation(lags: Rows) -> Rows:
    """Return the first lag in samples without autocorrelation; the last one where there is none."""
    below = lags <= 0
    return np.where(below.any(axis=1), below.argmax(axis=1), lags.shape[1]).astype(np.float64)


def _beats(lags: Rows, sfreq: float) -> tuple[Rows, Rows]:
    """Return the lag in seconds of the highest autocorrelation between two beats, and its height."""
    first, last = (round(seconds * sfreq) for seconds in _BEATS)
    inside = lags[:, first : max(last + 1, first + 1)]
    if inside.shape[1] == 0:
        return np.zeros(len(lags)), np.zeros(len(lags))
    return (inside.argmax(axis=1) + first) / sfreq, inside.max(axis=1)
