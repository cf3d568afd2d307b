"""The frame of ECG: what the median beat leaves of a window; beats come from the codec.

A source draws the noise between, under and upon the beats: baseline, muscle, f waves. Rhythm and beats are the ECG
decoder's, on its dipole axes, and its turns of measuring and correcting hold the features asked for.
"""

from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from fedsynth.modalities.ecg.beats import find_beats
from fedsynth.modalities.ecg.codec import EcgCodec
from fedsynth.modalities.ecg.decoder import EcgDecoder
from fedsynth.modalities.ecg.features import bands, features, left_by_median, split_features, template_of
from fedsynth.modalities.ecg.leads import axes_of, keep_identities
from fedsynth.modalities.ecg.noise import lead_noise, mixed_places, n_own
from fedsynth.modalities.frame import (
    N_GRID,
    N_LOCAL,
    frame_length,
    relative_spectrum,
    resample_waves,
    time_scale,
    unit,
)
from fedsynth.modalities.shape import Shape
from fedsynth.rng import uniform_of

_LOUDEST = 5.0  # standard deviations at which what is left of a window is cut off: a beat that was not found
_CHUNK = 128
_SIMULATED = 200  # windows that say how large leads are
_FARTHEST = 12.0  # such sizes beyond which a sample counts as this


@dataclass(frozen=True)
class EcgFrame:
    """The frame of ECG windows: one shared source of noise, and three local ones for several channels."""

    shape: Shape

    @property
    def raw_width(self) -> int:
        """Return the width of the raw condition."""
        return N_GRID + 1 + 3

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
        """Return one number that picks the rhythm, and three for each place that has noise of its own."""
        return 1 + (0 if self.n_sources == 1 else N_LOCAL * n_own(self.shape))

    def condition(self, vector: Tensor) -> Tensor:
        """Return the noise's relative spectrum and its unrest."""
        parts = split_features(vector, self.shape)
        return self._condition(parts.powers, parts.unrest)

    def condition_of_noise(self, noise: Tensor) -> Tensor:
        """Return what `condition` would say of windows with this noise between their beats, (window, time)."""
        taper = torch.hann_window(self.shape.n_times, periodic=False)
        spectrum = torch.fft.rfft(noise * taper).abs().square()
        powers = [spectrum[:, first:last].sum(dim=1) for first, last in bands(self.shape)]
        pieces = noise[:, : self.shape.n_times // 8 * 8].unflatten(1, (8, -1)).square().mean(dim=-1)
        unrest = torch.log(pieces + 1e-3).std(dim=1) / 2
        return self._condition(torch.log10(torch.stack(powers, dim=1) + 1e-9), unrest)

    def _condition(self, powers: Tensor, unrest: Tensor) -> Tensor:
        spectrum = relative_spectrum(powers, bands(self.shape), self.shape)
        return torch.cat([spectrum, unrest[:, None], time_scale(self.shape, len(powers)).to(powers)], dim=1)

    def read(self, windows: Tensor, pick: Tensor) -> tuple[Tensor, Tensor]:
        """Return what the median beat leaves on one axis, and its condition."""
        rest = torch.cat([_rest(some, self.shape) for some in windows.split(_CHUNK)])
        axis = (pick * rest.shape[1]).long().clamp(max=rest.shape[1] - 1)
        single = unit(rest[torch.arange(len(rest), device=rest.device), axis]).clamp(-_LOUDEST, _LOUDEST)
        return unit(resample_waves(single, self.length)), self.condition(features(windows, self.shape))

    def render(self, waves: Tensor, vector: Tensor, mixing: Tensor) -> Tensor:
        """Add beats to the noise, and correct both until the features are those asked for."""
        sources = unit(resample_waves(waves, self.shape.n_times))
        own = mixed_places(sources[:, 1:], mixing[:, 1:]) if self.n_sources > 1 else sources
        given = (vector, uniform_of(mixing[:, 0]), sources[:, 0], own)
        rows = zip(*(one.split(_CHUNK) for one in given), strict=True)
        return torch.cat([_drawer(self.shape).decode(*some) for some in rows])

    def read_together(self, windows: Tensor) -> Tensor:
        """Return leads in units of what simulated ones have."""
        return resample_waves(windows / _usual_size(self.shape), self.length).clamp(-_FARTHEST, _FARTHEST)

    def render_together(self, waves: Tensor, vector: Tensor) -> Tensor:  # noqa: ARG002  # the network obeys it
        """Return leads in microvolts, in which limb leads follow from one another."""
        signal = _usual_size(self.shape) * resample_waves(waves, self.shape.n_times)
        return keep_identities(signal, self.shape.channels)


class Drawer(EcgDecoder):
    """The codec's decoder with the noise given instead of looked up."""

    def decode(self, vector: Tensor, pick: Tensor, shared: Tensor, own: Tensor) -> Tensor:
        """Return windows in microvolts.

        Args:
            vector: features in natural units, shape (window, feature).
            pick: uniform on [0, 1], shape (window,); chooses among near rhythms.
            shared: noise of unit variance, shape (window, time).
            own: noise of each place, shape (window, place, time).
        """
        asked = split_features(vector, self.shape)
        source = lead_noise(shared, own, template_of(asked, self.shape), self.shape)
        return self._corrected(asked, self._train(asked, pick), source)


@lru_cache(maxsize=4)
def _usual_size(shape: Shape) -> float:
    """Return the root mean square of simulated windows, in microvolts."""
    return float(EcgCodec(shape).simulate(_SIMULATED).square().mean().sqrt())


@lru_cache(maxsize=4)
def _drawer(shape: Shape) -> Drawer:
    return Drawer(shape)


def _rest(windows: Tensor, shape: Shape) -> Tensor:
    """Return what the median beat leaves, shape (window, axis, time)."""
    axes = torch.einsum("ac,wct->wat", axes_of(shape.channels, shape.every_lead).read, windows)
    beats = find_beats(axes, sfreq=shape.sfreq)
    return left_by_median(axes, beats, shape)
