"""The critic of every adversarial family: from a window and a label to one number; a discriminator's is a logit.

A family chooses the encoder of the signal; beside it the critic sees the window's public features.
"""

import torch
from torch import Tensor, nn

from fedsynth.families.adversarial.layers import dense, strided
from fedsynth.modalities.registry import codec_of, standardise
from fedsynth.modalities.shape import Shape

ENCODING_WIDTH = 32
"""Numbers that an encoder makes of a window's signal."""

_LINEAR_MICROVOLTS = 20.0  # about where the compression of amplitudes turns from a line into a logarithm
_LABEL_WIDTH = 16


class Critic(nn.Module):
    """A number for each window and label, from the signal and from its public features."""

    def __init__(self, shape: Shape, encoder: nn.Module) -> None:
        """Start flat.

        Args:
            shape: of the windows.
            encoder: from compressed signals (window, channel, time) to (window, ENCODING_WIDTH).
        """
        super().__init__()
        self.shape, size = shape, codec_of(shape).n_features
        self.view = encoder  # the name that parameters travel under
        self.label = nn.Embedding(shape.n_labels, _LABEL_WIDTH)
        # A critic that starts flat pushes the generator nowhere until it has learned something.
        widths = (ENCODING_WIDTH + size + _LABEL_WIDTH + size * shape.n_labels, 64, 32, 1)
        self.head = dense(widths, zero_last=True)

    def forward(self, windows: Tensor, labels: Tensor) -> Tensor:
        """Return shape (window,), for microvolts of shape (window, channel, time).

        Amplitudes enter as asinh(x / 20 microvolts), a public compression (Burbidge et al. 1988,
        doi:10.1080/01621459.1988.10478575).
        """
        signal = self.view(torch.asinh(windows / _LINEAR_MICROVOLTS))
        vector = standardise(codec_of(self.shape).features(windows), self.shape).to(signal.dtype)
        onehot = nn.functional.one_hot(labels, self.shape.n_labels).to(vector)
        crossed = (onehot[:, :, None] * vector[:, None, :]).flatten(1)
        return self.head(torch.cat([signal, vector, self.label(labels), crossed], dim=1))[:, 0]


def dense_encoder(shape: Shape) -> nn.Module:
    """Return dense layers from a window's samples to its encoding."""
    return nn.Sequential(nn.Flatten(), dense((len(shape.channels) * shape.n_times, 64, ENCODING_WIDTH)))


def convolutional_encoder(shape: Shape, *, kernel: int = 9) -> nn.Module:
    """Return strided convolutions and a mean over time, from a window of any length to its encoding."""
    layers = strided((len(shape.channels), 16, 32, ENCODING_WIDTH), kernel=kernel)
    return nn.Sequential(layers, nn.AdaptiveAvgPool1d(1), nn.Flatten())
