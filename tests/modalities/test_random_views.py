"""Random views: the slope of responses is that of autograd, and kernels are those of a convolution."""

import pytest
import torch

from fedsynth.modalities import random_views
from fedsynth.modalities.random_views import n_responses, random_responses, response_slope
from fedsynth.modalities.shape import Shape

ONE = Shape(("Cz",), 128, 128.0, (0.5, 40.0), 2, "eeg")
TWO = Shape(("C3", "C4"), 150, 100.0, (0.5, 40.0), 2, "eeg")  # 150 samples are no eight pieces of one length
BOTH = pytest.mark.parametrize("shape", [ONE, TWO], ids=["one channel", "two"])


def windows(shape: Shape) -> torch.Tensor:
    """Return windows of 1 to 1000 microvolts: some so loud or plain that responses are at their bound."""
    generator = torch.Generator().manual_seed(1)
    noise = torch.randn(6, len(shape.channels), shape.n_times, generator=generator)
    noise[4:] = torch.sin(torch.linspace(0, 12, shape.n_times))
    return noise * torch.logspace(0, 3, 6)[:, None, None]


def direction(shape: Shape) -> torch.Tensor:
    return torch.randn(n_responses(shape), generator=torch.Generator().manual_seed(2), dtype=torch.float64)


@BOTH
def test_the_slope_is_that_of_autograd(shape: Shape) -> None:
    moving = windows(shape).requires_grad_(True)
    (expected,) = torch.autograd.grad((random_responses(moving, shape) @ direction(shape)).sum(), moving)

    slope = response_slope(windows(shape), direction(shape), shape)

    for one, other in zip(slope, expected, strict=True):
        assert torch.allclose(one, other, atol=1e-5 * float(other.abs().max()))
        assert float(other.abs().max()) > 0


@BOTH
def test_a_window_of_nothing_has_no_slope(shape: Shape) -> None:
    assert not response_slope(torch.zeros_like(windows(shape)), direction(shape), shape).any()


def test_one_channel_goes_through_kernels_as_a_convolution_does() -> None:
    generator = torch.Generator().manual_seed(3)
    sizes = [(3, 1, 100), (3, 5, 100), (5, 1, 9), (5,)]
    unit, by_out, weights, bias = (torch.randn(size, generator=generator) for size in sizes)
    plain = torch.nn.functional.conv1d(unit, weights, bias, padding=8, dilation=2)
    back = torch.nn.functional.conv_transpose1d(by_out, weights, padding=8, dilation=2)

    assert torch.allclose(random_views._convolved(unit, weights, bias, 2), plain, atol=1e-5)
    assert torch.allclose(random_views._convolved_back(by_out, weights, 2), back, atol=1e-5)
