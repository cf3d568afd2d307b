"""The public ECG prior: simulated windows with wide random parameters, at no cost in epsilon.

A beat is a sum of Gaussian waves P, Q, R, S, ST and T (McSharry et al. 2003, doi:10.1109/TBME.2003.808805), each
with a direction in space; leads see the dipole through Dower's lead vectors, unknown leads through random ones.
Rhythms come from `ecg_rhythm`; noise is 1/f, muscle, mains, baseline and electrode motion, with f waves under
fibrillation. Everything is drawn from a public seed and nothing was ever fitted to anybody.
"""

import math
from functools import lru_cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fedsynth.modalities.ecg.beats import beat_samples, beat_seconds, draw_trains
from fedsynth.modalities.ecg.leads import axes_of, keep_identities
from fedsynth.modalities.ecg.passband import band_limit, simple_gain, upper_gain
from fedsynth.modalities.ecg.rhythm import FIBRILLATION, NONSENSE, Trains, trains
from fedsynth.modalities.shape import Shape
from fedsynth.rng import numpy_generator

# Per wave: time, its spread, width in seconds, its log spread, mean direction X Y Z in R's size, its spread.
_WAVES = (
    (-0.165, 0.020, 0.022, 0.25, (0.07, 0.11, -0.01), 0.06),
    (-0.030, 0.006, 0.010, 0.30, (-0.10, -0.05, -0.22), 0.18),
    (0.000, 0.004, 0.012, 0.35, (0.75, 0.65, 0.25), 0.45),
    (0.032, 0.008, 0.013, 0.40, (-0.15, -0.12, 0.38), 0.30),
    (0.110, 0.020, 0.045, 0.25, (0.00, 0.00, -0.04), 0.07),
    (0.250, 0.030, 0.050, 0.25, (0.16, 0.13, -0.14), 0.16),
    (0.300, 0.030, 0.032, 0.25, (0.08, 0.06, -0.06), 0.08),
)
_ELSEWHERE = 0.2  # of a lead vector's unit, from person to person
_WIDE = 0.25  # of the simulated people have wide QRS complexes
_EVENNESS = 0.25  # power of a moment's spread that beats are scaled by before they are reduced
_FEW_NUMBERS = 10  # of a beat, with which QRS complexes stay sharp only at the cost of P and T waves (docs/log.md)
_STEEP_HZ = 20.0  # above which, with so few, a wave counts the more the steeper it is


def simulate(shape: Shape, *, count: int, purpose: str) -> Tensor:
    """Simulate windows in microvolts, shape (count, channel, time).

    The same purpose, count and shape give the same windows on every machine.
    """
    rng = _generator(shape, purpose)
    train = trains(rng, count=count, seconds=shape.n_times / shape.sfreq, centred=shape.centred)
    sources = torch.from_numpy(noises(rng, shape, fibrillation=(train.kinds == FIBRILLATION).numpy()))
    template = _templates(rng, shape, fibrillation=(train.kinds == FIBRILLATION).numpy())
    nonsense = train.kinds == NONSENSE
    template[nonsense] = 0.0
    axes = draw_trains(template, train, n_times=shape.n_times, sfreq=shape.sfreq)
    heart = torch.einsum("ca,wat->wct", axes_of(shape.channels, shape.every_lead).spread, axes)
    level = torch.from_numpy(np.exp(rng.normal(math.log(35), 1.0, count))) * (1 + 3 * nonsense)
    others = torch.from_numpy(rng.integers(0, count, (count, len(shape.channels))))
    mixed = level.float()[:, None, None] * mix_noise(sources, sources[others])
    return keep_identities(band_limit(heart + mixed, shape), shape.channels)


def rhythms(shape: Shape, *, count: int, purpose: str) -> Trains:
    """Simulate trains of beats to look up what a window needs."""
    seconds = shape.n_times / shape.sfreq
    return trains(_generator(shape, f"{purpose} of rhythms"), count=count, seconds=seconds, centred=shape.centred)


