"""Secret randomness: the right distribution, and never the same twice."""

import numpy as np
import pytest
from scipy import stats

from fedsynth.privacy import noise
from fedsynth.privacy.noise import poisson_draw, system_normal


def test_numbers_are_standard_normal() -> None:
    drawn = system_normal(200_000)

    assert stats.kstest(drawn, "norm").pvalue > 1e-6
    assert np.isfinite(drawn).all()


def test_neighbouring_numbers_are_independent() -> None:
    drawn = system_normal(200_000)

    assert abs(np.corrcoef(drawn[:-1], drawn[1:])[0, 1]) < 0.02


def test_two_calls_share_nothing() -> None:
    assert not np.isin(system_normal(1000), system_normal(1000)).any()


def test_the_largest_and_smallest_words_stay_finite(monkeypatch: pytest.MonkeyPatch) -> None:
    class Edge:
        def __init__(self, *_: object) -> None: ...

        def encryptor(self) -> "Edge":
            return self

        def update(self, data: bytes) -> bytes:
            return b"\x00" * 8 + b"\xff" * (len(data) - 8)

    monkeypatch.setattr(noise, "Cipher", Edge)

    assert np.isfinite(system_normal(2)).all()
    assert system_normal(2)[0] < -8
    assert system_normal(2)[1] > 8


def test_poisson_draws_have_a_binomial_size() -> None:
    sizes = np.array([len(poisson_draw(100, probability=0.2)) for _ in range(2000)])

    # Mean 20, variance 16; a fixed batch would have variance 0.
    assert sizes.mean() == pytest.approx(20, abs=0.5)
    assert sizes.var() == pytest.approx(16, rel=0.2)


def test_probability_one_takes_everybody_in_order() -> None:
    assert poisson_draw(5, probability=1.0).tolist() == [0, 1, 2, 3, 4]
