"""What several tests of anchors share."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from fedsynth.anchors.anchor import Anchor
from fedsynth.anchors.moments.estimator import Moments
from fedsynth.modalities.shape import Shape


def learn(
    units: list[tuple[Tensor, Tensor]], shape: Shape, estimator: Moments, *, noise_multiplier: float, seed: int
) -> Anchor:
    """Ask an estimator's sums of units (signal, labels) and return the anchor."""
    generator, anchor = torch.Generator().manual_seed(seed), estimator.prior(shape)
    for request in estimator.requests(shape):
        rows = [estimator.statistics(anchor, shape, signal=signal, labels=labels) for signal, labels in units]
        total, std = torch.stack(rows).sum(dim=0), noise_multiplier * request.clipping_norm
        total = total + std * torch.randn(total.shape, generator=generator, dtype=total.dtype)
        anchor = estimator.advance(anchor, shape, total=total, noise_std=std)
    return anchor


@pytest.fixture(name="learn")
def learn_fixture() -> Callable[..., Anchor]:
    return learn
