"""Folders of recordings as public sets arrange them, made up, and a study of one's own."""

from pathlib import Path

import edfio
import numpy as np

from fedsynth.study import Study, load_study

EXAMPLES = Path(__file__).parents[2] / "examples"


def example(name: str, *, people: int = 1, **signal: object) -> Study:
    study = load_study(EXAMPLES / name / "study.toml")
    cohort = study.cohort.model_copy(update={"least_subjects": people})
    return study.model_copy(update={"cohort": cohort, "signal": study.signal.model_copy(update=signal)})


def edf(path: Path, labels: tuple[str, ...], *, sfreq: float, seconds: int, seed: int, notes: object = ()) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    waves = {label: rng.normal(0, 30, int(sfreq * seconds)) for label in labels}
    signals = [
        edfio.EdfSignal(waves[label], sfreq, label=label, physical_dimension="uV", physical_range=(-500, 500))
        for label in labels
    ]
    edfio.Edf(signals, annotations=notes).write(path)  # type: ignore[arg-type]


SIENA = """{who}

Seizure n 1 (in sleep)
File name: {who}-1.edf
Registration start time: 23.59.30
Registration end time:  00.01.30
Seizure start time: 00.00.10
Seizure end time: 00.00.30

Seizure n 2
File name: {who}-2.edf\x20
Registration start time:  02:18:00
Registration end time:  02.20.00
Seizure start time: 02.18.40
Seizure end time: 03.18.45
"""


def siena_site(folder: Path) -> Path:
    names = example("siena").signal.channels
    for number, who in enumerate(("PN00", "PN01", "PN12")):
        for part in (1, 2):
            labels = tuple(f"EEG {'T3' if name == 'T7' else name}" for name in names)
            edf(folder / who / f"{who}-{part}.edf", labels, sfreq=64, seconds=120, seed=10 * number + part)
        (folder / who / f"Seizures-list-{who}.txt").write_text(SIENA.format(who=who))
    return folder


CHB = """Data Sampling Rate: 256 Hz
*************************

File Name: chb01_01.edf
File Start Time: 11:42:54
File End Time: 12:42:54
Number of Seizures in File: 0

File Name: chb01_02.edf
File Start Time: 12:42:57
Number of Seizures in File: 2
Seizure 1 Start Time: 10 seconds
Seizure 1 End Time: 20 seconds
Seizure 2 Start Time:  40 seconds
Seizure 2 End Time: 55 seconds
"""


def chb_site(folder: Path) -> Path:
    channels = example("chb-mit").signal.channels
    for name in ("chb01_01", "chb01_02"):
        edf(folder / "chb01" / f"{name}.edf", (*channels, "T8-P8"), sfreq=256, seconds=60, seed=int(name[-1]))
    (folder / "chb01" / "chb01-summary.txt").write_text(CHB)
    edf(folder / "chb21" / "chb21_01.edf", channels, sfreq=256, seconds=60, seed=7)
    (folder / "chb21" / "chb21-summary.txt").write_text(CHB.replace("chb01", "chb21").replace("_02", "_09"))
    return folder


MINE = """
name = "mine"
[signal]
modality = "eeg"
format = "edf"
channels = ["C3", "C4"]
sfreq = 128.0
[windows]
n_times = 128
[labels]
names = ["healthy", "ill"]
source = "layout"
rename = { A = "ill", B = "healthy" }
positive = "ill"
[privacy]
unit = "subject"
epsilon = 1.0
delta = 1e-5
[cohort]
least_subjects = 1
[family]
name = "cwgan"
"""
