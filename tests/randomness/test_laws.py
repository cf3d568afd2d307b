"""Joint laws, low bits and tails of the noise, on a fixed tape; every threshold comes from arithmetic.

A chi-square over k comparisons refuses what a uniform law gives with a chance below 1e-6 / k, on either side. The
tape is fixed, so that no run fails by chance.
"""

from collections.abc import Callable
from itertools import combinations
from typing import Any

import mpmath
import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy import stats

from fedsynth.privacy import noise
from fedsynth.privacy.allowance import Allowance
from fedsynth.privacy.mechanism import Mechanism
from fedsynth.privacy.noise import LATTICE_STD, poisson_draw, system_noise
from fedsynth.privacy.private_sum import PrivateSum
from fedsynth.secure_aggregation.shamir import PRIME, split

pytestmark = pytest.mark.usefixtures("tape", "no_seeded_generator")
Law = Any  # conftest.Helpers
MANY = 2**18  # 64 expected in each of 64 x 64 cells


def test_the_digits_overlap_as_the_proof_says() -> None:
    """S^2 = 256^2 (1 + 64^2 + 64^4 + 64^6), and every addition leaves r >= 256 / sqrt(1 + 64^2) > 3.99."""
    assert pytest.approx(256 * (1 + 64**2 + 64**4 + 64**6) ** 0.5, rel=1e-14) == LATTICE_STD
    assert noise._BASE_STD / (1 + noise._RATIO**2) ** 0.5 > 3.99


def test_the_digits_of_one_number_are_uniform_and_independent(law: Law) -> None:
    fields = law.fields(system_noise(MANY))

    for first, second in (*combinations(fields[:4], 2), (fields[0], fields[4]), (fields[1], fields[4])):
        law.independent(first, second, comparisons=8)


