"""Evidence: numbers that say nothing are named, and a plan knows beforehand."""

import math

import pytest

from fedsynth.evaluation.evidence import expected_interval, says_nothing
from fedsynth.evaluation.score import Score
from fedsynth.study import Study


def score(name: str, value: float, low: float, high: float) -> Score:
    return Score(name, value, low, high, 1, "private sum", "")


@pytest.mark.parametrize(
    ("given", "why"),
    [
        pytest.param(score("AUROC, S", 0.5, 0.0, 1.0), "chance and perfection", id="Bonn at epsilon 1"),
        pytest.param(score("AUROC, S", 0.71, 0.44, 0.97), "chance and perfection", id="nearly perfection"),
        pytest.param(score("macro-F1, 5 labels", 0.5, 0.3, 0.85), "half a scale wide", id="wide"),
        pytest.param(score("AUROC", math.nan, math.nan, math.nan), "could not be computed", id="not a number"),
        pytest.param(score("AUROC", 0.9, math.nan, math.nan), "no interval", id="no interval"),
        pytest.param(score("AUROC", 1.0, 1.0, 1.0), "end of its scale", id="saturated"),
        pytest.param(score("diversity", 1.0, 0.999, 1.0), "end of its scale", id="saturated diversity"),
        pytest.param(score("AUROC", 0.9, 0.81, 0.97), "", id="better than chance"),
        pytest.param(score("AUROC", 0.55, 0.42, 0.66), "", id="no better than chance, and precisely so"),
        pytest.param(score("diversity", 0.74, 0.7, 0.78), "", id="diversity"),
        pytest.param(score("distance, dB", 4.4, 4.1, 4.6), "", id="no share"),
    ],
)
def test_a_number_that_says_nothing_is_told_from_one_that_does(given: Score, why: str) -> None:
    found = says_nothing(given, labels=5)

    assert why in found
    assert bool(why) == bool(found)


def cohort(study: Study, units: int) -> Study:
    return study.model_copy(update={"cohort": study.cohort.model_copy(update={"expected_units": units})})


def test_more_people_and_less_noise_give_a_shorter_interval(tiny: Study) -> None:
    def width(units: int, noise: float) -> float:
        found = expected_interval(cohort(tiny, units), noise_multiplier=noise, sites=4)
        return found.high - found.low

    assert width(1000, 1.0) < width(200, 1.0) < width(200, 4.0)


@pytest.mark.parametrize(("units", "noise", "silent"), [(20, 5.0, True), (2000, 0.7, False)])
def test_a_plan_says_plainly_that_it_cannot_tell(tiny: Study, units: int, noise: float, silent: bool) -> None:
    found = expected_interval(cohort(tiny, units), noise_multiplier=noise, sites=4)

    assert found.says_nothing == silent
    assert ("can say nothing" in found.sentence("subject")) == silent


def test_shares_of_noise_are_drawn_once(tiny: Study) -> None:
    apart = expected_interval(tiny, noise_multiplier=2.0, sites=4)
    shared = expected_interval(tiny, noise_multiplier=2.0, sites=4, noise_shares=4)

    assert apart.noise_std == pytest.approx(2 * shared.noise_std)
    assert apart.units == round(10 * 4 * 0.2)
