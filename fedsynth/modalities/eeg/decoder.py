"""The public decoder of EEG: from a feature vector to a waveform that has those features.

Waveforms of the public prior with a similar spectrum and shape are looked up and equalised, band by band, to the
powers asked for; of those, one whose shape is closest after equalising is kept. Differentiable in the features, not
in the choice. Nothing here saw a recording.
"""

from functools import lru_cache

import torch
from torch import Tensor, nn

from fedsynth.modalities.eeg.features import shape_by_channel, split_features
from fedsynth.modalities.eeg.mixing import SOURCES, mix, mixing_width, uneven
from fedsynth.modalities.eeg.simulator import waveforms
from fedsynth.modalities.measures import band_powers, equalise
from fedsynth.modalities.shape import Shape
from fedsynth.rng import uniform_of

_COUNT = 12000
_CANDIDATES = 16  # looked up by spectrum and shape, then compared after equalising
_KEPT = 2
_LOCAL = 64
_SHAPE_WEIGHT = 0.6
_MICROVOLTS = 30.0  # at which the bank's own features are taken
_ROWS = 256  # at once: candidates of so many windows fit in a cache


class BankDecoder(nn.Module):
    """Looks up, equalises and chooses. It has no parameters; its buffers are public and part of no message."""

    def __init__(self, shape: Shape) -> None:
        """Take the bank of waveforms for windows of this shape."""
        super().__init__()
        self.shape = shape
        bank, keys, spread = _bank(shape)
        self.register_buffer("bank", bank, persistent=False)
        self.register_buffer("keys", keys, persistent=False)
        self.register_buffer("spread", spread, persistent=False)

    @property
    def noise_width(self) -> int:
        """Return what `noise_width` returns for the shape."""
        return noise_width(self.shape)

    def forward(self, vector: Tensor, noise: Tensor) -> Tensor:
        """Return windows in microvolts, shape (window, channel, time).

        Args:
            vector: features, shape (window, feature), in natural units.
            noise: standard normal, shape (window, noise_width).
        """
        powers, waveform = split_features(vector, self.shape)
        choices, mixing = noise.split([noise.shape[1] - mixing_width(self.shape), mixing_width(self.shape)], dim=1)
        if mixing_width(self.shape):
            powers = uneven(powers, mixing, self.shape)
        with torch.no_grad():
            parts = (part.split(_ROWS) for part in (powers, waveform, choices, mixing))
            source = torch.cat([self._excitation(*some) for some in zip(*parts, strict=True)])
        return equalise(source, powers, self.shape)

    def _excitation(self, powers: Tensor, waveform: Tensor, noise: Tensor, mixing: Tensor) -> Tensor:
        bank, keys, spread = self.get_buffer("bank"), self.get_buffer("keys"), self.get_buffer("spread")
        mean, sources = powers.mean(dim=1), _n_sources(self.shape)
        several = sources > 1
        asked = _key(mean, waveform, spread)
        # |a - b|^2 without |a|^2, which is the same for every waveform of the bank.
        distance = keys.square().sum(dim=1) - 2 * asked @ keys.T
        near = distance.topk(_LOCAL if several else _CANDIDATES, largest=False).indices
        uniform = uniform_of(noise)
        first = near[:, :_CANDIDATES]
        tried = equalise(bank[first], mean[:, None].expand(-1, _CANDIDATES, -1), self.shape, turns=2)
        miss = (shape_by_channel(tried, self.shape) - waveform[:, None]) / spread
        best = miss.square().sum(dim=-1).topk(_KEPT * sources, largest=False).indices
        pick = (uniform[:, :sources] * _KEPT).long().clamp(max=_KEPT - 1) + _KEPT * torch.arange(sources)
        shared = bank[first.gather(1, best.gather(1, pick))]
        if not several:
            return shared
        others = (uniform[:, sources:] * _LOCAL).long().clamp(max=_LOCAL - 1)
        return mix(shared, bank[near.gather(1, others)], mixing, self.shape)


def noise_width(shape: Shape) -> int:
    """Return how many normal numbers a window takes: choices of waveforms, and how they are mixed."""
    return _n_sources(shape) + len(shape.channels) + mixing_width(shape)


def _n_sources(shape: Shape) -> int:
    return 1 if len(shape.channels) == 1 else SOURCES


@lru_cache(maxsize=4)
def _bank(shape: Shape) -> tuple[Tensor, Tensor, Tensor]:
    """Return waveforms (waveform, time), what they are found by (waveform, key), and the spread of shapes."""
    bank = waveforms(shape, count=_COUNT)
    loud = _MICROVOLTS * bank[:, None]
    waveform = shape_by_channel(loud, shape)[:, 0]
    spread = waveform.std(dim=0).clamp_min(0.02)
    return bank, _key(band_powers(loud, shape)[:, 0], waveform, spread), spread


def _key(powers: Tensor, waveform: Tensor, spread: Tensor) -> Tensor:
    """Return what two waveforms are compared by: the relative spectrum and the waveform's shape."""
    relative = powers - powers.mean(dim=-1, keepdim=True)
    return torch.cat([relative, waveform / spread * _SHAPE_WEIGHT], dim=-1)
