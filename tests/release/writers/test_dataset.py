import json
import tracemalloc
import warnings
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import mne
import numpy as np
import pytest
from bids_validator import BIDSValidator

from fedsynth.errors import RefusedError
from fedsynth.release.writers.dataset import MOST_SUBJECTS, subjects, write_dataset
from fedsynth.release.writers.edf import physical_bound, record_duration
from fedsynth.study import Study
from fedsynth.synthesis.archive import bounded, read_npz, write_npz
from fedsynth.synthesis.windows import SyntheticWindows, stream_of


@pytest.fixture
def dataset(tmp_path: Path, windows: SyntheticWindows, study: Study) -> Path:
    write_dataset(tmp_path, windows=stream_of(windows), study=study)
    return tmp_path


def read_edf(path: Path) -> mne.io.BaseRaw:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return mne.io.read_raw_edf(path, preload=True, verbose="error")


def test_the_archive_loads_without_pickle_and_holds_what_the_contract_names(
    dataset: Path, windows: SyntheticWindows
) -> None:
    with np.load(dataset / "data/ml/windows.npz", allow_pickle=False) as data:
        assert set(data.files) == {"X", "y", "subject", "label_names", "channels", "sfreq", "unit"}
        assert (data["X"].dtype, data["y"].dtype) == (np.float32, np.int64)
        np.testing.assert_array_equal(data["X"], windows.signal)
        np.testing.assert_array_equal(data["y"], windows.labels)
        np.testing.assert_array_equal(data["subject"], windows.subjects)
        assert data["subject"].dtype == np.int64
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
    write_npz(tmp_path / "ours.npz", windows=stream_of(windows))
    np.savez(tmp_path / "theirs.npz", X=windows.signal, y=windows.labels, subject=windows.subjects)

    with zipfile.ZipFile(tmp_path / "ours.npz") as ours, zipfile.ZipFile(tmp_path / "theirs.npz") as theirs:
        for name in theirs.namelist():
            assert ours.read(name) == theirs.read(name)


def test_two_writings_give_the_same_bytes(tmp_path: Path, windows: SyntheticWindows, study: Study) -> None:
    for name in ("first", "second"):
        (tmp_path / name).mkdir()
        write_dataset(tmp_path / name, windows=stream_of(windows), study=study)

    first, second = (sorted((tmp_path / name).rglob("*")) for name in ("first", "second"))
    assert len(first) == len(second) > 20
    for one, other in zip(first, second, strict=True):
        assert one.is_dir() or one.read_bytes() == other.read_bytes()


def test_subjects_are_named_in_the_order_drawn(windows: SyntheticWindows) -> None:
    found = [(person.name, person.label, person.n_windows) for person in subjects(stream_of(windows))]

    assert found == [
        ("sub-syn0001", "healthy", 2),
        ("sub-syn0002", "healthy", 2),
        ("sub-syn0003", "healthy", 1),
        ("sub-syn0004", "epilepsy", 2),
        ("sub-syn0005", "epilepsy", 2),
        ("sub-syn0006", "epilepsy", 1),
    ]


def many(windows: SyntheticWindows, count: int) -> SyntheticWindows:
    """Return as many subjects of one silent window each."""
    silent = np.broadcast_to(np.float32(0), (count, 2, 64))
    return replace(windows, signal=silent, labels=np.zeros(count, np.int64), subjects=np.arange(count))


def test_more_than_9999_subjects_still_sort(windows: SyntheticWindows) -> None:
    names = [person.name for person in subjects(stream_of(many(windows, 10_001)))]

    assert names[0] == "sub-syn00001"
    assert names == sorted(names)


def test_more_subjects_than_a_manifest_can_list_are_refused_at_once(
    tmp_path: Path, windows: SyntheticWindows, study: Study
) -> None:
    with pytest.raises(RefusedError, match="raise release"):
        write_dataset(tmp_path, windows=stream_of(many(windows, MOST_SUBJECTS + 1)), study=study)

    assert list(tmp_path.iterdir()) == []


def test_what_was_written_reads_back_in_pieces(tmp_path: Path, windows: SyntheticWindows) -> None:
    stream = stream_of(windows)
    write_npz(tmp_path / "a.npz", windows=stream)

    again = read_npz(tmp_path / "a.npz", windows=replace(stream, pieces=lambda: iter(()))).gathered()

    np.testing.assert_array_equal(again.signal, windows.signal)
    np.testing.assert_array_equal(again.subjects, windows.subjects)


@pytest.mark.parametrize("rows", [slice(0, 9), slice(0, 11)], ids=["too few", "too many"])
def test_a_stream_that_breaks_its_word_is_refused(
    tmp_path: Path, windows: SyntheticWindows, study: Study, rows: slice
) -> None:
    pieces = np.concatenate([windows.signal, windows.signal])[rows]

    with pytest.raises(RefusedError, match="than it announced"):
        write_dataset(tmp_path, windows=replace(stream_of(windows), pieces=lambda: iter((pieces,))), study=study)


