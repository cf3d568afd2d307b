"""WaveGAN on biosignals, without what would mix windows, started at the anchor.

Source: the WaveGAN of saumitkunder/EEG-DATA-SYNTHESIS-USING-GANS (latent 100, a projection, one-dimensional
transposed convolutions; a discriminator of strided convolutions; binary cross-entropy), after Donahue et al.
(2019, arXiv:1802.04208). No batch normalisation, which lets windows see one another, and no dropout, which makes a
gradient's size random. Transposed convolutions leave a comb of their stride in every spectrum (Odena et al. 2016,
doi:10.23915/distill.00003; Pons et al. 2021, arXiv:2010.14356); here a linear interpolation is followed by a
convolution. The generator is the anchor's plus residuals that start at zero. Only the discriminator's gradient
sees recordings.
"""

import itertools
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from fedsynth.anchors.anchor import Anchor
from fedsynth.families.adversarial import base as anchored
from fedsynth.families.adversarial.base import VIEW, AnchoredGenerator, Critic
from fedsynth.families.layers import fooling, judged_real, judged_synthetic, strided
from fedsynth.families.protocol import Phase
from fedsynth.modalities.shape import Shape
from fedsynth.rng import public_seed

_FACTOR = 4  # by which every stage of the generator lengthens the signal
_SIZE = 0.3  # root mean squares of the anchor's window that the residual may reach
_WIDTHS = (64, 32, 16)  # channels after the projection and after each stage but the last


@dataclass(frozen=True)
class WaveGan:
    """Hyperparameters.

    `latent` is the width of the residuals' noise, `weight_clip` the bound on every weight of the discriminator,
    `discriminator_steps` the private steps for each step of the generator.
    """

    latent: int = 100
    weight_clip: float = 0.1
    discriminator_steps: int = 5
    discriminator_learning_rate: float = 1e-3
    generator_learning_rate: float = 1e-4
    name: str = "wavegan"

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
            residual = UpsampledResidual(shape, latent=self.latent)
            generator = AnchoredGenerator(shape, anchor, residual, latent=self.latent)
            view = nn.Sequential(
                strided((len(shape.channels), 16, 32, VIEW), kernel=25), nn.AdaptiveAvgPool1d(1), nn.Flatten()
            )
            parts = nn.ModuleDict({"generator": generator, "discriminator": Critic(shape, view)})
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


class UpsampledResidual(nn.Module):
    """From the context to a signal: a projection, then interpolation and convolution in turn."""

    def __init__(self, shape: Shape, *, latent: int) -> None:
        """Build for a context of 2 `latent` numbers and windows of any length."""
        super().__init__()
        self.lengths = [-(-shape.n_times // _FACTOR**stage) for stage in range(len(_WIDTHS), -1, -1)]
        self.project = nn.Linear(2 * latent, _WIDTHS[0] * self.lengths[0])
        widths = (*_WIDTHS, len(shape.channels))
        self.layers = nn.ModuleList(
            nn.Conv1d(inner, outer, 25, padding=12) for inner, outer in itertools.pairwise(widths)
        )
        for parameter in self.layers[-1].parameters():
            nn.init.zeros_(parameter)

    def forward(self, base: Tensor, context: Tensor) -> Tensor:
        """Return the residual, shape (window, channel, time), within `_SIZE` root mean squares of `base`."""
        flow = self.project(context).unflatten(1, (-1, self.lengths[0]))
        for length, layer in zip(self.lengths[1:], self.layers, strict=True):
            flow = nn.functional.interpolate(nn.functional.leaky_relu(flow, 0.2), size=length, mode="linear")
            flow = layer(flow)
        return _SIZE * torch.tanh(flow).view_as(base)
