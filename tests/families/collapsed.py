"""The collapsed generator of the ALS seed, for tests: what our reports and releases must fail.

In the seed of arXiv 2506.16243 the generator is never trained through the critic. Its losses "stabilise" because
its tanh is driven into saturation: whatever noise comes in, 0.9999 goes out. A milder
kind saturates at one pattern.
"""

import itertools

import torch
from torch import Tensor, nn

WIDTHS = (256, 512, 1024)


class CollapsedGenerator(nn.Module):
    """The dense conditional generator of the seed, with biases as it ends: its output ignores the noise."""

    def __init__(self, *, n_labels: int, n_channels: int, n_times: int, flat: bool, latent: int = 100) -> None:
        """Build with the last layer saturated: at 0.9999 throughout if `flat`, or else up here and down there."""
        super().__init__()
        torch.manual_seed(0)
        self.form = (n_channels, n_times)
        self.label = nn.Embedding(n_labels, latent)
        widths = (latent, *WIDTHS, n_channels * n_times)
        layers: list[nn.Module] = []
        for wide, narrow in itertools.pairwise(widths):
            layers += [nn.Linear(wide, narrow), nn.LeakyReLU(0.2)]
        self.layers = nn.Sequential(*layers[:-1], nn.Tanh())
        with torch.no_grad():
            last = self.layers[-2]
            last.weight.mul_(1e-3)
            last.bias.copy_(5.0 * (torch.ones_like(last.bias) if flat else torch.randn(last.bias.shape).sign()))

    def forward(self, labels: Tensor, noise: Tensor) -> Tensor:
        """Return windows, shape (window, channel, time), in units of the largest amplitude."""
        return self.layers(noise * self.label(labels)).unflatten(1, self.form)
