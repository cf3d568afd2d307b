"""The losses of families with a discriminator, against arithmetic."""

import math

import pytest
import torch

from fedsynth.families.adversarial.dense_gan import DenseGan


@pytest.mark.parametrize("logit", [-2.0, 0.0, 0.7])
def test_losses_of_a_discriminator_are_cross_entropies(logit: float) -> None:
    """By hand, with the logit squeezed to 5 tanh(logit / 5) and 0.9 in the place of 1."""
    chance = 1 / (1 + math.exp(-5 * math.tanh(logit / 5)))
    given = torch.tensor([logit])

    assert float(DenseGan.real_loss(given)) == pytest.approx(
        -0.9 * math.log(chance) - 0.1 * math.log(1 - chance), rel=1e-5
    )
    assert float(DenseGan.synthetic_loss(given)) == pytest.approx(-math.log(1 - chance), rel=1e-5)
    assert float(DenseGan.generator_loss(given)) == pytest.approx(-math.log(chance), rel=1e-5)


@pytest.mark.parametrize("loss", ["real_loss", "synthetic_loss", "generator_loss"])
@pytest.mark.parametrize("logit", [-1e6, -30.0, -1.0, 0.0, 1.0, 30.0, 1e6])
def test_no_window_pulls_at_a_discriminator_without_bound(loss: str, logit: float) -> None:
    logits = torch.tensor([logit], requires_grad=True)
    getattr(DenseGan, loss)(logits).backward()

    assert logits.grad is not None
    assert bool(torch.isfinite(logits.grad).all())
    assert float(logits.grad.abs().max()) <= 1.0
