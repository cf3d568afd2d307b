"""Archive: synthetic windows as one NumPy archive and back, the same bytes for the same windows, in pieces.

The archive that a run draws is the one that is scored and released; its SHA-256 stands for the windows.
"""

import hashlib
import os
import zipfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import IO, Any

import numpy as np
import torch
from numpy.typing import NDArray

from fedsynth.errors import RefusedError
from fedsynth.modalities.registry import within_range
from fedsynth.progress import StepProgress
from fedsynth.study import Modality
from fedsynth.synthesis.generator import Generator
from fedsynth.synthesis.windows import SyntheticStream

_PIECE = 2**20  # bytes
_SUBJECTS = 256  # whose labels are written at once


def draw_archive(
    path: Path, generator: Generator, *, progress: StepProgress | None = None
) -> tuple[SyntheticStream, str]:
    """Draw what the study releases into an archive; return the windows, read from it, and the archive's SHA-256."""
    drawn = generator.released(progress=progress)
    signal = generator.study.signal
    write_npz(path, windows=bounded(drawn, modality=signal.modality, range_uv=signal.range_uv))
    with path.open("rb") as written:
        os.fsync(written.fileno())  # sites are asked about these windows next
    return read_npz(path, windows=drawn), archive_digest(path)


def bounded(windows: SyntheticStream, *, modality: Modality, range_uv: float) -> SyntheticStream:
    """Bring amplitudes within plus or minus `range_uv`, as the recordings' own were before training.

    Leads of an ECG that follow from two others are computed from what those two became.

    The pieces raise RefusedError where a value is not finite or a shape is not the stream's.
    """
    shape = (len(windows.channels), windows.n_times)

    def pieces() -> Iterator[NDArray[np.float32]]:
        for piece in windows.pieces():
            if piece.shape[1:] != shape:
                raise RefusedError(
                    f"windows of shape {piece.shape[1:]} do not fit {shape[0]} channels of {shape[1]} samples. "
                    "Nothing was kept"
                )
            if not np.isfinite(piece).all():
                raise RefusedError("a synthetic window holds a value that is not finite. Nothing was kept")
            inside = within_range(
                torch.from_numpy(np.array(piece, np.float32)),
                modality=modality,
                channels=windows.channels,
                range_uv=range_uv,
            )
            yield inside.numpy()

    return replace(windows, pieces=pieces)


def write_npz(path: Path, *, windows: SyntheticStream) -> None:
    """Write windows as an uncompressed archive that `np.load(path, allow_pickle=False)` opens.

    With covariates there are also `conditions` (window, condition), which index the rows of `condition_values`
    (condition, value), filled up with "", and `condition_names`. With statements `Y` (window, statement) says 0 or
    1 of each of `statement_names`.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    shape = (windows.n_windows, len(windows.channels), windows.n_times)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        with _entry(archive, "X") as stream:
            _npy_header(stream, "<f4", shape)
            for _, block in windows.blocks():
                stream.write(np.ascontiguousarray(block, dtype="<f4").tobytes())
        values = windows.subject_values
        for name, of_subject in (
            ("y", windows.subject_labels),
            ("subject", np.arange(len(windows.subject_labels))),
            *((("conditions", values),) if windows.conditions else ()),
            *((("Y", windows.subject_statements),) if windows.subject_statements is not None else ()),
        ):
            with _entry(archive, name) as stream:
                _npy_header(stream, "<i8", (shape[0], *of_subject.shape[1:]))
                for start in range(0, len(of_subject), _SUBJECTS):
                    some = slice(start, start + _SUBJECTS)
                    repeated = np.repeat(of_subject[some], windows.subject_windows[some], axis=0)
                    stream.write(repeated.astype("<i8").tobytes())
        facts: dict[str, NDArray[Any]] = {
            "label_names": np.array(windows.label_names),
            "channels": np.array(windows.channels),
            "sfreq": np.array(float(windows.sfreq)),
            "unit": np.array("uV"),
        }
        if windows.conditions:
            longest = max(len(names) for names in windows.conditions.values())
            padded = [[*names, *[""] * (longest - len(names))] for names in windows.conditions.values()]
            facts |= {"condition_names": np.array(list(windows.conditions)), "condition_values": np.array(padded)}
        if windows.statements:
            facts["statement_names"] = np.array(windows.statements)
        for name, array in facts.items():
            with _entry(archive, name) as stream:
                np.lib.format.write_array(stream, array, allow_pickle=False)


def read_npz(path: Path, *, windows: SyntheticStream) -> SyntheticStream:
    """Return the windows that `write_npz` wrote, in pieces read from the file."""
    row = len(windows.channels) * windows.n_times
    many = max(1, _PIECE // (4 * row))

    def pieces() -> Iterator[NDArray[np.float32]]:
        with zipfile.ZipFile(path) as archive, archive.open("X.npy") as stream:
            np.lib.format.read_magic(stream)
            np.lib.format.read_array_header_1_0(stream)
            while data := stream.read(many * row * 4):
                yield np.frombuffer(data, "<f4").reshape(-1, len(windows.channels), windows.n_times)

    return replace(windows, pieces=pieces)


def archive_digest(path: Path) -> str:
    """Return the SHA-256 of an archive, 64 hexadecimal digits; this is what scores and statement name."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _entry(archive: zipfile.ZipFile, name: str) -> IO[bytes]:
    entry = zipfile.ZipInfo(f"{name}.npy", date_time=(1980, 1, 1, 0, 0, 0))
    entry.create_system = 3
    entry.external_attr = 0o644 << 16
    return archive.open(entry, "w", force_zip64=True)


def _npy_header(stream: IO[bytes], kind: str, shape: tuple[int, ...]) -> None:
    np.lib.format.write_array_header_1_0(stream, {"descr": kind, "fortran_order": False, "shape": shape})