@pytest.mark.parametrize(
    "distance", [1, 2, MANY // 4, MANY // 2], ids=["next", "second next", "quarters", "halves"]
)
def test_coordinates_of_one_vector_are_independent(law: Law, distance: int) -> None:
    drawn = system_noise(MANY)
    here, there = law.fields(drawn[:-distance]), law.fields(drawn[distance:])

    for first in here:
        for second in there:
            law.independent(first, second, comparisons=100)


def pairs_of_vectors(kind: str) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the noise of two empty sums that must have nothing in common."""
    shares = 2 if kind == "shares" else 1
    steps = Allowance(Mechanism("sum", 1.0, 1.0, 2, 1.0, noise_shares=shares))
    other = Allowance(steps.mechanism) if kind != "steps" else steps
    first, second = (one.step(n_units=0, size=MANY // 2).sum.read_lattice() for one in (steps, other))
    return first.values, second.values


@pytest.mark.parametrize("kind", ["steps", "allowances", "shares"])
def test_steps_allowances_and_shares_of_noise_are_independent(law: Law, kind: str) -> None:
    here, there = (law.fields(drawn) for drawn in pairs_of_vectors(kind))

    for first in here:
        for second in there:
            law.independent(first, second, comparisons=75)


@pytest.mark.parametrize("q", [0.5, 0.25])
def test_coins_are_independent_of_each_other_and_of_the_noise(law: Law, q: float) -> None:
    """1 / q and 1 - q are whole parts of 64, so that a coin and a digit have equally likely cells."""
    coins = np.zeros(MANY, np.int64)
    coins[poisson_draw(MANY, probability=q)] = 1
    again = np.zeros(MANY, np.int64)
    again[poisson_draw(MANY, probability=q)] = 1
    fields = law.fields(system_noise(MANY))

    rows = [np.roll(coins, distance) for distance in (1, 2, MANY // 2)]
    for other in (again, *(field & 1 for field in fields), *rows):
        # Four cells of a pair of coins, with chances from q: 3 degrees of freedom, 16 comparisons at most.
        chance = q if other is again or any(other is row for row in rows) else 0.5
        expected = MANY * np.outer([1 - q, q], [1 - chance, chance]).ravel()
        found = float(((np.bincount(coins * 2 + other, minlength=4) - expected) ** 2 / expected).sum())
        assert found < stats.chi2.isf(1e-6 / 16, 3)


def test_the_size_of_a_poisson_draw_varies_as_much_as_it_should() -> None:
    """Variance n q (1 - q) = 25 of 100 coins at 1/2; 4000 draws know it to 2.2 % (one standard error)."""
    sizes = np.array([len(poisson_draw(100, probability=0.5)) for _ in range(4000)])

    assert sizes.mean() == pytest.approx(50, abs=5 * 5 / 4000**0.5)
    assert sizes.var() == pytest.approx(25, rel=5 * (2 / 4000) ** 0.5)


class Written:
    """Rows that are written out after all."""

    def __init__(self, rows: torch.Tensor) -> None:
        self.rows = rows

    def norms(self) -> torch.Tensor:
        return self.rows.norm(dim=1)

    def weighted_sum(self, factors: torch.Tensor) -> torch.Tensor:
        return factors @ self.rows


ADD: dict[str, Callable[[PrivateSum, torch.Tensor], None]] = {
    "nobody": lambda _, __: None,
    "one": lambda sums, rows: sums.add(rows[:1]),
    "twenty, one at a time": lambda sums, rows: [sums.add(row[None]) for row in rows][-1],
    "twenty at once": lambda sums, rows: sums.add(rows),
    "twenty, not written out": lambda sums, rows: sums.add_rows(Written(rows)),
}


@pytest.mark.parametrize("add", ADD.values(), ids=ADD)
def test_low_bits_of_a_sum_are_uniform_whatever_was_added(
    law: Law, add: Callable[[PrivateSum, torch.Tensor], None]
) -> None:
    """Odd and even whole numbers of steps are added; bits 0 to 23 stay uniform, and pairs of digits independent."""
    size, sigma = 2**17, 2.0
    sums = PrivateSum(size, clipping_norm=1.0, noise_multiplier=sigma)
    steps = torch.from_numpy(np.random.default_rng(1).integers(-2000, 2000, (20, size)).astype(np.float64))
    add(sums, steps * (sigma / LATTICE_STD))

    values = sums.read_lattice().values

    fields = law.fields(values)[:4]
    for first, second in combinations(fields, 2):
        law.independent(first, second, comparisons=6)
    for bit in range(24):
        law.uniform(np.bincount((values >> bit) & 1, minlength=2), comparisons=1000)


@pytest.mark.parametrize("add", ["one", "twenty, one at a time", "twenty at once", "twenty, not written out"])
def test_a_contribution_moves_the_noisy_sum_by_exactly_its_own_whole_number(tape: Any, add: str) -> None:
    """The same tape twice, without and with people: the difference is what they said, in steps, to the last bit."""
    size, sigma = 4096, 2.0
    steps = np.random.default_rng(2).integers(-2000, 2000, (20, size))
    read = []
    for how in ("nobody", add):
        tape.rewind()
        sums = PrivateSum(size, clipping_norm=1.0, noise_multiplier=sigma)
        ADD[how](sums, torch.from_numpy(steps.astype(np.float64)) * (sigma / LATTICE_STD))
        read.append(sums.read_lattice().values)

    assert (read[1] - read[0]).tolist() == (steps[:1] if add == "one" else steps).sum(axis=0).tolist()


def test_a_sum_read_in_its_own_unit_is_the_same_whole_number(tape: Any) -> None:
    def noisy() -> PrivateSum:
        tape.rewind()
        sums = PrivateSum(500, clipping_norm=3.0, noise_multiplier=0.7)
        sums.add(torch.full((1, 500), 0.01))
        return sums

    lattice = noisy().read_lattice()

    assert noisy().read().tolist() == (lattice.values.astype(np.float64) * lattice.step).tolist()


def of_the_table() -> dict[int, int]:
    """Return every value's probability in units of 2^-192, from what its bucket keeps and is lent."""
    table, full = noise._alias_table(), 2 ** (192 - 14)
    kept = [(int(t) << 128) + rest for t, rest in zip(table.threshold, table.rest, strict=True)]
    total = list(kept)
    for bucket, other in enumerate(table.other.tolist()):
        total[other] += full - kept[bucket]
    return {bucket - 20 * 256: mass for bucket, mass in enumerate(total) if mass}


def test_the_narrow_law_has_its_exact_probabilities_and_tails() -> None:
    """Against 100 digits and Poisson's summation: the sum of exp(-v^2 / 2 s^2) is s sqrt(2 pi) up to 10^-500000."""
    with mpmath.workdps(100):
        found, spread = of_the_table(), mpmath.mpf(256)
        total = spread * mpmath.sqrt(2 * mpmath.pi)
        exact = {value: mpmath.exp(-(mpmath.mpf(value) ** 2) / (2 * spread**2)) / total for value in range(5121)}
        unit = mpmath.mpf(2) ** -192
        worst = max(abs(found.get(sign * v, 0) * unit - p) for v, p in exact.items() for sign in (1, -1))
        assert worst < mpmath.mpf(10) ** -53
        assert sum(found.values()) == 2**192
        for sigmas in (1, 2, 3, 4, 4.5, 5, 6, 8, 10, 12):
            beyond = mpmath.fsum(p for v, p in exact.items() if v > sigmas * 256)
            for sign in (1, -1):
                mass = sum(mass for value, mass in found.items() if sign * value > sigmas * 256)
                assert abs(mass * unit / beyond - 1) < 1e-15


def test_no_number_however_far_out_is_cut_off_or_drawn_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """Entropy is chosen so that digits, the leading one above all, lie anywhere up to 15 deviations out.

    A word with a bucket and the fraction 0 stays in its bucket: below the threshold, or, where that is 0 because
    the value is rarer than 2^-64, by a tie, which 16 more bytes decide. Each number must come out as the proof
    adds it up, through a whole private sum.
    """
    leading = np.concatenate([np.arange(-3840, 3841, 16), np.array([-1153, 1153, 1279, -1279])])
    rng = np.random.default_rng(3)
    digits = [rng.integers(-3000, 3001, len(leading)) for _ in range(3)] + [leading]
    exact = [
        sum(64**level * digit for level, digit in enumerate(place)) for place in np.stack(digits, axis=1).tolist()
    ]
    words = [(digit + 20 * 256).astype(np.uint64) << np.uint64(50) for digit in digits]
    ties = sum(int((noise._alias_table().threshold[digit + 20 * 256] == 0).sum()) for digit in digits)
    asked: list[int] = []
    monkeypatch.setattr(noise.os, "urandom", lambda count: (asked.append(count), bytes(count))[1])

    for draw in (
        system_noise,
        lambda count: PrivateSum(count, clipping_norm=1.0, noise_multiplier=1.0).read_lattice().values,
    ):
        asked.clear()
        turns = iter(words)
        monkeypatch.setattr(noise, "_words", lambda count, turns=turns: next(turns)[:count])

        assert draw(len(leading)).tolist() == exact
        assert asked == [16] * ties

    assert ties > 100
    assert max(abs(value) for value in exact) > 14.9 * LATTICE_STD


@pytest.mark.slow
def test_the_combined_law_has_its_tails() -> None:
    """2^25 numbers: beyond 4, 4.5, 5 and 5.5 deviations about 2125, 228, 19 and 1.3 are expected, Poisson each."""
    drawn = np.concatenate([abs(system_noise(2**20)) / LATTICE_STD for _ in range(32)])

    for sigmas in (3.0, 4.0, 4.5, 5.0, 5.5):
        expected = len(drawn) * 2 * float(stats.norm.sf(sigmas))
        count = int((drawn > sigmas).sum())
        assert stats.poisson.ppf(1e-6, expected) <= count <= stats.poisson.isf(1e-6, expected)
        assert count > 0 or expected < 14


def test_few_shares_say_nothing_together_and_nothing_of_their_neighbours(law: Law) -> None:
    """One secret shared many times, threshold 3: two shares of it, or of neighbouring secrets, are independent."""
    dealt = np.array(
        [[share >> 250 for share in split(7, threshold=3, points=[1, 2, 3])] for _ in range(3 * 2**15)]
    )
    tops = np.minimum(dealt, 63).astype(np.int64)  # the field is longer than 2^256 by 297: one chance in 2^248

    assert PRIME >> 256 == 1
    for first, second in combinations(range(3), 2):
        law.independent(tops[:, first], tops[:, second], comparisons=12)
    for first in range(3):
        for second in range(3):
            law.independent(tops[:-1, first], tops[1:, second], comparisons=12)
