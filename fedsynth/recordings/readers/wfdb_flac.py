"""Compressed WFDB signals, formats 508, 516 and 524, by WFDB-Python; the only door to it.

The library sees nothing but a header of our own, written for one signal file that was judged before: names and
comments of the record do not reach it.
"""

import tempfile
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fedsynth.errors import RecordingError
from fedsynth.extras import explained
from fedsynth.recordings.readers.wfdb_header import WfdbHeader

MOST_SAMPLES = 1 << 25
"""Of one file, in all its signals: about half a gigabyte in the library's hands."""


def unpack_flac(header: WfdbHeader, *, n_times: int, place: int, content: bytes) -> NDArray[np.int32]:
    """Decode a compressed signal file: samples in the order in which signals take turns.

    Args:
        header: of the record.
        n_times: frames of the record.
        place: of the file among `header.files`.
        content: of the file, from its beginning.

    Raises:
        MissingPackageError: WFDB-Python is not installed.
        RecordingError: a file that it cannot decode, or of more than `MOST_SAMPLES`.
    """
    signals = [header.signals[index] for index in list(header.files.values())[place]]
    if n_times * sum(signal.per_frame for signal in signals) > MOST_SAMPLES:
        raise RecordingError(
            "a compressed signal file is decoded at once, and this one holds more than "
            f"{MOST_SAMPLES >> 20} million samples; write the record again in format 16, or in segments"
        )
    with explained():
        import wfdb
    lines = [f"r {len(signals)} 1 {n_times}"]
    lines += [f"r.dat {signal.format}x{signal.per_frame} 1(0)/mV 0 0 0 0 0 C" for signal in signals]
    with tempfile.TemporaryDirectory(prefix="fedsynth-") as folder:
        (Path(folder) / "r.hea").write_text("\n".join(lines) + "\n", encoding="ascii")
        (Path(folder) / "r.dat").write_bytes(content)
        try:
            record = wfdb.rdrecord(f"{folder}/r", physical=False, smooth_frames=False)
            rows = [np.asarray(row).reshape(n_times, -1) for row in record.e_d_signal]
        except Exception as error:  # noqa: BLE001  # the library and the one below it raise what they like
            raise RecordingError(
                f"the compressed signal file cannot be decoded ({type(error).__name__}); copy or export the record "
                "again"
            ) from None
    return np.concatenate(rows, axis=1).reshape(-1).astype(np.int32)
