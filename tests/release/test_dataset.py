import json
import warnings
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import mne
import numpy as np
import pytest
from bids_validator import BIDSValidator
from numpy.typing import NDArray

from fedsynth.errors import RefusedError
from fedsynth.families.synthetic import SyntheticWindows
from fedsynth.release.dataset import (
    bounded,
    physical_bound,
    record_duration,
    subjects,
    write_dataset,
    write_npz,
)
from fedsynth.study import Study


@pytest.fixture
def dataset(tmp_path: Path, windows: SyntheticWindows, study: Study) -> Path:
    write_dataset(tmp_path, windows=windows, study=study)
    return tmp_path


def read_edf(path: Path) -> mne.io.BaseRaw:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return mne.io.read_raw_edf(path, preload=True, verbose="error")


def test_the_archive_loads_without_pickle_and_holds_what_the_contract_names(
    dataset: Path, windows: SyntheticWindows
) -> None:
    with np.load(dataset / "data/ml/windows.npz", allow_pickle=False) as data:
        assert set(data.files) == {"X", "y", "label_names", "channels", "sfreq", "unit"}
        assert (data["X"].dtype, data["y"].dtype) == (np.float32, np.int64)
        np.testing.assert_array_equal(data["X"], windows.signal)
        np.testing.assert_array_equal(data["y"], windows.labels)
        assert data["label_names"].tolist() == ["healthy", "epilepsy"]
        assert data["channels"].tolist() == ["C3", "C4"]
        assert float(data["sfreq"]) == 173.61
        assert str(data["unit"]) == "uV"


def test_the_archive_carries_no_clock_and_no_compression(dataset: Path) -> None:
    with zipfile.ZipFile(dataset / "data/ml/windows.npz") as archive:
        for entry in archive.infolist():
            assert entry.date_time == (1980, 1, 1, 0, 0, 0)
            assert entry.compress_type == zipfile.ZIP_STORED


def test_numpy_writes_the_same_arrays(tmp_path: Path, windows: SyntheticWindows) -> None:
    """np.savez is the second implementation; only its dates may differ."""
    write_npz(tmp_path / "ours.npz", windows=windows)
    np.savez(tmp_path / "theirs.npz", X=windows.signal, y=windows.labels)

    with zipfile.ZipFile(tmp_path / "ours.npz") as ours, zipfile.ZipFile(tmp_path / "theirs.npz") as theirs:
        for name in theirs.namelist():
            assert ours.read(name) == theirs.read(name)


def test_two_writings_give_the_same_bytes(tmp_path: Path, windows: SyntheticWindows, study: Study) -> None:
    for name in ("first", "second"):
        (tmp_path / name).mkdir()
        write_dataset(tmp_path / name, windows=windows, study=study)

    first, second = (sorted((tmp_path / name).rglob("*")) for name in ("first", "second"))
    assert len(first) == len(second) > 20
    for one, other in zip(first, second, strict=True):
        assert one.is_dir() or one.read_bytes() == other.read_bytes()


def test_subjects_hold_windows_of_one_label_in_order_and_the_last_may_hold_fewer(windows: SyntheticWindows) -> None:
    found = [(person.name, person.label, person.rows.tolist()) for person in subjects(windows, per_subject=2)]

    assert found == [
        ("sub-syn0001", "healthy", [0, 2]),
        ("sub-syn0002", "healthy", [4, 6]),
        ("sub-syn0003", "healthy", [8]),
        ("sub-syn0004", "epilepsy", [1, 3]),
        ("sub-syn0005", "epilepsy", [5, 7]),
        ("sub-syn0006", "epilepsy", [9]),
    ]


def test_more_than_9999_subjects_still_sort(windows: SyntheticWindows) -> None:
    many = replace(windows, signal=np.zeros((10_001, 2, 64), np.float32), labels=np.zeros(10_001, dtype=np.int64))

    names = [person.name for person in subjects(many, per_subject=1)]

    assert names[0] == "sub-syn00001"
    assert names == sorted(names)


