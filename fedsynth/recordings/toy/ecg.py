"""The hearts of the toy cohort: made-up ECGs in sinus rhythm and in atrial fibrillation, and WFDB records of them.

A train of beats drives one short pulse for each wave (two-sided exponentials and their differences, not the
Gaussian bumps round a cycle of dynamical simulators, from which the generator's public prior comes), and each wave
points in a direction of the body that the leads look at. People who fibrillate have no P wave, intervals without
order and fibrillatory waves; heart rate, amplitudes and noise overlap between the groups.
"""

import math
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.signal import filtfilt, lfilter

# Leads in units of lead I, as directions to the left, down and to the front. The limb leads keep Einthoven's and
# Goldberger's laws: III = II - I, aVR = -(I + II) / 2, and so on.
_LEADS = {
    "I": (1.0, 0.0, 0.0),
    "II": (0.5, 0.866, 0.0),
    "III": (-0.5, 0.866, 0.0),
    "AVR": (-0.75, -0.433, 0.0),
    "AVL": (0.75, -0.433, 0.0),
    "AVF": (0.0, 0.866, 0.0),
    "V1": (-0.45, 0.0, 0.9),
    "V2": (0.1, 0.0, 1.3),
    "V3": (0.5, 0.1, 1.2),
    "V4": (0.9, 0.2, 0.9),
    "V5": (1.1, 0.2, 0.4),
    "V6": (1.0, 0.2, 0.0),
}
_ALIASES = {"ECG": "I", "MLII": "II"}
_GAIN, _ZERO, _LARGEST = 200, 1024, 2047  # steps per millivolt, of 0 mV, and of 12 bits
_WAVES = {  # direction, delay after the beat in s, width in s, size in microvolts
    "P": ((0.6, 0.8, 0.1), -0.16, 0.022, 120.0),
    "Q": ((-0.7, 0.2, 0.7), -0.022, 0.008, 110.0),
    "R": ((0.75, 0.65, -0.1), 0.0, 0.013, 1100.0),
    "S": ((-0.5, -0.3, -0.8), 0.03, 0.011, 350.0),
    "T": ((0.6, 0.6, 0.3), 0.29, 0.045, 240.0),
}


def toy_ecg(
    rng: np.random.Generator, *, fibrillates: bool, seconds: float, sfreq: float, channels: tuple[str, ...]
) -> NDArray[np.float64]:
    """Return one recording of a made-up person in microvolts, shape (channel, time).

    Leads that are no standard ones look from directions round the body, in their order.

    Args:
        rng: decides about the person and the recording.
        fibrillates: atrial fibrillation instead of sinus rhythm.
        seconds: length of the recording.
        sfreq: in Hz.
        channels: names of leads.
    """
    n_times = math.ceil(seconds * sfreq)
    beats = _beats(rng, fibrillates, seconds)
    turn = _turned(rng)
    heart = np.zeros((3, n_times))
    for wave, (direction, delay, width, size) in _WAVES.items():
        strength = size * rng.lognormal(0, 0.25)
        late = delay * math.sqrt(float(np.median(np.diff(beats)))) if wave == "T" else delay
        if wave == "P" and fibrillates:
            continue
        sizes = strength * rng.normal(1, 0.04, size=len(beats))
        heart += (turn @ np.array(direction))[:, None] * _pulses(beats + late, sizes, width, n_times, sfreq)
    if fibrillates:
        hertz = rng.normal(6.0, 0.7) + 0.5 * np.cumsum(rng.normal(0, 1 / math.sqrt(sfreq), n_times)) / 3
        waves = rng.lognormal(math.log(60), 0.3) * np.sin(2 * math.pi * np.cumsum(hertz) / sfreq)
        heart += np.array([[0.3], [0.7], [0.5]]) * waves
    signal = _directions(channels) @ heart
    wander = lfilter([1], [1, -math.exp(-1 / sfreq)], rng.normal(size=(len(channels), n_times)))
    signal += rng.lognormal(math.log(40), 0.4) * wander / max(1e-9, float(wander.std()))
    signal += rng.lognormal(math.log(12), 0.4) * rng.normal(size=signal.shape)
    return np.asarray(signal, dtype=np.float64)


