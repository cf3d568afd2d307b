"""Layers that families share: frozen parts, starts at zero, and the losses of a discriminator."""

import math

import pytest
import torch
from torch import nn

from fedsynth.families.layers import dense, fooling, frozen, judged_real, judged_synthetic, same_length


def test_what_is_frozen_neither_travels_nor_learns() -> None:
    torch.manual_seed(0)
    layer = nn.Sequential(nn.Linear(3, 4), nn.GroupNorm(2, 4), nn.Embedding(2, 4))
    layer.register_buffer("scale", torch.ones(2))
    windows = torch.randn(2, 3)
    before = layer[1](layer[0](windows)).detach()

    same = frozen(layer)

    assert same is layer
    assert not list(layer.parameters())
    assert not layer.state_dict()
    assert len(list(layer.buffers())) == 6
    assert torch.equal(layer[1](layer[0](windows)), before)
    windows.requires_grad_()
    layer[0](windows).sum().backward()
    assert windows.grad is not None
    assert not layer[0].weight.requires_grad


def test_a_stack_that_starts_at_zero_adds_nothing_and_can_learn() -> None:
    for stack, given in ((dense((3, 5, 2), zero_last=True), (4, 3)), (same_length((3, 5, 2)), (4, 3, 20))):
        out = stack(torch.randn(given))
        assert float(out.detach().abs().max()) == 0
        out.sum().backward()
        last = list(stack.parameters())[-2]
        assert last.grad is not None
        assert float(last.grad.abs().max()) > 0


@pytest.mark.parametrize("logit", [-2.0, 0.0, 0.7])
def test_losses_of_a_discriminator_are_cross_entropies(logit: float) -> None:
    """By hand, with the logit squeezed to 5 tanh(logit / 5) and 0.9 in the place of 1."""
    chance = 1 / (1 + math.exp(-5 * math.tanh(logit / 5)))
    given = torch.tensor([logit])

    assert float(judged_real(given)) == pytest.approx(
        -0.9 * math.log(chance) - 0.1 * math.log(1 - chance), rel=1e-5
    )
    assert float(judged_synthetic(given)) == pytest.approx(-math.log(1 - chance), rel=1e-5)
    assert float(fooling(given)) == pytest.approx(-math.log(chance), rel=1e-5)


@pytest.mark.parametrize("loss", [judged_real, judged_synthetic, fooling])
def test_no_window_pulls_at_a_discriminator_without_bound(loss: object) -> None:
    logits = torch.tensor([-1e6, -30.0, -1.0, 0.0, 1.0, 30.0, 1e6], requires_grad=True)
    loss(logits).sum().backward()  # type: ignore[operator]

    assert logits.grad is not None
    assert bool(torch.isfinite(logits.grad).all())
    assert float(logits.grad.abs().max()) <= 1.0
