"""WFDB signal files: from a header and the bytes beside it to microvolts, held against size and checksum.

Format 16 is two bytes a sample, least significant first, in two's complement. Format 212 puts two samples of 12
bits into three bytes (signal(5) of the WFDB Applications Guide). Signals of one file take turns, sample by sample.
"""

import numpy as np
from numpy.typing import NDArray

from fedsynth.errors import RecordingError
from fedsynth.recordings.readers.wfdb_header import WfdbHeader, microvolts_per_step

NO_CHECKSUM = "a checksum of 0, as written where none was computed; their samples were not held against one"
NO_LENGTH = "no number of samples in their header; it was taken from the size of the signal file"
_MISSING = {16: -(1 << 15), 212: -(1 << 11)}
"""The value that stands for "no sample here"."""


def samples_per_signal(header: WfdbHeader, *, sizes: tuple[int, ...]) -> int:
    """Return the number of samples of each signal, where every file holds exactly those.

    Args:
        header: of the record.
        sizes: of its signal files in bytes, in the order of `header.files`.

    Raises:
        RecordingError: no samples, a file that is shorter or longer than its samples take, or a length that
            neither the header nor the size tells.
    """
    n_times = header.n_times
    for indices, size in zip(header.files.values(), sizes, strict=True):
        form, offset = header.signals[indices[0]].format, header.signals[indices[0]].offset
        if n_times is None:
            if form == 212:
                raise RecordingError(
                    "the header gives no number of samples, and in format 212 the size of the file does not tell "
                    "it; export the record again"
                )
            n_times = (size - offset) // (2 * len(indices))
        if n_times <= 0:
            raise RecordingError("the signal file holds no samples; copy or export the record again")
        takes = _bytes_of(n_times * len(indices), form)
        # A last byte that pads an odd number of samples of 12 bits is there or not.
        padded = takes + (form == 212 and n_times * len(indices) % 2)
        if size - offset not in (takes, padded):
            state = "is truncated" if size - offset < takes else "is longer than its header says"
            raise RecordingError(
                f"the signal file {state}: {n_times} samples of {len(indices)} signals in format {form} take "
                f"{takes + offset} bytes, and it holds {size}; copy or export the record again"
            )
    assert n_times is not None  # a header has at least one signal
    return n_times


def microvolts(
    header: WfdbHeader, *, chosen: tuple[int, ...], channels: tuple[str, ...], n_times: int, data: tuple[bytes, ...]
) -> tuple[NDArray[np.float32], tuple[str, ...]]:
    """Decode the chosen signals, after holding every signal of the record against its checksum.

    Args:
        header: of the record.
        chosen: which signals, as `choose_leads` returns them.
        channels: their names in the study.
        n_times: as `samples_per_signal` returns it.
        data: the bytes of each signal file from its offset on, in the order of `header.files`.

    Returns:
        Microvolts, shape (channel, time), with nan where a sample is marked as missing, and remarks.

    Raises:
        RecordingError: samples whose sum is not the checksum.
    """
    digital: dict[int, NDArray[np.int16]] = {}
    for indices, content in zip(header.files.values(), data, strict=True):
        rows = samples_of(content, form=header.signals[indices[0]].format, total=n_times * len(indices))
        digital |= dict(zip(indices, rows.reshape(n_times, len(indices)).T, strict=True))
    remarks = [] if header.n_times is not None else [NO_LENGTH]
    held = [_checksum_holds(digital[index], signal.checksum) for index, signal in enumerate(header.signals)]
    if not all(held):
        remarks.append(NO_CHECKSUM)
    out = np.empty((len(chosen), n_times), dtype=np.float32)
    for row, index, channel in zip(out, chosen, channels, strict=True):
        signal = header.signals[index]
        steps = digital[index].astype(np.float64)
        steps[digital[index] == _MISSING[signal.format]] = np.nan
        with np.errstate(over="ignore"):  # the gate refuses what becomes infinite
            row[:] = (steps - signal.baseline) * microvolts_per_step(signal, channel=channel)
    return out, tuple(remarks)


def samples_of(content: bytes, *, form: int, total: int) -> NDArray[np.int16]:
    """Return the samples of a signal file in the order in which they lie there, shape (total,).

    >>> samples_of(bytes([0x01, 0xF0, 0xFF, 0xFF, 0x07]), form=212, total=3).tolist()
    [1, -1, 2047]
    """
    if form == 16:
        return np.frombuffer(content, dtype="<i2", count=total).astype(np.int16)
    pairs = (total + 1) // 2
    octets = np.frombuffer(content.ljust(3 * pairs, b"\0"), dtype=np.uint8, count=3 * pairs)
    low, middle, high = octets.reshape(pairs, 3).astype(np.int16).T
    twelve = np.stack([low | (middle & 0x0F) << 8, high | (middle & 0xF0) << 4], axis=1).reshape(-1)[:total]
    return np.asarray((twelve ^ 0x800) - 0x800, dtype=np.int16)


def _bytes_of(samples: int, form: int) -> int:
    return 2 * samples if form == 16 else (3 * samples + 1) // 2


def _checksum_holds(samples: NDArray[np.int16], checksum: int | None) -> bool:
    """Whether a signal was held against its checksum: the sum of its samples in 16 bits.

    Raises:
        RecordingError: the sum differs, and the checksum is not the 0 of a writer that computes none.
    """
    if checksum is None:
        return False
    if (int(samples.sum(dtype=np.int64)) - checksum) % (1 << 16) == 0:
        return True
    if checksum == 0:
        return False
    raise RecordingError(
        "the samples of a signal do not add up to the checksum in the header, so the file was damaged or changed; "
        "copy or export the record again"
    )
