"""A family as a contributor would write it: the least-squares GAN, started at the anchor.

Source: Mao et al. 2017 (arXiv:1611.04076): squared errors in the place of the cross-entropy, against 1 for real
windows and 0 for synthetic ones. Its file would stand in `fedsynth/families/adversarial/`.
"""

from dataclasses import dataclass

from torch import Tensor

from fedsynth.anchors.anchor import Anchor
from fedsynth.families.adversarial.base import AdversarialFamily
from fedsynth.families.adversarial.critic import Critic, convolutional_encoder
from fedsynth.families.adversarial.generator import AnchoredGenerator, DenseResidual
from fedsynth.families.protocol import Phase
from fedsynth.modalities.shape import Shape


@dataclass(frozen=True, kw_only=True)
class LeastSquaresGan(AdversarialFamily):
    """Hyperparameters: `critic_steps` are the private steps for each step of the generator."""

    critic_steps: int = 5
    critic_learning_rate: float = 1e-3
    name: str = "least-squares-gan"

    @property
    def phases(self) -> tuple[Phase, ...]:
        """Return the one phase: critic and generator in turn."""
        return self.in_turn("critic", steps=self.critic_steps, learning_rate=self.critic_learning_rate)

    def networks(self, shape: Shape, anchor: Anchor) -> tuple[AnchoredGenerator, Critic]:
        """Return a dense generator and a convolutional critic."""
        residual = DenseResidual(shape, latent=self.latent)
        generator = AnchoredGenerator(shape, anchor, residual, latent=self.latent)
        return generator, Critic(shape, convolutional_encoder(shape))

    @staticmethod
    def real_loss(values: Tensor) -> Tensor:
        """Return half the squared distance of each real window's value from 1."""
        return 0.5 * (values - 1).square()

    @staticmethod
    def synthetic_loss(values: Tensor) -> Tensor:
        """Return half the mean squared distance of synthetic windows' values from 0."""
        return 0.5 * values.square().mean()

    @staticmethod
    def generator_loss(values: Tensor) -> Tensor:
        """Return half the mean squared distance of synthetic windows' values from 1."""
        return 0.5 * (values - 1).square().mean()
