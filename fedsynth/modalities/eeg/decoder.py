"""The public decoder of EEG: from a feature vector to a waveform that has those features.

Parameters of the public simulator whose waves have a similar spectrum and shape are looked up, waves are simulated
anew from them and equalised, band by band, to the powers asked for; of those, the one whose shape is closest after
equalising is kept. No wave is drawn twice. Differentiable in the features, not in the wave. Nothing here saw a
recording.
"""

from dataclasses import fields
from functools import lru_cache

import torch
from torch import Tensor, nn

from fedsynth.modalities.eeg.anew import Parameters, margin, noise_size, parameters, simulate
from fedsynth.modalities.eeg.features import shape_by_channel, split_features, waveform_shape
from fedsynth.modalities.eeg.matching import matched
from fedsynth.modalities.eeg.mixing import SOURCES, mix, mixing_width, uneven
from fedsynth.modalities.equaliser import equalise, equalise_evenly
from fedsynth.modalities.measures import band_powers, beyond_taper, even_powers
from fedsynth.modalities.shape import Shape
from fedsynth.rng import torch_generator, uniform_of

_COUNT = 12000  # sets of parameters
_LOOKS = 3  # waves of each, from which it is known what such waves are like
_CANDIDATES = 12  # simulated, then compared after equalising
_LOCAL = 64
_SHAPE_WEIGHT = 1.2
_TURNS, _TURNS_OF_MANY = 3, 2  # of matching, of one channel and of several
_MICROVOLTS = 30.0  # at which features of waves are taken
_UNTAPERED_STD = 0.1  # decades by which a window's power may differ from what the taper sees
_MIRRORED = torch.tensor([1.0, 1.0, 1.0, 1.0, -1.0, -1.0, 1.0])  # of a waveform's shape, turned upside down
_LEVELLED = 2  # times, until windows' level is found
_KINDS, _OF_A_KIND = 60, 10  # of waves, and waves of each, by which windows' level is found
_ROWS = 256  # at once: candidates of so many windows fit in a cache
_SAMPLES = 250_000  # of waves, at once


