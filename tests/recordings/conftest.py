"""WFDB records written the slow way, one sample after another, as a second opinion on the reader."""

from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

Write = Callable[..., Path]


def packed(samples: Sequence[int], form: int) -> bytes:
    """Pack samples that take turns already."""
    out = bytearray()
    if form == 16:
        for sample in samples:
            out += sample.to_bytes(2, "little", signed=True)
        return bytes(out)
    for first, second in zip(samples[::2], [*samples[1::2], None][: (len(samples) + 1) // 2], strict=True):
        low, high = first % 4096, (second or 0) % 4096
        out += bytes([low % 256, low // 256 + 16 * (high // 256)])
        if second is not None:
            out.append(high % 256)
    return bytes(out)


@pytest.fixture(scope="session")
def put_record() -> Write:
    """Return a writer of `<folder>/<stem>.hea` and `.dat`; keywords replace parts of the header."""

    def put(
        folder: Path,
        stem: str,
        rows: Sequence[Sequence[int]],
        *,
        labels: Sequence[str] = ("ECG",),
        form: int = 16,
        gain: str = "200(0)/mV",
        sfreq: str = "100",
        n_times: str | None = None,
        file: str | None = None,
        checksums: Sequence[int] | None = None,
        first: str | None = None,
        comment: str = "",
        data: bytes | None = None,
    ) -> Path:
        folder.mkdir(parents=True, exist_ok=True)
        turns = [sample for together in zip(*rows, strict=True) for sample in together]
        sums = checksums or [sum(row) % 65536 for row in rows]
        lines = [first or f"{stem} {len(rows)} {sfreq} {len(rows[0]) if n_times is None else n_times}"]
        for label, row, checksum in zip(labels, rows, sums, strict=True):
            lines.append(f"{file or f'{stem}.dat'} {form} {gain} 12 0 {row[0]} {checksum} 0 {label}")
        header = folder / f"{stem}.hea"
        header.write_text("\r\n".join([*lines, comment]), encoding="utf-8")
        (folder / f"{stem}.dat").write_bytes(packed(turns, form) if data is None else data)
        return header

    return put


@pytest.fixture(scope="session")
def annotated() -> Callable[[Sequence[tuple[int, int]]], bytes]:
    """Return a writer of annotations from (sample, code) pairs; far ones take a skip."""

    def bytes_of(pairs: Sequence[tuple[int, int]]) -> bytes:
        out, now = bytearray(), 0
        for sample, code in pairs:
            step = sample - now
            if not 0 <= step < 1024:
                out += (59 * 1024).to_bytes(2, "little")
                out += (step >> 16 & 0xFFFF).to_bytes(2, "little") + (step & 0xFFFF).to_bytes(2, "little")
                step = 0
            out += (code * 1024 + step).to_bytes(2, "little")
            now = sample
        return bytes(out) + b"\0\0"

    return bytes_of
