"""The public decoder: from a feature vector to a waveform that has those features.

A waveform of the public prior with a similar spectrum and shape is looked up and then equalised, band by band,
to the powers asked for. Differentiable in the features (not in the choice). Nothing here saw a recording.
"""

import math

import torch
from torch import Tensor, nn

from fedsynth.families.features import (
    band_bins,
    band_powers,
    split_features,
    waveform_shape,
)
from fedsynth.families.prior import feature_scale, waveforms
from fedsynth.families.shape import Shape

_COUNT = 6000
_CANDIDATES = 8
_SHARED = 0.8  # of each channel's standard deviation comes from one source: volume conduction, a public constant
_SHAPE_WEIGHT = 2.0


class Decoder(nn.Module):
    """Looks up and equalises. It has no parameters; its buffers are public and are not part of any message."""

    def __init__(self, shape: Shape) -> None:
        """Simulate the bank of waveforms for windows of this shape."""
        super().__init__()
        self.shape = shape
        bank = waveforms(shape, count=_COUNT)
        powers = band_powers(bank[:, None] * 30.0, shape)[:, 0]
        self.register_buffer("bank", bank, persistent=False)
        self.register_buffer("keys", self._key(powers, waveform_shape(bank[:, None] * 30.0)), persistent=False)

    @property
    def noise_width(self) -> int:
        """Normal numbers used per window: one choice for the shared source, one for each channel."""
        return 1 + len(self.shape.channels)

    def forward(self, vector: Tensor, noise: Tensor) -> Tensor:
        """Return windows in microvolts, shape (window, channel, time).

        Args:
            vector: features, shape (window, feature), in natural units.
            noise: standard normal, shape (window, noise_width).
        """
        powers, waveform = split_features(vector, self.shape)
        source = self._excitation(powers.detach(), waveform.detach(), noise)
        return equalise(source, powers, self.shape)

    def _excitation(self, powers: Tensor, waveform: Tensor, noise: Tensor) -> Tensor:
        bank, keys = self.get_buffer("bank"), self.get_buffer("keys")
        near = torch.cdist(self._key(powers.mean(dim=1), waveform), keys).topk(64, largest=False).indices
        uniform = 0.5 * (1 + torch.erf(noise / math.sqrt(2)))
        pick = (uniform[:, :1] * _CANDIDATES).long().clamp(max=_CANDIDATES - 1)
        shared = bank[near.gather(1, pick)]
        if len(self.shape.channels) == 1:
            return shared
        others = (uniform[:, 1:] * 64).long().clamp(max=63)
        local = bank[near.gather(1, others)]
        return _SHARED * shared + math.sqrt(1 - _SHARED**2) * local

    def _key(self, powers: Tensor, waveform: Tensor) -> Tensor:
        """Return what two waveforms are compared by: the relative spectrum and the waveform's shape."""
        relative = powers - powers.mean(dim=-1, keepdim=True)
        spread = feature_scale(self.shape)[1][-waveform.shape[1] :].to(waveform)
        return torch.cat([relative, waveform / spread * _SHAPE_WEIGHT * 0.3], dim=-1)


def equalise(source: Tensor, powers: Tensor, shape: Shape) -> Tensor:
    """Scale the spectrum of `source` smoothly until its band powers are `powers`.

    Three fixed-point turns; a band's error falls below about 1 % of a decade.

    Args:
        source: shape (window, channel, time), any unit.
        powers: log10 microvolts squared, shape (window, channel, band).
        shape: of the windows.
    """
    weights = _interpolation(shape).to(source)
    spectrum = torch.fft.rfft(source)
    gain = torch.zeros_like(powers)
    signal = source
    for _ in range(3):
        gain = (gain + 0.5 * (powers - band_powers(signal, shape))).clamp(-4, 6)
        signal = torch.fft.irfft(spectrum * torch.pow(10.0, gain @ weights), shape.n_times)
    return signal


def _interpolation(shape: Shape) -> Tensor:
    """Return linear weights from bands to rfft bins, shape (band, bin)."""
    bins = band_bins(shape)
    centres = torch.tensor([(first + last - 1) / 2 for first, last in bins])
    at = torch.arange(shape.n_times // 2 + 1, dtype=torch.float32).clamp(float(centres[0]), float(centres[-1]))
    if len(bins) == 1:
        return torch.ones(1, len(at))
    right = torch.searchsorted(centres, at).clamp(1, len(bins) - 1)
    share = (at - centres[right - 1]) / (centres[right] - centres[right - 1])
    weights = torch.zeros(len(bins), len(at))
    columns = torch.arange(len(at))
    weights[right - 1, columns] = 1 - share
    weights[right, columns] = share
    return weights
