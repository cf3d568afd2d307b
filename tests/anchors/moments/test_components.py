"""Components: two modes of a label are separated, and noise alone leaves what a Gaussian would be."""

from typing import Any

import pytest
import torch
from torch import Tensor

from fedsynth.anchors.moments.components import (
    Components,
    Estimates,
    Expected,
    estimate,
    expected_components,
    unit_rows,
)
from fedsynth.anchors.moments.estimator import Moments
from fedsynth.anchors.moments.means import CountsAndMeans
from fedsynth.anchors.moments.products import Products, n_products
from fedsynth.anchors.moments.second_moments import SecondMomentsByPart

SIZE, BLOCK = 5, 4
WIDE = torch.diag(torch.tensor([4.0, 1.0, 0.5, 0.5, 0.3], dtype=torch.float64))[None]
CENTRE = torch.full((1, SIZE), 0.7, dtype=torch.float64)
WEIGHTS: dict[str, Any] = {"count": 1.0, "products": Products(SIZE, BLOCK, radius=50.0, weight=0.5)}


def estimated(
    windows: Tensor, *, noise: float, axes: int = 1, covariance: Tensor = WIDE
) -> tuple[Expected, Estimates]:
    """Return what is expected of components, and their estimates from units of one window each."""
    expected = expected_components(CENTRE, covariance, axes=axes)
    labels = torch.zeros(1, dtype=torch.long)
    rows = torch.stack([unit_rows(expected, row[None], labels, radius=50.0, **WEIGHTS)[0] for row in windows])
    total = rows.sum(dim=0)
    assert total.shape == (2**axes * (1 + SIZE + n_products(SIZE, BLOCK)),)
    total = total + noise * torch.randn(
        total.shape, generator=torch.Generator().manual_seed(2), dtype=torch.float64
    )
    counts = torch.tensor([float(len(windows))], dtype=torch.float64)
    return expected, estimate(expected, total.view(1, 2**axes, -1), counts, noise=noise, **WEIGHTS)


def normal(count: int) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randn(count, SIZE, generator=generator, dtype=torch.float64)


def test_components_and_parts_exclude_each_other() -> None:
    with pytest.raises(ValueError, match="not both"):
        Moments((CountsAndMeans(), SecondMomentsByPart(), Components()))


def test_a_gaussian_stays_the_gaussian_it_was() -> None:
    windows = CENTRE + normal(4000) @ WIDE[0].sqrt()
    expected, found = estimated(windows, noise=0.0)
    mixed = torch.einsum("lc,lcf->lf", found.weights, found.means)
    away = found.means - mixed[:, None]
    whole = torch.einsum("lc,lcfg->lfg", found.weights, found.covariances + away[..., None] * away[..., None, :])

    assert torch.allclose(mixed, CENTRE, atol=0.1)
    assert torch.allclose(whole, WIDE, atol=0.25)
    assert torch.allclose(found.means, expected.means, atol=0.15)


def test_two_modes_are_found_with_their_weights() -> None:
    side = (torch.arange(4000) % 4 == 0).double()[:, None]
    first, second = torch.zeros(SIZE).double(), torch.zeros(SIZE).double()
    first[0], second[0], second[1] = -1.0, 3.0, 2.0
    windows = CENTRE + side * second + (1 - side) * first + 0.3 * normal(4000)

    _, found = estimated(windows, noise=0.0, covariance=torch.cov(windows.T)[None])
    order = found.means[0, :, 0].argsort()

    assert found.weights[0, order].tolist() == pytest.approx([0.75, 0.25], abs=0.03)
    assert torch.allclose(found.means[0, order[1]], CENTRE[0] + second, atol=0.15)
    assert float(found.covariances[0, order[0], 0, 0]) < 0.3


def test_noise_alone_leaves_what_was_expected() -> None:
    expected, found = estimated(CENTRE + normal(200) @ WIDE[0].sqrt(), noise=1e4)

    assert torch.allclose(found.means, expected.means, atol=1e-6)
    assert torch.allclose(found.weights, torch.full((1, 2), 0.5, dtype=torch.float64), atol=0.35)
    assert float((found.covariances[0, 0] - expected.covariances[0]).abs().max()) < 0.3


def test_components_do_not_hang_on_the_signs_that_an_eigensolver_returns(monkeypatch: pytest.MonkeyPatch) -> None:
    before = expected_components(CENTRE, WIDE, axes=2)
    solve = torch.linalg.eigh
    monkeypatch.setattr(torch.linalg, "eigh", lambda matrix: (solve(matrix)[0], -solve(matrix)[1]))

    after = expected_components(CENTRE, WIDE, axes=2)

    assert torch.allclose(before.axes, after.axes)
    assert torch.allclose(before.means, after.means)


def test_every_window_lies_in_the_component_whose_side_it_is_on() -> None:
    expected = expected_components(CENTRE, WIDE, axes=2)
    labels = torch.zeros(4, dtype=torch.long)

    row = unit_rows(expected, expected.means[0], labels, radius=50.0, **WEIGHTS).view(4, -1)

    assert row[:, 0].tolist() == pytest.approx([0.25] * 4)
    assert torch.allclose(row[:, 1:], torch.zeros(4, row.shape[1] - 1, dtype=torch.float64), atol=1e-9)


def test_no_window_however_large_makes_a_contribution_longer_than_its_bound() -> None:
    expected = expected_components(CENTRE, WIDE, axes=1)
    windows, labels = 1e6 * normal(3), torch.zeros(3, dtype=torch.long)

    products = Products(SIZE, BLOCK, radius=2.0, weight=0.5 / 2.0)

    row = unit_rows(expected, windows, labels, radius=2.0, count=1.0, products=products)

    assert float(row.norm()) <= (1 + 2.0**2 * (1 + 0.5**2)) ** 0.5 + 1e-9
