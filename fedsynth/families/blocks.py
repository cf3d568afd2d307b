"""Layers that families share; every one treats rows independently and keeps no statistics."""

import itertools
from collections.abc import Sequence

import torch
from torch import Tensor, nn


def dense(widths: Sequence[int], *, zero_last: bool = False) -> nn.Sequential:
    """Return linear layers with leaky rectifiers between; the last may start at zero."""
    layers: list[nn.Module] = []
    for wide, narrow in itertools.pairwise(widths):
        layers += [nn.Linear(wide, narrow), nn.LeakyReLU(0.2)]
    stack = nn.Sequential(*layers[:-1])
    if zero_last:
        _zero(stack[-1])
    return stack


class LabelledNoise(nn.Module):
    """Noise multiplied by a label embedding, as the conditional WGAN of arXiv 2506.16243 describes."""

    def __init__(self, n_labels: int, width: int) -> None:
        """Embed `n_labels` labels beside noise of `width` numbers."""
        super().__init__()
        self.embedding = nn.Embedding(n_labels, width)
        nn.init.normal_(self.embedding.weight, 1.0, 0.5)

    def forward(self, noise: Tensor, labels: Tensor) -> Tensor:
        """Return shape (window, 2 width): the product, and the embedding itself."""
        embedded = self.embedding(labels)
        return torch.cat([noise * embedded, embedded], dim=1)


def down(channels: Sequence[int], *, kernel: int = 9, stride: int = 4) -> nn.Sequential:
    """Return strided one-dimensional convolutions with group norm and leaky rectifiers."""
    layers: list[nn.Module] = []
    for inner, outer in itertools.pairwise(channels):
        layers += [
            nn.Conv1d(inner, outer, kernel, stride, kernel // 2),
            nn.GroupNorm(4, outer),
            nn.LeakyReLU(0.2),
        ]
    return nn.Sequential(*layers)


def around(channels: Sequence[int], *, kernel: int = 9) -> nn.Sequential:
    """Return convolutions that keep the length; the last starts at zero, so that the stack adds nothing yet."""
    layers: list[nn.Module] = []
    for inner, outer in itertools.pairwise(channels):
        layers += [nn.Conv1d(inner, outer, kernel, padding=kernel // 2), nn.LeakyReLU(0.2)]
    stack = nn.Sequential(*layers[:-1])
    _zero(stack[-1])
    return stack


def _zero(layer: nn.Module) -> None:
    for parameter in layer.parameters():
        nn.init.zeros_(parameter)