def test_participants_say_whose_windows_are_where(dataset: Path) -> None:
    lines = (dataset / "participants.tsv").read_text().splitlines()

    assert lines[:2] == ["participant_id\tlabel\tn_windows", "sub-syn0001\thealthy\t2"]
    assert lines[3] == "sub-syn0003\thealthy\t1"


def test_mne_reads_every_edf_with_its_rate_channels_and_amplitudes(
    dataset: Path, windows: SyntheticWindows, study: Study
) -> None:
    half_step = study.signal.range_uv / 32767 / 2
    for person in subjects(windows, per_subject=2):
        raw = read_edf(dataset / person.name / "eeg" / f"{person.name}_task-synthetic_eeg.edf")

        expected = windows.signal[person.rows].transpose(1, 0, 2).reshape(2, -1)
        assert raw.info["sfreq"] == pytest.approx(173.61, rel=2e-6)
        assert raw.ch_names == ["C3", "C4"]
        assert raw.get_channel_types() == ["eeg", "eeg"]
        assert raw.get_data().shape == expected.shape
        assert np.abs(raw.get_data() * 1e6 - expected).max() <= half_step * (1 + 1e-6)
        assert dict(raw.info["subject_info"]) == {
            "his_id": person.name.removeprefix("sub-"),
            "last_name": "X",
            "sex": 0,
        }
        assert len(raw.annotations) == 0


def test_the_physical_range_is_the_studys_and_not_the_datas(
    tmp_path: Path, windows: SyntheticWindows, study: Study
) -> None:
    write_dataset(tmp_path, windows=replace(windows, signal=windows.signal * np.float32(0.001)), study=study)

    header = (tmp_path / "sub-syn0001/eeg/sub-syn0001_task-synthetic_eeg.edf").read_bytes()[: 256 * 3]

    minima = header[256 + 2 * (16 + 80 + 8) :][:16].split()
    maxima = header[256 + 2 * (16 + 80 + 8 + 8) :][:16].split()
    assert (minima, maxima) == ([b"-500", b"-500"], [b"500", b"500"])


@pytest.mark.parametrize(
    ("sfreq", "n_times", "range_uv"),
    [
        pytest.param(173.61, 512, 2048.0, id="Bonn"),
        pytest.param(173.61, 4097, 2048.0, id="Bonn, a whole recording"),
        pytest.param(128.0, 256, 500.0, id="toy"),
        pytest.param(1024.0, 64, 0.1, id="the shortest window, a small range"),
        pytest.param(50.0, 8192, 100_000.0, id="the longest window, the largest range"),
        pytest.param(999.999, 777, 1234.56789, id="nothing is round"),
    ],
)
def test_any_rate_length_and_range_of_a_study_can_be_written(
    tmp_path: Path, windows: SyntheticWindows, study: Study, sfreq: float, n_times: int, range_uv: float
) -> None:
    signal = study.signal.model_copy(update={"sfreq": sfreq, "range_uv": range_uv})
    plan = study.windows.model_copy(update={"n_times": n_times})
    other = study.model_copy(update={"signal": signal, "windows": plan})
    extremes = np.full((10, 2, n_times), range_uv, dtype=np.float32)
    extremes[:, 1] *= -1

    write_dataset(tmp_path, windows=replace(windows, signal=extremes, sfreq=sfreq), study=other)
    raw = read_edf(tmp_path / "sub-syn0001/eeg/sub-syn0001_task-synthetic_eeg.edf")

    assert raw.info["sfreq"] == pytest.approx(sfreq, rel=1e-5)
    assert raw.n_times == 2 * n_times
    np.testing.assert_allclose(raw.get_data()[:, -1] * 1e6, [range_uv, -range_uv], rtol=2e-5)


@pytest.mark.parametrize("range_uv", [0.1, 1.0, 333.3333333, 9999.994, 99_999.99, 100_000.0])
def test_a_physical_bound_covers_the_range_in_eight_characters(range_uv: float) -> None:
    bound = physical_bound(range_uv)

    assert range_uv <= bound <= range_uv * 1.0002
    assert len(f"-{int(bound) if bound.is_integer() else bound}") <= 8


