"""Real public sets for the studies: ECG of PTB-XL with a rhythm, and resting EEG of Guinea-Bissau."""

import ast
import csv
import tempfile
from pathlib import Path

import numpy as np
from scipy.signal import butter, sosfiltfilt

from fedsynth.cli.progress import progress
from fedsynth.errors import RecordingError
from fedsynth.evaluation.protocol.material import Material
from fedsynth.experiments.inputs import Frame as InputFrame
from fedsynth.experiments.inputs import read_real
from fedsynth.modalities.shape import shape_of
from fedsynth.recordings.options import SiteOptions
from fedsynth.recordings.readers.samples import Notes, Request, gather
from fedsynth.recordings.readers.wfdb import read_wfdb
from fedsynth.study import Study, load_study
from kit.hearts import LEADS, RHYTHMS

_CODES = ("SR", "SBRAD", "STACH", "SARRH", "AFIB", "AFLT", "SVTAC")
"""PTB-XL's statement for each of `RHYTHMS`."""
_TEST_FOLDS = ("9", "10")
_EPILEPSY = Path(__file__).parents[2] / "epilepsy" / "study.toml"


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
    study = load_study(_EPILEPSY)
    frame = InputFrame(shape_of(study), study.labels.names, study.labels.names.index(study.labels.positive), study)
    with tempfile.TemporaryDirectory(prefix="seeds-") as staging, progress() as tell:
        given = read_real(folder, frame, options=SiteOptions(), staging=Path(staging), progress=tell).windows
    rows = [np.flatnonzero(given.people == person) for person in np.unique(given.people)]
    picked = np.concatenate(
        [some[np.linspace(0, len(some) - 1, min(each, len(some))).astype(int)] for some in rows]
    )
    return given.at(picked), study
