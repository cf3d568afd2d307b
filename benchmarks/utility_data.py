"""The benchmark's data: from a public set and a seed to hospitals' windows and windows of unseen people.

Splitting and dealing are `examples/deal.py`'s, reading and filtering the product's own, so that every method is
given exactly the windows that the product sees. The set `simulated` is made here and needs no download; whatever
had to be chosen for a peer was chosen on it.
"""

import shutil
import subprocess
import sys
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tomli_w
from numpy.typing import NDArray
from scipy.signal import lfilter

from fedsynth.modalities.shape import Shape, shape_of
from fedsynth.recordings.options import SiteOptions
from fedsynth.recordings.readers.site import read_site
from fedsynth.recordings.windows import windows_of
from fedsynth.study import Study, parse_study

ROOT = Path(__file__).parents[1]
HOSPITALS = 4
HELD_OUT = 0.2
SETS = {  # name: the set's own folder, the folder of its study in examples/
    "bonn": ("bonn", "bonn"),
    "cinc2017": ("cinc2017", "cinc2017"),
    "ptbxl": ("ptbxl", "ptbxl"),
    "guinea_bissau": ("guinea_bissau", "epilepsy"),
    "mitbih": ("mitbih", "mitbih"),
    "simulated": ("simulated", "bonn"),
}
_SECONDS_SIMULATED = 23.6


@dataclass(frozen=True)
class Half:
    """Windows of several hospitals: microvolts, float32 (window, channel, time); the rest int64 (window,).

    `people` and `recordings` are numbered over all hospitals together.
    """

    signal: NDArray[np.float32]
    labels: NDArray[np.int64]
    people: NDArray[np.int64]
    recordings: NDArray[np.int64]
    hospitals: NDArray[np.int64]


@dataclass(frozen=True)
class Dealt:
    """One split of a set: training windows at hospitals, windows of unseen people, and their folders."""

    study: Study
    sites: Path
    train: Half
    test: Half

    @property
    def shape(self) -> Shape:
        """Return the shape of the windows."""
        return shape_of(self.study)

    def units(self, unit: str) -> NDArray[np.int64]:
        """Return the training windows' privacy units, shape (window,)."""
        if unit == "window":
            return np.arange(len(self.train.labels), dtype=np.int64)
        return self.train.recordings if unit == "recording" else self.train.people


def study_text(name: str, changes: dict[str, dict[str, Any]] | None = None) -> str:
    """Return a set's study as TOML, with `changes` laid over its tables."""
    raw = tomllib.loads((ROOT / "examples" / SETS[name][1] / "study.toml").read_text(encoding="utf-8"))
    for table, values in (changes or {}).items():
        raw[table] = {**raw.get(table, {}), **values}
    return tomli_w.dumps(raw)


def load(name: str, *, data: Path | None, seed: int, work: Path) -> Dealt:
    """Hold out a fifth of the people, deal the rest to hospitals, and read both.

    Args:
        name: of a set in `SETS`.
        data: the folder of all public sets; not needed for `simulated`.
        seed: of the split and the deal, public.
        work: where the dealt folders (links) are made; an older deal there is replaced.
    """
    source = _source(name, data, work)
    sites = deal(source, work / f"{name}-{seed}", hospitals=HOSPITALS, seed=seed)
    # A held-out folder may be smaller than a study wants its hospitals.
    study = parse_study(study_text(name, {"cohort": {"least_subjects": 1}}))
    train = _half([sites / f"hospital-{number + 1}" for number in range(HOSPITALS)], study)
    test = _half([sites.with_name(f"{sites.name}.holdout")], study)
    return Dealt(study, sites, train, test)


def deal(source: Path, destination: Path, *, hospitals: int, seed: int) -> Path:
    """Deal a set by links; the people held out depend on the seed alone, not on the number of hospitals.

    Raises:
        RuntimeError: `examples/deal.py` refused.
    """
    for folder in (destination, destination.with_name(f"{destination.name}.holdout")):
        shutil.rmtree(folder, ignore_errors=True)
    options = ["--hospitals", str(hospitals), "--hold-out", str(HELD_OUT), "--seed", str(seed), "--link"]
    command = [sys.executable, str(ROOT / "examples" / "deal.py"), str(source), str(destination), *options]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(done.stderr.strip())
    return destination


def _source(name: str, data: Path | None, work: Path) -> Path:
    if name != "simulated":
        if data is None or not (data / SETS[name][0]).is_dir():
            raise RuntimeError(f"--data holds no folder {SETS[name][0]!r}; docs/benchmark.md says what it is")
        return data / SETS[name][0]
    folder = work / "simulated"
    if not folder.exists():
        write_simulated(folder, per_label=80)
    return folder


def _half(folders: list[Path], study: Study) -> Half:
    signals, labels, people, recordings, hospitals = [], [], [], [], []
    n_people = n_recordings = 0
    for number, folder in enumerate(folders):
        read = read_site(folder, site=folder.name, study=study, options=SiteOptions(follow_links=True))
        windows = windows_of(read, study=study)
        signals.append(windows.signal)
        labels.append(windows.labels)
        people.append(windows.subjects + n_people)
        recordings.append(windows.recordings + n_recordings)
        hospitals.append(np.full(len(windows.labels), number, dtype=np.int64))
        n_people += len({recording.subject for recording in read})
        n_recordings += len(read)
    joined = [np.concatenate(part) for part in (labels, people, recordings, hospitals)]
    return Half(np.concatenate(signals), *joined)


def write_simulated(folder: Path, *, per_label: int) -> None:
    """Write a cohort as text files of five labels, laid out as the Bonn sets are.

    Labels differ in the rhythm's frequency and strength, the background's slope and in sharp waves, and overlap.
    Everything comes from damped oscillators over time, unlike the product's prior and the peers' simulator.
    """
    kinds = {  # frequency in Hz, its spread between people, strength, pole of the background, sharp waves a second
        "Z": (9.5, 0.8, 0.5, 0.90, 0.0),
        "O": (10.0, 0.8, 1.4, 0.90, 0.0),
        "N": (6.5, 1.2, 0.8, 0.96, 0.1),
        "F": (5.0, 1.2, 0.9, 0.96, 0.5),
        "S": (4.0, 1.0, 2.5, 0.93, 2.5),
    }
    sfreq = 173.61
    n_times = int(_SECONDS_SIMULATED * sfreq)
    rng = np.random.default_rng(2024)
    for label, (hertz, spread, strength, pole, sharp) in kinds.items():
        (folder / label).mkdir(parents=True)
        for number in range(per_label):
            own = rng.normal(hertz, spread)
            background = lfilter([1], [1, -np.clip(rng.normal(pole, 0.02), 0, 0.99)], rng.normal(size=n_times))
            radius = 0.985
            angle = 2 * np.pi * max(own, 1.5) / sfreq
            rhythm = lfilter([1], [1, -2 * radius * np.cos(angle), radius**2], rng.normal(size=n_times))
            signal = background / background.std()
            signal += strength * rng.lognormal(0, 0.4) * rhythm / rhythm.std()
            for start in np.flatnonzero(rng.random(n_times) < sharp / sfreq):
                time = (np.arange(n_times) - start) / sfreq
                signal += rng.uniform(2, 5) * np.exp(-0.5 * (time / 0.03) ** 2)
            microvolts = np.round(rng.lognormal(np.log(25), 0.35) * signal).astype(int)
            text = "\n".join(map(str, microvolts)) + "\n"
            (folder / label / f"{label}{number + 1:03d}.txt").write_text(text, encoding="ascii")
