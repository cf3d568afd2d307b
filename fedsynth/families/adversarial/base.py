"""What the adversarial families share: a generator that starts at the anchor, and one that judges windows.

The generator is the anchor's draw through the public decoder, plus two residuals that start at zero: one on the
features, one on the signal. The judge (a critic or a discriminator) sees the signal and its public features, and
starts flat. What differs between families is the two networks on the signal, and the loss.
"""

import torch
from torch import Tensor, nn

from fedsynth.anchors.anchor import Anchor, FeatureDraw, draw_width, subject_draw_width
from fedsynth.families.layers import LabelledNoise, dense
from fedsynth.modalities.registry import codec_of, natural, standardise
from fedsynth.modalities.shape import Shape

MICROVOLTS = 20.0
"""Amplitudes enter a judge as asinh(x / 20 microvolts), a public compression."""
VIEW = 32
"""Numbers that a judge's view of the signal ends in."""
_FURTHEST = 4.5  # spreads of the public prior


def noise_width(shape: Shape, *, latent: int) -> int:
    """Return the width of a window's noise: the anchor's draw, the decoder's choices, the residuals' latent."""
    return draw_width(shape) + codec_of(shape).noise_width + latent


def subject_width(shape: Shape) -> int:
    """Return how many of the first numbers of the noise windows of one synthetic subject share."""
    return subject_draw_width(shape)


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
        self.draw, self.decoder = FeatureDraw(anchor), codec.decoder()
        self.label = LabelledNoise(shape.n_labels, latent)
        self.feature_residual = dense((2 * latent + size, 256, 256, size), zero_last=True)
        self.signal_residual = residual

    def forward(self, labels: Tensor, noise: Tensor) -> Tensor:
        """Return windows in microvolts, shape (window, channel, time), for noise (window, noise_width)."""
        drawn_noise, choices, latent = noise.split([self.draw.width, self.choices, self.latent], dim=1)
        drawn = self.draw(labels, drawn_noise)
        context = self.label(latent, labels)
        drawn = drawn + self.feature_residual(torch.cat([context, drawn], dim=1))
        base = self.decoder(natural(drawn.clamp(-_FURTHEST, _FURTHEST), self.shape), choices)
        scale = base.square().mean(dim=(1, 2), keepdim=True).add(1e-2).sqrt()
        return base + scale * band_limited(self.signal_residual(base / scale, context), self.shape)


class Critic(nn.Module):
    """A number for each window and label, from the signal and from its public features."""

    def __init__(self, shape: Shape, view: nn.Module) -> None:
        """Start flat.

        Args:
            shape: of the windows.
            view: from compressed signals (window, channel, time) to (window, VIEW).
        """
        super().__init__()
        self.shape, size = shape, codec_of(shape).n_features
        self.view = view
        self.label = nn.Embedding(shape.n_labels, 16)
        # A judge that starts flat pushes the generator nowhere until it has learned something.
        self.head = dense((VIEW + size + 16 + size * shape.n_labels, 64, 32, 1), zero_last=True)

    def forward(self, windows: Tensor, labels: Tensor) -> Tensor:
        """Return shape (window,), for microvolts of shape (window, channel, time)."""
        signal = self.view(torch.asinh(windows / MICROVOLTS))
        vector = standardise(codec_of(self.shape).features(windows), self.shape).to(signal.dtype)
        onehot = nn.functional.one_hot(labels, self.shape.n_labels).to(vector)
        crossed = (onehot[:, :, None] * vector[:, None, :]).flatten(1)
        return self.head(torch.cat([signal, vector, self.label(labels), crossed], dim=1))[:, 0]


def band_limited(signal: Tensor, shape: Shape) -> Tensor:
    """Filter signals, shape (window, channel, time), to the study's pass band; recordings have nothing outside.

    Without it a residual's high frequencies give every synthetic window away and drown what else is to be learned.
    """
    frequencies = torch.fft.rfftfreq(shape.n_times, 1 / shape.sfreq, device=signal.device)
    low, high = shape.bandpass
    gain = (1 + (frequencies / high) ** 8) ** -0.5 / (1 + (low / frequencies.clamp_min(1e-6)) ** 8) ** 0.5
    return torch.fft.irfft(torch.fft.rfft(signal) * gain, shape.n_times)


class DenseResidual(nn.Module):
    """Dense layers from the context to the signal, as the dense generators of the sources."""

    def __init__(self, shape: Shape, *, latent: int, size: float = 0.2) -> None:
        """Build for a context of 2 `latent` numbers; the residual stays within `size` root mean squares."""
        super().__init__()
        self.form, self.size = (len(shape.channels), shape.n_times), size
        self.layers = dense((2 * latent, 256, 512, 1024, self.form[0] * self.form[1]), zero_last=True)

    def forward(self, base: Tensor, context: Tensor) -> Tensor:
        """Return the residual, whatever the anchor's window is."""
        return self.size * torch.tanh(self.layers(context)).view_as(base)


def dense_view(shape: Shape) -> nn.Module:
    """Return dense layers from a window to `VIEW` numbers."""
    return nn.Sequential(nn.Flatten(), dense((len(shape.channels) * shape.n_times, 64, VIEW)))
