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
from fedsynth.families.adversarial import base as anchored
from fedsynth.families.adversarial.base import AnchoredGenerator, Critic, DenseResidual, dense_view
from fedsynth.families.layers import same_length, strided
from fedsynth.families.protocol import Phase
from fedsynth.modalities.shape import Shape
from fedsynth.rng import public_seed


@dataclass(frozen=True)
class Cwgan:
    """Hyperparameters. `architecture` is that of the residual generator and of the critic's view of the signal.

    `latent` is the width of the residuals' noise, `weight_clip` the bound on every weight of the critic,
    `critic_steps` the private steps for each step of the generator.
    """

    architecture: Literal["convolutional", "dense"] = "convolutional"
    latent: int = 100
    weight_clip: float = 0.05
    critic_steps: int = 5
    critic_learning_rate: float = 1e-3
    generator_learning_rate: float = 1e-4
    name: str = "cwgan"

    @property
    def phases(self) -> tuple[Phase, ...]:
        """Return the one phase: critic and generator in turn."""
        return (
            Phase(
                name="critic",
                private_part="critic",
                public_part="generator",
                private_steps=self.critic_steps,
                learning_rate=self.critic_learning_rate,
                public_learning_rate=self.generator_learning_rate,
            ),
        )

    def build(self, shape: Shape, anchor: Anchor) -> nn.ModuleDict:
        """Return generator and critic; initial weights come from a public seed."""
        dense = self.architecture == "dense"
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(public_seed("cwgan", self.architecture, self.latent) % 2**32)
            residual = (DenseResidual if dense else ConvolutionalResidual)(shape, latent=self.latent)
            view = dense_view(shape) if dense else convolutional_view(shape)
            generator = AnchoredGenerator(shape, anchor, residual, latent=self.latent)
            parts = nn.ModuleDict({"generator": generator, "critic": Critic(shape, view)})
        self.constrain(parts, self.phases[0])
        return parts

    def example_noise_width(self, shape: Shape, phase: Phase) -> int:  # noqa: ARG002
        """Return 0: the value of a real window draws nothing."""
        return 0

    def noise_width(self, shape: Shape) -> int:
        """Return how many standard normal numbers one synthetic window takes."""
        return anchored.noise_width(shape, latent=self.latent)

    def subject_width(self, shape: Shape) -> int:
        """Return how many of the first numbers of the noise windows of one synthetic subject share."""
        return anchored.subject_width(shape)

    def example_loss(
        self,
        parts: nn.ModuleDict,
        phase: Phase,
        windows: Tensor,
        labels: Tensor,
        noise: Tensor,  # noqa: ARG002
    ) -> Tensor:
        """Return minus the critic's value of each real window."""
        return -parts[phase.private_part](windows, labels)

    def companion_loss(self, parts: nn.ModuleDict, phase: Phase, labels: Tensor, noise: Tensor) -> Tensor:
        """Return the critic's mean over synthetic windows."""
        with torch.no_grad():
            synthetic = self.sample(parts, labels, noise)
        return parts[phase.private_part](synthetic, labels).mean()

    def public_loss(self, parts: nn.ModuleDict, phase: Phase, labels: Tensor, noise: Tensor) -> Tensor:
        """Return minus the critic's mean over synthetic windows, for the generator."""
        return -parts[phase.private_part](self.sample(parts, labels, noise), labels).mean()

    def constrain(self, parts: nn.ModuleDict, phase: Phase) -> None:
        """Clip the critic's weights to [-weight_clip, weight_clip]."""
        with torch.no_grad():
            for parameter in parts[phase.private_part].parameters():
                parameter.clamp_(-self.weight_clip, self.weight_clip)

    def sample(self, parts: nn.ModuleDict, labels: Tensor, noise: Tensor) -> Tensor:
        """Return synthetic windows in microvolts."""
        return parts["generator"](labels, noise)


class ConvolutionalResidual(nn.Module):
    """Convolutions over the anchor's window, steered by eight numbers of the context."""

    def __init__(self, shape: Shape, *, latent: int) -> None:
        """Build for a context of 2 `latent` numbers."""
        super().__init__()
        channels = len(shape.channels)
        self.project = nn.Linear(2 * latent, 8)
        self.layers = same_length((channels + 8, 32, 32, channels))

    def forward(self, base: Tensor, context: Tensor) -> Tensor:
        """Return the residual, shape (window, channel, time), within one root mean square."""
        control = self.project(context)[:, :, None].expand(-1, -1, base.shape[-1])
        return torch.tanh(self.layers(torch.cat([base, control], dim=1)))


def convolutional_view(shape: Shape) -> nn.Module:
    """Return strided convolutions from a window of any length to `VIEW` numbers."""
    layers = strided((len(shape.channels), 16, 32, anchored.VIEW))
    return nn.Sequential(layers, nn.AdaptiveAvgPool1d(1), nn.Flatten())
