"""What readers load releases with finds every window and its label, in a release of EEG and in one of ECG.

Each tool is a second implementation of its format. A tool that is not installed is skipped by name.
"""

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fedsynth.release.load import load_release
from fedsynth.release.verify import verify_release
from fedsynth.study import parse_study
from fedsynth.synthesis.windows import SyntheticWindows

TWELVE = ("I", "II", "III", "aVR", "aVL", "aVF", "V1", "V2", "V3", "V4", "V5", "V6")
LABELS = ["healthy"] * 5 + ["epilepsy"] * 5
RANGE = 500.0


@pytest.fixture(scope="module")
def ecg(
    build: Callable[..., Path], study_text: str, windows: SyntheticWindows, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """Twelve leads of three electrodes and a chest, so loud that one sample in three is beyond the range."""
    right, left, foot, *chest = np.random.default_rng(3).normal(0, 300, (9, 10, 64)).astype(np.float32)
    limb = [left - right, foot - right, foot - left]
    limb += [right - (left + foot) / 2, left - (right + foot) / 2, foot - (right + left) / 2]
    signal = np.stack([*limb, *chest], axis=1)
    assert 0.1 < (np.abs(signal[:, :6]) > RANGE).any(axis=1).mean() < 0.9
    text = study_text.replace('"eeg"', '"ecg"').replace('format = "edf"', 'format = "wfdb"')
    text = text.replace('["C3", "C4"]', json.dumps(TWELVE))
    return build(
        tmp_path_factory.mktemp("tools") / "ecg",
        study=parse_study(text),
        study_text=text,
        windows=replace(windows, signal=signal, channels=TWELVE),
    )


@pytest.fixture(params=["eeg", "ecg"])
def either(request: pytest.FixtureRequest) -> Path:
    return Path(request.getfixturevalue({"eeg": "pristine", "ecg": "ecg"}[request.param]))


def test_both_verify_and_load_with_numpy(either: Path) -> None:
    assert verify_release(either).study == "small"
    assert load_release(either).labels.tolist() == LABELS


def test_datasets_finds_the_table_by_itself(either: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    datasets = pytest.importorskip("datasets", reason="datasets is not installed")

    found = datasets.load_dataset(str(either), cache_dir=str(tmp_path))

    assert list(found) == ["train"]
    table = found["train"].with_format("numpy")
    loaded = load_release(either)
    np.testing.assert_array_equal(np.asarray(table["X"]), loaded.X)
    assert [row["label"] for row in found["train"]] == LABELS
    np.testing.assert_array_equal(np.asarray(table["y"]), loaded.y)
    np.testing.assert_array_equal(np.asarray(table["subject"]), loaded.subject)


def test_mlcroissant_reads_every_record_and_the_responsible_ai_fields(either: Path) -> None:
    mlcroissant = pytest.importorskip("mlcroissant", reason="mlcroissant is not installed")

    dataset = mlcroissant.Dataset(str(either / "croissant.json"))
    records = list(dataset.records("windows"))

    loaded = load_release(either)
    assert not dataset.metadata.issues.errors
    # The one thing it misses is a date of publication: a release has no clock.
    assert all("datePublished" in warning for warning in dataset.metadata.issues.warnings)
    assert dataset.metadata.ctx.is_v1_1()
    assert len(records) == 10
    for number, record in enumerate(records):
        found = {name.removeprefix("windows/"): value for name, value in record.items()}
        np.testing.assert_array_equal(np.array(found["X"], np.float32), loaded.X[number])
        label = found["label"].decode() if isinstance(found["label"], bytes) else found["label"]
        assert (found["window"], found["y"], label) == (number, loaded.y[number], LABELS[number])
    assert "no attempt to find" in str(dataset.metadata.data_use_cases)
    assert loaded.statement.sentence() in str(dataset.metadata.personal_sensitive_information)


def test_pandas_and_pyarrow_read_the_table_and_what_it_is(either: Path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet", reason="pyarrow is not installed")
    pandas = pytest.importorskip("pandas", reason="pandas is not installed")

    frame = pandas.read_parquet(either / "data/ml/windows.parquet")
    facts = parquet.read_schema(either / "data/ml/windows.parquet").metadata

    loaded = load_release(either)
    assert list(frame.columns) == ["window", "subject", "participant_id", "y", "label", "X"]
    signal = np.array([np.stack(list(window)) for window in frame["X"]])
    assert signal.dtype == np.float32
    np.testing.assert_array_equal(signal, loaded.X)
    assert frame["participant_id"].tolist() == [f"sub-syn{subject + 1:04d}" for subject in loaded.subject]
    assert json.loads(facts[b"channels"]) == list(loaded.channels)
    assert json.loads(facts[b"label_names"]) == ["healthy", "epilepsy"]
    assert (json.loads(facts[b"sfreq"]), json.loads(facts[b"unit"])) == (173.61, "uV")


def test_the_strict_bids_validator_finds_no_error(either: Path) -> None:
    beside = Path(sys.executable).parent / "bids-validator-deno"
    program = str(beside) if beside.is_file() else shutil.which("bids-validator-deno")
    if program is None:
        pytest.skip("bids-validator-deno is not installed")

    done = subprocess.run([program, "--format", "json", str(either)], capture_output=True, text=True, check=False)
    issues = json.loads(done.stdout)["issues"]["issues"]

    assert [(issue["code"], issue["location"]) for issue in issues if issue["severity"] == "error"] == []
    assert done.returncode == 0
    codes = {issue["code"] for issue in issues}
    assert not codes & {"EVENTS_TSV_MISSING", "SUBJECT_FOLDERS", "TSV_ADDITIONAL_COLUMNS_UNDEFINED"}


def bids_paths(release: Path) -> list[Any]:
    mne_bids = pytest.importorskip("mne_bids", reason="mne-bids is not installed")
    names = [line.split("\t")[0] for line in (release / "participants.tsv").read_text().splitlines()[1:]]
    return [
        mne_bids.BIDSPath(
            root=release, subject=name[4:], task="synthetic", datatype="eeg", suffix="eeg", extension=".edf"
        )
        for name in names
    ]


def test_mne_bids_reads_recordings_with_their_labels(pristine: Path) -> None:
    paths = bids_paths(pristine)
    import mne_bids

    found = [mne_bids.read_raw_bids(path, verbose="error") for path in paths]

    assert [name for raw in found for name in raw.annotations.description] == LABELS
    signal = np.concatenate([raw.get_data() for raw in found], axis=1) * 1e6
    expected = np.concatenate(list(load_release(pristine).X), axis=1)
    assert np.abs(signal - expected).max() <= RANGE / 32767 / 2 * (1 + 1e-6)


def test_mne_bids_reads_epochs_with_one_number_for_a_label_in_every_file(pristine: Path) -> None:
    paths = bids_paths(pristine)
    import mne_bids

    found = [mne_bids.read_epochs_bids(path, verbose="error") for path in paths]

    ids = {name: number for epochs in found for name, number in epochs.event_id.items()}
    assert ids == load_release(pristine).to_epochs().event_id
    names = {number: name for name, number in ids.items()}
    assert [names[code] for epochs in found for code in epochs.events[:, 2]] == LABELS
    signal = np.concatenate([epochs.get_data() for epochs in found]) * 1e6
    assert np.abs(signal - load_release(pristine).X).max() <= RANGE / 32767 / 2 * (1 + 1e-6)


def test_mne_bids_writes_a_report_of_the_data_set(pristine: Path) -> None:
    mne_bids = pytest.importorskip("mne_bids", reason="mne-bids is not installed")

    report = mne_bids.make_report(pristine, verbose="error")

    assert "fedsynth rehearsal" in report
    assert "6 participants" in report


def test_wfdb_reads_a_label_in_the_header_and_at_every_window(ecg: Path) -> None:
    wfdb = pytest.importorskip("wfdb", reason="wfdb is not installed")

    labels = []
    for number in range(1, 7):
        record = wfdb.rdrecord(str(ecg / f"wfdb/sub-syn{number:04d}"))
        notes = wfdb.rdann(str(ecg / f"wfdb/sub-syn{number:04d}"), "atr")
        assert notes.sample.tolist() == list(range(0, record.sig_len, 64))
        assert f"label: {notes.aux_note[0]}" in record.comments
        labels += notes.aux_note

    assert labels == LABELS


def test_events_of_an_ecg_say_which_window_has_which_label(ecg: Path) -> None:
    rows = (ecg / "sub-syn0004/beh/sub-syn0004_task-synthetic_events.tsv").read_text().splitlines()

    assert rows == [
        "onset\tduration\ttrial_type\tvalue",
        "0.000000\t0.368642\tepilepsy\t2",
        "0.368642\t0.368642\tepilepsy\t2",
    ]


def einthoven(signal: np.ndarray) -> float:
    """Return the largest difference between limb leads and what Einthoven and Goldberger make of I and II."""
    first, second, third, right, left, foot = np.moveaxis(signal.astype(np.float64), -2, 0)[:6]
    found = [third - (second - first), right + (first + second) / 2, left - (first - second / 2)]
    found += [foot - (second - first / 2), first + third - second, right + left + foot]
    return float(max(np.abs(difference).max() for difference in found))


def test_leads_keep_their_laws_where_amplitudes_were_cut(ecg: Path) -> None:
    loaded = load_release(ecg)

    assert np.abs(loaded.X).max() <= RANGE
    assert np.abs(loaded.X).max() > 0.999 * RANGE
    assert einthoven(loaded.X) <= 2 * RANGE * 2**-23  # the last bits of float32


def test_leads_of_wfdb_records_keep_their_laws_up_to_quantisation(ecg: Path) -> None:
    wfdb = pytest.importorskip("wfdb", reason="wfdb is not installed")
    signal = np.concatenate(
        [wfdb.rdrecord(str(ecg / f"wfdb/sub-syn{number:04d}")).p_signal.T for number in range(1, 7)], axis=1
    )

    step = RANGE / 32767
    # Three leads rounded to half a step each.
    assert einthoven(1000 * signal) <= 1.51 * step
    assert np.abs(1000 * signal - np.concatenate(list(load_release(ecg).X), axis=1)).max() <= 0.51 * step
