"""A record read some frames at a time is the record read at once, in every format whose frames can be parted."""

from pathlib import Path

import numpy as np
import pytest

from fedsynth.errors import RecordingError
from fedsynth.recordings.readers import wfdb_signal
from fedsynth.recordings.readers.samples import Notes, Request, Samples, gather
from fedsynth.recordings.readers.wfdb import read_wfdb
from fedsynth.recordings.readers.wfdb_signal import samples_of

FRAMES = 97
BYTES = {8: 1.0, 16: 2.0, 24: 3.0, 32: 4.0, 61: 2.0, 80: 1.0, 160: 2.0, 212: 1.5, 310: 4 / 3, 311: 4 / 3}


def record(folder: Path, form: int, *, widths: tuple[int, ...], checksum: int | None = None) -> Path:
    """Write random bytes as a record, with the checksums that the samples have."""
    total = FRAMES * sum(widths)
    size = {212: -(-total // 2) * 3, 310: -(-total // 3) * 4, 311: -(-total // 3) * 4}.get(form)
    data = (
        np.random.default_rng(form).integers(0, 256, size or round(total * BYTES[form])).astype(np.uint8).tobytes()
    )
    frames = samples_of(data, form=form, total=total).reshape(FRAMES, sum(widths))
    lines, start = [f"r {len(widths)} 100 {FRAMES}"], 0
    for number, width in enumerate(widths):
        mine = frames[:, start : start + width].reshape(-1)
        start += width
        first = int(mine[0])
        if form == 8:  # distances from one sample to the next, the first from the initial value
            mine = first + np.cumsum(mine, dtype=np.int64)
        found = int(mine.sum(dtype=np.int64)) % 65536 if checksum is None else checksum
        rate = f"x{width}" if width > 1 else ""
        lines.append(f"r.dat {form}{rate} 200(0)/mV 12 0 {first} {found} 0 L{number}")
    (folder / "r.hea").write_text("\n".join(lines) + "\n")
    (folder / "r.dat").write_bytes(data)
    return folder / "r.hea"


def read(path: Path, channels: tuple[str, ...], sfreq: float) -> tuple[Samples, int]:
    notes, count = Notes(), 0

    def counted():  # type: ignore[no-untyped-def]
        nonlocal count
        for piece in read_wfdb(path, Request(channels, sfreq), notes):
            count += 1
            yield piece

    return gather(counted(), notes), count


@pytest.mark.parametrize("form", BYTES)
@pytest.mark.parametrize("widths", [(1, 1), (1, 3)], ids=["one rate", "two rates"])
def test_pieces_are_the_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, form: int, widths: tuple[int, ...]
) -> None:
    path = record(tmp_path, form, widths=widths)
    asked = ("L1",), 100.0 * widths[1]
    whole, once = read(path, *asked)
    monkeypatch.setattr(wfdb_signal, "_PIECE_SAMPLES", 40)

    parted, many = read(path, *asked)

    assert (once, many > 3) == (1, True)
    np.testing.assert_array_equal(parted.signal, whole.signal)
    assert (parted.digest, parted.fingerprints, parted.remarks) == (whole.digest, whole.fingerprints, whole.remarks)


def test_a_checksum_is_of_all_pieces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = record(tmp_path, 16, widths=(1, 1), checksum=1)
    monkeypatch.setattr(wfdb_signal, "_PIECE_SAMPLES", 40)

    with pytest.raises(RecordingError, match="do not add up to the checksum"):
        read(path, ("L1",), 100.0)
