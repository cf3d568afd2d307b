"""The toy cohort of hearts: it can be read, obeys the laws of the leads, and its groups differ as they should."""

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from scipy.signal import find_peaks

from fedsynth.errors import StudyError
from fedsynth.recordings.readers.samples import Notes, Request, gather
from fedsynth.recordings.readers.site import read_site
from fedsynth.recordings.readers.wfdb import read_wfdb
from fedsynth.recordings.toy.cohort import write_toy_cohort
from fedsynth.recordings.toy.ecg import toy_ecg, write_record
from fedsynth.recordings.windows import windows_of
from fedsynth.rng import numpy_generator
from fedsynth.study import Study, load_study

EXAMPLES = Path(__file__).parents[3] / "examples"
STUDY = load_study(EXAMPLES / "toy-ecg" / "study.toml")


def small(study: Study) -> Study:
    return study.model_copy(update={"cohort": study.cohort.model_copy(update={"least_subjects": 6})})


def intervals(seed: int, *, fibrillates: bool) -> np.ndarray:
    rng = numpy_generator("test", seed)
    signal = toy_ecg(rng, fibrillates=fibrillates, seconds=60, sfreq=250, channels=("II",))[0]
    return np.diff(find_peaks(signal, height=0.5 * np.quantile(signal, 0.998), distance=60)[0]) / 250


def variation(found: np.ndarray) -> float:
    return float(np.std(found) / np.mean(found))


def test_a_wfdb_cohort_is_read_by_its_table_and_some_people_have_two_recordings(tmp_path: Path) -> None:
    study = small(STUDY)
    write_toy_cohort(tmp_path / "toy", study=study, people=0.05)

    for site, people in (("north", 10), ("west", 6)):
        recordings = read_site(tmp_path / "toy" / site, site=site, study=study)
        counts = Counter(item.subject for item in recordings)
        assert len(counts) == people
        assert [counts[f"sub-{number:03d}"] for number in range(1, 6)] == [1, 1, 1, 2, 1]
        windows = windows_of(recordings, study=study)
        assert windows.signal.shape == (4 * len(recordings), 2, 500)
        assert set(windows.labels) == {0, 1}
        assert 100 < windows.signal.std() < 400  # uV


def test_the_cohort_is_the_same_again(tmp_path: Path) -> None:
    for name in "ab":
        write_toy_cohort(tmp_path / name, study=small(STUDY), people=0.03)

    first, second = (
        {path.relative_to(tmp_path / name): path.read_bytes() for path in (tmp_path / name).rglob("*.*")}
        for name in "ab"
    )
    assert first == second


def test_an_ecg_cohort_may_be_written_as_edf_and_an_eeg_cohort_as_wfdb(tmp_path: Path) -> None:
    eeg = load_study(EXAMPLES / "toy" / "study.toml")
    for name, study, form in (("ecg", STUDY, "edf"), ("eeg", eeg, "wfdb")):
        other = small(study.model_copy(update={"signal": study.signal.model_copy(update={"format": form})}))
        write_toy_cohort(tmp_path / name, study=other, people=0.03)

        recordings = read_site(tmp_path / name / "north", site="north", study=other)

        assert {item.signal.shape[0] for item in recordings} == {len(study.signal.channels)}


def test_a_study_that_the_cohort_cannot_serve_is_refused(tmp_path: Path) -> None:
    labels = STUDY.labels.model_copy(update={"source": "beats"})

    with pytest.raises(StudyError, match="two labels, in EDF files or WFDB records"):
        write_toy_cohort(tmp_path / "toy", study=STUDY.model_copy(update={"labels": labels}))


def test_fibrillation_has_irregular_beats_and_sinus_rhythm_regular_ones() -> None:
    spread = {
        ill: [
            float(np.std(found) / np.mean(found))
            for found in (intervals(seed, fibrillates=ill) for seed in range(8))
        ]
        for ill in (False, True)
    }

    assert max(spread[False]) < 0.1 < min(spread[True])


def test_the_heart_rate_is_that_of_a_resting_person() -> None:
    for ill in (False, True):
        rates = [60 / float(np.mean(intervals(seed, fibrillates=ill))) for seed in range(8)]
        assert 45 < min(rates) <= max(rates) < 130


def test_the_leads_keep_einthovens_and_goldbergers_laws_up_to_their_noise() -> None:
    leads = ("I", "II", "III", "AVR", "AVL", "AVF")
    rows = toy_ecg(numpy_generator("leads"), fibrillates=False, seconds=120, sfreq=100, channels=leads)
    peaks = find_peaks(rows[1], height=0.5 * np.quantile(rows[1], 0.998), distance=24)[0][1:-1]
    # Each lead has noise of its own; over a hundred beats it averages out.
    first, second, third, right, left, foot = np.mean([rows[:, p - 30 : p + 40] for p in peaks], axis=0)

    assert second.max() > 300  # uV
    for error in (
        second - first - third,
        right + (first + second) / 2,
        left - (first - third) / 2,
        foot - (second + third) / 2,
    ):
        assert np.abs(error - error.mean()).max() < 30


@pytest.mark.parametrize("n_times", [10, 11])
@pytest.mark.parametrize("channels", [("I",), ("I", "II", "V1")])
def test_a_record_reads_back_within_half_a_step_of_12_bits(
    tmp_path: Path, n_times: int, channels: tuple[str, ...]
) -> None:
    signal = np.random.default_rng(0).normal(0, 1000, size=(len(channels), n_times))

    write_record(tmp_path / "sub-001", signal, channels=channels, sfreq=250.0)

    notes = Notes()
    read = gather(read_wfdb(tmp_path / "sub-001.hea", Request(channels, 250.0), notes), notes)
    assert np.abs(read.signal - signal).max() <= 2.5 + 1e-3  # 200 steps per millivolt
    assert read.remarks == ()
