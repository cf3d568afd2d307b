"""Conditional WGAN with weight clipping, started at the anchor.

Source: the conditional WGAN that arXiv 2506.16243 describes for ALS EEG (label-conditional generator and critic,
Wasserstein loss, RMSprop, five critic steps, clipped weights; Arjovsky et al. 2017), on windows instead of single
samples, and with the generator trained through the critic. What we add: the generator is the anchor's Gaussian
through the public decoder plus two residuals that start at zero, so that training starts at the anchor exactly;
the critic also sees public features of a window. Only the critic's gradient sees recordings.
"""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from fedsynth.anchors.anchor import Anchor
from fedsynth.families.adversarial.base import AdversarialFamily
from fedsynth.families.adversarial.critic import Critic, convolutional_encoder, dense_encoder
from fedsynth.families.adversarial.generator import AnchoredGenerator, DenseResidual
from fedsynth.families.adversarial.layers import same_length
from fedsynth.families.protocol import Phase
from fedsynth.modalities.shape import Shape

_CONTROLS = 8  # numbers of the context that every convolution sees


@dataclass(frozen=True, kw_only=True)
class Cwgan(AdversarialFamily):
    """Hyperparameters: `architecture` is that of the residual generator and of the critic's encoder of the signal.

    `critic_steps` are the private steps for each step of the generator.
    """

    architecture: Literal["convolutional", "dense"] = "convolutional"
    weight_clip: float = 0.05
    critic_steps: int = 5
    critic_learning_rate: float = 1e-3
    name: str = "cwgan"

    @property
    def phases(self) -> tuple[Phase, ...]:
        """Return the one phase: critic and generator in turn."""
        return self.in_turn("critic", steps=self.critic_steps, learning_rate=self.critic_learning_rate)

    @property
    def seed(self) -> tuple[str | int, ...]:
        """Return name, architecture and latent."""
        return (self.name, self.architecture, self.latent)

    def networks(self, shape: Shape, anchor: Anchor) -> tuple[AnchoredGenerator, Critic]:
        """Return both of dense layers, or both of convolutions."""
        dense = self.architecture == "dense"
        residual = (DenseResidual if dense else ConvolutionalResidual)(shape, latent=self.latent)
        encoder = (dense_encoder if dense else convolutional_encoder)(shape)
        return AnchoredGenerator(shape, anchor, residual, latent=self.latent), Critic(shape, encoder)

    # The critic's mean over real windows less its mean over synthetic ones is what the critic makes large and the
    # generator small (Arjovsky et al. 2017, arXiv:1701.07875, equations 2 and 3).

    @staticmethod
    def real_loss(values: Tensor) -> Tensor:
        """Return minus the critic's value of each real window."""
        return -values

    @staticmethod
    def synthetic_loss(values: Tensor) -> Tensor:
        """Return the critic's mean over synthetic windows."""
        return values.mean()

    @staticmethod
    def generator_loss(values: Tensor) -> Tensor:
        """Return minus the critic's mean over synthetic windows."""
        return -values.mean()


class ConvolutionalResidual(nn.Module):
    """Convolutions over the anchor's window, steered by a few numbers of the context."""

    def __init__(self, shape: Shape, *, latent: int) -> None:
        """Build for a context of 2 `latent` numbers."""
        super().__init__()
        channels = len(shape.channels)
        self.project = nn.Linear(2 * latent, _CONTROLS)
        self.layers = same_length((channels + _CONTROLS, 32, 32, channels))

    def forward(self, base: Tensor, context: Tensor) -> Tensor:
        """Return the residual, shape (window, channel, time), within one root mean square."""
        control = self.project(context)[:, :, None].expand(-1, -1, base.shape[-1])
        return torch.tanh(self.layers(torch.cat([base, control], dim=1)))
