"""Made-up people whose labels differ in one thing only, and the windows of their recordings.

Nothing here comes from the simulators behind the public priors: backgrounds are autoregressive or pink, beats are
drawn wave by wave. Both labels have the same background, and the same waves as far as the difference allows. All
have passed a filter, as recordings have that a site reads.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.signal import butter, sosfiltfilt
from scipy.special import expit

Signal = NDArray[Any]
Draw = Callable[[np.random.Generator, "Person", int], Signal]
"""From a generator, a person and a label (0 or 1) to one window, shape (channel, time)."""

EEG_RATE, EEG_TIMES = 128.0, 256
ECG_RATE, ECG_TIMES = 100.0, 512
EEG_LEADS, ECG_LEADS = ("C3", "C4"), ("I", "II", "V2")
_SIZE_UV = 20.0  # root mean square of an EEG background
_BLEND = 0.6  # of a background's standard deviation that all channels share
_SECONDS = np.arange(EEG_TIMES) / EEG_RATE


@dataclass(frozen=True)
class Person:
    """What a person's windows share: loudness, the background's pole, the heart's rate, its waves' size."""

    gain: float
    pole: float
    rhythm: float
    beat_seconds: float
    waves: Signal


@dataclass(frozen=True)
class BlindSpot:
    """One difference between label 0 and label 1."""

    name: str
    modality: str
    draw: Draw

    @property
    def channels(self) -> tuple[str, ...]:
        """Return the channels by name."""
        return EEG_LEADS if self.modality == "eeg" else ECG_LEADS


@dataclass(frozen=True)
class Cohort:
    """Windows in microvolts (window, channel, time), labels (window,), and whom each is of (window,)."""

    signal: NDArray[np.float32]
    labels: NDArray[np.int64]
    people: NDArray[np.int64]


def cohort_of(spot: BlindSpot, *, people: int, windows: int, seed: int) -> Cohort:
    """Draw people, every other one of them of label 1, with so many windows each."""
    rng = np.random.default_rng([seed, *spot.name.encode()])
    rows = []
    for number in range(people):
        person = _person(rng)
        rows += [spot.draw(rng, person, number % 2) for _ in range(windows)]
    numbers = np.repeat(np.arange(people), windows)
    return Cohort(np.stack(rows).astype(np.float32), numbers % 2, numbers)


def _person(rng: np.random.Generator) -> Person:
    return Person(
        gain=float(np.exp(rng.normal(0, 0.25))),
        pole=float(rng.uniform(0.75, 0.95)),
        rhythm=float(rng.uniform(9.0, 11.0)),
        beat_seconds=float(rng.uniform(0.7, 1.0)),
        waves=np.exp(rng.normal(0, 0.15, (5, len(ECG_LEADS)))),
    )


# EEG


def _background(rng: np.random.Generator, person: Person) -> Signal:
    """Return a pink and an autoregressive part, shared by the channels in part, shape (channel, time)."""
    rows = np.stack([_coloured(rng, person) for _ in range(1 + len(EEG_LEADS))])
    mixed = _BLEND * rows[:1] + np.sqrt(1 - _BLEND**2) * rows[1:]
    return _SIZE_UV * person.gain * mixed


def _coloured(rng: np.random.Generator, person: Person) -> Signal:
    frequencies = np.fft.rfftfreq(EEG_TIMES, 1 / EEG_RATE)
    angles = 2 * np.pi * frequencies / EEG_RATE
    autoregressive = 1 / np.abs(1 - person.pole * np.exp(-1j * angles)) ** 2
    pink = 1 / np.maximum(frequencies, 0.5)
    noise = rng.normal(size=(2, len(frequencies))) + 1j * rng.normal(size=(2, len(frequencies)))
    parts = np.fft.irfft(noise * _in_band(frequencies) * np.sqrt([autoregressive, pink]), EEG_TIMES)
    whole: Signal = (parts / parts.std(axis=1, keepdims=True)).sum(axis=0)
    return whole / whole.std()


def _in_band(frequencies: Signal) -> Signal:
    """Return the gain of a filter that passes 1 to 40 Hz."""
    return 1 / np.sqrt(1 + (frequencies / 40) ** 8) / np.sqrt(1 + (0.8 / np.maximum(frequencies, 1e-3)) ** 8)


def _bump(at: float, width: float) -> Signal:
    """Return a Gaussian of height 1 around `at` seconds."""
    return np.exp(-0.5 * ((_SECONDS - at) / width) ** 2)


def _sine(rng: np.random.Generator, hertz: float) -> Signal:
    return np.sin(2 * np.pi * hertz * _SECONDS + rng.uniform(0, 2 * np.pi))


def _evoked(rng: np.random.Generator, person: Person, label: int) -> Signal:
    """A negative and a positive wave, 0.55 s after the window's start or anywhere.

    Where spectra are tapered by a Hann window, the wave weighs as much there as on average anywhere.
    """
    at = 0.55 if label else rng.uniform(0.2, 1.6)
    wave = -1.2 * _bump(at, 0.035) + 1.5 * _bump(at + 0.16, 0.06)
    return _background(rng, person) + 1.4 * _SIZE_UV * person.gain * wave


def _burst(rng: np.random.Generator, person: Person, label: int) -> Signal:
    """A burst of the person's rhythm early or late in the window."""
    wave = _sine(rng, person.rhythm) * _bump((0.5, 1.5)[label] + rng.normal(0, 0.1), 0.2)
    return _background(rng, person) + 2.0 * _SIZE_UV * person.gain * wave


