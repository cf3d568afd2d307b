"""Memory and time of an ingestion against the size of a site of simulated EDF, gigabyte by gigabyte.

With `--in-turn` a site may be larger than the disk: only the recording that is read next holds its samples, and the
others are files of the same size that a file system keeps without any.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

CHANNELS, SFREQ, RECORD_SECONDS = 21, 256, 10
BYTES_AN_HOUR = CHANNELS * SFREQ * 2 * 3600
STUDY = f"""
name = "growth"
[signal]
modality = "eeg"
format = "edf"
channels = {json.dumps([f"E{number}" for number in range(CHANNELS)])}
sfreq = 128.0
recorded_sfreq = {SFREQ}.0
[windows]
n_times = 512
per_recording = 1000
[labels]
names = ["rest", "task"]
source = "file name"
positive = "task"
[cohort]
least_subjects = 1
[privacy]
unit = "subject"
epsilon = 1.0
delta = 1e-5
[family]
name = "cwgan"
"""
CHILD = """
import re, sys
from pathlib import Path
from fedsynth.site.ingest import ingest
from fedsynth.study import load_study
site, folder, study, processes, turns = sys.argv[1:]
if turns:
    sys.path.insert(0, turns)
    from ingest_growth import Turns
    progress = Turns(Path(folder))
else:
    progress = lambda *_: None
found = ingest(Path(site), Path(folder), study=load_study(Path(study)), progress=progress,
               processes=int(processes))
kilobytes = int(re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1])
print(found.windows, found.recordings, found.hours, kilobytes // 1024)
"""


class Turns:
    """Progress of an ingestion that gives the next recording its samples, and takes those of the last one away."""

    def __init__(self, folder: Path) -> None:
        self._paths = sorted(folder.glob("*.edf"))
        self._hours = (self._paths[0].stat().st_size - 256 * (1 + CHANNELS)) / BYTES_AN_HOUR
        self(None, 0, 0)

    def __call__(self, what: object, done: int, total: int) -> None:  # noqa: ARG002
        if done:
            write(self._paths[done - 1], hours=self._hours, seed=done - 1, held=False)
        if done < len(self._paths):
            write(self._paths[done], hours=self._hours, seed=done)


def write(path: Path, *, hours: float, seed: int, held: bool = True) -> None:
    """Write one recording: slow drift and noise, a data record at a time, none like another; or none `held`."""

    def field(values: list[str], width: int) -> bytes:
        return b"".join(value.encode().ljust(width) for value in values)

    n_records, at_once = int(hours * 3600 / RECORD_SECONDS), RECORD_SECONDS * SFREQ
    fields = [([f"E{number}" for number in range(CHANNELS)], 16), ([""] * CHANNELS, 80), (["uV"] * CHANNELS, 8)]
    fields += [(["-3276.8"] * CHANNELS, 8), (["3276.7"] * CHANNELS, 8), (["-32768"] * CHANNELS, 8)]
    fields += [(["32767"] * CHANNELS, 8), ([""] * CHANNELS, 80), ([str(at_once)] * CHANNELS, 8)]
    fields += [([""] * CHANNELS, 32)]
    head = field(["0"], 8) + field(["X X X X"], 80) + field(["Startdate X X X X"], 80) + b"01.01.8500.00.00"
    head += field([str(256 * (1 + CHANNELS))], 8) + field([""], 44) + field([str(n_records), "10"], 8)
    head += field([str(CHANNELS)], 4) + b"".join(field(values, width) for values, width in fields)
    if not held:
        with path.open("wb") as file:
            file.write(head)
            file.truncate(len(head) + n_records * CHANNELS * at_once * 2)
        return
    rng = np.random.default_rng(seed)
    noise = np.cumsum(rng.normal(0, 30, (CHANNELS, 600 * SFREQ)), axis=1)
    noise = (noise - noise.mean(axis=1, keepdims=True)) * 0.1 + rng.normal(0, 150, noise.shape)
    stored = noise.clip(-32768, 32767).astype("<i2")
    with path.open("wb") as file:
        file.write(head)
        for first in rng.integers(0, stored.shape[1] - at_once, n_records).tolist():
            file.write(stored[:, first : first + at_once].tobytes())


def measure(
    place: Path, *, gigabytes: float, hours: float, processes: int, in_turn: bool = False
) -> dict[str, float]:
    """Write a site of a size, take it in, and take it away again."""
    folder, site = place / "recordings", place / "north"
    folder.mkdir(parents=True)
    site.mkdir()
    (site / "site.toml").write_text('name = "north"\nlargest_epsilon = 8.0\n')
    (place / "study.toml").write_text(STUDY)
    for number in range(max(1, round(gigabytes * 1e9 / (BYTES_AN_HOUR * hours)))):
        write(folder / f"{('rest', 'task')[number % 2]}{number}.edf", hours=hours, seed=number, held=not in_turn)
    words = [str(site), str(folder), str(place / "study.toml"), str(processes)]
    words += [str(Path(__file__).parent) if in_turn else ""]
    began = time.monotonic()
    done = subprocess.run([sys.executable, "-c", CHILD, *words], check=True, capture_output=True, text=True)
    windows, recordings, found, peak = map(float, done.stdout.split())
    seconds = time.monotonic() - began
    return {"recordings": recordings, "hours": found, "windows": windows, "seconds": seconds, "peak_mb": peak}


def main() -> None:
    """Print a row for every size."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--gigabytes", type=float, nargs="+", default=[1, 2, 4])
    parser.add_argument("--hours", type=float, default=6.0, help="of one recording")
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--in-turn", action="store_true", help="give each recording its samples when it is read")
    parser.add_argument("--folder", type=Path, help="where there is room")
    asked = parser.parse_args()
    print("| GB | recordings | hours | windows | seconds | peak MB |\n|---|---|---|---|---|---|")
    for gigabytes in asked.gigabytes:
        with tempfile.TemporaryDirectory(dir=asked.folder) as place:
            found = measure(
                Path(place) / "one",
                gigabytes=gigabytes,
                hours=asked.hours,
                processes=1 if asked.in_turn else asked.processes,
                in_turn=asked.in_turn,
            )
        told = [f"{found[name]:.0f}" for name in ("recordings", "hours", "windows", "seconds", "peak_mb")]
        print(f"| {gigabytes:g} | {' | '.join(told)} |", flush=True)


if __name__ == "__main__":
    main()
