"""`fedsynth draw`: subjects by label and feature, and what is no such thing."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

Fedsynth = Callable[..., Any]


def test_subjects_of_one_label_are_drawn_into_an_archive(
    fedsynth: Fedsynth, finished: Path, tmp_path: Path
) -> None:
    out = tmp_path / "a.npz"

    done = fedsynth("draw", finished, "--out", out, "--label", "task", "--windows", 6, "--per-subject", 4)

    with np.load(out, allow_pickle=False) as archive:
        assert archive["X"].shape == (6, 2, 128)
        assert archive["y"].tolist() == [1] * 6
        assert archive["subject"].tolist() == [0, 0, 0, 0, 1, 1]
    assert done.code == 0
    assert "6 synthetic windows of 2 made-up subjects" in done.out
    assert "no release" in done.out


def test_louder_subjects_can_be_asked_for(fedsynth: Fedsynth, finished: Path, tmp_path: Path) -> None:
    levels = []
    for number, quantile in enumerate(("0.05", "0.8:1")):
        out = tmp_path / f"{number}.npz"
        fedsynth("draw", finished, "--out", out, "--windows", 30, "--feature", f"loudness={quantile}")
        with np.load(out, allow_pickle=False) as archive:
            levels.append(float(np.median(archive["X"].std(axis=2))))

    assert levels[1] > levels[0]


@pytest.mark.parametrize(
    ("words", "code", "fragment"),
    [
        (["--label", "asleep"], 2, "is no label"),
        (["--condition", "age=60"], 2, "none of the study's conditions"),
        (["--condition", "age"], 2, "NAME=VALUE"),
        (["--statement", "AF"], 2, "none of the study's statements"),
        (["--feature", "charm=1"], 2, "there are: delta"),
        (["--feature", "alpha=loud"], 2, "two parted by a colon"),
        (["--feature", "alpha=0.1", "--feature", "alpha=0.2"], 2, "of one name twice"),
    ],
)
def test_what_cannot_be_drawn_is_said_and_nothing_is_written(
    fedsynth: Fedsynth, finished: Path, tmp_path: Path, words: list[str], code: int, fragment: str
) -> None:
    done = fedsynth("draw", finished, "--out", tmp_path / "a.npz", *words)

    assert done.code == code
    assert fragment in " ".join(done.err.replace("│", " ").split())
    assert list(tmp_path.iterdir()) == []


def test_what_is_there_is_left(fedsynth: Fedsynth, finished: Path, tmp_path: Path) -> None:
    (tmp_path / "a.npz").write_text("mine")

    assert fedsynth("draw", finished, "--out", tmp_path / "a.npz").code == 1
    assert (tmp_path / "a.npz").read_text() == "mine"
