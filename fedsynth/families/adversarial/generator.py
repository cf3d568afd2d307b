"""The generator of every adversarial family: the anchor through the public decoder, plus residuals, zero at first.

A family chooses the residual on the signal; the one on the features is the same for all.
"""

import torch
from torch import Tensor, nn

from fedsynth.anchors.anchor import Anchor, FeatureDraw
from fedsynth.families.adversarial.layers import LabelledNoise, band_limited, dense
from fedsynth.families.layers import FARTHEST_FEATURE
from fedsynth.families.structure import LabelStructure
from fedsynth.modalities.registry import codec_of, natural
from fedsynth.modalities.shape import Shape

_LEAST_POWER = 1e-2  # square microvolts, so that a flat window has a scale too


class AnchoredGenerator(nn.Module):
    """Anchor, feature residual, decoder, signal residual."""

    def __init__(self, shape: Shape, anchor: Anchor, residual: nn.Module, *, latent: int) -> None:
        """Start at the anchor.

        Args:
            shape: of the windows.
            anchor: what the private sums said, or the prior.
            residual: from a window of unit size (window, channel, time) and a context (window, 2 latent) to what
                is added to that window; zero at first.
            latent: width of the residuals' noise.
        """
        super().__init__()
        self.shape, self.latent = shape, latent
        codec = codec_of(shape)
        size, self.choices = codec.n_features, codec.noise_width
        self.draw, self.structure = FeatureDraw(anchor, shape), LabelStructure(shape, anchor)
        self.decoder: nn.Module = codec.decoder()
        self.label = LabelledNoise(shape.n_labels, latent)
        self.feature_residual: nn.Module | None = dense((2 * latent + size, 256, 256, size), zero_last=True)
        self.signal_residual = residual

    def forward(self, labels: Tensor, noise: Tensor) -> Tensor:
        """Return windows in microvolts, shape (window, channel, time), for noise (window, noise_width)."""
        _, base = self.drawn(labels, noise)
        return self.with_residual(base, self.label(noise[:, -self.latent :], labels))

    def drawn(self, labels: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
        """Return the features drawn, in natural units, and the anchor's window that has them."""
        drawn_noise, choices, latent = noise.split([self.draw.width, self.choices, self.latent], dim=1)
        drawn = self.draw(labels, drawn_noise)
        if self.feature_residual is not None:
            drawn = drawn + self.feature_residual(torch.cat([self.label(latent, labels), drawn], dim=1))
        vector = natural(drawn.clamp(-FARTHEST_FEATURE, FARTHEST_FEATURE), self.shape)
        return vector, self.structure(labels, self.decoder(vector, choices))

    def with_residual(self, base: Tensor, context: Tensor) -> Tensor:
        """Return the anchor's window with what the residual adds."""
        scale = base.square().mean(dim=(1, 2), keepdim=True).add(_LEAST_POWER).sqrt()
        return base + scale * band_limited(self.signal_residual(base / scale, context), self.shape)


class DenseResidual(nn.Module):
    """Dense layers from the context to the signal, of the widths of the generator in arXiv 2506.16243."""

    def __init__(self, shape: Shape, *, latent: int, size: float = 0.2) -> None:
        """Build for a context of 2 `latent` numbers; the residual stays within `size` root mean squares."""
        super().__init__()
        self.size = size
        self.layers = dense((2 * latent, 256, 512, 1024, len(shape.channels) * shape.n_times), zero_last=True)

    def forward(self, base: Tensor, context: Tensor) -> Tensor:
        """Return the residual, whatever the anchor's window is."""
        return self.size * torch.tanh(self.layers(context)).view_as(base)
