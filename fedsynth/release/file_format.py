"""Files of a release beside the archive: a Parquet table, and EDF in a BIDS layout for EEG, WFDB for ECG."""

from dataclasses import dataclass
from typing import assert_never

from fedsynth.study import Modality

TABLE = "data/ml/windows.parquet"


@dataclass(frozen=True)
class FileFormat:
    """How the windows of one kind of signal stand in files that its readers open.

    `unit` is what holds the windows of one made-up subject, and `pieces` what holds one window in it. `encoding`
    and `includes` are Croissant's. `datatype` is the BIDS folder that says which window has which label, and
    `outside_bids` the folder that BIDS does not describe, "" for none.
    """

    name: str
    unit: str
    pieces: str
    encoding: str
    includes: str | list[str]
    datatype: str
    outside_bids: str


_EDF = FileFormat(
    name="EDF",
    unit="file",
    pieces="one per data record",
    encoding="application/edf",
    includes="sub-syn*/eeg/*.edf",
    datatype="eeg",
    outside_bids="",
)
_WFDB = FileFormat(
    name="WFDB",
    unit="record",
    pieces="one after another",
    encoding="application/x-wfdb",
    includes=["wfdb/*.hea", "wfdb/*.dat", "wfdb/*.atr"],
    datatype="beh",
    outside_bids="wfdb/",
)


def format_of(modality: Modality) -> FileFormat:
    """Return the format in which a kind of signal is released."""
    match modality:
        case "eeg":
            return _EDF
        case "ecg":
            return _WFDB
        case other:
            assert_never(other)
