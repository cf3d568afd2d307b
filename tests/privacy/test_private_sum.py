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
from fedsynth.privacy.private_sum import PrivateSum

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
    sums = PrivateSum(2, clipping_norm=1.0, noise_multiplier=0, dtype=dtype)
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


def test_noise_is_the_source_times_sigma_times_c() -> None:
    sums = PrivateSum(3, clipping_norm=2.0, noise_multiplier=1.5, noise=lambda n: np.arange(n, dtype=float))

    assert sums.read().tolist() == [0.0, 3.0, 6.0]


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
