"""The private sum: bounded, noisy, read once; expected values come from arithmetic."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from scipy import stats

from fedsynth.errors import PrivacyError
from fedsynth.privacy.noise import LATTICE_STD
from fedsynth.privacy.private_sum import PrivateSum, lattice_step

ANY_FLOATS = st.floats(allow_nan=True, allow_infinity=True, width=64)
SOME_ROWS = arrays.arrays(np.float64, arrays.array_shapes(min_dims=2, max_dims=2, max_side=6), elements=ANY_FLOATS)


def exact(rows: torch.Tensor, *, clipping_norm: float) -> torch.Tensor:
    sums = PrivateSum(rows.shape[1], clipping_norm=clipping_norm, noise_multiplier=0)
    sums.add(rows)
    return sums.read()


@given(rows=SOME_ROWS, clipping_norm=st.floats(1e-3, 1e3))
@settings(max_examples=200, deadline=None)
def test_removing_one_unit_moves_the_sum_by_at_most_c(rows: np.ndarray, clipping_norm: float) -> None:
    everybody = torch.from_numpy(rows)

    moved = exact(everybody, clipping_norm=clipping_norm) - exact(everybody[1:], clipping_norm=clipping_norm)

    assert float(moved.norm()) <= clipping_norm * (1 + 1e-9) + 1e-9


def test_small_contributions_are_summed_as_they_are() -> None:
    rows = torch.tensor([[0.3, 0.4], [-0.1, 0.2]], dtype=torch.float64)

    assert exact(rows, clipping_norm=1.0).tolist() == pytest.approx([0.2, 0.6])


def test_a_large_contribution_is_scaled_to_the_bound() -> None:
    rows = torch.tensor([[30.0, 40.0]], dtype=torch.float64)

    assert exact(rows, clipping_norm=5.0).tolist() == pytest.approx([3.0, 4.0], rel=1e-6)


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_a_contribution_that_is_not_finite_counts_as_zero(bad: float) -> None:
    rows = torch.tensor([[0.1, bad], [0.2, 0.2]], dtype=torch.float64)

    assert exact(rows, clipping_norm=1.0).tolist() == pytest.approx([0.2, 0.2])


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_finite_contribution_whose_norm_overflows_stays_bounded(dtype: torch.dtype) -> None:
    sums = PrivateSum(2, clipping_norm=1.0, noise_multiplier=0)
    sums.add(torch.full((1, 2), torch.finfo(dtype).max, dtype=dtype))

    assert float(sums.read().norm()) <= 1.0


def test_pieces_add_up_to_the_same_sum() -> None:
    rows = torch.linspace(-3, 3, 24, dtype=torch.float64).view(8, 3)
    pieces = PrivateSum(3, clipping_norm=1.5, noise_multiplier=0)
    for row in rows:
        pieces.add(row[None])

    assert torch.allclose(pieces.read(), exact(rows, clipping_norm=1.5), atol=1e-12)


def test_an_empty_draw_is_pure_noise_of_the_stated_scale() -> None:
    sums = PrivateSum(20_000, clipping_norm=2.0, noise_multiplier=1.5)

    noise = sums.read().numpy()

    # 20 000 draws of N(0, 3^2): the Kolmogorov-Smirnov test would see a scale off by 5 %.
    assert stats.kstest(noise / 3.0, "norm").pvalue > 1e-6
    assert noise.std() == pytest.approx(3.0, rel=0.03)


@pytest.mark.parametrize("shares", [1, 4])
def test_noise_is_the_source_times_sigma_times_c_over_the_root_of_the_shares(shares: int) -> None:
    def source(count: int) -> np.ndarray:
        return np.round(np.arange(count) * LATTICE_STD).astype(np.int64)

    sums = PrivateSum(3, clipping_norm=2.0, noise_multiplier=1.5, noise_shares=shares, noise=source)

    assert sums.read().tolist() == pytest.approx([0.0, 3.0 / shares**0.5, 6.0 / shares**0.5], rel=1e-7)


@given(rows=SOME_ROWS, clipping_norm=st.floats(1e-3, 1e3), sigma=st.floats(0.1, 100))
@settings(max_examples=100, deadline=None)
def test_on_the_lattice_removing_one_unit_moves_whole_numbers_by_at_most_c(
    rows: np.ndarray, clipping_norm: float, sigma: float
) -> None:
    """The same promise in integers, without any tolerance: this is what the proof is about."""

    def whole(some: torch.Tensor) -> np.ndarray:
        sums = PrivateSum(
            rows.shape[1],
            clipping_norm=clipping_norm,
            noise_multiplier=sigma,
            noise=lambda n: np.zeros(n, np.int64),
        )
        for row in some:
            sums.add(row[None])
        return sums.read_lattice().values

    everybody = torch.from_numpy(rows)
    moved = whole(everybody) - whole(everybody[1:])

    assert sum(int(x) ** 2 for x in moved) <= (LATTICE_STD / sigma) ** 2


def test_a_sum_is_a_whole_number_of_steps() -> None:
    """Which low bits a sum can have would otherwise tell who is in it (Mironov 2012)."""
    sums = PrivateSum(50, clipping_norm=3.0, noise_multiplier=2.0)
    sums.add(torch.full((7, 50), 0.1, dtype=torch.float64))

    steps = sums.read() / lattice_step(3.0, 2.0)

    assert torch.allclose(steps, steps.round(), atol=1e-6, rtol=0)


class Listed:
    """Rows that are written out after all: a second way to know what `add_rows` must give."""

    def __init__(self, rows: torch.Tensor) -> None:
        self.rows = rows

    def norms(self) -> torch.Tensor:
        return self.rows.norm(dim=1)

    def weighted_sum(self, factors: torch.Tensor) -> torch.Tensor:
        return (torch.where(factors[:, None] > 0, self.rows, 0.0) * factors[:, None]).sum(dim=0)


@pytest.mark.parametrize("is_written", [True, False])
def test_rounding_to_the_lattice_never_adds_to_the_bound(is_written: bool) -> None:
    """Four hundred coordinates, each rounded: without an allowance every second such row would end beyond C.

    Opacus clips rows that are written out once more, and what it clips is cut to whole steps; rows that are not
    written out are rounded in the sum alone, where nothing but the allowance keeps them within C.
    """
    for row in torch.from_numpy(1e6 * np.random.default_rng(0).normal(size=(60, 1, 400))):
        sums = PrivateSum(400, clipping_norm=1.0, noise_multiplier=100.0, noise=lambda n: np.zeros(n, np.int64))
        if is_written:
            sums.add(row)
        else:
            sums.add_rows(Listed(row))

        assert sum(int(x) ** 2 for x in sums.read_lattice().values) <= (LATTICE_STD / 100.0) ** 2


@pytest.mark.parametrize("sigma", [0.0, 1.0])
def test_rows_that_are_not_written_out_give_the_same_sum(sigma: float) -> None:
    rows = torch.randn(9, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(1)) * 3
    rows[4, 2] = torch.inf
    sums = [
        PrivateSum(4, clipping_norm=2.0, noise_multiplier=sigma, noise=lambda n: np.zeros(n, np.int64))
        for _ in range(2)
    ]
    sums[0].add(rows)
    sums[1].add_rows(Listed(rows))

    assert torch.allclose(sums[0].read(), sums[1].read(), atol=1e-6)


def test_a_sum_of_rows_that_is_not_finite_is_refused() -> None:
    class Wrong(Listed):
        def norms(self) -> torch.Tensor:
            return torch.ones(len(self.rows))

    with pytest.raises(PrivacyError, match="not finite"):
        PrivateSum(1, clipping_norm=1.0, noise_multiplier=1.0).add_rows(Wrong(torch.tensor([[torch.nan]])))


def test_a_bound_that_rounding_would_eat_is_refused() -> None:
    with pytest.raises(PrivacyError, match="leaves nothing"):
        PrivateSum(10**6, clipping_norm=1.0, noise_multiplier=1e5)


def test_an_observer_sees_the_noisy_sum_and_nothing_before() -> None:
    seen: list[torch.Tensor] = []
    sums = PrivateSum(3, clipping_norm=1.0, noise_multiplier=1.0, observe=seen.append)
    sums.add(torch.ones(1, 3))
    assert not seen

    assert torch.equal(sums.read(), seen[0])


def test_two_sums_never_share_noise_even_under_one_torch_seed() -> None:
    drawn = []
    for _ in range(2):
        torch.manual_seed(7)
        np.random.seed(7)  # noqa: NPY002  # the very global state that must not matter
        drawn.append(PrivateSum(8, clipping_norm=1.0, noise_multiplier=1.0).read())

    assert not torch.equal(drawn[0], drawn[1])


def test_a_sum_is_read_once() -> None:
    sums = PrivateSum(2, clipping_norm=1.0, noise_multiplier=1.0)
    sums.read()

    with pytest.raises(PrivacyError, match="already read"):
        sums.read()
    with pytest.raises(PrivacyError, match="already read"):
        sums.add(torch.zeros(1, 2))


@pytest.mark.parametrize(
    ("clipping_norm", "noise_multiplier"),
    [
        pytest.param(0.0, 1.0, id="no bound"),
        pytest.param(-1.0, 1.0, id="negative bound"),
        pytest.param(math.nan, 1.0, id="bound is nan"),
        pytest.param(math.inf, 1.0, id="noise without bound"),
        pytest.param(1.0, -1.0, id="negative noise"),
        pytest.param(1.0, math.nan, id="noise is nan"),
    ],
)
def test_impossible_bounds_are_refused(clipping_norm: float, noise_multiplier: float) -> None:
    with pytest.raises(PrivacyError):
        PrivateSum(2, clipping_norm=clipping_norm, noise_multiplier=noise_multiplier)


def test_rows_of_another_size_are_refused() -> None:
    with pytest.raises(PrivacyError, match=r"\(unit, 3\)"):
        PrivateSum(3, clipping_norm=1.0, noise_multiplier=1.0).add(torch.zeros(2, 4))
