"""WFDB records: from a .hea file and what lies beside it to microvolts and beats.

Nothing is opened but the header, the signal files that it names in its own folder, and the .atr file of its name.
"""

import hashlib
from pathlib import Path

import numpy as np

from fedsynth.errors import RecordingError
from fedsynth.recordings.participants import name_of
from fedsynth.recordings.readers.samples import Samples
from fedsynth.recordings.readers.wfdb_annotations import LARGEST_ANNOTATIONS, parse_annotations
from fedsynth.recordings.readers.wfdb_header import LARGEST_HEADER, choose_leads, parse_wfdb_header
from fedsynth.recordings.readers.wfdb_signal import microvolts, samples_per_signal
from fedsynth.recordings.recording import Beats
from fedsynth.study import LabelPlan, SignalPlan


def read_wfdb(path: Path, plan: SignalPlan) -> Samples:
    """Read the study's channels of a record.

    Args:
        path: of the .hea file.
        plan: names the channels and the rate as recorded.

    Raises:
        MissingChannelError: a channel of the study is missing.
        RecordingError: whatever else the header, the sizes or the checksums leave in doubt.
        OSError: a header that cannot be opened.
    """
    with path.open("rb") as file:
        header = parse_wfdb_header(file.read(LARGEST_HEADER + 1))
    chosen = choose_leads(header, channels=plan.channels, sfreq=plan.rate_as_recorded)
    files = [path.parent / name for name in header.files]
    for file_path in files:
        # A queue or a device would be waited for without end.
        if not file_path.is_file():
            raise RecordingError("the signal file that its header names is missing beside it; copy it there")
    sizes = tuple(file_path.stat().st_size for file_path in files)
    n_times = samples_per_signal(header, sizes=sizes)
    offsets = [header.signals[indices[0]].offset for indices in header.files.values()]
    data = tuple(_read(*place) for place in zip(files, offsets, sizes, strict=True))
    signal, remarks = microvolts(header, chosen=chosen, channels=plan.channels, n_times=n_times, data=data)
    return Samples(signal, hashlib.sha256(b"".join(data)).hexdigest(), remarks)


def read_beats(path: Path, plan: LabelPlan, *, n_times: int, sfreq: float) -> Beats:
    """Read the beats of a record and name them as the study does.

    Args:
        path: of the .hea file.
        plan: names the labels of beats; a symbol that gives none is refused, or left out where it says so.
        n_times: samples in the recording.
        sfreq: of the recording, in Hz.

    Raises:
        RecordingError: no annotations beside the header, or annotations that are damaged or of another recording.
        OSError: annotations that cannot be opened.
    """
    beside = [file for file in (path.with_suffix(".atr"), path.with_suffix(".ATR")) if file.is_file()]
    if not beside:
        raise RecordingError(
            "its annotations (.atr) are missing, and its beats bear the labels; put them beside it"
        )
    with beside[0].open("rb") as file:
        found = parse_annotations(file.read(LARGEST_ANNOTATIONS), n_times=n_times, sfreq=sfreq)
    names = {symbol: name_of(symbol, plan) for symbol in set(found.symbols)}
    labels = [names[symbol] for symbol in found.symbols]
    keep = np.array([label is not None for label in labels], dtype=bool)
    numbers = [plan.names.index(label) for label in labels if label is not None]
    return Beats(found.samples[keep], np.array(numbers, dtype=np.int64))


def _read(path: Path, offset: int, size: int) -> bytes:
    with path.open("rb") as file:
        file.seek(offset)
        data = file.read(size - offset)
    if len(data) != size - offset:
        raise RecordingError("the signal file changed while it was read; try again when nobody writes to it")
    return data
