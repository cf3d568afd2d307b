"""GenEEG's autoencoder, small: trained with skips from the encoder to the decoder, and asked to draw without them.

In its code (DecoupledVAE) the decoder learns beside skips of the encoder; synthesis has no recording to encode and
decodes without them, so that the decoder is where it never was in training. Latents are drawn from a Gaussian for
each label here, where the seed has a latent diffusion: what is shown is the decoder.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from fedsynth.evaluation.protocol.material import Material
from kit.arms import Frame

_WIDE, _LATENT, _BATCH, _RATE, _KL = 32, 8, 32, 2e-3, 1e-3


class SkippingAutoencoder(nn.Module):
    """Two stages of convolutions down and up, a quarter of the samples in between."""

    def __init__(self, channels: int, *, with_skips: bool) -> None:
        """Make it; without skips the decoder sees zeros in their place, in training too."""
        super().__init__()
        self.with_skips = with_skips
        self.first = nn.Sequential(nn.Conv1d(channels, _WIDE, 5, stride=2, padding=2), nn.SiLU())
        self.second = nn.Sequential(nn.Conv1d(_WIDE, 2 * _WIDE, 5, stride=2, padding=2), nn.SiLU())
        self.told = nn.Conv1d(2 * _WIDE, 2 * _LATENT, 1)
        self.up = nn.Sequential(nn.Conv1d(_LATENT, 2 * _WIDE, 3, padding=1), nn.SiLU())
        self.upper = nn.Sequential(nn.ConvTranspose1d(4 * _WIDE, _WIDE, 4, stride=2, padding=1), nn.SiLU())
        self.last = nn.ConvTranspose1d(2 * _WIDE, channels, 4, stride=2, padding=1)

    def encode(self, windows: Tensor) -> tuple[Tensor, Tensor, tuple[Tensor, Tensor]]:
        """Return mean and log variance of the latents, and the skips."""
        first = self.first(windows)
        second = self.second(first)
        mean, log_variance = self.told(second).chunk(2, dim=1)
        return mean, log_variance.clamp(-8, 4), (first, second)

    def decode(self, latent: Tensor, skips: tuple[Tensor, Tensor] | None) -> Tensor:
        """Return windows; None stands for no skips."""
        flow = self.up(latent)
        second = torch.zeros_like(flow) if skips is None else skips[1]
        flow = self.upper(torch.cat([flow, second], dim=1))
        first = torch.zeros_like(flow) if skips is None else skips[0]
        out: Tensor = self.last(torch.cat([flow, first], dim=1))
        return out

    def loss(self, windows: Tensor) -> Tensor:
        """Return the seed's loss, but for its features: L1 and a little of the divergence from the prior."""
        mean, log_variance, skips = self.encode(windows)
        latent = mean + torch.randn_like(mean) * (0.5 * log_variance).exp()
        decoded = self.decode(latent, skips if self.with_skips else None)
        divergence = 0.5 * (mean.square() + log_variance.exp() - 1 - log_variance).mean()
        return (decoded - windows).abs().mean() + _KL * divergence


@dataclass(frozen=True)
class Decoded:
    """Synthetic windows, and the correlation of recordings with their reconstructions, with skips and without."""

    made: Material
    with_skips: float
    without: float


def autoencoded(
    real: Material, frame: Frame, *, steps: int, per_label: int, seed: int, with_skips: bool
) -> Decoded:
    """Train on windows of people, and draw every label's windows: decoded without skips, as the seed does."""
    scale = float(real.signal.std())
    windows, labels = torch.from_numpy(real.signal / scale), torch.from_numpy(real.labels)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = SkippingAutoencoder(windows.shape[1], with_skips=with_skips)
        optimizer = torch.optim.AdamW(network.parameters(), _RATE)
        for _ in range(steps):
            optimizer.zero_grad()
            network.loss(windows[torch.randint(0, len(windows), (_BATCH,))]).backward()
            optimizer.step()
        with torch.no_grad():
            mean, _, skips = network.encode(windows)
            told = [network.decode(mean, given) for given in (skips, None)]
            parts = []
            for label in range(len(frame.names)):
                mine = mean[labels == label]
                noise = torch.randn(per_label, *mine.shape[1:])
                parts.append(
                    network.decode(mine.mean(dim=(0, 2))[:, None] + mine.std(dim=(0, 2))[:, None] * noise, None)
                )
    wanted = torch.arange(len(frame.names)).repeat_interleave(per_label)
    signal = (torch.cat(parts) * scale).numpy().astype("float32")
    made = Material(signal, wanted.numpy(), torch.arange(len(wanted)).numpy())
    return Decoded(made, *(_correlation(windows, some) for some in told))


def _correlation(first: Tensor, second: Tensor) -> float:
    return float(torch.corrcoef(torch.stack([first.flatten(), second.flatten()]))[0, 1])
