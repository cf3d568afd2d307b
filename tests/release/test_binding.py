"""Scores, label and windows belong together, or nothing is signed and nothing verifies."""

import html
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from fedsynth.errors import PrivacyError, RefusedError, VerificationError
from fedsynth.privacy.statement import PrivacyStatement
from fedsynth.release.documents import croissant, readme
from fedsynth.release.verify import verify_release
from fedsynth.study import Study
from fedsynth.synthesis.windows import SyntheticWindows, stream_of


def test_scores_of_other_windows_are_not_signed(build: Callable[..., Path], tmp_path: Path) -> None:
    with pytest.raises(RefusedError, match="other windows"):
        build(tmp_path / "out", of="f" * 64)

    assert not (tmp_path / "out").exists()


def test_windows_drawn_again_are_not_those_that_were_scored(
    build: Callable[..., Path], windows: SyntheticWindows, statement: PrivacyStatement, tmp_path: Path
) -> None:
    again = replace(windows, signal=windows.signal * np.float32(1.000001))

    with pytest.raises(RefusedError, match="other windows"):
        build(tmp_path / "out", windows=again, of=statement.made.windows)


def exchanged(release: Path, name: str, change: Callable[[Any], Any]) -> None:
    path = release / name
    path.write_text(json.dumps(change(json.loads(path.read_text(encoding="utf-8"))), indent=2) + "\n")


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(lambda row: row | {"windows": "f" * 64}, id="of others"),
        pytest.param(lambda row: row | {"windows": ""}, id="of none"),
        pytest.param(lambda row: {k: v for k, v in row.items() if k != "windows"}, id="not said"),
    ],
)
@pytest.mark.parametrize("source", ["private sum", "synthetic"])
def test_a_score_of_other_windows_does_not_verify_whoever_signs(
    release: Path, resign: Callable[..., None], change: Callable[[Any], Any], source: str
) -> None:
    exchanged(
        release,
        "report/metrics.json",
        lambda rows: [change(row) if row["source"] == source else row for row in rows],
    )
    resign(release)

    with pytest.raises(VerificationError, match="do not belong together"):
        verify_release(release)


def test_a_label_of_other_windows_does_not_verify(release: Path, resign: Callable[..., None]) -> None:
    exchanged(
        release,
        "privacy/statement.json",
        lambda body: body | {"made": body["made"] | {"windows_sha256": "f" * 64}},
    )
    resign(release)

    with pytest.raises(VerificationError, match="other windows"):
        verify_release(release)


@pytest.mark.parametrize("excludes", [None, [], "nothing", ["the weather"]])
def test_a_promise_that_does_not_say_what_it_leaves_out_does_not_verify(
    release: Path, resign: Callable[..., None], single_file: ModuleType, excludes: object
) -> None:
    """The single file knows no sentences by heart, and asks for some."""

    def without(body: dict[str, Any]) -> dict[str, Any]:
        rest = {name: value for name, value in body.items() if name != "excludes"}
        return rest if excludes is None else rest | {"excludes": excludes}

    exchanged(release, "privacy/statement.json", without)
    resign(release)

    with pytest.raises(VerificationError, match=r"malformed: privacy/statement\.json"):
        verify_release(release)
    if excludes != ["the weather"]:
        with pytest.raises(single_file.ReleaseError, match=r"malformed: privacy/statement\.json"):
            single_file.verify(release, None)


def test_readme_and_report_print_what_the_promise_does_not_cover(
    release: Path, statement: PrivacyStatement
) -> None:
    readme = (release / "README.md").read_text(encoding="utf-8")
    report = html.unescape((release / "report/index.html").read_text(encoding="utf-8"))

    assert len(statement.excludes) >= 5
    assert [what for what in statement.excludes if f"\n- {what}\n" not in readme] == []
    assert [what for what in statement.excludes if what[1:] not in report] == []


def test_more_gradient_steps_than_any_ledger_lists_do_not_verify(
    release: Path, resign: Callable[..., None], statement: PrivacyStatement
) -> None:
    trained = replace(statement, made=replace(statement.made, gradient_steps=12))
    (release / "privacy/statement.json").write_text(trained.to_json())
    resign(release)

    with pytest.raises(VerificationError, match="12 private gradient steps"):
        verify_release(release)


def test_windows_of_a_few_templates_are_not_signed(
    build: Callable[..., Path], windows: SyntheticWindows, tmp_path: Path
) -> None:
    rng = np.random.default_rng(0)
    some = windows.signal[rng.integers(0, 2, 80)]
    some = np.stack([np.roll(one, rng.integers(64), axis=-1) for one in some]) * rng.uniform(0.2, 1, (80, 1, 1))
    few = replace(
        windows,
        signal=some.astype(np.float32),
        labels=np.repeat(np.arange(2), 40),
        subjects=np.arange(80) // 2,
    )

    with pytest.raises(PrivacyError, match="few templates"):
        build(tmp_path / "out", windows=few)


def test_the_label_stands_wherever_a_reader_looks(pristine: Path, statement: PrivacyStatement) -> None:
    made = verify_release(pristine).made

    assert made == statement.made
    for name in ("README.md", "report/index.html", "croissant.json", "privacy/statement.json"):
        text = " ".join((pristine / name).read_text(encoding="utf-8").split()).lower()
        assert "anchor only" in text, name
        assert "every site was a folder on one machine" in text, name
        assert "recordings that were given as files" in text, name
        assert "trained together" not in text, name


def test_a_generator_that_was_trained_says_so(
    study: Study, statement: PrivacyStatement, windows: SyntheticWindows
) -> None:
    trained = replace(statement, made=replace(statement.made, gradient_steps=60, cohort="toy"))

    text = readme(study=study, statement=trained, windows=stream_of(windows))
    digests = dict.fromkeys(("data/ml/windows.npz", "data/ml/windows.parquet"), "0" * 64)
    described = croissant(study=study, statement=trained, digests=digests)["description"]

    for said in (text, described):
        assert "60 private gradient steps" in said
        assert "made-up people" in said
    assert "that 2 sites trained together" in text
