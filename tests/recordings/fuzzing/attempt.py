"""One attempt: a site is read as `rehearse` reads it, and is refused, or what comes out is right; nothing else.

Nothing else means: no exception but ours, at most `SECONDS` and `BYTES`, no MemoryError as an answer, no canary in
what is said, and samples that a second decoder, written for this purpose alone, gives too.
"""

import logging
import resource
import shutil
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np

from fedsynth.errors import FedsynthError, RecordingError
from fedsynth.montage import canonical_channel
from fedsynth.recordings.readers.site import read_site
from fedsynth.recordings.recording import Recording
from fedsynth.recordings.windows import windows_of
from fedsynth.study import Study, parse_study
from fuzzing.seeds import Site

SECONDS = 5.0
BYTES = 1 << 30
STUDY = """
name = "small"
[signal]
modality = "eeg"
format = "FORMAT"
channels = ["C3", "C4"]
sfreq = 100.0
[windows]
n_times = 100
per_recording = 3
[labels]
names = ["rest", "task"]
source = "intervals"
rename = { T1 = "task", "(N" = "rest", "(T1" = "task", seizure = "task" }
others = "leave out"
background = "rest"
positive = "task"
[privacy]
unit = "subject"
epsilon = 1.0
delta = 1e-5
[cohort]
least_subjects = 1
[family]
name = "cwgan"
"""
_MICRO = ("u", "\xb5", "\xc2\xb5", "\xce\xbc", "\x83\xca", "\xe6", "\xec")  # of several code pages, as Latin-1
UNITS = {
    **{micro + volt: 1.0 for micro in _MICRO for volt in "Vv"},
    "UV": 1.0,
    **dict.fromkeys(("mV", "mv"), 1e3), **dict.fromkeys(("V", "v"), 1e6), **dict.fromkeys(("nV", "nv"), 1e-3),
}  # fmt: skip


class FaultError(Exception):
    """What an attempt must not do."""


class _Late(BaseException):
    """Time is up; not an Exception, so that nothing on the way takes it for its own."""


def study_of(form: str) -> Study:
    """Return a study of a format."""
    text = STUDY.replace("FORMAT", form)
    if form in ("text", "rows"):
        text = text.replace('"C3", "C4"', '"C3"')
    if form == "rows":
        text = text.replace('source = "intervals"', 'source = "layout"').replace('background = "rest"\n', "")
    return parse_study(text)


def attempt(site: Site, *, study: Study, folder: Path) -> str:
    """Read a site; return "read", or the cause of its refusal.

    Raises:
        FaultError: anything that must not be.
    """
    shutil.rmtree(folder, ignore_errors=True)
    for name, data in site.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    with _said() as said:
        try:
            with _time_limit():
                recordings = read_site(folder, site="north", study=study)
                windows = windows_of(recordings, study=study)
        except RecordingError as error:
            said.append(str(error))
            answer = str(error)
        except _Late:
            raise FaultError(f"it takes more than {SECONDS} s") from None
        except Exception as error:
            kind = "another refusal" if isinstance(error, FedsynthError) else "an exception"
            raise FaultError(f"{kind}: {type(error).__name__}: {error}") from error
        else:
            answer = "read"
            for one in recordings:
                _check(one, site, study, len(recordings))
            if not np.isfinite(windows.signal).all():
                raise FaultError("a window is not finite")
    text = " ".join(said)
    if "wolf" in text.lower():
        raise FaultError("a message repeats what stands in a file")
    if "MemoryError" in text:
        raise FaultError("MemoryError is no answer")
    return answer


def limit_memory() -> None:
    """Let this process take `BYTES` more than it has, and not more."""
    now = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (now + BYTES, now + BYTES))