def test_a_large_draw_passes_through_in_pieces(tmp_path: Path, windows: SyntheticWindows, study: Study) -> None:
    piece = np.random.default_rng(0).normal(0, 50, (1024, 2, 64)).astype(np.float32)
    stream = replace(
        stream_of(windows),
        subject_labels=np.array([0, 1]),
        subject_windows=np.array([60_000, 71_072]),
        pieces=lambda: (piece for _ in range(128)),
    )

    tracemalloc.start()
    write_dataset(tmp_path, windows=stream, study=study)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()

    assert (tmp_path / "data/ml/windows.npz").stat().st_size > 64 * 2**20
    assert len(list(tmp_path.rglob("*.edf"))) == 2
    assert peak < 16 * 2**20


def test_participants_say_whose_windows_are_where(dataset: Path) -> None:
    lines = (dataset / "participants.tsv").read_text().splitlines()

    assert lines[:2] == ["participant_id\tlabel\tn_windows", "sub-syn0001\thealthy\t2"]
    assert lines[3] == "sub-syn0003\thealthy\t1"


def test_mne_reads_every_edf_with_its_rate_channels_and_amplitudes(
    dataset: Path, windows: SyntheticWindows, study: Study
) -> None:
    half_step = study.signal.range_uv / 32767 / 2
    for number, person in enumerate(subjects(stream_of(windows))):
        raw = read_edf(dataset / person.name / "eeg" / f"{person.name}_task-synthetic_eeg.edf")

        expected = windows.signal[windows.subjects == number].transpose(1, 0, 2).reshape(2, -1)
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
        assert raw.annotations.description.tolist() == [person.label] * person.n_windows
        starts = np.round(raw.annotations.onset * raw.info["sfreq"]).astype(int)
        assert starts.tolist() == [64 * window for window in range(person.n_windows)]


def test_the_physical_range_is_the_studys_and_not_the_datas(
    tmp_path: Path, windows: SyntheticWindows, study: Study
) -> None:
    quiet = replace(windows, signal=windows.signal * np.float32(0.001))

    write_dataset(tmp_path, windows=stream_of(quiet), study=study)

    header = (tmp_path / "sub-syn0001/eeg/sub-syn0001_task-synthetic_eeg.edf").read_bytes()[: 256 * 4]

    minima = header[256 + 3 * (16 + 80 + 8) :][:16].split()  # of two channels; annotations are the third signal
    maxima = header[256 + 3 * (16 + 80 + 8 + 8) :][:16].split()
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

    write_dataset(tmp_path, windows=stream_of(replace(windows, signal=extremes, sfreq=sfreq)), study=other)
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

    assert sidecar["RecordingType"] == "discontinuous"
    assert sidecar["EpochLength"] == sidecar["RecordingDuration"] == pytest.approx(64 / 173.61, rel=1e-5)
    assert sidecar["SamplingFrequency"] == 173.61
    assert {"TaskName", "EEGReference", "PowerLineFrequency", "SoftwareFilters"} <= set(sidecar)
    assert Path(f"{stem}_channels.tsv").read_text().splitlines()[1] == "C3\tEEG\tuV\t173.61"
    description = json.loads((dataset / "dataset_description.json").read_text())
    assert (description["DatasetType"], description["License"]) == ("raw", "CC0-1.0")
    assert description["GeneratedBy"][0]["Name"] == "fedsynth"


@pytest.mark.parametrize(
    ("spoil", "cause"),
    [
        pytest.param(
            lambda w: replace(w, signal=w.signal[:0], labels=w.labels[:0], subjects=w.subjects[:0]),
            "do not fit",
            id="no window",
        ),
        pytest.param(lambda w: replace(w, labels=w.labels[:9]), "do not fit", id="a label is missing"),
        pytest.param(lambda w: replace(w, labels=w.labels + 1), "outside 0 to 1", id="a label too high"),
        pytest.param(lambda w: replace(w, labels=w.labels - 1), "outside 0 to 1", id="a label too low"),
        pytest.param(lambda w: replace(w, channels=("C3", "Cz")), "not the study's", id="another channel"),
        pytest.param(lambda w: replace(w, sfreq=128.0), "not the study's", id="another rate"),
        pytest.param(lambda w: replace(w, subjects=w.subjects[:9]), "do not fit", id="a subject is missing"),
        pytest.param(lambda w: replace(w, subjects=np.arange(10) % 2), "are apart", id="subjects take turns"),
        pytest.param(
            lambda w: replace(w, subjects=np.zeros(10, np.int64)), "differ in their label", id="two labels"
        ),
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
        write_dataset(tmp_path, windows=stream_of(spoil(windows)), study=study)

    assert list(tmp_path.iterdir()) == []


def test_a_channel_name_that_edf_cannot_hold_is_refused(
    tmp_path: Path, windows: SyntheticWindows, study: Study
) -> None:
    names = ("C3", "a-channel-of-many-letters")
    other = study.model_copy(update={"signal": study.signal.model_copy(update={"channels": names})})

    with pytest.raises(RefusedError, match="16 characters"):
        write_dataset(tmp_path, windows=stream_of(replace(windows, channels=names)), study=other)


def test_cutting_leaves_what_is_in_range_alone(windows: SyntheticWindows) -> None:
    stream = stream_of(windows)

    np.testing.assert_array_equal(bounded(stream, modality="eeg", range_uv=500.0).gathered().signal, windows.signal)
    assert np.abs(bounded(stream, modality="eeg", range_uv=10.0).gathered().signal).max() == 10.0