def _chirp(rng: np.random.Generator, person: Person, label: int) -> Signal:
    """A chirp of one second between 5 and 20 Hz, falling or rising, anywhere."""
    start = rng.uniform(0.1, 0.9)
    time = np.clip(_SECONDS - start, 0, 1)
    turns = 5 * time + 7.5 * time**2 if label else 20 * time - 7.5 * time**2
    wave = np.sin(2 * np.pi * turns + rng.uniform(0, 2 * np.pi)) * np.sin(np.pi * time)
    return _background(rng, person) + 1.5 * _SIZE_UV * person.gain * wave


def _coupling(rng: np.random.Generator, person: Person, label: int) -> Signal:
    """A slow and a fast rhythm whose envelope follows the slow one's phase, or another of the same rate."""
    phase, other = rng.uniform(0, 2 * np.pi, 2)
    slow = 2 * np.pi * 5.0 * _SECONDS
    envelope = 0.5 * (1 + np.cos(slow + (phase if label else other)))
    wave = np.cos(slow + phase) + 1.2 * envelope**2 * _sine(rng, 28.0)
    return _background(rng, person) + 1.2 * _SIZE_UV * person.gain * wave


def _antiphase(rng: np.random.Generator, person: Person, label: int) -> Signal:
    """One rhythm in both channels, with the same or with opposite signs."""
    wave = _sine(rng, person.rhythm) * np.array([[1.0], [-1.0 if label else 1.0]])
    return _background(rng, person) + 1.0 * _SIZE_UV * person.gain * wave


def _lag(rng: np.random.Generator, person: Person, label: int) -> Signal:
    """One irregular wave in both channels, 30 ms earlier in the one or in the other."""
    frequencies = np.fft.rfftfreq(EEG_TIMES, 1 / EEG_RATE)
    noise = rng.normal(size=len(frequencies)) + 1j * rng.normal(size=len(frequencies))
    noise *= _in_band(frequencies) * np.exp(-0.5 * ((frequencies - 8) / 4) ** 2)
    late = np.exp(-2j * np.pi * frequencies * 0.030)
    first, second = (np.fft.irfft(some, EEG_TIMES) for some in (noise, noise * late))
    both = np.stack([second, first] if label else [first, second])
    return _background(rng, person) + 1.2 * _SIZE_UV * person.gain * both / first.std()


def _side(rng: np.random.Generator, person: Person, label: int) -> Signal:
    """A rhythm that is louder on one side of the head."""
    wave = _sine(rng, person.rhythm) * np.array([[0.4], [1.0]] if label else [[1.0], [0.4]])
    return _background(rng, person) + 1.0 * _SIZE_UV * person.gain * wave


def _spindles(rng: np.random.Generator, person: Person, label: int) -> Signal:
    """One spindle or three, all of them with the same energy."""
    count = 3 if label else 1
    starts = rng.permutation(np.array([0.35, 0.75, 1.15, 1.55]))[:count]
    wave = sum(_sine(rng, 13.0) * _bump(at + rng.normal(0, 0.03), 0.09) for at in starts)
    return _background(rng, person) + 3.0 / np.sqrt(count) * _SIZE_UV * person.gain * wave


# ECG. Waves P, Q, R, S and T in leads I, II and V2, in microvolts; seconds after R at which they stand, and widths.

_HEIGHTS = np.array(
    [[80, 120, 60], [-60, -80, 0], [700, 1000, 350], [-120, -200, -900], [180, 260, 300]], dtype=np.float64
)
_PLACES = np.array([-0.16, -0.03, 0.0, 0.03, 0.26])
_WIDTHS = np.array([0.022, 0.010, 0.011, 0.012, 0.045])
_NOISE_UV = 25.0
_ECG_BAND = (0.5, 40.0)
_MARGIN = 300  # samples on either side of a window, which the filter needs


