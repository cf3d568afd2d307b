"""The face: the notebook of the documentation runs as it stands there, and refusals come early."""

import re
import shutil
from pathlib import Path

import numpy as np
import pytest

import fedsynth
from fedsynth.errors import RefusedError, StudyError
from fedsynth.experiments.inputs import numbers_of

ROOT = Path(__file__).parents[1]


@pytest.mark.slow
def test_the_notebook_of_the_documentation_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    text = (ROOT / "docs" / "notebook.md").read_text(encoding="utf-8")
    code = re.findall(r"```python\n(.*?)```", text, re.DOTALL)[0]
    lines = [line for line in code.splitlines() if line.strip()]
    shutil.copytree(ROOT / "examples" / "toy", tmp_path / "examples" / "toy")
    study = tmp_path / "examples" / "toy" / "study.toml"  # less training and fewer windows: the calls are tried
    smaller = study.read_text(encoding="utf-8")
    for old, new in (("rounds = 2 ", "rounds = 1\nlocal_steps = 2 "), ("per_label = 800", "per_label = 200")):
        assert old in smaller
        smaller = smaller.replace(old, new)
    study.write_text(smaller, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    notebook: dict[str, object] = {}

    exec(compile(code, "docs/notebook.md", "exec"), notebook)  # noqa: S102  # our own page

    said = capsys.readouterr().out
    assert len(lines) <= 12
    assert "(400, 8, 256)" in said
    assert "Adding or removing" in said or "epsilon" in said
    assert len(notebook["epochs"]) == 400  # type: ignore[arg-type]


def test_every_name_that_is_offered_is_there() -> None:
    for name in dir(fedsynth):
        assert getattr(fedsynth, name)


def test_a_name_that_is_not_offered_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'synthesise'"):
        fedsynth.synthesise  # noqa: B018


def test_sites_and_a_toy_cohort_are_not_both_taken(tmp_path: Path) -> None:
    with pytest.raises(StudyError, match="sites or cohort, not both"):
        fedsynth.rehearse(
            ROOT / "examples" / "toy" / "study.toml", sites=tmp_path, cohort="toy", out=tmp_path / "run"
        )

    assert not (tmp_path / "run").exists()


def test_a_label_that_a_release_does_not_have_is_refused() -> None:
    names = ("rest", "task")

    assert numbers_of(np.array(["task", "rest"]), names, names).tolist() == [1, 0]
    assert numbers_of(np.array([1, 0]), names, names).tolist() == [1, 0]
    with pytest.raises(RefusedError, match="1 labels of the windows are none of: rest, task"):
        numbers_of(np.array(["rest", "tusk"]), names, names)