class SimulatingDecoder(nn.Module):
    """Looks up, simulates, equalises and chooses; without parameters, and its buffers are part of no message."""

    def __init__(self, shape: Shape, *, level: Tensor | None = None) -> None:
        """Take what the simulator's parameters give for windows of this shape.

        Args:
            shape: of the windows.
            level: log10 of how loud whole windows are beside what the taper sees; found if not given.
        """
        super().__init__()
        self.shape = shape
        known, keys, spread, untapered = _known(shape)
        for field in fields(known):
            self.register_buffer(field.name, getattr(known, field.name), persistent=False)
        self.register_buffer("keys", keys, persistent=False)
        self.register_buffer("spread", spread, persistent=False)
        self.register_buffer("untapered", untapered, persistent=False)
        self.register_buffer("level", _level(shape) if level is None else level, persistent=False)

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
        waves, mixing = noise.split([noise.shape[1] - mixing_width(self.shape), mixing_width(self.shape)], dim=1)
        if mixing_width(self.shape):
            powers = uneven(powers, mixing, self.shape)
        with torch.no_grad():
            rows = max(16, min(_ROWS, _SAMPLES // self.shape.n_times))
            parts = (part.split(rows) for part in (powers, waveform, waves, mixing))
            source = torch.cat([self._excitation(*some) for some in zip(*parts, strict=True)])
            turns = _TURNS if len(self.shape.channels) == 1 else _TURNS_OF_MANY
            source = matched(source, powers, waveform, self.shape, turns=turns)
        return equalise_evenly(source, powers, self.shape, level=self.get_buffer("level"))

    def _excitation(self, powers: Tensor, waveform: Tensor, noise: Tensor, mixing: Tensor) -> Tensor:
        """Return waves of unit variance, longer than a window on both sides."""
        shape, channels = self.shape, len(self.shape.channels)
        keys, spread = self.get_buffer("keys"), self.get_buffer("spread")
        mean = powers.mean(dim=1)
        asked = _key(mean, waveform, spread)
        # |a - b|^2 without |a|^2, which is the same for every set of parameters.
        distance = keys.square().sum(dim=1) - 2 * asked @ keys.T
        near = distance.topk(_LOCAL if channels > 1 else _CANDIDATES, largest=False).indices
        own, drawn = noise.split(
            [noise.shape[1] - _CANDIDATES * noise_size(shape), _CANDIDATES * noise_size(shape)], 1
        )
        tried = self._waves(near[:, :_CANDIDATES], drawn)
        loud = equalise(tried, mean[:, None].expand(-1, _CANDIDATES, -1), shape, turns=2)
        got = shape_by_channel(loud, shape)
        # Every wave stands for its mirror image too, in which asymmetries alone have the other sign.
        got = torch.cat([got, got * _MIRRORED], dim=1)
        miss = (got - waveform[:, None]) / spread
        # A wave that is loud where the taper is not would not be as loud as its features.
        ends = (beyond_taper(loud, mean[:, None]) - self.get_buffer("untapered")) / _UNTAPERED_STD
        best = (
            (miss.square().sum(dim=-1) + ends.square().repeat(1, 2))
            .topk(SOURCES if channels > 1 else 1, largest=False)
            .indices
        )
        shared = torch.cat([tried, -tried], dim=1).gather(1, best[..., None].expand(-1, -1, tried.shape[-1]))
        if channels == 1:
            return shared
        pick, drawn = own.split([channels, channels * noise_size(shape)], dim=1)
        others = (uniform_of(pick) * _LOCAL).long().clamp(max=_LOCAL - 1)
        return mix(shared, self._waves(near.gather(1, others), drawn), mixing, shape)

    def _waves(self, chosen: Tensor, noise: Tensor) -> Tensor:
        """Simulate from parameters by number, shape (window, wave), and noise; shape (window, wave, time)."""
        known = Parameters(*(self.get_buffer(field.name) for field in fields(Parameters)))
        flat = simulate(known.take(chosen.flatten()), noise.reshape(chosen.numel(), -1), self.shape)
        return flat.unflatten(0, chosen.shape)


def noise_width(shape: Shape) -> int:
    """Return how many normal numbers a window takes: of waves, and how they are mixed."""
    channels = len(shape.channels)
    own = 0 if channels == 1 else channels * (1 + noise_size(shape))
    return own + _CANDIDATES * noise_size(shape) + mixing_width(shape)


@lru_cache(maxsize=4)
def _known(shape: Shape) -> tuple[Parameters, Tensor, Tensor, Tensor]:
    """Return parameters, what their waves are found by (parameters, key), the spread of shapes, and what a wave's
    power usually is beyond the taper."""
    known = parameters(_COUNT, shape)
    single = Shape(("any",), shape.n_times, shape.sfreq, shape.bandpass, 1, shape.modality)
    first = margin(shape)
    generator = torch_generator("looks at waves", shape.n_times, f"{shape.sfreq:.6f}", f"{shape.bandpass}")
    powers, shapes, ends = [], [], []
    for rows in torch.arange(_COUNT).split(max(32, _SAMPLES // shape.n_times)):
        again = rows.repeat_interleave(_LOOKS)
        noise = torch.randn(len(again), noise_size(shape), generator=generator)
        waves = _MICROVOLTS * simulate(known.take(again), noise, shape)[:, None, first : first + shape.n_times]
        found = band_powers(waves, single)
        ends.append(beyond_taper(waves, found).mean())
        powers.append(found[:, 0].unflatten(0, (-1, _LOOKS)))
        shapes.append(shape_by_channel(waves, single)[:, 0].unflatten(0, (-1, _LOOKS)))
    seen = torch.cat(shapes)
    spread = seen.flatten(0, 1).std(dim=0).clamp_min(0.02)
    keys = _key(torch.cat(powers).mean(dim=1), seen.mean(dim=1), spread)
    return known, keys, spread, torch.stack(ends).mean()


@lru_cache(maxsize=4)
def _level(shape: Shape) -> Tensor:
    """Return log10 of how loud whole windows are to be beside what the taper sees.

    A band that the taper sees louder than usual is often louder there alone, so that windows made from what it sees
    would be too loud elsewhere. Found on waves of several kinds that are decoded from their own features: in the
    mean over a kind, the taper is to see as much as there is.
    """
    one = Shape(("any",), shape.n_times, shape.sfreq, shape.bandpass, 1, shape.modality)
    first, generator = margin(one), torch_generator("levels of waves", shape.n_times, f"{shape.bandpass}")
    asked = parameters(_KINDS, one).take(torch.arange(_KINDS).repeat_interleave(_OF_A_KIND))
    noise = torch.randn(_KINDS * _OF_A_KIND, noise_size(one), generator=generator)
    waves = _MICROVOLTS * simulate(asked, noise, one)[:, None, first : first + one.n_times]
    noise = torch.randn(len(waves), noise_width(one), generator=generator)
    wanted = torch.cat([band_powers(waves, one)[:, 0], waveform_shape(waves, one)], dim=1)
    level = torch.zeros(1)
    for _ in range(_LEVELLED):
        level = level - _too_loud(SimulatingDecoder(one, level=level)(wanted, noise), one)
    return level


def _too_loud(waves: Tensor, shape: Shape) -> Tensor:
    """Return log10 of the mean power of whole windows over that which the taper sees, of most bands and kinds."""
    seen, whole = (torch.pow(10.0, powers(waves, shape)) for powers in (band_powers, even_powers))
    means = (one.unflatten(0, (_KINDS, _OF_A_KIND)).mean(dim=1) for one in (whole, seen))
    return torch.log10(torch.div(*means)).median()


def _key(powers: Tensor, waveform: Tensor, spread: Tensor) -> Tensor:
    """Return what waves are compared by: the relative spectrum and the waveform's shape."""
    relative = powers - powers.mean(dim=-1, keepdim=True)
    return torch.cat([relative, waveform / spread * _SHAPE_WEIGHT], dim=-1)