def _heart(
    rng: np.random.Generator,
    person: Person,
    *,
    heights: Callable[[int], Signal] = lambda _: np.ones_like(_HEIGHTS),
    p_place: Callable[[int], float] = lambda _: 0.0,
    more: Callable[[Signal], Signal] | None = None,
) -> Signal:
    """Return beats one after another, shape (channel, time).

    Args:
        rng: for rhythm and noise.
        person: whose beats.
        heights: from a beat's number to factors on the waves' heights, shape (wave, lead).
        p_place: from a beat's number to seconds by which P stands earlier.
        more: what else a beat shows at seconds after R, shape (lead, time).
    """
    length = ECG_TIMES + 2 * _MARGIN
    seconds = np.arange(-_MARGIN, ECG_TIMES + _MARGIN) / ECG_RATE
    out = np.zeros((len(ECG_LEADS), length))
    at, number = seconds[0] + rng.uniform(-0.6, 0.2), int(rng.integers(0, 2))
    while at < seconds[-1] + 0.5:
        places = at + _PLACES - p_place(number) * np.array([1, 0, 0, 0, 0])
        shapes = np.exp(-0.5 * ((seconds - places[:, None]) / _WIDTHS[:, None]) ** 2)
        out += (_HEIGHTS * person.waves * heights(number)).T @ shapes
        if more is not None:
            out += more(seconds - at)
        at += person.beat_seconds * np.exp(rng.normal(0, 0.03))
        number += 1
    noise = rng.normal(size=(len(ECG_LEADS), length))
    smooth = np.stack([np.convolve(row, np.hanning(7) / 2, "same") for row in noise])
    both = out + _NOISE_UV * person.gain * smooth
    passed = sosfiltfilt(butter(4, _ECG_BAND, "bandpass", fs=ECG_RATE, output="sos"), both)
    window: Signal = passed[:, _MARGIN:-_MARGIN]
    return window


def _factors(wave: int, factor: float, *, leads: tuple[int, ...] = (0, 1, 2)) -> Signal:
    out = np.ones_like(_HEIGHTS)
    out[wave, leads] = factor
    return out


_P, _T = 0, 4


def _st_level(rng: np.random.Generator, person: Person, label: int) -> Signal:
    """An ST segment that is raised in II or in V2."""
    lead = np.array([0.0, 0.0, 1.0] if label else [0.0, 1.0, 0.0])[:, None]

    def raised(after: Signal) -> Signal:
        level = expit((after - 0.07) / 0.01) * expit((0.28 - after) / 0.03)
        return 120 * lead * level

    return _heart(rng, person, more=raised)


def _inverted_t(rng: np.random.Generator, person: Person, label: int) -> Signal:
    """T waves that point down in V2, or in I."""
    return _heart(rng, person, heights=lambda _: _factors(_T, -1.0, leads=(2 if label else 0,)))


def _missing_p(rng: np.random.Generator, person: Person, label: int) -> Signal:
    """No P waves."""
    return _heart(rng, person, heights=lambda _: _factors(_P, 0.0 if label else 1.0))


def _delta_wave(rng: np.random.Generator, person: Person, label: int) -> Signal:
    """A slurred upstroke before R."""

    def slur(after: Signal) -> Signal:
        return label * np.array([[100.0], [140.0], [60.0]]) * np.exp(-0.5 * ((after + 0.045) / 0.018) ** 2)

    return _heart(rng, person, more=slur)


def _alternans(rng: np.random.Generator, person: Person, label: int) -> Signal:
    """T waves that are larger in every other beat, or in beats chosen by chance."""
    chance = rng.permutation(np.arange(24) % 2)
    return _heart(
        rng,
        person,
        heights=lambda beat: _factors(_T, 1.5 if (beat % 2 if label else chance[beat]) else 0.5),
    )


def _growing_pr(rng: np.random.Generator, person: Person, label: int) -> Signal:
    """P waves that come earlier from beat to beat and begin anew after four, or at one of these four places."""
    first = int(rng.integers(0, 4))
    return _heart(rng, person, p_place=lambda beat: 0.035 * ((first + label * beat) % 4))


BLIND_SPOTS = tuple(
    BlindSpot(name, modality, draw)
    for name, modality, draw in (
        ("evoked waveform", "eeg", _evoked),
        ("moment of a burst", "eeg", _burst),
        ("direction of a chirp", "eeg", _chirp),
        ("phase-amplitude coupling", "eeg", _coupling),
        ("in phase or antiphase", "eeg", _antiphase),
        ("lead or lag of 30 ms", "eeg", _lag),
        ("side of the head", "eeg", _side),
        ("spindle density", "eeg", _spindles),
        ("ST level by lead", "ecg", _st_level),
        ("inverted T", "ecg", _inverted_t),
        ("missing P", "ecg", _missing_p),
        ("delta wave", "ecg", _delta_wave),
        ("alternans", "ecg", _alternans),
        ("growing PR", "ecg", _growing_pr),
    )
)
