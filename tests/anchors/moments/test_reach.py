"""Reach: a label that lies beyond the bound is found again at its distance and with its spread."""

import math

import pytest
import torch

from fedsynth.anchors.coordinates import within
from fedsynth.anchors.moments import reach
from fedsynth.anchors.moments.second_moments import SecondMomentsByPart
from fedsynth.anchors.moments.subjects import Ratios, share_matrices
from fedsynth.modalities.registry import codec_of
from fedsynth.modalities.shape import Shape

SIZE, BOUND = 10, 2.0


def units(distance: float, spread: float) -> list[torch.Tensor]:
    """Return 400 units of 6 windows each around a centre so far off; half of the variance is a unit's own."""
    generator = torch.Generator().manual_seed(0)
    own, windows = (torch.randn(400, n, SIZE, generator=generator, dtype=torch.float64) for n in (1, 6))
    both = spread * math.sqrt(0.5) * (own + windows)
    return list(both + distance * torch.eye(SIZE, dtype=torch.float64)[0])


@pytest.mark.parametrize(("distance", "spread"), [(4.0, 1.0), (3.0, 0.4), (0.5, 0.3)])
def test_what_was_cut_is_found_again(distance: float, spread: float) -> None:
    cohort, onehot = units(distance, spread), torch.ones(6, 1, dtype=torch.float64)
    rows = torch.stack([reach.contribution(one, onehot, BOUND) for one in cohort]).mean(dim=0)
    moves = torch.stack([within(one.mean(dim=0, keepdim=True), BOUND)[0] for one in cohort]).mean(dim=0)[None]
    cut = within(torch.cat(cohort), BOUND) - moves
    covariance = (cut.T @ cut / len(cut))[None]
    shares = share_matrices(covariance, 0.5 * covariance)

    noise = torch.tensor([0.01], dtype=torch.float64)
    moved, wider = reach.farther(rows, moves, covariance, shares, noise=noise, bound=BOUND)

    assert float(moved[0, 0]) == pytest.approx(distance, rel=0.15)
    assert float(wider.diagonal(dim1=1, dim2=2).mean()) ** 0.5 == pytest.approx(spread, rel=0.35)


def test_a_row_is_no_longer_than_it_says() -> None:
    far = 1e6 * torch.randn(6, SIZE, dtype=torch.float64)
    for residual in (far, torch.zeros_like(far)):
        row = reach.contribution(residual, torch.ones(6, 1, dtype=torch.float64), BOUND)
        assert float(row.norm()) <= reach.length(BOUND) + 1e-9


def test_what_is_asked_besides_is_counted_in_the_bound() -> None:
    """By hand: a mean of length B, products of w B, two ratios of a range of B / 2, two logarithms of .35 B."""
    shape = Shape(("Cz",), 128, 128.0, (0.5, 40.0), 2, "eeg")
    stage = SecondMomentsByPart(radius=0.5, product_weight=2.0, core_weight=0.3, own=Ratios(), reach=True)
    size = 0.5 * math.sqrt(codec_of(shape).n_features)

    by_hand = size * math.sqrt(1 + 2.0**2 + 2 * 0.25**2 + 2 * 0.175**2)
    assert stage.request(shape).clipping_norm == pytest.approx(by_hand)
