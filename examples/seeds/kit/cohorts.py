"""Simulated cohorts of the studies, none of them from the simulators behind the public priors.

EEG backgrounds are autoregressive noise through random sources on the scalp, seizures are trains of waves drawn one
by one; beats are drawn wave by wave. People differ from one another in everything that a label does not say.
What is simulated is brought into the study's band by the filter of an ingestion: made-up windows lie in that band,
and a classifier would tell them from recordings by what lies outside.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.signal import lfilter

from fedsynth.evaluation.protocol.material import Material
from fedsynth.montage import scalp_position
from fedsynth.recordings.filters import in_band

Signal = NDArray[Any]

SIENA = ("Fp1", "F3", "C3", "P3", "O1", "F7", "T7", "P7", "Fz", "Cz", "Pz", "Fp2", "F4", "C4", "P4", "O2")
CHB_MIT = (
    "FP1-F7", "F7-T7", "T7-P7", "P7-O1", "FP1-F3", "F3-C3", "C3-P3", "P3-O1",
    "FP2-F4", "F4-C4", "C4-P4", "P4-O2", "FP2-F8", "F8-T8", "T8-P8", "P8-O2",
)  # fmt: skip
STATES = ("normal", "preictal", "ictal")
ALS_CHANNELS = (
    "Fp1", "Fpz", "Fp2", "AF3", "AF4", "F7", "F3", "Fz", "F4", "F8", "FC5", "FC1", "FC2", "FC6", "T7", "C3",
    "Cz", "C4", "T8", "CP5", "CP1", "CP2", "CP6", "P7", "P3", "Pz", "P4", "P8", "PO3", "PO4", "O1", "O2",
)  # fmt: skip
GROUPS = ("control", "ALS")
EEG_BAND, BONN_BAND, ECG_BAND = (0.5, 30.0), (0.5, 40.0), (0.5, 40.0)
MARGIN_SECONDS = 4.0
"""Simulated before and after each window and cut off after the filter: two periods of the lowest wave."""
_SIZE_UV = 18.0
_SOURCES = 12


@dataclass(frozen=True)
class Head:
    """One person's head: how sources reach the channels, what they are like, where the focus is."""

    mixing: Signal
    poles: Signal
    loud: float
    rhythm: float
    rhythm_size: float
    focus: Signal
    noise: Signal
    mains: float


def seizures(
    layout: tuple[str, ...],
    *,
    patients: int,
    seed: int,
    sfreq: float = 128.0,
    n_times: int = 512,
    each: float = 1.0,
) -> Material:
    """Return windows of patients before, in and far from seizures, which are rare.

    Patients differ in the noise of their montage, in the form, place and rate of their seizures, and in how soon a
    seizure shows.

    Args:
        layout: channels; those with a hyphen are differences of two electrodes.
        patients: how many.
        seed: of everybody.
        sfreq: in Hz.
        n_times: samples of a window.
        each: scales how many windows a patient has.
    """
    rng = np.random.default_rng([seed, len(layout)])
    signals, labels, people = [], [], []
    margin, longer = with_margins(n_times, sfreq=sfreq)
    for patient in range(patients):
        head = _head(rng, layout)
        form, hertz = int(rng.integers(0, 3)), float(rng.uniform(2.5, 7.0))
        size, warning = float(rng.uniform(1.2, 3.0)), float(rng.uniform(0.3, 1.2))
        counts = [round(24 * each), round(8 * each), max(2, round(each * (1 + rng.poisson(3))))]
        for label, count in enumerate(counts):
            for _ in range(count):
                window = _background(rng, head, sfreq, longer)
                # Spikes between seizures are there always, and more of them before one.
                rate = (0.1, 0.1 + 1.2 * warning, 0.5)[label]
                window += _spikes(rng, head, rate, sfreq, longer)
                if label == 1:
                    window += warning * head.focus[:, None] * _slow(rng, sfreq, longer)
                if label == 2:
                    window += size * head.focus[:, None] * _discharge(rng, form, hertz, sfreq, longer)
                signals.append(within(window, sfreq=sfreq, band=EEG_BAND, margin=margin))
                labels.append(label)
                people.append(patient)
    return Material(np.stack(signals).astype(np.float32), np.array(labels), np.array(people))


