"""WFDB signal files: from a header and the bytes beside it to whole numbers, held against size and checksum.

The formats are those of signal(5) of the WFDB Applications Guide. Signals of one file take turns: in every frame
stand all samples of the first, then those of the second, and so on.
"""

from collections.abc import Callable, Iterator, Mapping

import numpy as np
from numpy.typing import NDArray

from fedsynth.errors import RecordingError
from fedsynth.recordings.readers.wfdb_header import COMPRESSED, WfdbHeader, microvolts_per_step
from fedsynth.recordings.units import Unit

NO_CHECKSUM = "a checksum of 0, as written where none was computed; their samples were not held against one"
NO_LENGTH = "no number of samples in their header; it was taken from the size of the signal file"
_PIECE_SAMPLES = 1 << 20  # in all signals together
_BITS = {8: 8, 16: 16, 24: 24, 32: 32, 61: 16, 80: 8, 160: 16, 212: 12, 310: 10, 311: 10}
_PACKED = {212: (2, 3), 310: (3, 4), 311: (3, 4)}
"""Formats in which some samples share some bytes."""
_MISSING = {16: -(1 << 15), 24: -(1 << 23), 32: -(1 << 31), 61: -(1 << 15), 80: -(1 << 7), 160: -(1 << 15)} | {
    212: -(1 << 11),
    310: -(1 << 9),
    311: -(1 << 9),
    508: -(1 << 7),
    516: -(1 << 15),
    524: -(1 << 23),
}
"""The value that stands for "no sample here"; format 8 has none."""


