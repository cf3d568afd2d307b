"""A release of an ECG study: WFDB records instead of EDF, and no word about brains."""

import json
import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from fedsynth.errors import PrivacyError
from fedsynth.release.guard import guard
from fedsynth.release.manifest import UNCOVERED
from fedsynth.release.verify import verify_release
from fedsynth.study import parse_study
from fedsynth.synthesis.windows import SyntheticWindows


@pytest.fixture(scope="module")
def ecg_release(
    build: Callable[..., Path],
    study_text: str,
    windows: SyntheticWindows,
    tmp_path_factory: pytest.TempPathFactory,
) -> Path:
    text = study_text.replace('"eeg"', '"ecg"').replace('format = "edf"', 'format = "wfdb"')
    text = text.replace('["C3", "C4"]', '["I", "II"]').replace("Synthetic EEG", "Synthetic ECG")
    return build(
        tmp_path_factory.mktemp("ecg") / "release",
        study=parse_study(text),
        study_text=text,
        windows=replace(windows, channels=("I", "II")),
    )


@pytest.fixture
def unsigned(ecg_release: Path, tmp_path: Path) -> Path:
    """A copy as the guard meets it, to spoil."""
    folder = Path(shutil.copytree(ecg_release, tmp_path / "unsigned"))
    for path in UNCOVERED:
        (folder / path).unlink()
    return folder


def test_it_verifies(ecg_release: Path) -> None:
    assert verify_release(ecg_release).study == "small"


def test_it_holds_a_record_of_three_files_for_each_subject_and_no_edf(ecg_release: Path) -> None:
    records = sorted(path.name for path in (ecg_release / "wfdb").iterdir())

    assert records == [f"sub-syn000{number}.{kind}" for number in range(1, 7) for kind in ("atr", "dat", "hea")]
    assert not list(ecg_release.rglob("*.edf"))
    assert "wfdb" in (ecg_release / ".bidsignore").read_text().splitlines()
    lines = (ecg_release / "participants.tsv").read_text().splitlines()
    assert lines[1] == "sub-syn0001\thealthy\t2"
    assert json.loads((ecg_release / "dataset_description.json").read_text())["DatasetType"] == "raw"


def test_the_samples_of_a_record_are_the_windows_one_after_another(
    ecg_release: Path, windows: SyntheticWindows
) -> None:
    """Format 16 read by hand: 16-bit little-endian samples, channels in turn, gain from the header."""
    header = (ecg_release / "wfdb/sub-syn0004.hea").read_text().splitlines()
    gain = float(header[1].split()[2].split("(")[0])
    digital = np.fromfile(ecg_release / "wfdb/sub-syn0004.dat", "<i2").reshape(-1, 2)

    expected = windows.signal[5:7].transpose(0, 2, 1).reshape(-1, 2)
    assert header[0].split()[1:] == ["2", "173.61", "128"]
    np.testing.assert_allclose(digital / gain * 1000, expected, atol=0.51 * 1000 / gain)


def test_no_text_of_it_speaks_of_eeg(ecg_release: Path) -> None:
    texts = [
        path for path in ecg_release.rglob("*") if path.suffix in {".md", ".json", ".tsv", ".cff", ".html", ".hea"}
    ]

    found = [path.name for path in texts if re.search("EEG|/eeg/", path.read_text(encoding="utf-8"))]

    assert len(texts) > 10
    assert found == []
    assert "wfdb/" in (ecg_release / "README.md").read_text(encoding="utf-8")


def test_croissant_describes_the_records(ecg_release: Path) -> None:
    files = json.loads((ecg_release / "croissant.json").read_text())["distribution"][1]

    assert [len(list(ecg_release.glob(pattern))) for pattern in files["includes"]] == [6, 6, 6]
    assert files["encodingFormat"] == "application/x-wfdb"


@pytest.mark.parametrize(
    ("name", "data", "cause"),
    [
        pytest.param("wfdb/100.dat", b"0", "signal file", id="a person's record"),
        pytest.param("sub-syn0001.dat", b"0", "signal file", id="misplaced"),
        pytest.param(
            "wfdb/sub-syn0001.hea", b"x\n# from /home/ada/ecg\n", "absolute path", id="a path in a header"
        ),
    ],
)
def test_the_guard_looks_at_records_too(unsigned: Path, name: str, data: bytes, cause: str) -> None:
    guard(unsigned)
    (unsigned / name).write_bytes(data)

    with pytest.raises(PrivacyError, match=cause):
        guard(unsigned)
