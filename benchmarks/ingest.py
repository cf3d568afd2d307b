"""Ingestion against a straightforward MNE script: windows a CPU second, the same windows, memory and its growth.

Both read the same made-up EDF files (1/f noise, 16 bits), band-pass them, bring them to another rate and cut them
into windows that follow one another. They take turns in one run, each in a process of its own, and a ratio is the
median over rounds, so that a busy machine disturbs both alike. See README.md.
"""

import argparse
import json
import multiprocessing
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

CHANNELS = ("Fp1", "Fp2", "F7", "F3", "Fz", "F4", "F8", "T7", "C3", "Cz", "C4", "T8", "P7", "P3", "Pz", "P4", "P8")
CHANNELS += ("O1", "O2")
RECORDED, WANTED, SECONDS, BAND = 256.0, 128.0, 4.0, (0.5, 40.0)
STUDY = f"""
name = "ingest"
[signal]
modality = "eeg"
format = "edf"
channels = {json.dumps(CHANNELS)}
sfreq = {WANTED}
recorded_sfreq = {RECORDED}
bandpass = [{BAND[0]}, {BAND[1]}]
range_uv = 100000.0
[windows]
n_times = {int(WANTED * SECONDS)}
per_recording = 1000
artefacts = "keep"
[labels]
names = ["a", "b"]
source = "participants.tsv"
positive = "a"
[privacy]
unit = "subject"
epsilon = 1.0
delta = 1e-5
[cohort]
least_subjects = 1
[family]
name = "cwgan"
"""
LIMITS = {"physical_dimension": "uV", "physical_range": (-500, 500)}
TOLERANCE = 0.02
"""Largest difference between the two, as a share of the windows' standard deviation, away from the ends."""


def write(folder: Path, *, files: int, minutes: float) -> None:
    """Write made-up recordings of one person each."""
    import edfio

    folder.mkdir(parents=True)
    n_times = int(minutes * 60 * RECORDED)
    rows = ["participant_id\tgroup"]
    for number in range(files):
        rng = np.random.default_rng(number)
        spectrum = np.fft.rfft(rng.normal(size=(len(CHANNELS), n_times)), axis=1)
        spectrum[:, 1:] /= np.sqrt(np.arange(1, spectrum.shape[1]) / n_times * RECORDED + 0.5)
        spectrum[:, 0] = 0
        signal = np.fft.irfft(spectrum, n_times, axis=1)
        signal *= 30 / signal.std(axis=1, keepdims=True)
        signals = [
            edfio.EdfSignal(row.clip(-499, 499), RECORDED, label=name, **LIMITS)
            for row, name in zip(signal, CHANNELS, strict=True)
        ]
        edfio.Edf(signals).write(folder / f"sub-{number}_eeg.edf")
        rows.append(f"sub-{number}\t{'ab'[number % 2]}")
    (folder / "participants.tsv").write_text("\n".join(rows) + "\n")


def by_fedsynth(folder: Path, *, processes: int = 1) -> np.ndarray:
    """Return all windows in microvolts, shape (window, channel, time), taken in as `fedsynth ingest` does.

    Each recording is checked, and its windows are written to a part of a store under a checksum, which is read.
    """
    from fedsynth.recordings.intake import Keeping, take_in
    from fedsynth.study import parse_study

    with tempfile.TemporaryDirectory(dir=folder.parent) as parts:
        keeping = Keeping(parts=Path(parts))
        taken = take_in(folder, site="north", study=parse_study(STUDY), keeping=keeping, processes=processes)
        return np.concatenate([taken.rows(number) for number in range(len(taken.recordings))])


def by_mne(folder: Path, *, processes: int = 1) -> np.ndarray:
    """Return the same by the script that anybody would write."""
    paths = sorted(folder.glob("*.edf"))
    if processes == 1:
        return np.concatenate([_by_mne(path) for path in paths])
    with multiprocessing.get_context("spawn").Pool(processes) as pool:
        return np.concatenate(pool.map(_by_mne, paths, chunksize=1))


def _by_mne(path: Path) -> np.ndarray:
    import mne

    raw = mne.io.read_raw_edf(path, include=list(CHANNELS), preload=True, verbose="ERROR")
    raw.reorder_channels(list(CHANNELS))
    raw.filter(*BAND, method="iir", iir_params={"order": 4, "ftype": "butter"}, verbose="ERROR")
    raw.resample(WANTED, method="polyphase", verbose="ERROR")
    epochs = mne.make_fixed_length_epochs(raw, duration=SECONDS, preload=True, verbose="ERROR")
    return (1e6 * epochs.get_data(copy=False)).astype(np.float32)


WAYS = {"fedsynth": by_fedsynth, "mne": by_mne}


