"""Families with a discriminator: cross-entropy for it, and the non-saturating loss for the generator.

Source: Goodfellow et al. 2014 (arXiv:1406.2661, equation 1 and section 3). The discriminator's values are logits:
with D = sigmoid(value), -log D is softplus(-value) and -log(1 - D) is softplus(value).
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from fedsynth.families.adversarial.base import AdversarialFamily
from fedsynth.families.protocol import Phase

_REAL_TARGET = 0.9  # one-sided label smoothing (Salimans et al. 2016, arXiv:1606.03498, section 3.4)
_LARGEST_LOGIT = 5.0


@dataclass(frozen=True, kw_only=True)
class NonSaturatingGan(AdversarialFamily):
    """Hyperparameters: `discriminator_steps` are the private steps for each step of the generator."""

    discriminator_steps: int = 5
    discriminator_learning_rate: float = 1e-3

    @property
    def phases(self) -> tuple[Phase, ...]:
        """Return the one phase: discriminator and generator in turn."""
        return self.in_turn(
            "discriminator", steps=self.discriminator_steps, learning_rate=self.discriminator_learning_rate
        )

    @staticmethod
    def real_loss(values: Tensor) -> Tensor:
        """Return the cross-entropy of calling windows real, -log D (equation 1), shape (window,).

        Against 0.9 instead of 1 (one-sided smoothing), and with bounded logits: a window that is told rightly by
        far still says little, and none can say more than its share of the clip.
        """
        bounded = _bounded(values)
        return nn.functional.binary_cross_entropy_with_logits(
            bounded, torch.full_like(bounded, _REAL_TARGET), reduction="none"
        )

    @staticmethod
    def synthetic_loss(values: Tensor) -> Tensor:
        """Return the cross-entropy of calling windows synthetic, -log(1 - D) (equation 1), a mean."""
        return nn.functional.softplus(_bounded(values)).mean()

    @staticmethod
    def generator_loss(values: Tensor) -> Tensor:
        """Return the generator's non-saturating loss, -log D (section 3), a mean."""
        return nn.functional.softplus(-_bounded(values)).mean()


def _bounded(logits: Tensor) -> Tensor:
    return _LARGEST_LOGIT * torch.tanh(logits / _LARGEST_LOGIT)
