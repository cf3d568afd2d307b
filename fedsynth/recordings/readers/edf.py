"""EDF and BDF: data records to samples in microvolts; the only door to MNE."""

import hashlib
import io
import os
import warnings
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fedsynth.errors import RecordingError
from fedsynth.extras import explained
from fedsynth.recordings.readers.edf_header import (
    LONGEST_HEADER,
    EdfHeader,
    check_contiguous,
    choose_signals,
    parse_header,
    plain_header,
)
from fedsynth.recordings.readers.samples import Samples
from fedsynth.study import SignalPlan


def read_edf(path: Path, plan: SignalPlan) -> Samples:
    """Read the study's channels of an EDF or BDF file.

    Raises:
        MissingChannelError: a channel of the study is missing.
        RecordingError: whatever else the header or the sizes leave in doubt.
        OSError: a file that cannot be opened.
    """
    with path.open("rb") as file:
        header = parse_header(file.read(LONGEST_HEADER), file_size=os.fstat(file.fileno()).st_size)
        chosen = choose_signals(header, channels=plan.channels, sfreq=plan.rate_as_recorded)
        file.seek(header.n_bytes)
        data = file.read()
    check_contiguous(header, data=data, sfreq=plan.rate_as_recorded)
    return Samples(_microvolts(header, chosen, data), hashlib.sha256(data).hexdigest(), header.remarks)


def _microvolts(header: EdfHeader, chosen: tuple[int, ...], data: bytes) -> NDArray[np.float32]:
    """Have MNE decode the data records, under a header of our own in which nobody is named."""
    with explained():
        import mne  # imported here: a study of text files does not pay for it

    read = mne.io.read_raw_edf if header.format == "EDF" else mne.io.read_raw_bdf
    names = [f"C{number}" for number in range(len(chosen))]
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            raw = read(
                io.BytesIO(plain_header(header, chosen=chosen) + data),
                include=names,
                stim_channel=None,
                preload=True,
                verbose="ERROR",
            )
            volts = raw.get_data(picks=names, verbose="ERROR")
    except (OSError, ValueError, RuntimeError, TypeError, LookupError, AssertionError) as error:
        raise RecordingError(f"its data cannot be decoded ({type(error).__name__}); export it again") from None
    with np.errstate(over="ignore"):  # the gate refuses what becomes infinite
        return np.ascontiguousarray(volts * 1e6, dtype=np.float32)