def write_record(path: Path, signal: NDArray[np.float64], *, channels: tuple[str, ...], sfreq: float) -> None:
    """Write a record in format 212, at 200 steps per millivolt, as `path`.hea and `path`.dat.

    Args:
        path: without a suffix.
        signal: in microvolts, shape (channel, time); what 12 bits cannot hold is cut.
        channels: one name for each row.
        sfreq: in Hz.
    """
    steps = np.rint(signal * _GAIN / 1000 + _ZERO).clip(-_LARGEST, _LARGEST).astype(np.int64)
    rate = repr(float(sfreq)).removesuffix(".0")
    lines = [f"{path.name} {len(channels)} {rate} {signal.shape[1]}"]
    for channel, row in zip(channels, steps, strict=True):
        checksum = int(row.sum()) % (1 << 16)
        lines.append(f"{path.name}.dat 212 {_GAIN}({_ZERO})/mV 12 0 {row[0]} {checksum} 0 {channel}")
    path.with_name(f"{path.name}.hea").write_bytes(("\n".join(lines) + "\n").encode("ascii"))
    turns = steps.T.reshape(-1)
    pairs = np.concatenate([turns, np.zeros(len(turns) % 2, dtype=np.int64)]).reshape(-1, 2) & 0xFFF
    first, second = pairs.T
    octets = np.stack([first & 0xFF, first >> 8 | (second >> 8) << 4, second & 0xFF], axis=1)
    path.with_name(f"{path.name}.dat").write_bytes(octets.astype(np.uint8).tobytes()[: (3 * len(turns) + 1) // 2])


def _beats(rng: np.random.Generator, fibrillates: bool, seconds: float) -> NDArray[np.float64]:
    """Return the times of the beats in seconds, from before the recording to after it."""
    count = int(seconds / 0.3) + 20
    if fibrillates:
        mean, spread = 60 / rng.uniform(65, 115), rng.uniform(0.16, 0.26)
        intervals = np.maximum(0.32, rng.gamma(1 / spread**2, mean * spread**2, size=count))
    else:
        mean, breath = 60 / rng.uniform(52, 95), rng.uniform(0.2, 0.33)
        when = mean * np.arange(count)
        sway = rng.uniform(0.01, 0.06) * np.sin(2 * math.pi * breath * when)
        intervals = mean * (1 + sway + 0.012 * rng.normal(size=count))
    times = np.cumsum(intervals) - 2.0 - rng.uniform(0, mean)
    return np.asarray(times[times < seconds + 1.0], dtype=np.float64)


def _pulses(
    times: NDArray[np.float64], sizes: NDArray[np.float64], width: float, n_times: int, sfreq: float
) -> NDArray[np.float64]:
    """Return a two-sided pulse at each time, shape (time,): impulses through a leaky integrator, back and forth.

    Impulses between two samples are shared by them.
    """
    margin = int(3 * sfreq)
    train = np.zeros(n_times + 2 * margin)
    place = times * sfreq + margin
    inside = (place >= 0) & (place < len(train) - 1)
    whole = np.floor(place[inside]).astype(np.int64)
    np.add.at(train, whole, sizes[inside] * (1 - (place[inside] - whole)))
    np.add.at(train, whole + 1, sizes[inside] * (place[inside] - whole))
    leak = math.exp(-math.sqrt(2) / (width * sfreq))
    kernel = np.zeros(2 * margin + 1)
    kernel[margin] = 1.0
    for _ in range(2):
        train, kernel = (filtfilt([1 - leak], [1, -leak], one, padtype=None) for one in (train, kernel))
    return np.asarray(train[margin : margin + n_times] / kernel.max(), dtype=np.float64)


def _turned(rng: np.random.Generator) -> NDArray[np.float64]:
    """Return a rotation of the heart's axis in the frontal plane, about 15 degrees either way, shape (3, 3)."""
    angle = math.radians(rng.normal(0, 15))
    c, s = math.cos(angle), math.sin(angle)
    return np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]])


def _directions(channels: tuple[str, ...]) -> NDArray[np.float64]:
    rows = []
    for number, channel in enumerate(channels):
        name = _ALIASES.get(channel.upper(), channel.upper())
        angle = 2 * math.pi * number / len(channels)
        rows.append(_LEADS.get(name, (math.cos(angle), 0.5, math.sin(angle))))
    return np.array(rows)
