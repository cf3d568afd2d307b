"""From synthetic windows to files people load: a NumPy archive, a Parquet table, and EDF or WFDB for each subject.

All are the same bytes on every machine and every day: no clock, no compression, fixed dates. The physical range of
the files is the study's `range_uv`, a public constant, so it tells nothing about the data. Windows pass through
memory in pieces.
"""

import itertools
import math
from collections.abc import Iterator
from pathlib import Path
from typing import assert_never

import numpy as np
from numpy.typing import NDArray

from fedsynth.errors import RefusedError
from fedsynth.progress import StepProgress
from fedsynth.release.file_format import TABLE
from fedsynth.release.load import WINDOWS
from fedsynth.release.writers.bids import TASK, write_bids
from fedsynth.release.writers.edf import write_edf
from fedsynth.release.writers.parquet import write_parquet
from fedsynth.release.writers.subjects import SyntheticSubject, subjects
from fedsynth.release.writers.wfdb import write_wfdb
from fedsynth.study import SignalPlan, Study
from fedsynth.synthesis.archive import bounded, read_npz, write_npz
from fedsynth.synthesis.windows import SyntheticStream

MOST_SUBJECTS = 60_000
"""More would be more files than a manifest can list."""

_NAMED_CHANNEL = 16


def write_dataset(
    out: Path, *, windows: SyntheticStream, study: Study, progress: StepProgress | None = None
) -> SyntheticStream:
    """Write `data/ml/windows.npz`, the same as Parquet, a signal file for each subject, and BIDS files.

    Args:
        out: an existing folder.
        windows: what is drawn, in microvolts; amplitudes beyond the study's range are cut.
        study: gives the range, the modality, the title and the licence.
        progress: called with (subjects written, subjects in all).

    Returns:
        The same windows, read from the archive.

    Raises:
        RefusedError: there is no window, a value is not finite, or shapes, labels or channels do not belong
            together or to the study. What was written by then stays.
    """
    check_fits(windows, study=study)
    write_npz(
        out / WINDOWS, windows=bounded(windows, modality=study.signal.modality, range_uv=study.signal.range_uv)
    )
    stored = read_npz(out / WINDOWS, windows=windows)
    people = subjects(windows)
    write_parquet(out / TABLE, windows=stored, names=tuple(person.name for person in people))
    match study.signal.modality:
        case "ecg":
            _write_wfdb(out / "wfdb", people=people, windows=stored, plan=study.signal, progress=progress)
        case "eeg":
            _write_edf(out, people=people, windows=stored, plan=study.signal, progress=progress)
        case other:
            assert_never(other)
    write_bids(out, people=people, study=study)
    return stored


def check_fits(windows: SyntheticStream, *, study: Study) -> None:
    """Refuse windows that do not fit the study or the files of a release; draws none of them.

    Raises:
        RefusedError: as `write_dataset`, but for what only the windows themselves show.
    """
    if windows.n_windows == 0 or windows.n_times != study.windows.n_times:
        raise RefusedError(
            f"{windows.n_windows} windows of {windows.n_times} samples do not fit a study with windows of "
            f"{study.windows.n_times} samples. Nothing was written"
        )
    if (windows.subject_windows < 1).any():
        raise RefusedError("a synthetic subject holds no window. Nothing was written")
    if windows.subject_labels.min() < 0 or windows.subject_labels.max() >= len(windows.label_names):
        raise RefusedError(f"a label lies outside 0 to {len(windows.label_names) - 1}. Nothing was written")
    facts = (windows.channels, windows.label_names, windows.sfreq)
    if facts != (study.signal.channels, study.labels.names, study.signal.sfreq):
        raise RefusedError("channels, labels or rate of the windows are not the study's. Nothing was written")
    strata = windows.subject_strata
    inside = strata is not None and strata.min() >= 0 and strata.max() < math.prod(study.strata)
    made = windows.subject_statements
    borne = study.statements.names if study.statements else ()
    if (
        windows.statements != borne
        or (made is None) == bool(borne)
        or (made is not None and set(np.unique(made)) - {0, 1})
    ):
        raise RefusedError("statements of the windows are not the study's. Nothing was written")
    if dict(windows.conditions) != study.condition_values or (study.conditions and not inside):
        raise RefusedError("conditions of the windows are not the study's. Nothing was written")
    if long := [name for name in windows.channels if len(name) > _NAMED_CHANNEL]:
        raise RefusedError(f"EDF holds channel names of {_NAMED_CHANNEL} characters; {long[0]} is longer")
    if len(windows.subject_windows) > MOST_SUBJECTS:
        raise RefusedError(
            f"{len(windows.subject_windows)} synthetic subjects would be as many files, and a release lists "
            f"{MOST_SUBJECTS} at most. Nothing was written; raise release.windows_per_subject"
        )


def _by_subject(
    windows: SyntheticStream, people: tuple[SyntheticSubject, ...], progress: StepProgress | None
) -> Iterator[tuple[SyntheticSubject, Iterator[NDArray[np.float32]]]]:
    """Yield each subject with its blocks, which must be used up before the next one is asked for."""
    for number, blocks in itertools.groupby(windows.blocks(), key=lambda found: found[0]):
        yield people[number], (block for _, block in blocks)
        if progress:
            progress(number + 1, len(people))


def _write_edf(
    out: Path,
    *,
    people: tuple[SyntheticSubject, ...],
    windows: SyntheticStream,
    plan: SignalPlan,
    progress: StepProgress | None,
) -> None:
    for person, blocks in _by_subject(windows, people, progress):
        folder = out / person.name / "eeg"
        folder.mkdir(parents=True)
        write_edf(
            folder / f"{person.name}_task-{TASK}_eeg.edf",
            code=person.name.removeprefix("sub-"),
            label=person.label,
            blocks=blocks,
            n_windows=person.n_windows,
            n_times=windows.n_times,
            plan=plan,
        )


def _write_wfdb(
    folder: Path,
    *,
    people: tuple[SyntheticSubject, ...],
    windows: SyntheticStream,
    plan: SignalPlan,
    progress: StepProgress | None,
) -> None:
    folder.mkdir(parents=True)
    for person, blocks in _by_subject(windows, people, progress):
        write_wfdb(
            folder,
            person.name,
            np.concatenate(list(blocks)),
            label=person.label,
            channels=plan.channels,
            sfreq=plan.sfreq,
            range_uv=plan.range_uv,
        )