@pytest.mark.parametrize(("n_times", "sfreq"), [(512, 173.61), (64, 1023.7), (8192, 50.1), (4097, 173.61)])
def test_a_record_duration_fits_eight_characters(n_times: int, sfreq: float) -> None:
    duration = record_duration(n_times=n_times, sfreq=sfreq)

    assert len(str(duration)) <= 8
    assert n_times / duration == pytest.approx(sfreq, rel=1e-5)


def test_every_file_is_bids_or_ignored(pristine: Path) -> None:
    ignored = (pristine / ".bidsignore").read_text().split()
    validator = BIDSValidator()

    strangers = [
        name
        for path in pristine.rglob("*")
        if path.is_file()
        for name in ["/" + path.relative_to(pristine).as_posix()]
        if not validator.is_bids(name) and not name.startswith(tuple(f"/{rule}" for rule in ignored))
    ]

    assert strangers == ["/.bidsignore"]


def test_the_sidecars_say_what_the_edf_holds(dataset: Path) -> None:
    stem = dataset / "sub-syn0003/eeg/sub-syn0003_task-synthetic"
    sidecar = json.loads(Path(f"{stem}_eeg.json").read_text())

    assert sidecar["RecordingType"] == "epoched"
    assert sidecar["EpochLength"] == sidecar["RecordingDuration"] == pytest.approx(64 / 173.61, rel=1e-5)
    assert sidecar["SamplingFrequency"] == 173.61
    assert {"TaskName", "EEGReference", "PowerLineFrequency", "SoftwareFilters"} <= set(sidecar)
    assert Path(f"{stem}_channels.tsv").read_text().splitlines()[1] == "C3\tEEG\tuV\t173.61"
    description = json.loads((dataset / "dataset_description.json").read_text())
    assert (description["DatasetType"], description["License"]) == ("raw", "CC0-1.0")
    assert description["GeneratedBy"][0]["Name"] == "fedsynth"


def with_nan(signal: NDArray[np.float32]) -> NDArray[np.float32]:
    spoiled = signal.copy()
    spoiled[0, 0, 0] = np.nan
    return spoiled


@pytest.mark.parametrize(
    ("spoil", "cause"),
    [
        pytest.param(lambda w: replace(w, signal=with_nan(w.signal)), "not finite", id="nan"),
        pytest.param(lambda w: replace(w, signal=w.signal[:0], labels=w.labels[:0]), "do not fit", id="no window"),
        pytest.param(lambda w: replace(w, labels=w.labels[:9]), "do not fit", id="a label is missing"),
        pytest.param(lambda w: replace(w, labels=w.labels + 1), "outside 0 to 1", id="a label too high"),
        pytest.param(lambda w: replace(w, labels=w.labels - 1), "outside 0 to 1", id="a label too low"),
        pytest.param(lambda w: replace(w, channels=("C3", "Cz")), "not the study's", id="another channel"),
        pytest.param(lambda w: replace(w, sfreq=128.0), "not the study's", id="another rate"),
    ],
)
def test_windows_that_do_not_fit_are_refused_before_anything_is_written(
    tmp_path: Path,
    windows: SyntheticWindows,
    study: Study,
    spoil: Callable[[SyntheticWindows], SyntheticWindows],
    cause: str,
) -> None:
    with pytest.raises(RefusedError, match=cause):
        write_dataset(tmp_path, windows=spoil(windows), study=study)

    assert list(tmp_path.iterdir()) == []


def test_a_channel_name_that_edf_cannot_hold_is_refused(
    tmp_path: Path, windows: SyntheticWindows, study: Study
) -> None:
    names = ("C3", "a-channel-of-many-letters")
    other = study.model_copy(update={"signal": study.signal.model_copy(update={"channels": names})})

    with pytest.raises(RefusedError, match="16 characters"):
        write_dataset(tmp_path, windows=replace(windows, channels=names), study=other)


def test_cutting_leaves_what_is_in_range_alone(windows: SyntheticWindows) -> None:
    np.testing.assert_array_equal(bounded(windows, range_uv=500.0).signal, windows.signal)
    assert np.abs(bounded(windows, range_uv=10.0).signal).max() == 10.0