def als(
    *,
    people: int,
    share: float,
    windows: int,
    seed: int,
    layout: tuple[str, ...] = ALS_CHANNELS,
    sfreq: float = 128.0,
    n_times: int = 256,
) -> Material:
    """Return resting EEG of controls and of a rare group: slower and weaker central rhythms, more
    slow waves in front; every effect overlaps between the groups.

    Args:
        people: how many.
        share: of the rare group.
        windows: of each person.
        seed: of everybody.
        layout: channels.
        sfreq: in Hz.
        n_times: samples of a window.
    """
    rng = np.random.default_rng([seed, 32])
    front = np.array([max(0.0, scalp_position(name)[1]) for name in layout])  # type: ignore[index]
    central = np.array([np.exp(-8 * scalp_position(name)[1] ** 2) for name in layout])  # type: ignore[index]
    signals, labels, whose = [], [], []
    margin, longer = with_margins(n_times, sfreq=sfreq)
    rare = set(rng.permutation(people)[: max(2, round(share * people))].tolist())
    for person in range(people):
        ill = person in rare
        head = _head(rng, layout)
        mu = float(rng.normal(9.0 if ill else 10.5, 0.7))
        strength = float(np.exp(rng.normal(-0.5 if ill else 0.0, 0.3)))
        slowing = float(np.exp(rng.normal(0.35 if ill else -0.2, 0.3)))
        for _ in range(windows):
            seconds = np.arange(longer) / sfreq
            window = _background(rng, head, sfreq, longer)
            wave = np.sin(2 * np.pi * mu * seconds + rng.uniform(0, 2 * np.pi)) * _envelope(rng, longer)
            window += _SIZE_UV * strength * central[:, None] * wave
            window += 0.6 * _SIZE_UV * slowing * front[:, None] * _slow(rng, sfreq, longer) / _SIZE_UV
            signals.append(within(window, sfreq=sfreq, band=EEG_BAND, margin=margin))
            labels.append(int(ill))
            whose.append(person)
    return Material(np.stack(signals).astype(np.float32), np.array(labels), np.array(whose))


def with_margins(n_times: int, *, sfreq: float) -> tuple[int, int]:
    """Return how many samples lie before a window, and how many are simulated for it."""
    margin = round(MARGIN_SECONDS * sfreq)
    return margin, n_times + 2 * margin


def within(window: Signal, *, sfreq: float, band: tuple[float, float], margin: int) -> Signal:
    """Bring a stretch of shape (channel, time) into a band in Hz, and cut its margins off."""
    passed = in_band(window.astype(np.float32), sfreq=sfreq, bandpass=band)
    return passed[:, margin : passed.shape[1] - margin]


def _head(rng: np.random.Generator, layout: tuple[str, ...]) -> Head:
    electrodes = list(dict.fromkeys(part for name in layout for part in name.split("-")))
    places = np.array([scalp_position(name.replace("FP", "Fp")) for name in electrodes])

    def reach(width: float, count: int) -> Signal:
        centres = places[rng.integers(0, len(places), count)] + rng.normal(0, 0.15, (count, 3))
        return np.exp(-((places[:, None] - centres[None]) ** 2).sum(axis=2) / (2 * width**2))

    montage = np.zeros((len(layout), len(electrodes)))
    for row, name in enumerate(layout):
        for part, sign in zip(name.split("-"), (1.0, -1.0), strict=False):
            montage[row, electrodes.index(part)] = sign
    mixing = montage @ (reach(0.5, _SOURCES) * rng.normal(1, 0.3, _SOURCES))
    # A difference of two electrodes that see the same stays small, but not nothing.
    scale = np.sqrt((mixing**2).sum(axis=1, keepdims=True))
    focus = montage @ reach(float(rng.uniform(0.35, 0.8)), 1)[:, 0]
    return Head(
        mixing=mixing / np.maximum(scale, 0.3 * scale.max()),
        poles=rng.uniform(0.6, 0.96, _SOURCES),
        loud=float(np.exp(rng.normal(0, 0.25))),
        rhythm=float(rng.uniform(8.5, 11.5)),
        rhythm_size=float(rng.uniform(0.3, 1.2)),
        focus=_SIZE_UV * focus / max(np.abs(focus).max(), 0.3),
        noise=np.exp(rng.normal(-2.0, 0.6, len(layout))),
        mains=float(rng.uniform(0, 0.3)),
    )


def _background(rng: np.random.Generator, head: Head, sfreq: float, n_times: int) -> Signal:
    """Return autoregressive sources and a rhythm through the mixing, with the montage's noise, in microvolts."""
    drive = rng.normal(size=(_SOURCES, n_times + 64))
    sources = np.stack([lfilter([1], [1, -pole], row)[64:] for pole, row in zip(head.poles, drive, strict=True)])
    sources /= sources.std(axis=1, keepdims=True) + 1e-9
    seconds = np.arange(n_times) / sfreq
    wave = np.sin(2 * np.pi * (head.rhythm + rng.normal(0, 0.2)) * seconds + rng.uniform(0, 2 * np.pi))
    sources[:3] += head.rhythm_size * wave * _envelope(rng, n_times)
    own = head.noise[:, None] * rng.normal(size=(len(head.noise), n_times))
    # A recording at a lower rate was filtered before.
    hum = (
        (sfreq > 110)
        * head.mains
        * head.noise[:, None]
        * np.sin(2 * np.pi * 50.0 * seconds + rng.uniform(0, 2 * np.pi))
    )
    return _SIZE_UV * head.loud * (head.mixing @ sources / np.sqrt(2) + own + hum)


