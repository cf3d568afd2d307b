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

from fedsynth.families.anchor import Anchor, factors, natural, standardise
from fedsynth.families.blocks import LabelledNoise, around, dense, down
from fedsynth.families.decoder import Decoder
from fedsynth.families.features import features, n_features
from fedsynth.families.protocol import Phase
from fedsynth.families.shape import Shape
from fedsynth.rng import public_seed

_MICROVOLTS = 20.0  # amplitudes enter the critic as asinh(x / 20 microvolts), a public compression


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
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(public_seed("cwgan", self.architecture, self.latent) % 2**32)
            parts = nn.ModuleDict({"generator": Generator(self, shape, anchor), "critic": Critic(self, shape)})
        self.constrain(parts, self.phases[0])
        return parts

    def noise_width(self, shape: Shape) -> int:
        """Return the width: features, the decoder's choices, the residuals' latent."""
        return n_features(shape) + 1 + len(shape.channels) + self.latent

    def example_loss(self, parts: nn.ModuleDict, phase: Phase, windows: Tensor, labels: Tensor) -> Tensor:
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


class Generator(nn.Module):
    """Anchor, feature residual, decoder, signal residual."""

    def __init__(self, family: Cwgan, shape: Shape, anchor: Anchor) -> None:
        """Start at the anchor: both residuals are zero."""
        super().__init__()
        self.shape, self.latent, self.dense = shape, family.latent, family.architecture == "dense"
        size, channels = n_features(shape), len(shape.channels)
        self.register_buffer("means", anchor.means.to(torch.float32))
        self.register_buffer("factors", factors(anchor).to(torch.float32))
        self.decoder = Decoder(shape)
        self.label = LabelledNoise(shape.n_labels, family.latent)
        self.feature_residual = dense((2 * family.latent + size, 256, 256, size), zero_last=True)
        if self.dense:
            widths = (2 * family.latent, 256, 512, 1024, channels * shape.n_times)
            self.signal_residual: nn.Module = dense(widths, zero_last=True)
        else:
            self.project = nn.Linear(2 * family.latent, 8)
            self.signal_residual = around((channels + 8, 32, 32, channels))

    def forward(self, labels: Tensor, noise: Tensor) -> Tensor:
        """Return windows in microvolts, shape (window, channel, time), for noise (window, noise_width)."""
        means, spread = self.get_buffer("means"), self.get_buffer("factors")
        size = means.shape[1]
        normal, choices, latent = noise.split([size, self.decoder.noise_width, self.latent], dim=1)
        drawn = means[labels] + torch.einsum("wij,wj->wi", spread[labels], normal)
        context = self.label(latent, labels)
        drawn = (drawn + self.feature_residual(torch.cat([context, normal], dim=1))).clamp(-4.5, 4.5)
        base = self.decoder(natural(drawn, self.shape), choices)
        scale = base.square().mean(dim=(1, 2), keepdim=True).add(1e-2).sqrt()
        if self.dense:
            residual = 0.2 * torch.tanh(self.signal_residual(context)).view_as(base)
        else:
            control = self.project(context)[:, :, None].expand(-1, -1, self.shape.n_times)
            residual = torch.tanh(self.signal_residual(torch.cat([base / scale, control], dim=1)))
        return base + scale * residual


class Critic(nn.Module):
    """A value for each window and label, from the signal and from its public features."""

    def __init__(self, family: Cwgan, shape: Shape) -> None:
        """Build either view of the signal: convolutions, or the dense layers of the source."""
        super().__init__()
        self.shape = shape
        channels, size = len(shape.channels), n_features(shape)
        if family.architecture == "dense":
            self.view: nn.Module = nn.Sequential(nn.Flatten(), dense((channels * shape.n_times, 64, 32)))
        else:
            self.view = nn.Sequential(down((channels, 16, 32, 32)), nn.AdaptiveAvgPool1d(1), nn.Flatten())
        self.label = nn.Embedding(shape.n_labels, 16)
        # A critic that starts flat pushes the generator nowhere until it has learned something.
        self.head = dense((32 + size + 16 + size * shape.n_labels, 64, 32, 1), zero_last=True)

    def forward(self, windows: Tensor, labels: Tensor) -> Tensor:
        """Return values, shape (window,), for microvolts of shape (window, channel, time)."""
        signal = self.view(torch.asinh(windows / _MICROVOLTS))
        vector = standardise(features(windows, self.shape), self.shape).to(signal.dtype)
        onehot = nn.functional.one_hot(labels, self.shape.n_labels).to(vector)
        crossed = (onehot[:, :, None] * vector[:, None, :]).flatten(1)
        return self.head(torch.cat([signal, vector, self.label(labels), crossed], dim=1))[:, 0]
