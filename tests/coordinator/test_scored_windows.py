"""The windows that are scored: drawn once, kept, named by digest, and shown to the classifier."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fedsynth.coordinator.rounds import run_plan
from fedsynth.coordinator.transport import InProcess
from fedsynth.evaluation import asked
from fedsynth.evaluation.compared_scores import RECORDINGS_LESS_RELEASE, WINDOWS_LESS_FEATURES
from fedsynth.evaluation.score import PRIVATE_COUNT
from fedsynth.plan import plan_of
from fedsynth.recordings.recording import Recording
from fedsynth.site.approval import approve
from fedsynth.site.holdings import Holdings
from fedsynth.site.session import SiteSession
from fedsynth.study import Study
from fedsynth.synthesis.archive import archive_digest


@pytest.mark.parametrize("units", [pytest.param(10, id="few"), pytest.param(1000, id="raw windows are compared")])
def test_the_windows_that_are_scored_are_those_that_are_kept(
    units: int,
    tiny: Study,
    tmp_path: Path,
    make_site: Callable[..., Holdings],
    make_people: Callable[..., list[Recording]],
    monkeypatch: pytest.MonkeyPatch,
    pinned: Callable[..., dict[str, bytes]],
) -> None:
    cohort = tiny.cohort.model_copy(update={"expected_units": units})
    training = tiny.training.model_copy(update={"rounds": 0})
    study = tiny.model_copy(update={"training": training, "cohort": cohort})
    plan, handlers, shown = plan_of(study), {}, []
    for seed, name in enumerate(("east", "west")):
        make_site(tmp_path / name, make_people(14, seed=seed), study=study)
        approve(tmp_path / name, run="run", plan=plan)
        handlers[name] = SiteSession(tmp_path / name).handle
    train = asked.train_classifier

    def watched(signal: Any, labels: Any, **rest: Any) -> Any:
        shown.append((signal, labels))
        return train(signal, labels, **rest)

    monkeypatch.setattr(asked, "train_classifier", watched)

    result = run_plan(
        plan,
        run="run",
        transport=InProcess(handlers),
        composes="this run only",
        roster=pinned(tmp_path),
        cohort="toy",
        archive=tmp_path / "windows.npz",
    )

    kept = np.load(tmp_path / "windows.npz")
    [(signal, labels)] = shown
    np.testing.assert_array_equal(signal, kept["X"])
    np.testing.assert_array_equal(labels, kept["y"])
    made = result.statement.made
    assert made.windows == archive_digest(tmp_path / "windows.npz")
    assert {score.windows for score in result.scores if score.source != PRIVATE_COUNT} == {made.windows}
    differences = {WINDOWS_LESS_FEATURES, RECORDINGS_LESS_RELEASE} & {score.name for score in result.scores}
    assert len(differences) == (2 if units == 1000 else 0)
    assert (made.gradient_steps, made.cohort, made.engine) == (0, "toy", "in-process")
