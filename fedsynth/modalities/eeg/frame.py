"""The frame of EEG: one channel's waveform; several channels are mixed from four."""

from dataclasses import dataclass

import torch
from torch import Tensor

from fedsynth.modalities.eeg.features import N_SHAPE, spatial_basis, split_features, waveform_shape
from fedsynth.modalities.eeg.matching import matched
from fedsynth.modalities.eeg.mixing import SOURCES, mix, mixing_width, uneven
from fedsynth.modalities.equaliser import equalise
from fedsynth.modalities.frame import (
    N_GRID,
    N_LOCAL,
    blend,
    frame_length,
    relative_spectrum,
    resample_waves,
    time_scale,
    unit,
)
from fedsynth.modalities.measures import band_bins, band_powers
from fedsynth.modalities.shape import Shape

_MICROVOLTS = 30.0  # root mean square before a spectrum is equalised
_LEAST_POWER = 1e-2  # square microvolts, so that a flat window has a scale too
_LOUDEST = 8.0  # root mean squares of the window
_FARTHEST_OFF = 1.5  # decades by which a channel's power may be off the spatial maps
_TURNS = 3  # of matching


@dataclass(frozen=True)
class EegFrame:
    """The frame of EEG windows; several channels are made of four waveforms, three of which maps share out."""

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
        """Return 0, or three numbers for each channel and those of the maps."""
        return 0 if self.n_sources == 1 else N_LOCAL * len(self.shape.channels) + mixing_width(self.shape)

    def condition(self, vector: Tensor) -> Tensor:
        """Return the raw condition of the channels' mean spectrum and shape."""
        powers, waveform = split_features(vector, self.shape)
        return self._condition(powers.mean(dim=1), waveform)

    def read(self, windows: Tensor, pick: Tensor) -> tuple[Tensor, Tensor]:
        """Return one channel's waveform and its condition."""
        channel = (pick * windows.shape[1]).long().clamp(max=windows.shape[1] - 1)
        single = windows[torch.arange(len(windows), device=windows.device), channel][:, None]
        condition = self._condition(band_powers(single, self.shape)[:, 0], waveform_shape(single, self.shape))
        return unit(resample_waves(single[:, 0], self.length)), condition

    def render(self, waves: Tensor, vector: Tensor, mixing: Tensor) -> Tensor:
        """Mix the sources into channels and give these the shape and each its band powers asked for."""
        powers, waveform = split_features(vector, self.shape)
        sources = unit(resample_waves(waves, self.shape.n_times))
        if self.n_sources > 1:
            alone, maps = mixing.split([N_LOCAL * len(self.shape.channels), mixing_width(self.shape)], dim=1)
            # What a channel has of its own is a mixture that only it hears.
            own = blend(sources[:, :1], sources[:, 1:], alone, share=0.0)
            sources = mix(sources[:, :SOURCES], own, maps, self.shape)
            powers = uneven(powers, maps, self.shape)
        signal = _MICROVOLTS * sources
        with torch.no_grad():
            moved = matched(signal, powers, waveform, self.shape, turns=_TURNS)
        # Gradients pass as if nothing had been moved.
        return equalise(signal + (moved - signal).detach(), powers, self.shape)

    def read_together(self, windows: Tensor) -> Tensor:
        """Return channels in units of the window's root mean square, which the features tell."""
        size = windows.square().mean(dim=(1, 2), keepdim=True).add(_LEAST_POWER).sqrt()
        return resample_waves(windows / size, self.length).clamp(-_LOUDEST, _LOUDEST)

    def render_together(self, waves: Tensor, vector: Tensor) -> Tensor:
        """Give the channels the band powers asked for on the spatial maps; what maps do not say stays.

        The gain is smooth and turns no phase, so that moments, signs and lags stay as well.
        """
        signal = _MICROVOLTS * resample_waves(waves, self.shape.n_times)
        own, basis = band_powers(signal, self.shape), spatial_basis(self.shape).to(signal)
        asked, _ = split_features(vector, self.shape)
        mapped = torch.einsum("mc,md,wdb->wcb", basis, basis, own) / len(self.shape.channels)
        return equalise(signal, asked + (own - mapped).clamp(-_FARTHEST_OFF, _FARTHEST_OFF), self.shape)

    def _condition(self, powers: Tensor, waveform: Tensor) -> Tensor:
        relative = relative_spectrum(powers, band_bins(self.shape), self.shape)
        return torch.cat([relative, waveform, time_scale(self.shape, len(powers)).to(powers)], dim=1)
