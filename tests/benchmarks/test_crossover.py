"""The crossover: a pool has the noise of the many it stands for, and what is read between noises is on the line."""

import importlib
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

FOLDER = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture(scope="module")
def bench() -> Iterator[SimpleNamespace]:
    """Import the benchmark as its command line does, from its own folder."""
    sys.path.insert(0, str(FOLDER))
    names = ("crossover_population", "crossover", "crossover_map")
    try:
        yield SimpleNamespace(**{name: importlib.import_module(name) for name in names})
    finally:
        sys.path.remove(str(FOLDER))


def test_sums_and_gradients_of_a_pool_are_as_noisy_as_those_of_the_many(bench: SimpleNamespace) -> None:
    crossover = bench.crossover
    declared = crossover.plan_of(crossover.study_of("all", people=4000, epsilon=8.0, steps=5))
    plan = crossover.rescaled(declared, pool=40, people=4000, batch=10)

    for many, few in zip(declared.steps, plan.steps, strict=True):
        # Noise beside the sum of those who are drawn, in units of the bound.
        beside = [
            one.mechanism.noise_multiplier / (one.mechanism.sampling_probability * people)
            for one, people in ((many, 4000), (few, 40))
        ]
        assert beside[1] == pytest.approx(beside[0]), many.kind
    assert plan.estimator == declared.estimator
    assert [one.mechanism.sampling_probability for one in plan.steps if one.kind == "train"] == [0.25]


def test_people_share_what_their_fit_says_and_labels_may_have_one_fit(bench: SimpleNamespace) -> None:
    population = bench.crossover_population
    rng = np.random.default_rng(0)
    people = np.repeat(np.arange(60), 4)
    vectors = np.repeat(rng.normal(size=(60, 3)), 4, axis=0) + 0.1 * rng.normal(size=(240, 3))
    drawn = population.Fit.of(vectors, people).draw(rng, people=500, windows=4).reshape(500, 4, 3)

    assert drawn.mean(axis=1).std(axis=0) == pytest.approx(np.ones(3), abs=0.25)
    assert drawn.std(axis=1).mean() == pytest.approx(0.1, rel=0.4)


def test_added_waves_differ_by_label_alone(bench: SimpleNamespace) -> None:
    population, rng = bench.crossover_population, np.random.default_rng(0)
    locked, anywhere = (np.stack([population._evoked(rng, label) for _ in range(400)]) for label in (1, 0))

    assert np.ptp(locked, axis=0).max() == 0
    assert anywhere.std(axis=1).mean() == pytest.approx(locked.std(axis=1).mean(), rel=0.1)
    assert np.abs(anywhere.mean(axis=0)).max() < 0.5 * np.abs(locked.mean(axis=0)).max()


def test_between_two_noises_the_share_is_on_the_line_and_beyond_the_loudest_nothing(bench: SimpleNamespace) -> None:
    noises, values = np.array([1e-3, 4e-3]), np.array([0.8, 0.1])

    assert bench.crossover_map.between(2e-3, noises, values) == pytest.approx(0.45)
    assert bench.crossover_map.between(1e-4, noises, values) == pytest.approx(0.8)
    assert bench.crossover_map.between(1e-2, noises, values) == 0.0
