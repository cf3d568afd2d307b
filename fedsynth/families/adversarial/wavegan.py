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
from fedsynth.families.adversarial.critic import Critic, convolutional_encoder
from fedsynth.families.adversarial.generator import AnchoredGenerator
from fedsynth.families.adversarial.layers import LEAK
from fedsynth.families.adversarial.non_saturating import NonSaturatingGan
from fedsynth.families.layers import zero_initialised
from fedsynth.modalities.shape import Shape

_KERNEL = 25  # samples, as in Donahue et al.
_FACTOR = 4  # by which every stage of the generator lengthens the signal, as there
_SIZE = 0.3  # root mean squares of the anchor's window that the residual may reach
_WIDTHS = (64, 32, 16)  # channels after the projection and after each stage but the last


@dataclass(frozen=True, kw_only=True)
class WaveGan(NonSaturatingGan):
    """Hyperparameters: those of every family with a discriminator."""

    name: str = "wavegan"

    def networks(self, shape: Shape, anchor: Anchor) -> tuple[AnchoredGenerator, Critic]:
        """Return a generator that lengthens a short signal, and a discriminator of strided convolutions."""
        residual = UpsampledResidual(shape, latent=self.latent)
        generator = AnchoredGenerator(shape, anchor, residual, latent=self.latent)
        return generator, Critic(shape, convolutional_encoder(shape, kernel=_KERNEL))


class UpsampledResidual(nn.Module):
    """From the context to a signal: a projection, then interpolation and convolution in turn."""

    def __init__(self, shape: Shape, *, latent: int) -> None:
        """Build for a context of 2 `latent` numbers and windows of any length."""
        super().__init__()
        self.lengths = [-(-shape.n_times // _FACTOR**stage) for stage in range(len(_WIDTHS), -1, -1)]
        self.project = nn.Linear(2 * latent, _WIDTHS[0] * self.lengths[0])
        widths = (*_WIDTHS, len(shape.channels))
        self.layers = nn.ModuleList(
            nn.Conv1d(inner, outer, _KERNEL, padding=_KERNEL // 2) for inner, outer in itertools.pairwise(widths)
        )
        zero_initialised(self.layers[-1])

    def forward(self, base: Tensor, context: Tensor) -> Tensor:
        """Return the residual, shape (window, channel, time), within `_SIZE` root mean squares of `base`."""
        flow = self.project(context).unflatten(1, (-1, self.lengths[0]))
        for length, layer in zip(self.lengths[1:], self.layers, strict=True):
            flow = nn.functional.interpolate(nn.functional.leaky_relu(flow, LEAK), size=length, mode="linear")
            flow = layer(flow)
        return _SIZE * torch.tanh(flow).view_as(base)