def measure(way: str, folder: Path, *, processes: int) -> dict[str, Any]:
    """Run one way: CPU seconds without its own imports, peak memory above what it held, and windows."""
    WAYS[way](folder.parent / "warm")  # imports, and caches of filters
    before, spent, began = _held(), _cpu_seconds(), time.monotonic()
    windows = WAYS[way](folder, processes=processes)
    spent, took = _cpu_seconds() - spent, time.monotonic() - began
    np.save(folder.parent / f"{way}.npy", windows)
    return {"windows": len(windows), "cpu_s": spent, "seconds": took, "above_mb": _most_held() - before}


def _cpu_seconds() -> float:
    """Of this process and those that it waited for."""
    used = [resource.getrusage(whose) for whose in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(one.ru_utime + one.ru_stime for one in used)


def _most_held() -> float:
    # Of this program alone: what getrusage tells begins with the memory of the process that started it.
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:", 1)[1].split()[0]) / 1024


def _held() -> float:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() / (1 << 20)


def _apart(way: str, folder: Path, *, processes: int) -> dict[str, Any]:
    """Measure in a process of its own, each process with one thread."""
    environment = os.environ | {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    words = [sys.executable, __file__, "--way", way, "--folder", str(folder)]
    words += ["--processes", str(processes)]
    done = subprocess.run(words, check=True, capture_output=True, text=True, env=environment)
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def difference(ours: np.ndarray, theirs: np.ndarray, *, per_file: int) -> float:
    """Return the largest difference away from the ends of files, as a share of the standard deviation."""
    inner = [i for i in range(min(len(ours), len(theirs))) if 0 < i % per_file < per_file - 1]
    return float(np.abs(ours[inner] - theirs[inner]).max() / theirs[inner].std())


def main() -> None:
    """Compare, and print a table or JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--files", type=int, default=6)
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--way", choices=list(WAYS))
    parser.add_argument("--folder", type=Path)
    asked = parser.parse_args()
    if asked.way:
        print(json.dumps(measure(asked.way, asked.folder, processes=asked.processes)))
        return
    with tempfile.TemporaryDirectory() as place:
        folder, twice = Path(place) / "files", Path(place) / "longer" / "files"
        write(folder, files=asked.files, minutes=asked.minutes)
        write(Path(place) / "warm", files=1, minutes=0.5)
        rounds = [
            {way: _apart(way, folder, processes=asked.processes) for way in WAYS} for _ in range(asked.rounds)
        ]
        ours, theirs = (np.load(Path(place) / f"{way}.npy") for way in WAYS)
        per_file = int(asked.minutes * 60 / SECONDS)
        apart = difference(ours, theirs, per_file=per_file)
        write(twice, files=asked.files, minutes=2 * asked.minutes)
        write(Path(place) / "longer" / "warm", files=1, minutes=0.5)
        longer = {way: _apart(way, twice, processes=asked.processes) for way in WAYS}
    rate = {way: statistics.median(one[way]["windows"] / one[way]["cpu_s"] for one in rounds) for way in WAYS}
    ratio = statistics.median(one["mne"]["cpu_s"] / one["fedsynth"]["cpu_s"] for one in rounds)
    seconds = {way: statistics.median(one[way]["seconds"] for one in rounds) for way in WAYS}
    answer = {
        "windows": len(ours), "same_windows": len(ours) == len(theirs), "difference": apart, "ratio": ratio,
        "windows_per_cpu_s": rate, "seconds": seconds,
        "above_mb": {way: rounds[-1][way]["above_mb"] for way in WAYS},
        "above_mb_twice_as_long": {way: longer[way]["above_mb"] for way in WAYS},
    }  # fmt: skip
    if asked.json:
        print(json.dumps(answer, indent=2))
    else:
        hours = asked.files * asked.minutes / 60
        print(f"{asked.files} files, {hours:.2g} h, {len(CHANNELS)} channels, {RECORDED:g} to {WANTED:g} Hz")
        print(f"{len(ours)} windows; largest difference {apart:.4f} of the standard deviation")
        print("| way | windows / CPU s | seconds | MB above start | twice as long |\n|---|---|---|---|---|")
        for way in WAYS:
            more = answer["above_mb_twice_as_long"][way]
            print(
                f"| `{way}` | {rate[way]:.0f} | {seconds[way]:.1f} | {answer['above_mb'][way]:.0f} | {more:.0f} |"
            )
        print(f"ratio {ratio:.2f} (CPU seconds, {asked.processes} at once, median of {asked.rounds} rounds)")
    if apart > TOLERANCE or len(ours) != len(theirs):
        sys.exit("the two do not give the same windows")


if __name__ == "__main__":
    main()