def samples_per_signal(header: WfdbHeader, *, sizes: tuple[int, ...]) -> int:
    """Return the number of frames of a record, where every file holds exactly those.

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
        frame = sum(header.signals[index].per_frame for index in indices)
        if n_times is None:
            if form in _PACKED or form in COMPRESSED:
                raise RecordingError(
                    f"the header gives no number of samples, and in format {form} the size of the file does not "
                    "tell it; export the record again"
                )
            n_times = (size - offset) // (_BITS[form] // 8 * frame)
        if n_times <= 0:
            raise RecordingError("the signal file holds no samples; copy or export the record again")
        if form in COMPRESSED:
            continue  # the decoder tells how many there are
        least, most = _bytes_of(n_times * frame, form)
        if not least <= size - offset <= most:
            state = "is truncated" if size - offset < least else "is longer than its header says"
            raise RecordingError(
                f"the signal file {state}: {n_times} samples of {len(indices)} signals in format {form} take "
                f"{least + offset} bytes, and it holds {size}; copy or export the record again"
            )
    assert n_times is not None  # a header has at least one signal
    return n_times


def digital(
    header: WfdbHeader, *, n_times: int, data: tuple[bytes, ...], unpack: Callable[[int], NDArray[np.int32]]
) -> tuple[dict[int, NDArray[np.int32]], tuple[str, ...]]:
    """Decode all signals of a record, and hold each against its checksum.

    Args:
        header: of the record.
        n_times: as `samples_per_signal` returns it.
        data: the bytes of each signal file from its offset on, in the order of `header.files`.
        unpack: decodes a compressed file by its place among the files: samples in the order of the file.

    Returns:
        Whole numbers by signal, shape (time,), and remarks.

    Raises:
        RecordingError: samples whose sum is not the checksum, or fewer samples than announced.
    """
    found = decoded(header, n_times=n_times, data=data, unpack=unpack)
    sums = {index: int(values.sum(dtype=np.int64)) for index, values in found.items()}
    return found, check_sums(header, sums)


def decoded(
    header: WfdbHeader,
    *,
    n_times: int,
    data: tuple[bytes, ...],
    unpack: Callable[[int], NDArray[np.int32]],
    before: Mapping[int, int] | None = None,
) -> dict[int, NDArray[np.int32]]:
    """Decode some frames of all signals, as `digital` does, and hold nothing against a checksum.

    `before` are the signals' samples before these frames, where they are not the first: in format 8 each sample is
    stored as its distance from the one before.

    Raises:
        RecordingError: fewer samples than announced.
    """
    found: dict[int, NDArray[np.int32]] = {}
    for place, (indices, content) in enumerate(zip(header.files.values(), data, strict=True)):
        widths = [header.signals[index].per_frame for index in indices]
        total, form = n_times * sum(widths), header.signals[indices[0]].format
        flat = unpack(place) if form in COMPRESSED else samples_of(content, form=form, total=total)
        if len(flat) != total:
            raise RecordingError("the signal file does not hold the samples that are announced; export it again")
        frames, start = flat.reshape(n_times, sum(widths)), 0
        for index, width in zip(indices, widths, strict=True):
            mine = frames[:, start : start + width].reshape(-1)
            if form == 8:
                start_at = before[index] if before else header.signals[index].initial
                mine = (np.cumsum(mine, dtype=np.int64) + start_at).astype(np.int32)
            found[index] = mine
            start += width
    return found


def check_sums(header: WfdbHeader, sums: dict[int, int]) -> tuple[str, ...]:
    """Hold the sum of each signal's samples against its checksum, and return remarks.

    Raises:
        RecordingError: samples whose sum is not the checksum.
    """
    remarks = [] if header.n_times is not None else [NO_LENGTH]
    held = [_checksum_holds(sums[index], signal.checksum) for index, signal in enumerate(header.signals)]
    return (*remarks, *([] if all(held) else [NO_CHECKSUM]))


def frames_together(
    header: WfdbHeader, *, n_times: int, sizes: tuple[int, ...]
) -> Iterator[tuple[int, int, list[tuple[int, int]]]]:
    """Part a record into frames that are decoded together; all of them where a format does not let them be parted.

    Args:
        header: of the record.
        n_times: its frames.
        sizes: of its files in bytes, in the order of `header.files`.

    Yields:
        The first frame, how many, and for each file where their bytes begin and how many they are.
    """
    firsts = [header.signals[indices[0]] for indices in header.files.values()]
    widths = [sum(header.signals[index].per_frame for index in indices) for indices in header.files.values()]
    at_once = n_times
    if not any(one.format in COMPRESSED for one in firsts):
        # Six frames end with a byte in every format.
        at_once = max(6, _PIECE_SAMPLES // sum(widths) // 6 * 6)
    for first in range(0, n_times, at_once):
        count = min(at_once, n_times - first)
        places = []
        for one, width, size in zip(firsts, widths, sizes, strict=True):
            if count == n_times:
                places.append((one.offset, size - one.offset))
                continue
            start = one.offset + _bytes_of(first * width, one.format)[0]
            most = _bytes_of(count * width, one.format)[1]
            places.append((start, min(most, size - start)))
        yield first, count, places


def microvolts(
    header: WfdbHeader,
    steps: dict[int, NDArray[np.int32]],
    *,
    chosen: tuple[int, ...],
    channels: tuple[str, ...],
    unit: Unit | None = None,
) -> NDArray[np.float32]:
    """Return the chosen signals in microvolts, shape (channel, time), with nan where a sample is marked as missing.

    Args:
        header: of the record.
        steps: as `digital` returns them.
        chosen: which signals, as `choose_leads` returns them; all of one rate.
        channels: their names in the study.
        unit: the site's word, or None for the header's.
    """
    out = np.empty((len(chosen), len(steps[chosen[0]])), dtype=np.float32)
    for row, index, channel in zip(out, chosen, channels, strict=True):
        signal = header.signals[index]
        numbers = steps[index].astype(np.float64)
        if signal.format in _MISSING:
            numbers[steps[index] == _MISSING[signal.format]] = np.nan
        with np.errstate(over="ignore"):  # the gate refuses what becomes infinite
            row[:] = (numbers - signal.baseline) * microvolts_per_step(signal, channel=channel, unit=unit)
    return out


def samples_of(content: bytes, *, form: int, total: int) -> NDArray[np.int32]:
    """Return the samples of a signal file in the order in which they lie there, shape (total,).

    >>> samples_of(bytes([0x01, 0xF0, 0xFF, 0xFF, 0x07]), form=212, total=3).tolist()
    [1, -1, 2047]
    """
    plain = {8: "i1", 16: "<i2", 32: "<i4", 61: ">i2", 80: "u1", 160: "<u2"}
    if form in plain:
        samples = np.frombuffer(content, dtype=plain[form], count=total).astype(np.int32)
        return samples - {80: 1 << 7, 160: 1 << 15}.get(form, 0)
    if form == 24:
        octets = np.frombuffer(content, dtype=np.uint8, count=3 * total).reshape(total, 3).astype(np.int32)
        return _signed(octets[:, 0] | octets[:, 1] << 8 | octets[:, 2] << 16, bits=24)
    together, takes = _PACKED[form]
    groups = -(-total // together)
    octets = np.frombuffer(content.ljust(takes * groups, b"\0"), dtype=np.uint8, count=takes * groups)
    columns = octets.reshape(groups, takes).astype(np.int32).T
    if form == 212:
        low, middle, high = columns
        parts = [low | (middle & 0x0F) << 8, high | (middle & 0xF0) << 4]
    elif form == 310:
        # Two words, each with ten bits and half of a third sample above them.
        first, second = columns[0] | columns[1] << 8, columns[2] | columns[3] << 8
        parts = [first >> 1 & 0x3FF, second >> 1 & 0x3FF, first >> 11 & 0x1F | (second >> 11 & 0x1F) << 5]
    else:
        word = columns[0] | columns[1] << 8 | columns[2] << 16 | (columns[3] & 0x3F) << 24
        parts = [word & 0x3FF, word >> 10 & 0x3FF, word >> 20 & 0x3FF]
    return _signed(np.stack(parts, axis=1).reshape(-1)[:total], bits=_BITS[form])


def _signed(values: NDArray[np.int32], *, bits: int) -> NDArray[np.int32]:
    return np.asarray((values ^ 1 << bits - 1) - (1 << bits - 1), dtype=np.int32)


def _bytes_of(samples: int, form: int) -> tuple[int, int]:
    """Return how many bytes samples take: without what pads the last group, and with it."""
    if form not in _PACKED:
        return (samples * _BITS[form] // 8,) * 2
    together, takes = _PACKED[form]
    whole, rest = divmod(samples, together)
    # Within a group of four bytes, one sample takes two of them, and two take up to four.
    some = {0: 0, 1: 2, 2: 3 if form == 311 else 4}[rest]
    return whole * takes + some, (whole + (rest > 0)) * takes


def _checksum_holds(total: int, checksum: int | None) -> bool:
    """Whether a signal was held against its checksum: the sum of its samples in 16 bits.

    Raises:
        RecordingError: the sum differs, and the checksum is not the 0 of a writer that computes none.
    """
    if checksum is None:
        return False
    if (total - checksum) % (1 << 16) == 0:
        return True
    if checksum == 0:
        return False
    raise RecordingError(
        "the samples of a signal do not add up to the checksum in the header, so the file was damaged or changed; "
        "copy or export the record again"
    )
