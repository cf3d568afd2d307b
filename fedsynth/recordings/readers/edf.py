"""EDF and BDF: data records to samples in microvolts; the only door to MNE."""

import io
import warnings

import numpy as np
from numpy.typing import NDArray

from fedsynth.errors import RecordingError
from fedsynth.recordings.readers.edf_header import EdfHeader, plain_header


def microvolts_of_edf(header: EdfHeader, chosen: tuple[int, ...], data: bytes) -> NDArray[np.float32]:
    """Have MNE decode the data records, under a header of our own in which nobody is named."""
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
