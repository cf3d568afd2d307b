"""The label on the box: how windows were made, in words that follow from facts."""

import json
from dataclasses import replace
from typing import Any

import pytest

from fedsynth.coordinator.statement import assumptions
from fedsynth.engines.registry import ENGINES as ALL_ENGINES
from fedsynth.errors import PrivacyError, RunError
from fedsynth.privacy import making
from fedsynth.privacy.making import ENGINES, Making, Setting
from fedsynth.privacy.mechanism import Mechanism
from fedsynth.privacy.statement import PrivacyStatement, SiteStatement
from fedsynth.study import Study

MADE = Making(0, "in-process", "toy", "a" * 64)


def statement(made: Making = MADE) -> PrivacyStatement:
    event = Mechanism("anchor", noise_multiplier=8.0, sampling_probability=1.0, steps=1, clipping_norm=1.0)
    site = SiteStatement("north", 1.0, 1.0, 1e-5, "0" * 64, (event,), ())
    return PrivacyStatement(1.0, 1e-5, "subject", "add", "site", "a", "b", "this", "none", "code", made, (site,))


def test_every_engine_has_words_and_no_other_has() -> None:
    assert set(ENGINES) == {*ALL_ENGINES, "federation"}


def test_a_label_is_read_as_it_was_written() -> None:
    made = replace(MADE, gradient_steps=120)

    assert PrivacyStatement.from_json(statement(made).to_json()).made == made
    assert "120 private gradient steps" in made.training
    assert "anchor only" in MADE.training


@pytest.mark.parametrize(
    "change",
    [
        pytest.param({"training": "trained: 9 private gradient steps"}, id="words of other facts"),
        pytest.param({"gradient_steps": -1}, id="negative"),
        pytest.param({"gradient_steps": True}, id="no number"),
        pytest.param({"engine": "cloud"}, id="an engine nobody knows"),
        pytest.param({"windows_sha256": "A" * 64}, id="no digest"),
        pytest.param({"more": 1}, id="a field nobody knows"),
    ],
)
def test_a_label_that_contradicts_itself_is_refused(change: dict[str, Any]) -> None:
    body = json.loads(statement().to_json())
    body["made"] |= change

    with pytest.raises(RunError, match="cannot be read"):
        PrivacyStatement.from_json(json.dumps(body))


def test_a_statement_of_an_earlier_version_is_refused_and_told_why() -> None:
    body = json.loads(statement().to_json())
    del body["made"]

    with pytest.raises(RunError, match="earlier version"):
        PrivacyStatement.from_json(json.dumps(body))


@pytest.mark.parametrize("engine", [*ALL_ENGINES, "an engine nobody knows"])
def test_no_engine_of_today_lets_the_coordinator_misbehave(tiny: Study, engine: str) -> None:
    said = assumptions(None, without_rounds(tiny), engine=engine)

    assert "neither the coordinator" not in said
    assert "has to behave" in said


def test_only_where_sites_run_their_own_code_need_the_coordinator_not_behave(
    tiny: Study, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(making.ENGINES, "own", Setting("deployment", is_rehearsal=False, own_code=True))

    said = assumptions(None, without_rounds(tiny), engine="own")

    assert said.endswith("neither the coordinator nor another site has to behave")
    assert replace(MADE, engine="own").coordinator_may_misbehave


def test_a_digest_must_be_one() -> None:
    with pytest.raises(PrivacyError, match="64 hexadecimal"):
        replace(MADE, windows="")


def without_rounds(study: Study) -> Study:
    return study.model_copy(update={"training": study.training.model_copy(update={"rounds": 0})})
