"""Blind spots: cohorts differ in one thing, the classifier of raw windows sees it, and a network can learn it."""

import importlib
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from fedsynth.evaluation.blind_spots import table
from fedsynth.evaluation.protocol.classifiers.random_convolutions import auroc

FOLDER = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture(scope="module")
def bench() -> Iterator[SimpleNamespace]:
    """Import the benchmark as its command line does, from its own folder."""
    sys.path.insert(0, str(FOLDER))
    names = ("blind_spot_cohorts", "blind_spots")
    try:
        yield SimpleNamespace(**{name: importlib.import_module(name) for name in names})
    finally:
        sys.path.remove(str(FOLDER))


def spot_of(bench: SimpleNamespace, name: str) -> object:
    return next(spot for spot in bench.blind_spot_cohorts.BLIND_SPOTS if spot.name == name)


def test_people_have_one_label_and_the_same_seed_gives_the_same_people(bench: SimpleNamespace) -> None:
    cohorts = bench.blind_spot_cohorts
    for spot in cohorts.BLIND_SPOTS:
        one, again = (cohorts.cohort_of(spot, people=4, windows=2, seed=1) for _ in range(2))

        assert one.labels.tolist() == [0, 0, 1, 1, 0, 0, 1, 1]
        assert one.people.tolist() == [0, 0, 1, 1, 2, 2, 3, 3]
        assert np.array_equal(one.signal, again.signal)


@pytest.mark.parametrize("name", ["in phase or antiphase", "moment of a burst"])
def test_loudness_tells_nothing_of_the_label(bench: SimpleNamespace, name: str) -> None:
    cohort = bench.blind_spot_cohorts.cohort_of(spot_of(bench, name), people=200, windows=4, seed=1)
    loud = cohort.signal.std(axis=2).mean(axis=1)

    assert loud[cohort.labels == 1].mean() / loud[cohort.labels == 0].mean() == pytest.approx(1, abs=0.05)


@pytest.mark.long
def test_the_classifier_of_raw_windows_sees_every_difference_in_unseen_people(bench: SimpleNamespace) -> None:
    cohorts = bench.blind_spot_cohorts
    for spot in cohorts.BLIND_SPOTS:
        train, test = (cohorts.cohort_of(spot, people=people, windows=4, seed=people) for people in (300, 100))

        assert auroc(train.signal, train.labels, test.signal, test.labels) > 0.8, spot.name


def test_the_table_that_ships_tells_of_every_blind_spot(bench: SimpleNamespace) -> None:
    known = {(row.spot, row.modality) for row in table() if row.arm == "anchor"}

    assert known == {(spot.name, spot.modality) for spot in bench.blind_spot_cohorts.BLIND_SPOTS}


def test_signs_and_lags_between_channels_come_back_by_one_private_sum(
    bench: SimpleNamespace, capsys: pytest.CaptureFixture[str]
) -> None:
    small = ["--people", "60", "--test-people", "40", "--windows", "2", "--per-label", "150", "--epsilon", "8"]
    bench.blind_spots.main([*small, "--spots", "in phase or antiphase"])

    assert float(capsys.readouterr().out.split("recovered ")[1].split()[0]) > 0.7


@pytest.mark.long
def test_a_network_learns_an_evoked_waveform_that_no_feature_tells(
    bench: SimpleNamespace, capsys: pytest.CaptureFixture[str]
) -> None:
    """As measured: 500 people, 1000 steps; one or two minutes on a core of its own."""
    arms = ["--arms", "anchor without responses", "all:time-diffusion without responses"]
    bench.blind_spots.main(["--steps", "1000", "--spots", "evoked waveform", *arms])
    anchor, network = (
        float(line.split("recovered ")[1].split()[0]) for line in capsys.readouterr().out.split("\n")[:2]
    )

    assert anchor < 0.1
    assert network > 0.5
