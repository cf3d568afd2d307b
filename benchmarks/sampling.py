"""Measure drawing: windows per second and peak memory of a draw, and of a whole data set written to disk.

    python benchmarks/sampling.py [--family cwgan] [--windows 1000000] [--dataset FOLDER] [--json]

One-second single-channel windows at 128 Hz from an untrained generator, which costs what a trained one costs. The
plain version draws as many normal numbers with `torch.randn`, in the same batches. Peak memory is what the process
held at most, and how much of it came after the generator was built and had drawn some. With `--dataset` the
windows are also written as a release's data set (archive, EDF and side files) into a new folder that is left there.
Ratios are of CPU seconds, which a busy machine changes less than the clock's.
"""

import argparse
import json
import resource
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from fedsynth.release.writers.dataset import write_dataset
from fedsynth.study import Study, parse_study
from fedsynth.synthesis.generator import Generator, at_prior

STUDY = """
name = "sampling"
[signal]
modality = "{modality}"
format = "edf"
channels = ["{channel}"]
sfreq = 128.0
bandpass = [0.5, 40.0]
[windows]
n_times = 128
[labels]
names = ["a", "b"]
source = "participants.tsv"
positive = "a"
[privacy]
unit = "subject"
epsilon = 8.0
delta = 1e-5
[family]
name = "{family}"
[release]
windows_per_label = {per_label}
windows_per_subject = 25
"""
BATCH = 256


@dataclass(frozen=True)
class Measured:
    """One stretch of work: seconds on the clock and of all cores; the most MB (2^20 bytes) held, also before."""

    what: str
    windows: int
    seconds: float
    cpu_seconds: float
    peak_mb: float
    before_mb: float

    @property
    def per_second(self) -> float:
        """Return windows per second."""
        return self.windows / self.seconds


def main() -> None:
    """Draw, and say what it took."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--family", default="cwgan")
    parser.add_argument("--modality", default="eeg", choices=("eeg", "ecg"))
    parser.add_argument("--windows", type=int, default=1_000_000)
    parser.add_argument("--threads", type=int, default=0, help="of torch; by default torch's own choice")
    parser.add_argument("--dataset", type=Path, help="also write the windows as a data set into this new folder")
    parser.add_argument("--json", action="store_true")
    asked = parser.parse_args()
    if asked.threads:
        torch.set_num_threads(asked.threads)
    channel = "II" if asked.modality == "ecg" else "Cz"
    study = parse_study(
        STUDY.format(
            family=asked.family, modality=asked.modality, channel=channel, per_label=max(1, asked.windows // 2)
        )
    )
    start = time.perf_counter()
    generator = at_prior(study)
    generator.draw(per_label=BATCH, seed="warm")
    build = time.perf_counter() - start
    count = 2 * study.release.windows_per_label
    rows = [_measure("plain randn", count, _plain(count)), _measure(asked.family, count, _pieces(generator, study))]
    if asked.dataset:
        rows.append(_written(generator, study, asked.dataset))
    if asked.json:
        body = {"threads": torch.get_num_threads(), "build_seconds": build, "rows": [asdict(row) for row in rows]}
        sys.stdout.write(json.dumps(body, indent=2) + "\n")
        return
    _show(rows, build=build)


def _show(rows: list[Measured], *, build: float) -> None:
    plain = rows[0].cpu_seconds
    print(f"{torch.get_num_threads()} threads; building the generator took {build:.1f} s")
    widths = {
        "": 14,
        "windows": 10,
        "seconds": 10,
        "CPU s": 9,
        "windows/s": 12,
        "ratio": 8,
        "peak MB": 10,
        "extra MB": 10,
    }
    print("".join(f"{name:>{width}}" for name, width in widths.items()))
    for row in rows:
        print(
            f"{row.what:<14}{row.windows:>10,}{row.seconds:>10.1f}{row.cpu_seconds:>9.1f}{row.per_second:>12,.0f}"
            f"{row.cpu_seconds / plain:>8.0f}{row.peak_mb:>10.0f}{row.peak_mb - row.before_mb:>10.0f}"
        )


def _pieces(generator: Generator, study: Study) -> Iterator[NDArray[np.float32]]:
    release = study.release
    return generator.stream(
        per_label=release.windows_per_label,
        seed="benchmark",
        windows_per_subject=release.windows_per_subject,
        progress=_progress("drawing"),
    ).pieces()


def _plain(count: int) -> Iterator[NDArray[np.float32]]:
    generator = torch.Generator().manual_seed(0)
    for start in range(0, count, BATCH):
        yield torch.randn(min(BATCH, count - start), 1, 128, generator=generator).numpy()


def _measure(what: str, count: int, pieces: Iterator[NDArray[np.float32]]) -> Measured:
    before, start, cpu = _peak_mb(), time.perf_counter(), time.process_time()
    found = sum(len(piece) for piece in pieces)
    if found != count:
        raise SystemExit(f"{found} windows came where {count} were asked for")
    return Measured(what, count, time.perf_counter() - start, time.process_time() - cpu, _peak_mb(), before)


def _written(generator: Generator, study: Study, folder: Path) -> Measured:
    folder.mkdir(parents=True)
    release = study.release
    stream = generator.stream(
        per_label=release.windows_per_label,
        seed="benchmark",
        windows_per_subject=release.windows_per_subject,
        progress=_progress("drawing"),
    )
    before, start, cpu = _peak_mb(), time.perf_counter(), time.process_time()
    write_dataset(folder, windows=stream, study=study, progress=_progress("writing subjects"))
    return Measured(
        "to disk", stream.n_windows, time.perf_counter() - start, time.process_time() - cpu, _peak_mb(), before
    )


def _progress(what: str):  # type: ignore[no-untyped-def]
    told = [0]

    def tell(done: int, total: int) -> None:
        tenth = 10 * done // total
        if tenth > told[0]:
            told[0] = tenth
            print(f"{what}: {done:,} of {total:,}", file=sys.stderr)

    return tell


def _peak_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024  # kilobytes on Linux


if __name__ == "__main__":
    main()
