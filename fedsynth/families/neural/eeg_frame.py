"""The frame of EEG: one channel's waveform; several channels are mixed from one shared and three local sources."""

from dataclasses import dataclass

import torch
from torch import Tensor

from fedsynth.families.decoder import equalise
from fedsynth.families.features import N_SHAPE, band_bins, band_powers, split_features, waveform_shape
from fedsynth.families.neural.frame import (
    N_GRID,
    N_LOCAL,
    blend,
    frame_length,
    relative_spectrum,
    resample,
    time_scale,
    unit,
)
from fedsynth.families.shape import Shape

_SHARED = 0.8  # of each channel's standard deviation comes from one source: volume conduction, a public constant


@dataclass(frozen=True)
class EegFrame:
    """The frame of EEG windows: one shared source and three local ones where there are several channels."""

    shape: Shape

    @property
    def raw_width(self) -> int:
        """Return the width of the raw condition."""
        return N_GRID + N_SHAPE + 3

    @property
    def length(self) -> int:
        """Return a multiple of 16, at least 64."""
        return frame_length(self.shape)

    @property
    def n_sources(self) -> int:
        """Return 1, or 4 for several channels."""
        return 1 if len(self.shape.channels) == 1 else 1 + N_LOCAL

    @property
    def mixing_width(self) -> int:
        """Return 0, or three numbers for each channel."""
        return 0 if len(self.shape.channels) == 1 else N_LOCAL * len(self.shape.channels)

    def condition(self, vector: Tensor) -> Tensor:
        """Return the raw condition of the channels' mean spectrum and shape."""
        powers, waveform = split_features(vector, self.shape)
        return self._condition(powers.mean(dim=1), waveform)

    def read(self, windows: Tensor, pick: Tensor) -> tuple[Tensor, Tensor]:
        """Return one channel's waveform and its condition."""
        channel = (pick * windows.shape[1]).long().clamp(max=windows.shape[1] - 1)
        single = windows[torch.arange(len(windows), device=windows.device), channel][:, None]
        condition = self._condition(band_powers(single, self.shape)[:, 0], waveform_shape(single, self.shape))
        return unit(resample(single[:, 0], self.length)), condition

    def render(self, waves: Tensor, vector: Tensor, mixing: Tensor) -> Tensor:
        """Mix the sources into channels and give each channel the band powers asked for."""
        powers, _ = split_features(vector, self.shape)
        sources = unit(resample(waves, self.shape.n_times))
        if self.n_sources > 1:
            sources = blend(sources[:, :1], sources[:, 1:], mixing, share=_SHARED)
        return equalise(30.0 * sources, powers, self.shape)

    def _condition(self, powers: Tensor, waveform: Tensor) -> Tensor:
        relative = relative_spectrum(powers, band_bins(self.shape), self.shape)
        return torch.cat([relative, waveform, time_scale(self.shape, len(powers)).to(powers)], dim=1)