def noise_bank(shape: Shape, *, count: int, purpose: str) -> Tensor:
    """Simulate noise of unit variance, a third of it with f waves, shape (count, time)."""
    return torch.from_numpy(
        noises(_generator(shape, f"{purpose} of noises"), shape, fibrillation=np.arange(count) % 3 == 0)
    )


def _generator(shape: Shape, purpose: str) -> np.random.Generator:
    signal = (shape.n_times, f"{shape.sfreq:.6f}", f"{shape.bandpass}", len(shape.channels))
    return numpy_generator("ecg", purpose, *signal)


def _templates(rng: np.random.Generator, shape: Shape, *, fibrillation: NDArray[np.bool_]) -> Tensor:
    """Return a random beat of random size for each window in microvolts, shape (window, axis, beat time)."""
    axes, count = axes_of(shape.channels, shape.every_lead), len(fibrillation)
    dipole = beats(rng, sfreq=shape.sfreq, fibrillation=fibrillation)
    if axes.vectors is None:
        sign = rng.choice([1.0, -1.0], (count, 1, 1), p=[0.8, 0.2])
        view = rng.normal((0.5, 0.6, 0.0), 0.5, (count, len(axes.read), 3)) * sign
    else:
        view = np.broadcast_to(axes.vectors.numpy(), (count, len(axes.read), 3))
        if axes.number > 3:
            # Electrodes sit elsewhere on every chest, so that a lead sees what its neighbours do not.
            view = view + rng.normal(0, _ELSEWHERE, view.shape)
    size = np.exp(rng.normal(math.log(900), 0.6, (count, 1, 1)))
    return torch.from_numpy((np.einsum("wad,wdt->wat", view, dipole) * size).astype(np.float32))