def _check(recording: Recording, site: Site, study: Study, alone: int) -> None:
    rows = recording.signal
    if rows.dtype != np.float32 or rows.shape[0] != len(study.signal.channels) or not np.isfinite(rows).all():
        raise FaultError("samples of another kind")
    if recording.beats is None and recording.stretches is None and recording.label not in study.labels.names:
        raise FaultError("a label of its own")
    for one in recording.stretches or ():
        if not 0 <= one.start < one.stop <= rows.shape[1]:
            raise FaultError("a stretch outside the recording")
    names = [name for name in site if name.lower().endswith(tuple(_DECODERS))]
    if len(names) != 1 or alone != 1:
        return
    decode = next(decoder for suffix, decoder in _DECODERS.items() if names[0].lower().endswith(suffix))
    theirs = decode(site, names[0], study.signal.channels)
    if theirs is None:
        return
    if theirs.shape != rows.shape:
        raise FaultError(f"shape {rows.shape} instead of {theirs.shape}")
    size = np.maximum(1.0, np.abs(theirs).max())
    if np.abs(theirs - rows).max() > 1e-5 * size:
        raise FaultError(f"samples differ by {np.abs(theirs - rows).max():g} uV")


def _decode_edf(site: Site, name: str, channels: tuple[str, ...]) -> np.ndarray:
    data = site[name]
    count = int(float(data[252:256].strip(b" \0")))
    columns, start = [], 256
    for width in (16, 80, 8, 8, 8, 8, 8, 80, 8, 32):
        columns.append([data[start + i * width : start + (i + 1) * width].strip(b" \0") for i in range(count)])
        start += width * count
    width = 3 if data[:1] == b"\xff" else 2
    sizes = [int(float(x)) for x in columns[8]]
    records = np.frombuffer(data[start:], np.uint8)
    records = records[: len(records) // (width * sum(sizes)) * width * sum(sizes)].reshape(-1, width * sum(sizes))
    rows = []
    for channel in channels:
        [index] = [
            i for i, label in enumerate(columns[0])
            if b"Annotations" not in label
            and canonical_channel(label.decode("latin-1")) in (channel, f"ECG {channel}")
        ]  # fmt: skip
        octets = np.ascontiguousarray(records[:, width * sum(sizes[:index]) :][:, : width * sizes[index]])
        steps = np.array([
            int.from_bytes(octets.reshape(-1, width)[i].tobytes(), "little", signed=True)
            for i in range(octets.size // width)
        ])  # fmt: skip
        low, high, least, most = (float(columns[i][index].replace(b",", b".")) for i in (3, 4, 5, 6))
        unit = UNITS[columns[2][index].decode("latin-1").strip()]
        rows.append((low + (steps - least) * (high - low) / (most - least)) * unit)
    return np.array(rows)


def _decode_text(site: Site, name: str, channels: tuple[str, ...]) -> np.ndarray:  # noqa: ARG001
    return np.array([[float(line) for line in site[name].decode("utf-8-sig").split()]])


_DECODERS: dict[str, Callable[[Site, str, tuple[str, ...]], Any]] = {
    ".edf": _decode_edf,
    ".bdf": _decode_edf,
    "sub-a.txt": _decode_text,
}
"""A second decoder for each of some formats: slow, lenient, for files that were accepted alone."""


@contextmanager
def _time_limit() -> Iterator[None]:
    def late(number: int, frame: FrameType | None) -> None:  # noqa: ARG001
        raise _Late

    before = signal.signal(signal.SIGALRM, late)
    signal.setitimer(signal.ITIMER_REAL, SECONDS)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


class _Ear(logging.Handler):
    def __init__(self, said: list[str]) -> None:
        super().__init__()
        self.said = said

    def emit(self, record: logging.LogRecord) -> None:
        self.said.append(record.getMessage())


@contextmanager
def _said() -> Iterator[list[str]]:
    said: list[str] = []
    ear = _Ear(said)
    log = logging.getLogger("fedsynth")
    log.addHandler(ear)
    propagate, log.propagate = log.propagate, False
    try:
        yield said
    finally:
        log.removeHandler(ear)
        log.propagate = propagate
