"""Simulated hearts of seven rhythms on twelve leads, drawn wave by wave; not by the public prior's simulator."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fedsynth.evaluation.protocol.material import Material
from kit.cohorts import ECG_BAND, with_margins, within

Signal = NDArray[Any]

RHYTHMS = ("sinus", "bradycardia", "tachycardia", "irregularity", "fibrillation", "flutter", "supraventricular")
LEADS = ("I", "II", "III", "aVR", "aVL", "aVF", "V1", "V2", "V3", "V4", "V5", "V6")
_FREE = ("I", "II", "V1", "V2", "V3", "V4", "V5", "V6")
# Heights of P, Q, R, S and T in the eight free leads, in microvolts; when they stand, and how wide they are (s).
_HEIGHTS = np.array(
    [
        [60, 110, 40, 50, 50, 50, 50, 45],
        [-50, -70, 0, 0, -20, -50, -70, -60],
        [650, 950, 180, 400, 750, 1200, 1150, 900],
        [-120, -150, -850, -1000, -700, -350, -150, -80],
        [170, 250, -40, 280, 350, 330, 270, 200],
    ],
    dtype=np.float64,
)
_PLACES = np.array([-0.15, -0.028, 0.0, 0.03, 0.24])
_WIDTHS = np.array([0.022, 0.010, 0.011, 0.012, 0.045])


@dataclass(frozen=True)
class Device:
    """What a cohort's recorder adds: noise and wander in microvolts, and the factor by which its gain is off."""

    noise_uv: float
    wander_uv: float
    gain: float


CHAPMAN, OTHER = Device(18.0, 40.0, 1.0), Device(35.0, 120.0, 0.8)


def hearts(
    *,
    counts: tuple[int, ...],
    device: Device,
    leads: tuple[str, ...] = LEADS,
    seed: int,
    sfreq: float = 100.0,
    n_times: int = 1000,
) -> Material:
    """Return one window of each person.

    Args:
        counts: people of each rhythm.
        device: that recorded them.
        leads: of the twelve, which.
        seed: of everybody.
        sfreq: in Hz.
        n_times: samples of a window.
    """
    rng = np.random.default_rng([seed, 12])
    signals, labels = [], []
    margin, longer = with_margins(n_times, sfreq=sfreq)
    for label, count in enumerate(counts):
        for _ in range(count):
            heart = _heart(rng, RHYTHMS[label], device, sfreq, longer)
            signals.append(_twelve(within(heart, sfreq=sfreq, band=ECG_BAND, margin=margin), leads))
            labels.append(label)
    return Material(np.stack(signals).astype(np.float32), np.array(labels), np.arange(len(labels)))


def _heart(rng: np.random.Generator, rhythm: str, device: Device, sfreq: float, n_times: int) -> Signal:
    """Return the free leads, shape (lead, time), in microvolts."""
    seconds = np.arange(n_times) / sfreq
    waves = _HEIGHTS * np.exp(rng.normal(0, 0.2, (5, 1))) * np.exp(rng.normal(0, 0.12, _HEIGHTS.shape))
    atrial = rhythm in ("fibrillation", "flutter", "supraventricular")
    if atrial:
        waves[0] *= 0.1
    out = np.zeros((len(_FREE), n_times))
    for at, since in _beats(rng, rhythm, seconds[-1]):
        # T comes earlier after a short beat (Bazett).
        places = at + _PLACES * np.array([1, 1, 1, 1, np.sqrt(min(since, 1.2) / 0.85)])
        out += waves.T @ np.exp(-0.5 * ((seconds - places[:, None]) / _WIDTHS[:, None]) ** 2)
    spread = np.array([0.4, 1.0, 1.2, 0.7, 0.4, 0.3, 0.3, 0.3])[:, None]
    if rhythm == "fibrillation":
        slowly = np.arange(0, seconds[-1] + 0.25, 0.25)
        turns = np.cumsum(6.0 + 1.5 * np.interp(seconds, slowly, rng.normal(size=len(slowly)))) / sfreq
        out += spread * rng.uniform(30, 70) * np.sin(2 * np.pi * turns)
    if rhythm == "flutter":
        out += spread * rng.uniform(60, 130) * (2 * ((seconds * rng.uniform(4.6, 5.4) + rng.uniform()) % 1) - 1)
    wander = np.sin(2 * np.pi * rng.uniform(0.15, 0.4) * seconds + rng.uniform(0, 6.28))
    noise = device.noise_uv * rng.normal(size=out.shape)
    own = rng.normal(size=(len(_FREE), 1))
    return device.gain * np.exp(rng.normal(0, 0.15)) * out + noise + device.wander_uv * own * wander


def _beats(rng: np.random.Generator, rhythm: str, until: float) -> list[tuple[float, float]]:
    """Return when R peaks stand, in seconds, and how long after the one before."""
    usual = {
        "sinus": (0.68, 0.95), "bradycardia": (1.1, 1.5), "tachycardia": (0.42, 0.58), "irregularity": (0.7, 1.0),
        "fibrillation": (0.5, 0.85), "flutter": (0.4, 0.8), "supraventricular": (0.3, 0.4),
    }  # fmt: skip
    mean = rng.uniform(*usual[rhythm])
    at, breath, found = float(rng.uniform(-0.5, 0.2)), rng.uniform(0.15, 0.35), []
    while at < until + 0.3:
        pace = mean * np.exp(rng.normal(0, 0.02))
        if rhythm == "irregularity":
            pace *= 1 + 0.22 * np.sin(2 * np.pi * breath * at)
        if rhythm == "fibrillation":
            pace = mean * np.exp(rng.normal(0, 0.25))
        found.append((at, float(pace)))
        at += float(pace)
    return found


def _twelve(free: Signal, leads: tuple[str, ...]) -> Signal:
    """Return the leads asked for; the limb leads follow from I and II (Einthoven, Goldberger)."""
    one, two = free[0], free[1]
    known = dict(zip(_FREE, free, strict=True)) | {
        "III": two - one, "aVR": -(one + two) / 2, "aVL": one - two / 2, "aVF": two - one / 2,
    }  # fmt: skip
    return np.stack([known[name] for name in leads])