def beats(rng: np.random.Generator, *, sfreq: float, fibrillation: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Return single beats of the dipole, R about 1 in size, shape (beat, 3, beat time); no P under fibrillation."""
    count = len(fibrillation)
    at = beat_seconds(sfreq).numpy().astype(np.float64)
    wide = np.where(rng.random(count) < _WIDE, rng.uniform(1.4, 2.6, count), rng.uniform(0.8, 1.2, count))
    stretch = rng.uniform(0.8, 1.2, count)
    total = np.zeros((count, 3, len(at)))
    for wave, (time, time_spread, width, width_spread, direction, spread) in enumerate(_WAVES):
        centre = (time + rng.normal(0, time_spread, count)) * (stretch if wave > 3 else wide if wave else 1.0)
        broad = width * np.exp(rng.normal(0, width_spread, count)) * (wide if 0 < wave < 4 else 1.0)
        size = np.asarray(direction) + rng.normal(0, spread, (count, 3))
        if wave == 0:
            size *= np.where(fibrillation, 0.0, 1.0)[:, None]
        bell = np.exp(-0.5 * ((at - centre[:, None]) / broad[:, None]) ** 2)
        total += size[:, :, None] * bell[:, None, :]
    return total


def noises(rng: np.random.Generator, shape: Shape, *, fibrillation: NDArray[np.bool_]) -> NDArray[np.float32]:
    """Return noise of unit variance, shape (window, time): coloured, bursting, with f waves where asked."""
    count = len(fibrillation)
    frequencies = np.fft.rfftfreq(shape.n_times, 1 / shape.sfreq)
    out = np.empty((count, shape.n_times), dtype=np.float32)
    for row in range(count):
        noise = _shaped(rng, np.maximum(frequencies, 0.5) ** (-rng.uniform(0.0, 3.0) / 2), shape.n_times)
        if rng.random() < 0.3:
            noise += rng.uniform(0.3, 2.0) * _shaped(rng, frequencies / (frequencies + 20), shape.n_times)
        if fibrillation[row] or rng.random() < 0.15:
            centre, width = rng.uniform(4.0, 8.5), rng.uniform(0.3, 1.2)
            band = np.exp(-0.5 * ((frequencies - centre) / width) ** 2)
            band += 0.3 * np.exp(-0.5 * ((frequencies - 2 * centre) / (2 * width)) ** 2)
            noise += rng.uniform(0.5, 3.0) * _shaped(rng, band, shape.n_times)
        if rng.random() < 0.4:
            slow = _shaped(rng, np.exp(-frequencies / rng.uniform(0.2, 1.0)), shape.n_times)
            noise *= np.exp(rng.uniform(0.2, 1.5) * slow)
        if rng.random() < 0.1:
            at = (np.arange(shape.n_times) / shape.n_times)[:, None] - rng.random(int(rng.integers(1, 4)))
            jumps = np.exp(-np.abs(at) / rng.uniform(0.01, 0.08)) * np.sign(at + 1e-9)
            noise += rng.uniform(2, 8) * jumps.sum(axis=1)
        passed = np.fft.irfft(np.fft.rfft(noise) * simple_gain(shape.n_times, shape), shape.n_times)
        out[row] = passed / (passed.std() + 1e-6)
    return out


def mix_noise(shared: Tensor, own: Tensor) -> Tensor:
    """Return noise for every channel: half of the variance shared, half its own.

    Args:
        shared: shape (window, time).
        own: shape (window, channel, time).
    """
    if own.shape[1] == 1:
        return shared[:, None].expand_as(own)
    return math.sqrt(0.5) * (shared[:, None] + own)


@lru_cache(maxsize=8)
def beat_basis(shape: Shape, *, size: int) -> tuple[Tensor, Tensor]:
    """Return how a beat is read into `size` numbers and drawn from them, each of shape (size, beat time).

    Principal components of simulated beats, every moment scaled by the fourth root of how much beats differ there:
    a P wave counts for more than its size, and an R wave keeps its height (docs/log.md). The beats have passed the
    upper edge of what recordings pass. `read @ draw.T` is the identity. Each component has a positive sum of cubes,
    so that its sign does not hang on the linear algebra library.
    """
    sfreq = shape.sfreq
    rng = numpy_generator("ecg beat basis", f"{sfreq:.6f}")
    sample = beats(rng, sfreq=sfreq, fibrillation=rng.random(3000) < 0.2)
    rows = sample.reshape(-1, beat_samples(sfreq)[1])
    length = rows.shape[1]
    mirrored = np.fft.rfft(np.concatenate([rows, rows[:, ::-1]], axis=1)) * upper_gain(2 * length, shape)
    rows = np.fft.irfft(mirrored, 2 * length)[:, :length]
    rows = rows / (np.sqrt(np.square(rows).mean(axis=1, keepdims=True)) + 0.05)
    rows += rng.normal(0, 0.1, (len(rows), 1))
    scale = (rows.std(axis=0) + 0.02) ** _EVENNESS
    steep = _steeper(rows.shape[1], sfreq) if size <= _FEW_NUMBERS else np.eye(rows.shape[1])
    rows = rows / scale @ steep
    _, vectors = np.linalg.eigh(rows.T @ rows)
    chosen = vectors[:, ::-1][:, :size].T
    drawn = np.linalg.solve(steep, chosen.T).T * scale
    signs = np.sign((drawn**3).sum(axis=1, keepdims=True))
    read, draw = (torch.from_numpy((signs * part).astype(np.float32)) for part in (chosen @ steep / scale, drawn))
    return read, draw


def _steeper(size: int, sfreq: float) -> NDArray[np.float64]:
    """Return a symmetric matrix (time, time) that makes what is faster than `_STEEP_HZ` count for more."""
    frequencies = np.fft.fftfreq(size, 1 / sfreq)
    gain = np.sqrt(1 + (frequencies / _STEEP_HZ) ** 2)
    matrix: NDArray[np.float64] = np.fft.ifft(gain[:, None] * np.fft.fft(np.eye(size), axis=0), axis=0).real
    return (matrix + matrix.T) / 2


def _shaped(rng: np.random.Generator, gain: NDArray[np.float64], length: int) -> NDArray[np.float64]:
    """Return Gaussian noise of unit variance, no mean and this amplitude spectrum; nothing gives nothing."""
    noise = rng.normal(size=len(gain)) + 1j * rng.normal(size=len(gain))
    shaped = np.fft.irfft(noise * gain, length)
    shaped -= shaped.mean()
    scaled: NDArray[np.float64] = shaped / (shaped.std() + 1e-9)
    return scaled
