"""A loaded release holds what was released, in any order, and says what an installation lacks."""

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from fedsynth.errors import ReleaseError, VerificationError
from fedsynth.evaluation.score import Score
from fedsynth.privacy.statement import PrivacyStatement
from fedsynth.release.load import WINDOWS, load_release
from fedsynth.synthesis.windows import SyntheticWindows

ONLY = """
import importlib.abc, sys

class Absent(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        top = name.partition(".")[0]
        if top not in sys.stdlib_module_names and top not in {allowed}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)

sys.meta_path.insert(0, Absent())
import fedsynth
{call}
"""


def test_arrays_labels_and_subjects_are_those_that_were_drawn(pristine: Path, windows: SyntheticWindows) -> None:
    loaded = load_release(pristine)

    assert np.array_equal(loaded.X, windows.signal)
    assert loaded.y.tolist() == windows.labels.tolist()
    assert loaded.labels.tolist() == ["healthy"] * 5 + ["epilepsy"] * 5
    assert loaded.subject.tolist() == windows.subjects.tolist()
    assert (loaded.channels, loaded.sfreq, loaded.modality) == (("C3", "C4"), 173.61, "eeg")


def test_statement_and_scores_are_those_of_the_release(
    pristine: Path, statement: PrivacyStatement, scores: tuple[Score, ...]
) -> None:
    loaded = load_release(pristine)

    assert loaded.statement == statement
    assert {score.name: score.value for score in loaded.scores}[scores[0].name] == scores[0].value


def test_verification_is_the_one_of_the_command(release: Path) -> None:
    assert load_release(release).verify().study == "small"
    (release / "README.md").write_text("another")

    with pytest.raises(VerificationError, match=r"README\.md"):
        load_release(release).verify()


def test_a_folder_that_is_no_release_is_refused_with_what_it_lacks(tmp_path: Path) -> None:
    with pytest.raises(
        ReleaseError, match=r"no release: it has no data/ml/windows.npz and no privacy/statement.json"
    ):
        load_release(tmp_path)


@pytest.mark.parametrize(
    ("name", "text", "attribute"),
    [
        pytest.param(WINDOWS, "no archive", "X", id="archive"),
        pytest.param("privacy/statement.json", "{}", "statement", id="statement"),
        pytest.param("report/metrics.json", "[1]", "scores", id="metrics"),
        pytest.param("provenance/study.toml", "=", "modality", id="study"),
    ],
)
def test_a_damaged_part_is_named(release: Path, name: str, text: str, attribute: str) -> None:
    (release / name).write_text(text)

    with pytest.raises(ReleaseError, match=re.escape(name)):
        getattr(load_release(release), attribute)


def test_epochs_are_volts_in_the_order_of_the_windows(pristine: Path) -> None:
    pytest.importorskip("mne")
    loaded = load_release(pristine)
    epochs = loaded.to_epochs()

    assert np.allclose(epochs.get_data(copy=False) * 1e6, loaded.X, atol=1e-3)
    assert [
        dict(map(reversed, epochs.event_id.items()))[code] for code in epochs.events[:, 2]
    ] == loaded.labels.tolist()
    assert epochs.ch_names == ["C3", "C4"]
    left, right = (epochs.info["chs"][place]["loc"][0] for place in (0, 1))
    assert left < 0 < right  # C3 is over the left half of the head


def test_a_dataframe_has_a_row_for_each_sample(pristine: Path) -> None:
    pytest.importorskip("pandas")
    loaded = load_release(pristine)
    frame = loaded.to_dataframe()

    assert list(frame.columns) == ["window", "subject", "label", "time", "C3", "C4"]
    assert len(frame) == 10 * 64
    mine = frame[frame["window"] == 7]
    assert np.array_equal(mine["C4"].to_numpy(), loaded.X[7, 1])
    assert set(mine["label"]) == {"epilepsy"}
    assert mine["time"].iloc[1] == pytest.approx(1 / 173.61)


def test_a_notebook_shows_the_promise_and_that_nothing_was_verified(
    pristine: Path, statement: PrivacyStatement
) -> None:
    shown = load_release(pristine)._repr_html_()

    assert statement.sentence() in shown
    assert "not yet" in shown
    assert "<script" not in shown


@pytest.mark.parametrize(
    ("call", "allowed"),
    [
        pytest.param(
            "print(fedsynth.verify({release!r}).study)", {"cryptography"}, id="verified with cryptography"
        ),
        pytest.param(
            "print(fedsynth.load_release({release!r}).X.shape[0] and 'small')",
            {"cryptography", "numpy"},
            id="loaded with NumPy",
        ),
    ],
)
def test_nothing_else_is_needed(pristine: Path, call: str, allowed: set[str]) -> None:
    code = ONLY.format(allowed=allowed | {"fedsynth", "_cffi_backend"}, call=call.format(release=str(pristine)))
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)

    assert done.stdout.strip() == "small", done.stderr
