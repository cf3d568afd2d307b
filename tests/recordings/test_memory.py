"""The memory that a recording takes does not grow with its length."""

import subprocess
import sys
from pathlib import Path

import pytest

CHANNELS = 21
CODE = """
import re, sys
from pathlib import Path
import numpy as np
from fedsynth.recordings.intake import Keeping, take_in
from fedsynth.study import load_study
folder, study = Path(sys.argv[1]), load_study(Path(sys.argv[2]))
(folder / "parts").mkdir()
taken = take_in(folder / "in", site="north", study=study, keeping=Keeping(folder / "parts"), processes=1)
# Of this program alone: what getrusage tells begins with the memory of the process that started it.
kilobytes = int(re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1])
print(len(taken.labelled.labels), kilobytes // 1024)
"""
STUDY = """
name = "long"
[signal]
modality = "eeg"
format = "edf"
channels = [{channels}]
sfreq = 128.0
recorded_sfreq = 256.0
[windows]
n_times = 512
per_recording = 64
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


def write_edf(path: Path, *, hours: float) -> None:
    """Write noise at 256 Hz, the same minute again and again but for a slow change, a minute at a time."""
    import numpy as np

    def field(values: list[str], width: int) -> bytes:
        return b"".join(value.encode().ljust(width) for value in values)

    n_records = int(hours * 60)
    names = [f"E{number}" for number in range(CHANNELS)]
    fields = [(names, 16), ([""] * CHANNELS, 80), (["uV"] * CHANNELS, 8), (["-3276.8"] * CHANNELS, 8)]
    fields += [(["3276.7"] * CHANNELS, 8), (["-32768"] * CHANNELS, 8), (["32767"] * CHANNELS, 8)]
    fields += [([""] * CHANNELS, 80), (["15360"] * CHANNELS, 8), ([""] * CHANNELS, 32)]
    head = field(["0"], 8) + field(["X X X X"], 80) + field(["Startdate X X X X"], 80) + b"01.01.8500.00.00"
    head += field([str(256 * (1 + CHANNELS))], 8) + field([""], 44) + field([str(n_records), "60"], 8)
    head += field([str(CHANNELS)], 4) + b"".join(field(values, width) for values, width in fields)
    minute = np.random.default_rng(1).normal(0, 300, (CHANNELS, 15360)).astype(np.int16)
    with path.open("wb") as file:
        file.write(head)
        for record in range(n_records):
            file.write((minute + record % 50).astype("<i2").tobytes())


def peak(folder: Path, *, hours: float) -> int:
    """Return the largest memory of a process of its own that takes in one recording, in MiB."""
    (folder / "in").mkdir(parents=True)
    write_edf(folder / "in" / "rest1.edf", hours=hours)
    names = ", ".join(f'"E{number}"' for number in range(CHANNELS))
    (folder / "study.toml").write_text(STUDY.format(channels=names))
    done = subprocess.run(
        [sys.executable, "-c", CODE, str(folder), str(folder / "study.toml")],
        capture_output=True,
        text=True,
        check=True,
    )
    windows, megabytes = map(int, done.stdout.split())
    assert windows == 64
    (folder / "in" / "rest1.edf").unlink()
    return megabytes


@pytest.mark.slow
def test_four_times_the_hours_take_the_same_memory(tmp_path: Path) -> None:
    short, long = peak(tmp_path / "short", hours=2), peak(tmp_path / "long", hours=8)

    assert long < 1.1 * short
    assert long < 600


@pytest.mark.long
def test_two_days_and_nights_stay_under_600_megabytes(tmp_path: Path) -> None:
    assert peak(tmp_path / "long", hours=48) < 600
