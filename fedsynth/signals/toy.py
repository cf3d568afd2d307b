"""The toy cohort: made-up hospitals with made-up people, written as EDF files or WFDB records beside a table.

The EEG comes from stochastic oscillators in the time domain, mixed to the scalp; the generator's public prior
(`fedsynth.families.prior`) is made differently, in the frequency domain, so that the demo has something to learn.
The ECG is that of `fedsynth.signals.toy_ecg`, for which the same holds.
People with "epilepsy" have slower and stronger theta, a slower alpha rhythm and sharp waves over one temporal
region; every effect overlaps between the groups.
"""

import math
from collections.abc import Callable
from pathlib import Path

import edfio
import numpy as np
from numpy.typing import NDArray
from scipy.signal import lfilter

from fedsynth.errors import StudyError
from fedsynth.rng import numpy_generator
from fedsynth.signals.toy_ecg import toy_ecg, write_record
from fedsynth.study import Study

SITES = ("north", "east", "south", "west")
_PEOPLE = (190, 150, 120, 100)
_SHARES = (0.5, 0.35, 0.6, 0.25)  # of people with the second label
_EDF_LIMIT_UV = {"eeg": 1000.0, "ecg": 10_000.0}
Progress = Callable[[int, int], None]


def write_toy_cohort(folder: Path, *, study: Study, people: float = 1.0, progress: Progress | None = None) -> None:
    """Write `folder/<site>/sub-*` and the table that the study's labels ask for, for every site of the study.

    With a recordings.tsv, every fourth person has two recordings.

    Args:
        folder: to be made.
        study: names the sites, the modality, the labels, channels, rate and window length; EDF or WFDB, two labels.
        people: scales the number of people per site, for quick tests.
        progress: called with (people written, people in all).

    Raises:
        StudyError: a study that the toy cohort cannot serve.
    """
    source = study.labels.source
    if (
        study.signal.format == "text"
        or source not in ("participants.tsv", "recordings.tsv")
        or len(study.labels.names) != 2
    ):
        raise StudyError(
            "the toy cohort has two labels, in EDF files or WFDB records with a participants.tsv or a "
            "recordings.tsv; the study differs"
        )
    if study.labels.rename:
        raise StudyError("the toy cohort's labels bear the study's own names; remove labels.rename")
    sites = study.cohort.sites or SITES
    counts = [max(6, round(people * _PEOPLE[index % len(_PEOPLE)])) for index in range(len(sites))]
    kind = study.signal.modality
    done = 0
    for index, (site, count) in enumerate(zip(sites, counts, strict=True)):
        (folder / site).mkdir(parents=True)
        lines = ["\t".join(["participant_id", study.labels.column])]
        if source == "recordings.tsv":
            lines = ["\t".join(["recording", "participant_id", study.labels.column])]
        rng = numpy_generator("toy", site)
        for number in range(count):
            # Shares are met exactly, so that small cohorts hold both labels.
            ill = int(number < round(count * _SHARES[index % len(_SHARES)]))
            name, label = f"sub-{number + 1:03d}", study.labels.names[ill]
            if source == "participants.tsv":
                _write(folder / site / f"{name}_{kind}", _signal(rng, bool(ill), study), study)
                lines.append(f"{name}\t{label}")
            else:
                for run in range(1, 3 if number % 4 == 3 else 2):
                    stem = f"{name}_run-{run}_{kind}"
                    _write(folder / site / stem, _signal(rng, bool(ill), study), study)
                    lines.append(f"{stem}\t{name}\t{label}")
            done += 1
            if progress:
                progress(done, sum(counts))
        (folder / site / source).write_text("\n".join(lines) + "\n", encoding="utf-8")


def _signal(rng: np.random.Generator, ill: bool, study: Study) -> NDArray[np.float64]:
    """Return one recording in microvolts, shape (channel, time), at the rate that the study's recordings have."""
    plan = study.signal
    seconds = math.ceil(study.windows.n_times * (study.windows.per_recording + 1) / plan.sfreq)
    if plan.modality == "ecg":
        return toy_ecg(rng, fibrillates=ill, seconds=seconds, sfreq=plan.rate_as_recorded, channels=plan.channels)
    return _person(rng, ill, seconds, study)


def _person(rng: np.random.Generator, ill: bool, seconds: int, study: Study) -> NDArray[np.float64]:
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


def _write(stem: Path, signal: NDArray[np.float64], study: Study) -> None:
    plan = study.signal
    if plan.format == "wfdb":
        write_record(stem, signal, channels=plan.channels, sfreq=plan.rate_as_recorded)
        return
    limit = _EDF_LIMIT_UV[plan.modality]
    signals = [
        edfio.EdfSignal(
            np.clip(row, -limit, limit),
            sampling_frequency=plan.rate_as_recorded,
            label=f"{plan.modality.upper()} {name}",
            physical_dimension="uV",
            physical_range=(-limit, limit),
        )
        for name, row in zip(plan.channels, signal, strict=True)
    ]
    edfio.Edf(signals).write(stem.with_name(f"{stem.name}.edf"))
