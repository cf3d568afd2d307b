"""From synthetic windows to files people load: one NumPy archive, and EDF or WFDB files, a made-up subject each.

All are the same bytes on every machine and every day: no clock, no compression, fixed dates. The physical range of
the files is the study's `range_uv`, a public constant, so it tells nothing about the data. Windows pass through
memory in pieces.
"""

import itertools
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, assert_never

import numpy as np
from numpy.typing import NDArray

from fedsynth.errors import RefusedError
from fedsynth.progress import StepProgress
from fedsynth.release.file_format import format_of
from fedsynth.release.load import WINDOWS
from fedsynth.release.writers.edf import record_duration, write_edf
from fedsynth.release.writers.wfdb import write_wfdb
from fedsynth.study import SignalPlan, Study
from fedsynth.synthesis.archive import bounded, read_npz, write_npz
from fedsynth.synthesis.windows import SyntheticStream

TASK = "synthetic"
MOST_SUBJECTS = 80_000
"""More would be more files than a manifest can list."""

_NO_BIDS = ("data/", "privacy/", "report/", "provenance/", "integrity/", "croissant.json")
_NAMED_CHANNEL = 16


@dataclass(frozen=True)
class SyntheticSubject:
    """One made-up subject: windows of one label that belong together. It stands for no person."""

    name: str
    label: str
    n_windows: int


def write_dataset(
    out: Path, *, windows: SyntheticStream, study: Study, progress: StepProgress | None = None
) -> SyntheticStream:
    """Write `data/ml/windows.npz`, a signal file for each subject and the BIDS files that describe them.

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
    _check(windows, study=study)
    write_npz(out / WINDOWS, windows=bounded(windows, range_uv=study.signal.range_uv))
    stored = read_npz(out / WINDOWS, windows=windows)
    people = subjects(windows)
    match study.signal.modality:
        case "ecg":
            _write_wfdb(out / "wfdb", people=people, windows=stored, plan=study.signal, progress=progress)
        case "eeg":
            _write_edf(out, people=people, windows=stored, plan=study.signal, progress=progress)
        case other:
            assert_never(other)
    _write_bids_files(out, people=people, study=study)
    return stored


def subjects(windows: SyntheticStream) -> tuple[SyntheticSubject, ...]:
    """Name the made-up subjects in the order drawn."""
    width = max(4, len(str(len(windows.subject_windows))))
    sizes = zip(windows.subject_labels, windows.subject_windows, strict=True)
    return tuple(
        SyntheticSubject(f"sub-syn{number:0{width}d}", windows.label_names[int(label)], int(size))
        for number, (label, size) in enumerate(sizes, start=1)
    )


def _check(windows: SyntheticStream, *, study: Study) -> None:
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
    duration = record_duration(n_times=windows.n_times, sfreq=plan.sfreq)
    rows = [("name", "type", "units", "sampling_frequency")]
    rows += [(channel, "EEG", "uV", str(plan.sfreq)) for channel in plan.channels]
    for person, blocks in _by_subject(windows, people, progress):
        folder, stem = out / person.name / "eeg", f"{person.name}_task-{TASK}"
        folder.mkdir(parents=True)
        write_edf(
            folder / f"{stem}_eeg.edf",
            code=person.name.removeprefix("sub-"),
            blocks=blocks,
            n_windows=person.n_windows,
            n_times=windows.n_times,
            plan=plan,
        )
        sidecar = {
            "TaskName": TASK,
            "TaskDescription": "No task: windows drawn from a generator, each a data record. Windows of one file "
            "resemble each other as those of one person do; they do not continue each other.",
            "SamplingFrequency": plan.sfreq,
            "EEGReference": "n/a",
            "PowerLineFrequency": "n/a",
            "SoftwareFilters": "n/a",
            "RecordingType": "epoched",
            "EpochLength": duration,
            "RecordingDuration": round(duration * person.n_windows, 6),
            "EEGChannelCount": len(plan.channels),
        }
        _write_json(folder / f"{stem}_eeg.json", sidecar)
        _write_tsv(folder / f"{stem}_channels.tsv", rows)


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
            channels=plan.channels,
            sfreq=plan.sfreq,
            range_uv=plan.range_uv,
        )


def _write_bids_files(out: Path, *, people: tuple[SyntheticSubject, ...], study: Study) -> None:
    kind = format_of(study.signal.modality)
    rows = [("participant_id", "label", "n_windows")]
    rows += [(person.name, person.label, str(person.n_windows)) for person in people]
    _write_tsv(out / "participants.tsv", rows)
    levels = {name: f"windows drawn for the label {name}" for name in study.labels.names}
    described = {
        "participant_id": {"Description": "a made-up subject; it stands for no person"},
        "label": {"Description": "the label of all its windows", "Levels": levels},
        "n_windows": {"Description": f"how many windows its {kind.name} {kind.unit} holds, {kind.pieces}"},
    }
    _write_json(out / "participants.json", described)
    made = "synthetic windows; no recording of a person"
    _write_json(
        out / "dataset_description.json",
        {
            "Name": study.title or study.name,
            "BIDSVersion": "1.10.0",
            # "raw" in BIDS' sense: no file is derived from another file of a BIDS data set.
            "DatasetType": "raw",
            "License": study.release.license,
            "Authors": [study.release.publisher],
            "GeneratedBy": [
                {
                    "Name": "fedsynth",
                    # BIDS has no modality for ECG, so its files are listed in .bidsignore.
                    "Description": f"{made}. The ECG stands in {kind.outside_bids}, which BIDS does not describe"
                    if kind.outside_bids
                    else made,
                }
            ],
        },
    )
    ignored = (*_NO_BIDS, *([kind.outside_bids] if kind.outside_bids else []))
    (out / ".bidsignore").write_text("".join(f"{name}\n" for name in ignored), encoding="utf-8", newline="\n")


def _write_tsv(path: Path, rows: Sequence[tuple[str, ...]]) -> None:
    # No cell can hold a tab: names of labels, channels and subjects are letters, digits and `_.-`.
    path.write_text("".join("\t".join(row) + "\n" for row in rows), encoding="utf-8", newline="\n")


def _write_json(path: Path, body: dict[str, Any]) -> None:
    path.write_text(json.dumps(body, indent=2, ensure_ascii=False) + "\n", encoding="utf-8", newline="\n")
