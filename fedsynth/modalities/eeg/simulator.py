"""The public prior: simulated single-channel EEG with wide random parameters, at no cost in epsilon.

Backgrounds with a 1/f slope, oscillations of random frequency and bandwidth, waxing and waning, spike-wave
discharges and slow drifts. Drawn from a public seed, the same on every machine, and never fitted to anybody.
"""

import math
from functools import lru_cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fedsynth.modalities.shape import Shape
from fedsynth.rng import numpy_generator

_CROPS = 4


@lru_cache(maxsize=4)
def waveforms(shape: Shape, *, count: int) -> Tensor:
    """Return simulated waveforms of unit variance, float32, shape (waveform, time).

    Args:
        shape: rate, length and pass band of the windows; channels do not matter.
        count: a multiple of 4; each simulated stretch gives four crops.
    """
    rng = numpy_generator("prior", shape.n_times, f"{shape.sfreq:.6f}", f"{shape.bandpass}")
    length = 2 * shape.n_times
    stretches = np.stack([_stretch(rng, length, shape) for _ in range(count // _CROPS)])
    starts = [crop * shape.n_times // (_CROPS - 1) for crop in range(_CROPS)]
    crops = np.concatenate([stretches[:, start : start + shape.n_times] for start in starts])
    crops -= crops.mean(axis=1, keepdims=True)
    crops /= crops.std(axis=1, keepdims=True) + 1e-9
    return torch.from_numpy(crops.astype(np.float32))


def _stretch(rng: np.random.Generator, length: int, shape: Shape) -> NDArray[np.float64]:
    frequencies = np.fft.rfftfreq(length, 1 / shape.sfreq).astype(np.float64)
    low, high = shape.bandpass
    seconds = np.arange(length) / shape.sfreq
    signal = _coloured(rng, frequencies, length, slope=rng.uniform(0.3, 3.2))
    for _ in range(rng.integers(0, 4)):
        centre = math.exp(rng.uniform(math.log(max(low, 1.0)), math.log(high * 0.8)))
        width = rng.uniform(0.2, 2.5)
        rhythm = _shaped(rng, np.exp(-0.5 * ((frequencies - centre) / width) ** 2), length)
        envelope = np.exp(rng.uniform(0, 0.9) * _shaped(rng, np.exp(-frequencies / 0.8), length))
        signal += rng.uniform(0.3, 2.5) * rhythm * envelope
    if rng.random() < 0.45:
        signal += rng.uniform(0.5, 5.0) * _discharges(rng, seconds)
    if rng.random() < 0.2:
        signal *= np.exp(rng.uniform(0.3, 1.2) * _shaped(rng, np.exp(-frequencies / 0.5), length))
    from scipy.signal import butter, sosfreqz  # imported here: it takes a second, and most steps simulate nothing

    # The very filter that a site applies to recordings, forwards and backwards.
    sections = butter(4, (low, high), btype="bandpass", fs=shape.sfreq, output="sos")
    response = np.abs(sosfreqz(sections, worN=frequencies, fs=shape.sfreq)[1]) ** 2
    filtered: NDArray[np.float64] = np.fft.irfft(np.fft.rfft(signal) * response, length)
    return filtered


def _coloured(
    rng: np.random.Generator, frequencies: NDArray[np.float64], length: int, *, slope: float
) -> NDArray[np.float64]:
    return _shaped(rng, np.maximum(frequencies, 0.5) ** (-slope / 2), length)


def _shaped(rng: np.random.Generator, gain: NDArray[np.float64], length: int) -> NDArray[np.float64]:
    """Return Gaussian noise of unit variance with the given amplitude spectrum."""
    noise = rng.normal(size=len(gain)) + 1j * rng.normal(size=len(gain))
    shaped = np.fft.irfft(noise * gain, length)
    scaled: NDArray[np.float64] = shaped / (shaped.std() + 1e-12)
    return scaled


def _discharges(rng: np.random.Generator, seconds: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return a spike-and-slow-wave train, or a few isolated sharp waves."""
    out = np.zeros_like(seconds)
    total = seconds[-1]
    if rng.random() < 0.6:
        times = np.cumsum(rng.normal(1, rng.uniform(0.02, 0.3), 400).clip(0.3) / rng.uniform(1.5, 7.0))
        times = times[times < total]
    else:
        times = rng.uniform(0, total, rng.integers(1, max(2, int(3 * total))))
    spike, wave = rng.uniform(0.008, 0.05), rng.uniform(0.05, 0.25)
    depth, sign = rng.uniform(0, 1.2), rng.choice([-1.0, 1.0])
    for time in times:
        size = rng.lognormal(0, 0.25)
        out += sign * size * np.exp(-0.5 * ((seconds - time) / spike) ** 2)
        out -= sign * size * depth * np.exp(-0.5 * ((seconds - time - spike - 1.5 * wave) / wave) ** 2)
    return out
