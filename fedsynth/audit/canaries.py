"""Canaries: made-up people, loud and unlike one another, for an audit to look for; and the units they are."""

import hashlib
import math
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fedsynth.modalities.measures import band_bins
from fedsynth.modalities.registry import loud_powers
from fedsynth.modalities.shape import shape_of
from fedsynth.recordings.gate import check_recording
from fedsynth.recordings.plausible import amplitude, limits_of
from fedsynth.recordings.recording import Beats, Recording, Windows
from fedsynth.recordings.windows import windows_of
from fedsynth.rng import numpy_generator
from fedsynth.site.holdings import group_of_person, groups_of
from fedsynth.study import Study

_LOUD = 4.0  # canaries' features in spreads of the public prior, where the anchor cuts them off


@dataclass(frozen=True)
class Unit:
    """What a privacy unit holds: microvolts (window, channel, time), labels (window,) and covariates."""

    signal: Tensor
    labels: Tensor
    covariates: Tensor


@dataclass(frozen=True)
class Canary:
    """A made-up person of one site, and the privacy unit that she is."""

    site: str
    recordings: list[Recording]
    unit: Unit


def make_canaries(study: Study, *, count: int, seed: str, sites: tuple[str, ...]) -> list[Canary]:
    """Make canaries up, in the group that trains; sites and labels take turns.

    Args:
        study: says what a recording and a unit is.
        count: of canaries.
        seed: names them.
        sites: where they go.
    """
    found = []
    for number in range(count):
        rng = numpy_generator("canary", seed, number)
        label = number // len(sites) % len(study.labels.names)
        pattern = loud_powers(rng, shape_of(study), deviations=_LOUD).double().numpy()
        pieces = 2 if study.privacy.unit == "subject" else 1
        n_windows = 1 if study.privacy.unit == "window" else min(3, study.windows.per_recording)
        recordings = [
            _recording(rng, pattern, study, label=label, subject=_name(number, study), n_windows=n_windows)
            for _ in range(pieces)
        ]
        [unit] = training_units(recordings, study)
        found.append(Canary(sites[number % len(sites)], recordings, unit))
    return found


def training_units(recordings: list[Recording], study: Study) -> list[Unit]:
    """Return the privacy units of the group that trains."""
    windows: Windows = windows_of(recordings, study=study)
    trains = np.array(
        [group == "train" for group in groups_of(recordings, held_out=study.training.held_out)], dtype=bool
    )
    rows = np.flatnonzero(trains[windows.recordings])
    units = windows.units(study.privacy.unit)[rows]
    mine = [rows[units == unit] for unit in np.unique(units)]
    signal, labels = torch.from_numpy(windows.signal), torch.from_numpy(windows.labels)
    assert windows.covariates is not None
    covariates = torch.from_numpy(windows.covariates)
    return [Unit(signal[one], labels[one], covariates[one]) for one in mine]


def _name(number: int, study: Study) -> str:
    """Return a name that puts a canary into the group that trains."""
    names = (f"canary{number}x{again}" for again in range(10_000))
    return next(name for name in names if group_of_person(name, held_out=study.training.held_out) == "train")


def _recording(
    rng: np.random.Generator,
    pattern: NDArray[np.float64],
    study: Study,
    *,
    label: int,
    subject: str,
    n_windows: int,
) -> Recording:
    """Return a sum of sinusoids, one for each channel and band, inside the study's range."""
    shape = shape_of(study)
    centres = np.array([(first + last - 1) / 2 for first, last in band_bins(shape)]) * shape.sfreq / shape.n_times
    amplitudes = np.sqrt(2 * 10**pattern)
    loudest = amplitudes.sum(axis=1).max()
    amplitudes *= min(1.0, 0.9 * study.signal.range_uv / loudest)
    seconds = np.arange(n_windows * shape.n_times) / shape.sfreq
    phases = rng.uniform(0, 2 * math.pi, (*amplitudes.shape, 1))
    waves = amplitudes[..., None] * np.sin(2 * math.pi * centres[:, None] * seconds + phases)
    noise = rng.normal(0, 0.05, (len(shape.channels), len(seconds)))
    signal = _audible(waves.sum(axis=1) + noise, study)
    digest = hashlib.sha256(signal.tobytes()).hexdigest()
    beats = None
    if study.labels.source == "beats":
        middles = np.arange(n_windows) * shape.n_times + shape.n_times // 2
        beats = Beats(middles, np.full(n_windows, label, dtype=np.int64))
    name = "" if beats else study.labels.names[label]
    none = (0,) * (1 + study.n_statements)
    recording = Recording(signal, shape.sfreq, shape.channels, subject, name, digest, beats, covariates=none)
    check_recording(recording, n_times=shape.n_times, modality=study.signal.modality)
    return recording


def _audible(signal: NDArray[np.float64], study: Study) -> NDArray[np.float32]:
    """Return the signal with channels that the gate would take for silence made louder."""
    sfreq, least = study.signal.sfreq, 2 * limits_of(study.signal.modality).bounds_uv[0]
    rows = [row * max(1.0, least / amplitude(row.astype(np.float32), sfreq=sfreq)) for row in signal]
    return np.array(rows, dtype=np.float32)
