"""Layers of generators and critics; every one treats rows independently and keeps no statistics."""

import itertools
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from fedsynth.families.layers import zero_initialised
from fedsynth.modalities.shape import Shape

LEAK = 0.2
"""Slope of a leaky rectifier below zero (Radford et al. 2016, arXiv:1511.06434, section 4)."""

_GROUPS = 4  # of channels that are normalised together (Wu and He 2018, arXiv:1803.08494)
_FILTER_ORDER = 4  # of each side of the pass band (Butterworth 1930)
_LOWEST_HZ = 1e-6  # stands for 0 Hz in a quotient


def dense(widths: Sequence[int], *, zero_last: bool = False) -> nn.Sequential:
    """Return linear layers with leaky rectifiers between; the last may start at zero."""
    layers: list[nn.Module] = []
    for wide, narrow in itertools.pairwise(widths):
        layers += [nn.Linear(wide, narrow), nn.LeakyReLU(LEAK)]
    stack = nn.Sequential(*layers[:-1])
    if zero_last:
        zero_initialised(stack[-1])
    return stack


def strided(channels: Sequence[int], *, kernel: int = 9, stride: int = 4) -> nn.Sequential:
    """Return strided one-dimensional convolutions with group norm and leaky rectifiers."""
    layers: list[nn.Module] = []
    for inner, outer in itertools.pairwise(channels):
        layers += [
            nn.Conv1d(inner, outer, kernel, stride, kernel // 2),
            nn.GroupNorm(_GROUPS, outer),
            nn.LeakyReLU(LEAK),
        ]
    return nn.Sequential(*layers)


def same_length(channels: Sequence[int], *, kernel: int = 9) -> nn.Sequential:
    """Return convolutions that keep the length; the last starts at zero, so that the stack adds nothing yet."""
    layers: list[nn.Module] = []
    for inner, outer in itertools.pairwise(channels):
        layers += [nn.Conv1d(inner, outer, kernel, padding=kernel // 2), nn.LeakyReLU(LEAK)]
    stack = nn.Sequential(*layers[:-1])
    zero_initialised(stack[-1])
    return stack


class LabelledNoise(nn.Module):
    """Noise multiplied by a label embedding, as the conditional WGAN of arXiv 2506.16243 describes."""

    def __init__(self, n_labels: int, width: int) -> None:
        """Embed `n_labels` labels beside noise of `width` numbers; around 1, so that noise passes at first."""
        super().__init__()
        self.embedding = nn.Embedding(n_labels, width)
        nn.init.normal_(self.embedding.weight, 1.0, 0.5)

    def forward(self, noise: Tensor, labels: Tensor) -> Tensor:
        """Return shape (window, 2 width): the product, and the embedding itself."""
        embedded = self.embedding(labels)
        return torch.cat([noise * embedded, embedded], dim=1)


def band_limited(signal: Tensor, shape: Shape) -> Tensor:
    """Filter signals, shape (window, channel, time), to the study's pass band; recordings have nothing outside.

    Without it a residual's high frequencies give every synthetic window away and drown what else is to be learned.
    The gain is that of two Butterworth filters, (1 + (f / high)^2n)^-1/2 and (1 + (low / f)^2n)^-1/2, at no phase.
    """
    frequencies = torch.fft.rfftfreq(shape.n_times, 1 / shape.sfreq, device=signal.device)
    low, high = shape.bandpass
    power = 2 * _FILTER_ORDER
    gain = (1 + (frequencies / high) ** power) ** -0.5
    gain = gain / (1 + (low / frequencies.clamp_min(_LOWEST_HZ)) ** power) ** 0.5
    return torch.fft.irfft(torch.fft.rfft(signal) * gain, shape.n_times)
