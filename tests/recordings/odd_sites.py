"""Sites with one fault or oddity each, made from the small valid ones that fuzzing begins with."""

import io
import struct
from pathlib import Path

import numpy as np
from fuzzing.attempt import study_of
from fuzzing.seeds import SEEDS, SFREQ, Site, signal

from fedsynth.recordings.readers.site import read_site
from fedsynth.recordings.recording import Recording

WIDTHS = (16, 80, 8, 8, 8, 8, 8, 80, 8, 32)
LABEL, UNIT, LOW, HIGH, DIGITAL_LOW, DIGITAL_HIGH = 0, 2, 3, 4, 5, 6
C3_AND_C4 = (0, 2)
WHOLE = [(0, 50, 0), (50, 250, 1), (250, 400, 0)]


def put(folder: Path, site: Site) -> Path:
    for name, data in site.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    return folder


def edf(column: int, value: bytes, *, where: tuple[int, ...] = C3_AND_C4, kind: str = "edf") -> Site:
    """Return the EDF site with a column of the header replaced for some signals."""
    [(name, data)] = SEEDS[kind][1]().items()
    for signal_number in where:
        start = 256 + 4 * sum(WIDTHS[:column]) + signal_number * WIDTHS[column]
        data = data[:start] + value.ljust(WIDTHS[column]) + data[start + WIDTHS[column] :]
    return {name: data}


def changed(kind: str, name: str, *pairs: tuple[bytes, bytes]) -> Site:
    """Return a site with words of one file replaced."""
    site = SEEDS[kind][1]()
    for old, new in pairs:
        assert old in site[name]
        site[name] = site[name].replace(old, new)
    return site


def arrays(**other: object) -> Site:
    file = io.BytesIO()
    np.savez_compressed(
        file, **({"signal": signal(1), "channels": ["C3", "X", "C4"], "sfreq": SFREQ, "unit": "uV"} | other)
    )
    return {"sub-a_eeg.npz": file.getvalue(), "sub-a_events.tsv": b"onset\tduration\ttrial_type\n0.5\t2\tT1\n"}


HEAD, DATA, MARKS = "sub-a_eeg.vhdr", "sub-a_eeg.eeg", "sub-a_eeg.vmrk"


def head(*pairs: tuple[bytes, bytes]) -> Site:
    return changed("brainvision", HEAD, *pairs)


def segment(start: bytes) -> Site:
    return changed(
        "brainvision", MARKS, (b"[Marker Infos]", b"[Marker Infos]\nMk9=New Segment,," + start + b",1,0")
    )


def big_endian() -> Site:
    site = head((b"BinaryFormat=INT_16", b"BinaryFormat=INT_16\r\nUseBigEndianOrder=YES"))
    return site | {DATA: np.frombuffer(site[DATA], "<i2").astype(">i2").tobytes()}


def wfdb(*pairs: tuple[bytes, bytes]) -> Site:
    return changed("wfdb 16", "sub-a.hea", *pairs)


def text(factor: float) -> Site:
    return {"sub-a.txt": "\n".join(f"{x * factor:.9f}" for x in signal(1)[0]).encode()}


def beside(name: str, content: str, kind: str = "edf") -> Site:
    return SEEDS[kind][1]() | {name: content.encode()}


def table(cell: str) -> Site:
    """Return the delimited site with another first cell of its second row of numbers."""
    site = SEEDS["delimited"][1]()
    [name] = [one for one in site if one.endswith(".csv")]
    lines = site[name].decode().split("\n")
    first = lines[2][: min(lines[2].find(mark) for mark in ",;\t" if mark in lines[2])]
    lines[2] = cell + lines[2][len(first) :]
    return site | {name: "\n".join(lines).encode()}


def read(folder: Path, form: str = "edf") -> list[Recording]:
    return read_site(folder, site="north", study=study_of(form))


RHYTHM_FAR_AWAY = struct.pack("<HHHHH", 59 << 10, 0, 60000, 28 << 10, 63 << 10 | 2) + b"(N\0\0"
EVENT_HEAD = "onset\tduration\ttrial_type\n"
MICRO = "0.5,µV".encode()
