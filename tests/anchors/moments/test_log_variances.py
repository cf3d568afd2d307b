"""Log variances: recovered without noise, quiet about outliers, and the prior's where noise is all there is."""

import math

import pytest
import torch
from torch import Tensor

from fedsynth.anchors.coordinates import Coordinates, coordinates_of
from fedsynth.anchors.moments import log_variances
from fedsynth.modalities.shape import Shape

SHAPE = Shape(channels=("EEG",), n_times=256, sfreq=128.0, bandpass=(0.5, 40.0), n_labels=2, modality="eeg")
FRAME = coordinates_of(SHAPE)
GROUPS = log_variances.axis_groups_of(SHAPE, 2)


def drawn(frame: Coordinates, factor: float, *, count: int = 4000) -> Tensor:
    """Return residuals, shape (count, feature), of `factor` times a group's expected variances."""
    normal = torch.randn(count, len(frame.axes), generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    return normal * (factor * GROUPS.variances).sqrt() @ frame.axes.T


def recovered(residuals: list[Tensor], *, noise: float) -> Tensor:
    logs = torch.stack([log_variances.logarithms(rows, FRAME, GROUPS).mean(dim=0) for rows in residuals])
    errors, stds = torch.zeros_like(logs), torch.full((len(logs),), noise, dtype=torch.float64)
    return log_variances.variances_of(logs, errors, stds, FRAME, GROUPS)


def test_the_widest_axes_come_first_and_none_is_left_out() -> None:
    prior = (FRAME.axes.T @ FRAME.covariance @ FRAME.axes).diagonal()

    assert float(prior[GROUPS.number == 0].min()) >= float(prior[GROUPS.number == 1].max())
    assert GROUPS.sums(GROUPS.variances).tolist() == pytest.approx(GROUPS.sums(prior).tolist())


def test_without_noise_each_label_gets_its_own_variance_in_every_group() -> None:
    found = recovered([drawn(FRAME, 0.15), drawn(FRAME, 0.6)], noise=0.0)
    squares = (FRAME.axes.T @ found @ FRAME.axes).diagonal(dim1=1, dim2=2)
    expected = GROUPS.sums(GROUPS.variances)

    assert torch.allclose(GROUPS.sums(squares)[0], 0.15 * expected, rtol=0.1)
    assert torch.allclose(GROUPS.sums(squares)[1], 0.6 * expected, rtol=0.1)


def test_a_hundredth_of_huge_residuals_moves_a_log_variance_by_no_more_than_its_share_of_the_range() -> None:
    clean = drawn(FRAME, 0.3)
    spoilt = clean.clone()
    spoilt[::100] *= 1e6

    move = log_variances.logarithms(spoilt, FRAME, GROUPS).mean(dim=0) - log_variances.logarithms(
        clean, FRAME, GROUPS
    ).mean(dim=0)

    assert float(move.abs().max()) <= 0.01
    assert float(log_variances.logarithms(spoilt, FRAME, GROUPS).abs().max()) <= 0.5


def test_under_overwhelming_noise_the_public_guess_remains() -> None:
    found = recovered([drawn(FRAME, 0.05), drawn(FRAME, 2.0)], noise=1e4)

    assert float(torch.diagonal(found, dim1=1, dim2=2).sum(dim=1).max()) == pytest.approx(
        math.exp(log_variances._CENTRE) * float(GROUPS.variances.sum()), rel=1e-3
    )


@pytest.mark.parametrize(("own", "expected"), [(0.0, 0.0), (1.0, 0.5), (3.0, 0.9)])
def test_the_share_between_subjects_is_that_of_an_analysis_of_variance(own: float, expected: float) -> None:
    generator = torch.Generator().manual_seed(1)
    shares = []
    for _ in range(300):
        centre = own * torch.randn(1, 17, generator=generator, dtype=torch.float64)
        rows = centre + torch.randn(6, 17, generator=generator, dtype=torch.float64)
        shares.append(log_variances.share_between(rows, torch.ones(6, 1, dtype=torch.float64)))

    assert float(torch.stack(shares).mean()) + 0.5 == pytest.approx(expected, abs=0.06)


def test_a_label_with_one_window_says_nothing_of_subjects() -> None:
    onehot = torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.0, 1.0]], dtype=torch.float64)

    share = log_variances.share_between(torch.ones(3, 17, dtype=torch.float64), onehot)

    assert share.tolist() == pytest.approx([0.0, 0.5])
