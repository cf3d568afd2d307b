"""The dense GAN of the Bonn seed, with the labels it should have had, started at the anchor.

Source: saumitkunder/EEG-DATA-SYNTHESIS-USING-GANS, by its README (dense generator and discriminator, a sigmoid
output, binary cross-entropy). There real and synthetic windows reached the generator's step with misleading labels
and features were scaled on all rows; here the discriminator is told the truth, the generator takes the
non-saturating loss of Goodfellow et al. (2014, section 3), and both know the label. The generator is the anchor's
plus residuals that start at zero. Only the discriminator's gradient sees recordings.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from fedsynth.anchors.anchor import Anchor
from fedsynth.families.adversarial import base as anchored
from fedsynth.families.adversarial.base import AnchoredGenerator, Critic, DenseResidual, dense_view
from fedsynth.families.layers import fooling, judged_real, judged_synthetic
from fedsynth.families.protocol import Phase
from fedsynth.modalities.shape import Shape
from fedsynth.rng import public_seed


@dataclass(frozen=True)
class DenseGan:
    """Hyperparameters.

    `latent` is the width of the residuals' noise, `weight_clip` the bound on every weight of the discriminator,
    `discriminator_steps` the private steps for each step of the generator.
    """

    latent: int = 100
    weight_clip: float = 0.1
    discriminator_steps: int = 5
    discriminator_learning_rate: float = 1e-3
    generator_learning_rate: float = 1e-4
    name: str = "dense-gan"

    @property
    def phases(self) -> tuple[Phase, ...]:
        """Return the one phase: discriminator and generator in turn."""
        return (
            Phase(
                name="discriminator",
                private_part="discriminator",
                public_part="generator",
                private_steps=self.discriminator_steps,
                learning_rate=self.discriminator_learning_rate,
                public_learning_rate=self.generator_learning_rate,
            ),
        )

    def build(self, shape: Shape, anchor: Anchor) -> nn.ModuleDict:
        """Return generator and discriminator; initial weights come from a public seed."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(public_seed(self.name, self.latent) % 2**32)
            residual = DenseResidual(shape, latent=self.latent)
            generator = AnchoredGenerator(shape, anchor, residual, latent=self.latent)
            parts = nn.ModuleDict({"generator": generator, "discriminator": Critic(shape, dense_view(shape))})
        self.constrain(parts, self.phases[0])
        return parts

    def example_noise_width(self, shape: Shape, phase: Phase) -> int:  # noqa: ARG002
        """Return 0: judging a real window draws nothing."""
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
        """Return the cross-entropy of calling each real window real."""
        return judged_real(parts[phase.private_part](windows, labels))

    def companion_loss(self, parts: nn.ModuleDict, phase: Phase, labels: Tensor, noise: Tensor) -> Tensor:
        """Return the mean cross-entropy of calling synthetic windows synthetic."""
        with torch.no_grad():
            synthetic = self.sample(parts, labels, noise)
        return judged_synthetic(parts[phase.private_part](synthetic, labels)).mean()

    def public_loss(self, parts: nn.ModuleDict, phase: Phase, labels: Tensor, noise: Tensor) -> Tensor:
        """Return the generator's non-saturating loss, -log D, a mean over synthetic windows."""
        return fooling(parts[phase.private_part](self.sample(parts, labels, noise), labels)).mean()

    def constrain(self, parts: nn.ModuleDict, phase: Phase) -> None:
        """Clip the discriminator's weights to [-weight_clip, weight_clip]."""
        with torch.no_grad():
            for parameter in parts[phase.private_part].parameters():
                parameter.clamp_(-self.weight_clip, self.weight_clip)

    def sample(self, parts: nn.ModuleDict, labels: Tensor, noise: Tensor) -> Tensor:
        """Return synthetic windows in microvolts."""
        return parts["generator"](labels, noise)
