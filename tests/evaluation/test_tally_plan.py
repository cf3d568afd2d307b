"""What is asked of held-out units follows from public facts, and leaves out cells that hold noise alone."""

import math
from dataclasses import replace

import numpy as np
import pytest

from fedsynth.evaluation import tally_plan
from fedsynth.evaluation.tally_plan import (
    EVERYTHING,
    TallyPlan,
    held_out_units,
    supposed_reading,
    supposed_shares,
    tally_plan_of,
)
from fedsynth.plan import plan_of
from fedsynth.study import Study


def study_of(tiny: Study, *, units: int, epsilon: float) -> Study:
    cohort = tiny.cohort.model_copy(update={"expected_units": units})
    privacy = tiny.privacy.model_copy(update={"epsilon": epsilon})
    return tiny.model_copy(update={"cohort": cohort, "privacy": privacy})


@pytest.mark.parametrize(
    ("units", "epsilon", "expected"),
    [
        pytest.param(40, 1.0, TallyPlan(2, confusion=False), id="few and loud"),
        pytest.param(100_000, 8.0, replace(EVERYTHING, compared=3), id="many and quiet"),
        pytest.param(40, math.inf, replace(EVERYTHING, compared=3), id="no noise"),
    ],
)
def test_the_louder_the_noise_the_less_is_asked(
    tiny: Study, units: int, epsilon: float, expected: TallyPlan
) -> None:
    assert tally_plan_of(study_of(tiny, units=units, epsilon=epsilon)) == expected


def test_the_bound_that_is_charged_is_that_of_what_is_asked(tiny: Study) -> None:
    """Half the cells gone, and the noise on the others falls by the root of two."""
    loud = plan_of(study_of(tiny, units=10, epsilon=1.0))
    quiet = plan_of(study_of(tiny, units=2000, epsilon=8.0))

    assert loud.steps[-1].mechanism.clipping_norm == 1.0
    assert quiet.steps[-1].mechanism.clipping_norm == pytest.approx(math.sqrt(5))


@pytest.mark.parametrize("bins", [2, 3, 4, 16])
def test_supposed_shares_are_those_of_two_normal_laws(bins: int) -> None:
    rng = np.random.default_rng(0)
    others, positives = rng.normal(size=200_000), rng.normal(size=200_000) + math.sqrt(2) * 1.0364333894937896
    edges = np.quantile(np.concatenate([others, positives]), np.arange(1, bins) / bins)
    drawn = [np.bincount(np.searchsorted(edges, some), minlength=bins) / len(some) for some in (others, positives)]

    assert np.allclose(drawn, supposed_shares(bins), atol=0.005)


def test_fewer_bins_read_less_and_two_read_the_share_of_right_answers() -> None:
    readings = [supposed_reading(bins) for bins in (2, 3, 4, 8, 16)]

    assert readings == sorted(readings)
    # One threshold in the middle: Phi(d / 2), with d the root of two times Phi^-1(.85).
    assert readings[0] == pytest.approx(0.7682, abs=1e-3)
    assert readings[-1] == pytest.approx(0.85, abs=0.002)


def test_the_expected_spread_is_that_of_simulated_tallies(tiny: Study) -> None:
    rng, bins, noise = np.random.default_rng(1), 4, 2.0
    rest, true = (np.array(shares) for shares in supposed_shares(bins))
    areas = []
    for _ in range(3000):
        others, positives = (
            rng.poisson(count * shares) + noise * rng.normal(size=bins)
            for count, shares in ((60, rest), (40, true))
        )
        areas.append((positives * (np.cumsum(others) - 0.5 * others)).sum() / positives.sum() / others.sum())

    area, std = tally_plan._expected(bins, positives=40, others=60, noise_std=noise)

    assert np.mean(areas) == pytest.approx(area, abs=0.01)
    assert np.std(areas) == pytest.approx(std, rel=0.1)
    assert held_out_units(tiny) == 4
