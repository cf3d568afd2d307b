"""Secret randomness: the right distribution, and never the same twice."""

import math

import numpy as np
import pytest
from scipy import stats

from fedsynth.privacy import noise
from fedsynth.privacy.noise import LATTICE_STD, poisson_draw, system_noise


def test_the_wide_law_is_a_gaussian_of_the_stated_width() -> None:
    drawn = system_noise(200_000) / LATTICE_STD

    assert stats.kstest(drawn, "norm").pvalue > 1e-6
    assert drawn.std() == pytest.approx(1, rel=0.01)


def test_the_narrow_law_is_a_discrete_gaussian() -> None:
    drawn = noise._narrow(400_000)
    values = np.arange(-1200, 1201)
    weights = np.exp(-(values**2) / (2 * 256**2))
    expected = weights / np.exp(-(np.arange(-5120, 5121) ** 2) / (2 * 256**2)).sum() * len(drawn)
    counts = np.bincount(drawn[abs(drawn) <= 1200] + 1200, minlength=2401)

    # Hundreds of values that are each expected more than five times.
    assert stats.chisquare(counts, expected * counts.sum() / expected.sum()).pvalue > 1e-6


def test_every_bucket_of_the_table_gives_back_its_probability_exactly() -> None:
    """The alias method's identity: what a value keeps plus what it is lent is its probability, as integers."""
    table, full = noise._alias_table(), 2**178
    kept = [(int(t) << 128) + rest for t, rest in zip(table.threshold, table.rest, strict=True)]
    total = list(kept)
    for bucket, other in enumerate(table.other):
        total[int(other)] += full - kept[bucket]

    assert sum(total) == 2**192
    assert total[5120 - 300] == total[5120 + 300]
    for value in (0, 1, 300, 1000):
        ratio = total[5120 + value] / total[5120]
        assert ratio == pytest.approx(math.exp(-(value**2) / (2 * 256**2)), rel=1e-12)


def test_a_tie_is_broken_with_the_right_probability(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every word here equals its bucket's threshold, so that the rest of the probability decides."""
    table = noise._alias_table()
    bucket = next(b for b in range(5120, 9000) if 0 < table.threshold[b] < 2**50 and table.other[b] != b)
    word = np.uint64((bucket << 50) + int(table.threshold[bucket]))
    monkeypatch.setattr(noise, "_words", lambda count: np.full(count, word))

    share = (noise._narrow(20_000) == bucket - 5120).mean()

    assert share == pytest.approx(table.rest[bucket] / 2**128, abs=0.02)


def test_neighbouring_numbers_are_independent() -> None:
    drawn = system_noise(200_000).astype(float)

    assert abs(np.corrcoef(drawn[:-1], drawn[1:])[0, 1]) < 0.02


def test_two_calls_share_nothing() -> None:
    assert np.isin(system_noise(1000), system_noise(1000)).sum() <= 1


def test_poisson_draws_have_a_binomial_size() -> None:
    sizes = np.array([len(poisson_draw(100, probability=0.2)) for _ in range(2000)])

    # Mean 20, variance 16; a fixed batch would have variance 0.
    assert sizes.mean() == pytest.approx(20, abs=0.5)
    assert sizes.var() == pytest.approx(16, rel=0.2)


def test_probability_one_takes_everybody_in_order() -> None:
    assert poisson_draw(5, probability=1.0).tolist() == [0, 1, 2, 3, 4]
