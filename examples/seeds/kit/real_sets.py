"""Real public sets for the studies: ECG of PTB-XL, resting EEG of Guinea-Bissau, seizures of Siena and CHB-MIT."""

import ast
import csv
import tempfile
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.signal import butter, sosfiltfilt

from fedsynth.cli.progress import progress
from fedsynth.errors import RecordingError
from fedsynth.evaluation.protocol.material import Material
from fedsynth.experiments.inputs import Frame as InputFrame
from fedsynth.experiments.inputs import read_real
from fedsynth.modalities.shape import Shape, shape_of
from fedsynth.recordings.options import SiteOptions
from fedsynth.recordings.readers.samples import Notes, Request, gather
from fedsynth.recordings.readers.wfdb import read_wfdb
from fedsynth.study import Study, load_study
from kit.hearts import LEADS, RHYTHMS

_CODES = ("SR", "SBRAD", "STACH", "SARRH", "AFIB", "AFLT", "SVTAC")
"""PTB-XL's statement for each of `RHYTHMS`."""
_TEST_FOLDS = ("9", "10")
_EXAMPLES = Path(__file__).parents[2]
SEIZURES = {"Siena": "siena", "CHB-MIT": "chb-mit"}
"""Sets of patients with seizures, and the folder of the example study that says how each is read."""
_OF_EACH = {"normal": 24, "preictal": 8, "ictal": 24}  # windows of a patient at most, as of simulated ones


def ptbxl(folder: Path, *, least: int, most: int) -> tuple[Material, np.ndarray, tuple[str, ...]]:
    """Read the first ECG of each person with one rhythm, at 100 Hz, 10 s.

    Folds 9 and 10 are held out, as Wagner et al. 2020 (doi:10.1038/s41597-020-0495-6) say; of a rhythm that lacks
    people in either part, every third person.

    Args:
        folder: as published, at least some of its records.
        least: people of a rhythm, or the rhythm is left out.
        most: people of a rhythm that are read.

    Returns:
        The windows, who is held out (window,), and the names of the rhythms that are there.

    Raises:
        RecordingError: no table, or no rhythm with enough people.
    """
    table = folder / "ptbxl_database.csv"
    if not table.is_file():
        raise RecordingError(f"{folder} has no ptbxl_database.csv; name the folder of PTB-XL as published")
    chosen: dict[str, list[tuple[Path, bool]]] = {code: [] for code in _CODES}
    seen = set()
    with table.open(encoding="utf-8", newline="") as lines:
        for row in csv.DictReader(lines):
            header = folder / f"{row['filename_lr']}.hea"
            codes = [code for code in _CODES if code in ast.literal_eval(row["scp_codes"])]
            if len(codes) == 1 and row["patient_id"] not in seen and header.is_file():
                seen.add(row["patient_id"])
                chosen[codes[0]].append((header, row["strat_fold"] in _TEST_FOLDS))
    there = [code for code in _CODES if len(chosen[code]) >= least]
    if len(there) < 2:
        raise RecordingError(f"{folder} has fewer than two rhythms with {least} people or more; fetch more records")
    signals, labels, flags = [], [], []
    request = Request(tuple(name.upper() if name.startswith("a") else name for name in LEADS), 100.0)
    for label, code in enumerate(there):
        mine = chosen[code][:most]
        held_out = [fold for _, fold in mine]
        if min(sum(held_out), len(mine) - sum(held_out)) < 2:
            held_out = [number % 3 == 0 for number in range(len(mine))]
        for (header, _), is_test in zip(mine, held_out, strict=True):
            notes = Notes()
            signals.append(gather(read_wfdb(header, request, notes), notes).signal[:, :1000])
            labels.append(label)
            flags.append(is_test)
    band = butter(4, (0.5, 40.0), btype="bandpass", fs=100.0, output="sos")
    signal = sosfiltfilt(band, np.stack(signals).astype(np.float64)).astype(np.float32)
    people = np.arange(len(labels))
    names = tuple(RHYTHMS[_CODES.index(code)] for code in there)
    return Material(signal, np.array(labels), people), np.array(flags), names


def guinea_bissau(folder: Path, *, each: int) -> tuple[Material, Study]:
    """Read resting EEG of people with and without epilepsy (van Hees et al. 2018, doi:10.5281/zenodo.1252141).

    Args:
        folder: EDF files and their participants.tsv, as the preset `guinea-bissau` has them.
        each: windows of a person, evenly spread.

    Raises:
        RecordingError: the recordings.
    """
    study = load_study(_EXAMPLES / "epilepsy" / "study.toml")
    given = _read(folder, study)
    rows = [np.flatnonzero(given.people == person) for person in np.unique(given.people)]
    return given.at(np.concatenate([_spread(some, each) for some in rows])), study


def patients_with_seizures(name: str, folder: Path, shape: Shape) -> Material:
    """Read normal, preictal and ictal windows of a set of `SEIZURES`, as its example study defines them.

    Args:
        name: of the set.
        folder: as published, a folder for each patient (`fedsynth fetch`).
        shape: rate, samples and pass band of the windows; channels are those of the example study.

    Raises:
        RecordingError: the recordings, or no windows of one of the states.
    """
    study = load_study(_EXAMPLES / SEIZURES[name] / "study.toml")
    signal = study.signal.model_copy(
        update={
            "recorded_sfreq": study.signal.rate_as_recorded,
            "sfreq": shape.sfreq,
            "bandpass": shape.bandpass,
        }
    )
    windows = study.windows.model_copy(update={"n_times": shape.n_times})
    given = _read(folder, study.model_copy(update={"signal": signal, "windows": windows}))
    missing = [label for number, label in enumerate(study.labels.names) if number not in given.labels]
    if missing:
        raise RecordingError(
            f"{folder} gives no {' and no '.join(missing)} windows; name the folder of {name} as published, with "
            "recordings that hold seizures and recordings that lie an hour and more from them"
        )
    rows = []
    for person in np.unique(given.people):
        for number, label in enumerate(study.labels.names):
            some = np.flatnonzero((given.people == person) & (given.labels == number))
            rows.append(_spread(some, _OF_EACH[label]))
    return given.at(np.concatenate(rows))


def _read(folder: Path, study: Study) -> Material:
    frame = InputFrame(shape_of(study), study.labels.names, study.labels.names.index(study.labels.positive), study)
    with tempfile.TemporaryDirectory(prefix="seeds-") as staging, progress() as tell:
        return read_real(folder, frame, options=SiteOptions(), staging=Path(staging), progress=tell).windows


def _spread(rows: NDArray[np.intp], count: int) -> NDArray[np.intp]:
    """Return at most so many of the rows, evenly spread."""
    return rows[np.linspace(0, len(rows) - 1, min(count, len(rows))).astype(int)]
