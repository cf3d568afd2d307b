"""The toy cohort: made-up hospitals with made-up people, written as EDF files or WFDB records beside a table.

The EEG comes from stochastic oscillators in the time domain, mixed to the scalp; the generator's public prior
(`fedsynth.modalities.eeg.simulator`) is made differently, in the frequency domain, so that the demo has something
to learn. The ECG is that of `fedsynth.recordings.toy.ecg`, for which the same holds. People with "epilepsy" have
slower and stronger theta, a slower alpha rhythm and sharp waves over one temporal region; every effect overlaps
between the groups.
"""

import math
from pathlib import Path
from typing import assert_never

import edfio
import numpy as np
from numpy.typing import NDArray

from fedsynth.errors import StudyError
from fedsynth.progress import StepProgress
from fedsynth.recordings.toy.ecg import toy_ecg, write_record
from fedsynth.recordings.toy.eeg import person as eeg_person
from fedsynth.rng import numpy_generator
from fedsynth.study import Modality, Study

SITES = ("north", "east", "south", "west")
_PEOPLE = (190, 150, 120, 100)
_SHARES = (0.5, 0.35, 0.6, 0.25)  # of people with the second label


def write_toy_cohort(
    folder: Path, *, study: Study, people: float = 1.0, progress: StepProgress | None = None
) -> None:
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
            "recordings.tsv; the study differs. Use examples/toy/study.toml, or give recordings with --sites"
        )
    if study.conditions or study.statements:
        raise StudyError(
            "the toy cohort's people have no covariates; leave conditions and statements out, or give --sites"
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
    match plan.modality:
        case "eeg":
            return eeg_person(rng, ill, seconds, study)
        case "ecg":
            rate = plan.rate_as_recorded
            return toy_ecg(rng, fibrillates=ill, seconds=seconds, sfreq=rate, channels=plan.channels)
        case other:
            assert_never(other)


def _edf_limit(modality: Modality) -> float:
    """Return the physical range of EDF files, in microvolts."""
    match modality:
        case "eeg":
            return 1000.0
        case "ecg":
            return 10_000.0
        case other:
            assert_never(other)


def _write(stem: Path, signal: NDArray[np.float64], study: Study) -> None:
    plan = study.signal
    if plan.format == "wfdb":
        write_record(stem, signal, channels=plan.channels, sfreq=plan.rate_as_recorded)
        return
    limit = _edf_limit(plan.modality)
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
