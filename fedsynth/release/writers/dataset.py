"""From synthetic windows to files people load: a NumPy archive, a Parquet table, and EDF or WFDB for each subject.

All are the same bytes on every machine and every day: no clock, no compression, fixed dates. The physical range of
the files is the study's `range_uv`, a public constant, so it tells nothing about the data. Windows pass through
memory in pieces.
"""

import itertools
import zipfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import IO, Any, assert_never

import numpy as np
import torch
from numpy.typing import NDArray

from fedsynth.errors import RefusedError
from fedsynth.modalities.registry import within_range
from fedsynth.progress import StepProgress
from fedsynth.release.file_format import TABLE
from fedsynth.release.load import WINDOWS
from fedsynth.release.writers.bids import TASK, write_bids
from fedsynth.release.writers.edf import write_edf
from fedsynth.release.writers.parquet import write_parquet
from fedsynth.release.writers.subjects import SyntheticSubject, subjects
from fedsynth.release.writers.wfdb import write_wfdb
from fedsynth.study import Modality, SignalPlan, Study
from fedsynth.synthesis.windows import SyntheticStream

MOST_SUBJECTS = 60_000
"""More would be more files than a manifest can list."""

_NAMED_CHANNEL = 16
_PIECE = 2**20  # bytes
_SUBJECTS = 256  # whose labels are written at once


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
    if long := [name for name in windows.channels if len(name) > _NAMED_CHANNEL]:
        raise RefusedError(f"EDF holds channel names of {_NAMED_CHANNEL} characters; {long[0]} is longer")
    if len(windows.subject_windows) > MOST_SUBJECTS:
        raise RefusedError(
            f"{len(windows.subject_windows)} synthetic subjects would be as many files, and a release lists "
            f"{MOST_SUBJECTS} at most. Nothing was written; raise release.windows_per_subject"
        )


def bounded(windows: SyntheticStream, *, modality: Modality, range_uv: float) -> SyntheticStream:
    """Bring amplitudes within plus or minus `range_uv`, as the recordings' own were before training.

    Leads of an ECG that follow from two others are computed from what those two became.

    The pieces raise RefusedError where a value is not finite or a shape is not the stream's.
    """
    shape = (len(windows.channels), windows.n_times)

    def pieces() -> Iterator[NDArray[np.float32]]:
        for piece in windows.pieces():
            if piece.shape[1:] != shape:
                raise RefusedError(
                    f"windows of shape {piece.shape[1:]} do not fit {shape[0]} channels of {shape[1]} samples. "
                    "Nothing was kept"
                )
            if not np.isfinite(piece).all():
                raise RefusedError("a synthetic window holds a value that is not finite. Nothing was kept")
            inside = within_range(
                torch.from_numpy(np.array(piece, np.float32)),
                modality=modality,
                channels=windows.channels,
                range_uv=range_uv,
            )
            yield inside.numpy()

    return replace(windows, pieces=pieces)


def write_npz(path: Path, *, windows: SyntheticStream) -> None:
    """Write windows as an uncompressed archive that `np.load(path, allow_pickle=False)` opens."""
    path.parent.mkdir(parents=True, exist_ok=True)
    shape = (windows.n_windows, len(windows.channels), windows.n_times)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        with _entry(archive, "X") as stream:
            _npy_header(stream, "<f4", shape)
            for _, block in windows.blocks():
                stream.write(np.ascontiguousarray(block, dtype="<f4").tobytes())
        for name, of_subject in (
            ("y", windows.subject_labels),
            ("subject", np.arange(len(windows.subject_labels))),
        ):
            with _entry(archive, name) as stream:
                _npy_header(stream, "<i8", shape[:1])
                for start in range(0, len(of_subject), _SUBJECTS):
                    some = slice(start, start + _SUBJECTS)
                    repeated = np.repeat(of_subject[some], windows.subject_windows[some])
                    stream.write(repeated.astype("<i8").tobytes())
        facts: dict[str, NDArray[Any]] = {
            "label_names": np.array(windows.label_names),
            "channels": np.array(windows.channels),
            "sfreq": np.array(float(windows.sfreq)),
            "unit": np.array("uV"),
        }
        for name, array in facts.items():
            with _entry(archive, name) as stream:
                np.lib.format.write_array(stream, array, allow_pickle=False)


def read_npz(path: Path, *, windows: SyntheticStream) -> SyntheticStream:
    """Return the windows that `write_npz` wrote, in pieces read from the file."""
    row = len(windows.channels) * windows.n_times
    many = max(1, _PIECE // (4 * row))

    def pieces() -> Iterator[NDArray[np.float32]]:
        with zipfile.ZipFile(path) as archive, archive.open("X.npy") as stream:
            np.lib.format.read_magic(stream)
            np.lib.format.read_array_header_1_0(stream)
            while data := stream.read(many * row * 4):
                yield np.frombuffer(data, "<f4").reshape(-1, len(windows.channels), windows.n_times)

    return replace(windows, pieces=pieces)


def _entry(archive: zipfile.ZipFile, name: str) -> IO[bytes]:
    entry = zipfile.ZipInfo(f"{name}.npy", date_time=(1980, 1, 1, 0, 0, 0))
    entry.create_system = 3
    entry.external_attr = 0o644 << 16
    return archive.open(entry, "w", force_zip64=True)


def _npy_header(stream: IO[bytes], kind: str, shape: tuple[int, ...]) -> None:
    np.lib.format.write_array_header_1_0(stream, {"descr": kind, "fortran_order": False, "shape": shape})


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
