"""BIDS: from a study and its made-up subjects to the files that describe a data set and its windows.

BIDS 1.10 (for EEG, Pernet et al. 2019, doi:10.1038/s41597-019-0104-8). Everything follows from the study and from
how many windows a subject holds.
"""

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, assert_never

from fedsynth.release.file_format import format_of
from fedsynth.release.writers.edf import record_duration
from fedsynth.release.writers.subjects import SyntheticSubject
from fedsynth.study import Study

TASK = "synthetic"

# BIDS wants authors in one place, in CITATION.cff or here; MNE-BIDS' reports ask for them here.
_NO_BIDS = ("data/", "privacy/", "report/", "provenance/", "integrity/", "croissant.json", "CITATION.cff")


def write_bids(out: Path, *, people: tuple[SyntheticSubject, ...], study: Study) -> None:
    """Write what BIDS asks for: the data set's own files, and each subject's events and side files.

    BIDS has no ECG, so an ECG's subjects hold events alone: which windows their record holds, and of which label.
    The strict validator takes that, and refuses subjects who stand in `participants.tsv` and have no folder.
    """
    _write_dataset_files(out, people=people, study=study)
    kind, plan = format_of(study.signal.modality), study.signal
    for person in people:
        stem = out / person.name / kind.datatype / f"{person.name}_task-{TASK}"
        stem.parent.mkdir(parents=True, exist_ok=True)
        _write_tsv(Path(f"{stem}_events.tsv"), _events(person, study=study))
        match plan.modality:
            case "eeg":
                _write_json(Path(f"{stem}_eeg.json"), _sidecar(person, study=study))
                rows = [(channel, "EEG", "uV", str(plan.sfreq)) for channel in plan.channels]
                _write_tsv(Path(f"{stem}_channels.tsv"), [("name", "type", "units", "sampling_frequency"), *rows])
            case "ecg":
                pass
            case other:
                assert_never(other)


def _events(person: SyntheticSubject, *, study: Study) -> Iterator[tuple[str, ...]]:
    """Yield a row for each window; `value` is what `Release.to_epochs` calls the same label."""
    duration = _window_seconds(study)
    value = str(study.labels.names.index(person.label) + 1)
    yield "onset", "duration", "trial_type", "value"
    for number in range(person.n_windows):
        yield f"{number * duration:.6f}", f"{duration:.6f}", person.label, value


def _window_seconds(study: Study) -> float:
    return record_duration(n_times=study.windows.n_times, sfreq=study.signal.sfreq)


def _sidecar(person: SyntheticSubject, *, study: Study) -> dict[str, Any]:
    duration = _window_seconds(study)
    return {
        "TaskName": TASK,
        "TaskDescription": "No task: windows drawn from a generator, each a data record. Windows of one file "
        "resemble each other as those of one person do; they do not continue each other.",
        "SamplingFrequency": study.signal.sfreq,
        "EEGReference": "n/a",
        "PowerLineFrequency": "n/a",
        "SoftwareFilters": "n/a",
        # Not "epoched": MNE-BIDS 0.20 reads that as epochs only, and this both as epochs and as one recording.
        "RecordingType": "discontinuous",
        "EpochLength": duration,
        "RecordingDuration": round(duration * person.n_windows, 6),
        "EEGChannelCount": len(study.signal.channels),
    }


def _write_dataset_files(out: Path, *, people: tuple[SyntheticSubject, ...], study: Study) -> None:
    kind = format_of(study.signal.modality)
    rows = [
        ("participant_id", "label", "n_windows", *study.conditions, *(("statements",) if study.statements else ()))
    ]
    for person in people:
        borne = (person.borne,) if study.statements else ()
        rows.append((person.name, person.label, str(person.n_windows), *person.values, *borne))
    _write_tsv(out / "participants.tsv", rows)
    levels = {name: f"windows drawn for the label {name}" for name in study.labels.names}
    described: dict[str, Any] = {
        "participant_id": {"Description": "a made-up subject; it stands for no person"},
        "label": {"Description": "the label of all its windows", "Levels": levels},
        "n_windows": {"Description": f"how many windows its {kind.name} {kind.unit} holds, {kind.pieces}"},
    }
    for name, plan in study.conditions.items():
        kept = {value: f"drawn for {name} {value}" for value in plan.names}
        described[name] = {"Description": "the covariate for which its windows were drawn", "Levels": kept}
    if study.statements:
        said = (
            f"those of {', '.join(study.statements.names)} for which its windows were drawn, parted by semicolons"
        )
        described["statements"] = {"Description": said}
    _write_json(out / "participants.json", described)
    _write_json(
        out / f"task-{TASK}_events.json",
        {
            "trial_type": {"Description": "the label for which the window was drawn", "Levels": levels},
            "value": {"Description": "the label's number, from 1, in the order of label_names"},
        },
    )
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
                    "Description": f"{made}. The ECG stands in {kind.outside_bids}, which BIDS does not describe; "
                    "subjects' folders say which windows their records hold"
                    if kind.outside_bids
                    else made,
                }
            ],
        },
    )
    ignored = (*_NO_BIDS, *([kind.outside_bids] if kind.outside_bids else []))
    # Names without a slash: the strict validator (3.0) ignores what is in "data/" and then refuses "data" itself.
    rules = [name.rstrip("/") for name in ignored]
    (out / ".bidsignore").write_text("".join(f"{rule}\n" for rule in rules), encoding="utf-8", newline="\n")


def _write_tsv(path: Path, rows: Iterable[tuple[str, ...]]) -> None:
    # No cell can hold a tab: names of labels, channels and subjects are letters, digits and `_.-`.
    with path.open("w", encoding="utf-8", newline="\n") as stream:
        stream.writelines("\t".join(row) + "\n" for row in rows)


def _write_json(path: Path, body: dict[str, Any]) -> None:
    path.write_text(json.dumps(body, indent=2, ensure_ascii=False) + "\n", encoding="utf-8", newline="\n")
