"""Features have the values that theory gives, and distances by feature hold their level where people are alike."""

import numpy as np
import pytest

from fedsynth.evaluation.protocol.features import feature_names, features_by_channel, features_of
from fedsynth.evaluation.protocol.fidelity import distances
from fedsynth.evaluation.protocol.material import Material
from fedsynth.modalities.shape import Shape

EEG = Shape(("Cz",), n_times=1024, sfreq=128.0, bandpass=(0.5, 60.0), n_labels=1, modality="eeg")
ECG = Shape(("II",), n_times=1000, sfreq=100.0, bandpass=(0.5, 40.0), n_labels=1, modality="ecg")


def told(signal: np.ndarray, shape: Shape) -> dict[str, float]:
    row = features_of(signal.astype(np.float32)[None, None], shape=shape)[0]
    return dict(zip(feature_names(shape), row.tolist(), strict=True))


def test_a_sine_has_its_band_its_mobility_and_its_decorrelation_time() -> None:
    seconds = np.arange(1024) / 128
    found = told(50 * np.sin(2 * np.pi * 10 * seconds), EEG)

    assert found["alpha share"] > 0.99
    assert found["Hjorth mobility"] == pytest.approx(2 * np.sin(np.pi * 10 / 128), rel=0.01)
    assert found["Hjorth complexity"] == pytest.approx(1, abs=0.01)
    assert found["decorrelation time (s)"] == pytest.approx(1 / 40, abs=1.01 / 128)
    assert found["kurtosis"] == pytest.approx(-1.5, abs=0.01)
    assert found["log rms"] == pytest.approx(np.log(50 / np.sqrt(2)), abs=0.01)


def test_white_noise_has_the_largest_entropies_and_a_dimension_of_two() -> None:
    found = told(np.random.default_rng(0).normal(size=1024), EEG)

    assert found["permutation entropy"] > 0.99
    assert found["spectral entropy"] > 0.9
    assert found["Higuchi dimension"] == pytest.approx(2, abs=0.05)
    assert found["kurtosis"] == pytest.approx(0, abs=0.4)


def test_a_line_has_one_order_and_a_dimension_of_one() -> None:
    found = told(np.arange(1024.0), EEG)

    assert found["permutation entropy"] == pytest.approx(0, abs=1e-6)
    assert found["Higuchi dimension"] == pytest.approx(1, abs=1e-3)


def test_regular_beats_have_their_interval_and_irregular_ones_are_less_regular() -> None:
    seconds = np.arange(1000) / 100
    rng = np.random.default_rng(1)
    regular, irregular = (
        sum(1000 * np.exp(-0.5 * ((seconds - at) / 0.02) ** 2) for at in times)
        for times in (np.arange(0.2, 10, 0.8), np.cumsum(rng.uniform(0.4, 1.3, 14)))
    )

    assert told(regular, ECG)["beat interval (s)"] == pytest.approx(0.8, abs=0.011)
    assert told(regular, ECG)["beat regularity"] > 0.9 > told(irregular, ECG)["beat regularity"]


def test_there_is_a_name_for_every_column_and_a_row_for_every_channel() -> None:
    two = Shape(("C3", "C4"), 64, 64.0, (0.5, 30.0), 1, "eeg")
    signal = np.random.default_rng(2).normal(size=(3, 2, 64)).astype(np.float32)

    assert features_by_channel(signal, shape=two).shape == (3, 2, len(feature_names(two)))
    assert len(feature_names(two)) == 13


def people(count: int, *, seed: int, shift: float = 1.0) -> Material:
    """People with a loudness of their own, with ten windows each that are nearly alike."""
    rng = np.random.default_rng(seed)
    loud = np.repeat(np.exp(rng.normal(0, 0.5, count)), 10) * shift
    signal = 20 * loud[:, None, None] * rng.normal(size=(10 * count, 1, 256))
    return Material(signal.astype(np.float32), np.zeros(10 * count, np.int64), np.repeat(np.arange(count), 10))


SHORT = Shape(("Cz",), n_times=256, sfreq=128.0, bandpass=(0.5, 60.0), n_labels=1, modality="eeg")


def loudness_p(first: Material, second: Material) -> float:
    rows = distances(first, second, shape=SHORT, names=("all",), draws=100)
    return next(row.corrected_p for row in rows if row.feature == "log rms")


def test_people_of_one_population_are_rejected_no_more_often_than_by_chance() -> None:
    """By window, two halves of such a population differ nearly always; by person they must not."""
    rejected = sum(
        loudness_p(people(15, seed=2 * seed), people(15, seed=2 * seed + 1)) < 0.05 for seed in range(20)
    )

    assert rejected <= 3


def test_windows_that_are_twice_as_loud_are_told_apart_and_lie_above_the_floor() -> None:
    rows = distances(people(30, seed=1), people(30, seed=2, shift=3.0), shape=SHORT, names=("all",), draws=100)
    loud = next(row for row in rows if row.feature == "log rms")

    assert loud.corrected_p < 0.15  # of 101 permutations none, times 13 comparisons
    assert loud.distance > loud.floor_high


def test_a_label_of_three_people_is_not_compared() -> None:
    assert distances(people(3, seed=1), people(30, seed=2), shape=SHORT, names=("all",), draws=10) == ()
