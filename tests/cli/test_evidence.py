"""From a finished run to a release: real recordings are not signed, and what is scored is what is shipped."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from fedsynth.coordinator.run_folder import RunFolder
from fedsynth.privacy.statement import PrivacyStatement
from fedsynth.site.holdings import load_holdings
from fedsynth.synthesis.archive import archive_digest, write_npz
from fedsynth.synthesis.windows import SyntheticStream, stream_of


def exchange(run: Path, signal: np.ndarray) -> None:
    """Put other windows in the place of those that were drawn, as if these had been scored."""
    folder = RunFolder(run)
    stream: SyntheticStream = stream_of(replace(folder.windows().gathered(), signal=signal.astype(np.float32)))
    write_npz(folder.archive, windows=stream)
    digest = archive_digest(folder.archive)
    statement = folder.statement()
    made = replace(statement.made, windows=digest)
    (run / "statement.json").write_text(replace(statement, made=made).to_json())
    scores = json.loads((run / "scores.json").read_text())
    (run / "scores.json").write_text(json.dumps([score | {"windows": digest} for score in scores]))


@pytest.mark.parametrize("share", [0.3, 1.0])
def test_a_run_whose_windows_are_recordings_is_not_signed(
    fedsynth: Callable[..., object], run_copy: Path, tmp_path: Path, share: float
) -> None:
    rng = np.random.default_rng(0)
    mine = RunFolder(run_copy).windows().gathered().signal.copy()
    held = [load_holdings(site / "holdings").at_home("train") for site in sorted(run_copy.glob("sites/*"))]
    real = np.concatenate([windows.signal for windows in held])
    rows = rng.choice(len(mine), round(share * len(mine)), replace=False)
    chosen = real[rng.choice(len(real), len(rows), replace=False)]
    mine[rows] = np.stack([np.roll(one, rng.integers(one.shape[-1]), axis=-1) for one in chosen]) * 1.7
    exchange(run_copy, mine)

    done = fedsynth("release", run_copy, "--out", tmp_path / "out")

    assert done.code == 3  # type: ignore[attr-defined]
    assert "copies of recordings" in done.err  # type: ignore[attr-defined]
    assert not (tmp_path / "out").exists()


def test_windows_exchanged_after_they_were_scored_are_not_released(
    fedsynth: Callable[..., object], run_copy: Path, tmp_path: Path
) -> None:
    before = RunFolder(run_copy).statement()
    exchange(run_copy, RunFolder(run_copy).windows().gathered().signal * 1.01)
    (run_copy / "statement.json").write_text(before.to_json())

    done = fedsynth("release", run_copy, "--out", tmp_path / "out")

    assert "not those that were scored" in done.err  # type: ignore[attr-defined]
    assert not (tmp_path / "out").exists()


def test_what_is_scored_is_what_is_shipped_and_a_site_can_look_for_itself(
    fedsynth: Callable[..., object], run_copy: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    fedsynth("release", run_copy, "--out", out)
    shipped = archive_digest(out / "data/ml/windows.npz")
    statement = PrivacyStatement.load(out / "privacy/statement.json")
    metrics = json.loads((out / "report/metrics.json").read_text())

    assert shipped == archive_digest(run_copy / "windows.npz") == statement.made.windows
    assert {row["windows"] for row in metrics if row["source"] in ("private sum", "synthetic")} == {shipped}
    assert "looked for before signing" in (out / "report/index.html").read_text()

    looked = fedsynth("site", "copies", run_copy / "sites/east", out)
    told = fedsynth("verify", out)

    assert (looked.code, told.code) == (0, 0)  # type: ignore[attr-defined]
    assert "no copies" in looked.out  # type: ignore[attr-defined]
    assert "private gradient steps" in told.out  # type: ignore[attr-defined]
    assert "every site was a folder on one machine" in told.out  # type: ignore[attr-defined]


def test_a_statement_that_says_trained_where_nothing_was_is_not_released(
    fedsynth: Callable[..., object], run_copy: Path, tmp_path: Path
) -> None:
    statement = RunFolder(run_copy).statement()
    other = replace(statement, made=replace(statement.made, gradient_steps=statement.made.gradient_steps + 1))
    (run_copy / "statement.json").write_text(other.to_json())

    done = fedsynth("release", run_copy, "--out", tmp_path / "out")

    assert done.code == 3  # type: ignore[attr-defined]
    assert "how the run was made" in done.err  # type: ignore[attr-defined]
