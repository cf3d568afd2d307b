"""What a promise does not cover: said in the statement, in sentences that follow from its facts."""

import json
from collections.abc import Callable
from typing import Any

import pytest

from fedsynth.errors import RunError
from fedsynth.privacy.exclusions import exclusions
from fedsynth.privacy.making import ENGINES, Making
from fedsynth.privacy.mechanism import UNITS, Mechanism
from fedsynth.privacy.statement import PrivacyStatement, SiteStatement

EVENT = Mechanism("anchor", noise_multiplier=2.0, sampling_probability=1.0, steps=1, clipping_norm=1.0)
STATEMENT = PrivacyStatement(
    epsilon=2.1,
    delta=1e-5,
    unit="subject",
    adjacency="add-or-remove-one",
    trust="site",
    accountant="PLD",
    second_accountant="PRV",
    composes="this run only",
    overlap="assumed none",
    assumes="each site's own code",
    made=Making(0, "in-process", "recordings", "1" * 64),
    sites=(SiteStatement("north", 2.1, 2.1, 1e-5, "0" * 64, (EVENT,), ()),),
)


def made(engine: str = "in-process", cohort: str = "recordings") -> Making:
    return Making(0, engine, cohort, "1" * 64)


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("unit", UNITS)
@pytest.mark.parametrize("trust", ["site", "aggregate"])
def test_what_no_noise_covers_is_said_of_every_run(engine: str, unit: str, trust: str) -> None:
    said = exclusions(made(engine), unit=unit, trust=trust)

    abouts = ("whether a site takes part", "as many people and windows", "when a site answers", "public text")
    for about in (*abouts, "in other studies"):
        assert sum(about in sentence for sentence in said) == 1
    assert len(set(said)) == len(said)
    assert all(sentence == sentence.strip(". ") and "\n" not in sentence for sentence in said)


def test_more_is_said_where_more_is_not_covered() -> None:
    usual = set(exclusions(made(), unit="subject", trust="site"))

    def more(changed: tuple[str, ...]) -> str:
        [sentence] = set(changed) - usual
        return sentence

    assert "how many recordings a person has" in more(exclusions(made(), unit="recording", trust="site"))
    assert "which total" in more(exclusions(made(), unit="subject", trust="aggregate"))
    assert "made-up people" in more(exclusions(made(cohort="toy"), unit="subject", trust="site"))


def written(change: Callable[[dict[str, Any]], None]) -> str:
    body = json.loads(STATEMENT.to_json())
    change(body)
    return json.dumps(body)


def test_a_statement_says_what_it_does_not_cover() -> None:
    assert json.loads(STATEMENT.to_json())["excludes"] == list(STATEMENT.excludes) != []
    assert PrivacyStatement.from_json(STATEMENT.to_json()) == STATEMENT


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(lambda body: body["excludes"].pop(), id="one sentence less"),
        pytest.param(lambda body: body["excludes"].clear(), id="no sentence"),
        pytest.param(lambda body: body["excludes"].append("the weather"), id="one sentence more"),
        pytest.param(lambda body: body["excludes"].reverse(), id="another order"),
        pytest.param(lambda body: body.update(excludes="nothing"), id="a text"),
        pytest.param(lambda body: body.update(trust="aggregate"), id="sentences of another trust"),
    ],
)
def test_a_statement_that_leaves_out_what_it_does_not_cover_is_refused(
    change: Callable[[dict[str, Any]], None],
) -> None:
    with pytest.raises(RunError, match="not said in the words of its facts"):
        PrivacyStatement.from_json(written(change))


def test_a_statement_of_an_earlier_version_is_refused_with_that_reason() -> None:
    with pytest.raises(RunError, match=r"an earlier version wrote it.*does not cover"):
        PrivacyStatement.from_json(written(lambda body: body.pop("excludes")))