def _envelope(rng: np.random.Generator, n_times: int) -> Signal:
    return 1 + 0.6 * np.sin(2 * np.pi * rng.uniform(0.3, 1.5) * np.arange(n_times) / n_times + rng.uniform(0, 6.28))


def _slow(rng: np.random.Generator, sfreq: float, n_times: int) -> Signal:
    """Return a wandering wave between 2 and 5 Hz, in units of the background's size."""
    turns = np.cumsum(rng.uniform(2, 5) + 0.5 * lfilter([0.1], [1, -0.9], rng.normal(size=n_times))) / sfreq
    return 8.0 * np.sin(2 * np.pi * turns + rng.uniform(0, 2 * np.pi)) / 8.0


def _spikes(rng: np.random.Generator, head: Head, rate: float, sfreq: float, n_times: int) -> Signal:
    """Return sharp waves with their slow waves at the focus, `rate` a second."""
    train = np.zeros(n_times)
    seconds = np.arange(n_times) / sfreq
    for at in rng.uniform(0, seconds[-1], rng.poisson(rate * seconds[-1])):
        train += rng.uniform(2, 4) * np.exp(-0.5 * ((seconds - at) / 0.025) ** 2)
        train -= rng.uniform(0.8, 1.6) * np.exp(-0.5 * ((seconds - at - 0.15) / 0.07) ** 2)
    return head.focus[:, None] * train


def _discharge(rng: np.random.Generator, form: int, hertz: float, sfreq: float, n_times: int) -> Signal:
    """Return a rhythmic discharge that slows down: a swing, spikes and waves, or sharp waves on fast activity."""
    seconds = np.arange(n_times) / sfreq
    pace = hertz * (1 + 0.15 * rng.normal()) * np.linspace(1.08, 0.9, n_times)
    phase = (np.cumsum(pace) / sfreq + rng.uniform()) % 1
    if form == 0:
        wave = np.sin(2 * np.pi * phase)
    elif form == 1:
        wave = 2.2 * np.exp(-0.5 * ((phase - 0.2) / 0.05) ** 2) - np.sin(
            np.pi * np.clip((phase - 0.35) / 0.6, 0, 1)
        )
    else:
        wave = (1 - phase) ** 3 * 2 - 0.6 + 0.4 * np.sin(2 * np.pi * 18 * seconds)
    return 1.5 * wave * (1 + 0.2 * _envelope(rng, n_times))


def oscillators(*, per_label: int, each: int, n_times: int, sfreq: float, seed: int) -> Material:
    """Return windows of five sets of recordings, the last of them seizures, in place of the Bonn sets.

    Damped oscillators on autoregressive noise; sets differ in the rhythm's frequency and strength and in
    sharp waves.
    """
    rng = np.random.default_rng([seed, 5])
    kinds = (
        (9.5, 0.5, 0.90, 0.0),
        (10.0, 1.4, 0.90, 0.0),
        (6.5, 0.8, 0.96, 0.1),
        (5.0, 0.9, 0.96, 0.5),
        (4.0, 2.5, 0.93, 2.5),
    )
    signals, labels, people = [], [], []
    for number, (hertz, strength, pole, sharp) in enumerate(kinds):
        for _ in range(per_label):
            own = 2 * np.pi * max(float(rng.normal(hertz, 1.0)), 1.5) / sfreq
            total = n_times * each + 200
            drive = rng.normal(size=(2, total))
            background = lfilter([1], [1, -min(float(rng.normal(pole, 0.02)), 0.99)], drive[0])
            rhythm = lfilter([1], [1, -2 * 0.985 * np.cos(own), 0.985**2], drive[1])
            whole = background / background.std() + strength * float(rng.lognormal(0, 0.4)) * rhythm / rhythm.std()
            seconds = np.arange(total) / sfreq
            for at in rng.uniform(0, seconds[-1], rng.poisson(sharp * seconds[-1])):
                whole += rng.uniform(2, 5) * np.exp(-0.5 * ((seconds - at) / 0.03) ** 2)
            whole *= float(rng.lognormal(np.log(25), 0.35))
            whole = within(whole[None], sfreq=sfreq, band=BONN_BAND, margin=0)[0]
            person = len(people) // each
            signals += [whole[None, 200 + n * n_times : 200 + (n + 1) * n_times] for n in range(each)]
            labels += [int(number == len(kinds) - 1)] * each
            people += [person] * each
    return Material(np.stack(signals).astype(np.float32), np.array(labels), np.array(people))
