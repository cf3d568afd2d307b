"""Fidelity: each measure sees what was planted, and nothing where nothing was."""

import importlib
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

FOLDER = Path(__file__).parents[2] / "benchmarks"
RATE = 128.0


@pytest.fixture(scope="module")
def bench() -> Iterator[SimpleNamespace]:
    """Import the benchmark as its command line does, from its own folder."""
    sys.path.insert(0, str(FOLDER))
    names = ("fidelity", "fidelity_measures")
    try:
        yield SimpleNamespace(**{name: importlib.import_module(name) for name in names})
    finally:
        sys.path.remove(str(FOLDER))


def noise(count: int, *, channels: int = 1, seed: int = 0) -> np.ndarray:
    return 20 * np.random.default_rng(seed).normal(size=(count, channels, 256))


def test_a_shifted_copy_is_a_twin_and_noise_has_none(bench: SimpleNamespace) -> None:
    signal, labels = noise(20), np.repeat([0, 1], 10)

    assert bench.fidelity_measures.twins(signal, labels) == {"same": 0.0, "across": 0.0}

    signal[1] = -3 * np.roll(signal[0], 40, axis=-1)
    signal[19] = signal[0]
    assert bench.fidelity_measures.twins(signal, labels) == {"same": 0.1, "across": pytest.approx(0.15)}


def test_what_people_share_is_read_within_labels(bench: SimpleNamespace) -> None:
    rng = np.random.default_rng(1)
    people, labels = np.repeat(np.arange(200), 8), np.repeat(np.arange(2), 800)
    values = 10.0 * labels + rng.normal(size=200)[people] + rng.normal(size=1600) / np.sqrt(3)

    assert bench.fidelity_measures.intraclass_correlation(values, people, labels) == pytest.approx(0.75, abs=0.05)
    alone = bench.fidelity_measures.intraclass_correlation(rng.normal(size=1600), people, labels)
    assert alone == pytest.approx(0, abs=0.05)


def test_channels_in_common_are_told(bench: SimpleNamespace) -> None:
    signal = noise(50, channels=3)
    signal[:, 1] += signal[:, 0]

    pairs = bench.fidelity_measures.mean_correlations(signal)
    assert pairs == pytest.approx([0.5**0.5, 0, 0], abs=0.05)


def test_another_spectrum_is_told_and_the_same_is_not(bench: SimpleNamespace) -> None:
    train, test, other = (noise(200, seed=seed) for seed in (1, 2, 3))
    slow = np.cumsum(other, axis=-1)

    assert bench.fidelity_measures.told_apart((train[:100], train[100:]), (test[:100], test[100:])) < 0.7
    assert bench.fidelity_measures.told_apart((train[:100], slow[:100]), (test[:100], slow[100:])) > 0.99
    hertz = np.array([2.0, 40.0])
    assert bench.fidelity_measures.log_spectrum(slow, RATE, hertz) @ [1, -1] > 10


def test_halves_share_nobody_and_hold_everybody(bench: SimpleNamespace) -> None:
    people = np.repeat(np.arange(40), 3)
    half = bench.fidelity.Half(noise(120), people % 2, people, people, people)

    first, second = bench.fidelity.halves(half, np.random.default_rng(0))
    assert not set(first.people) & set(second.people)
    assert len(first.people) + len(second.people) == 120
    assert abs(first.labels.mean() - 0.5) < 0.1
