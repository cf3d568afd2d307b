"""The public ECG decoder: from a feature vector to a window whose rhythm, beats and noise have those features.

A simulated train of beats with a similar rhythm is looked up, the asked beat is put at each of its places, noise
with a similar spectrum is looked up and equalised, and two turns of measuring and correcting close the gap.
Differentiable in the features (not in what is looked up, nor in polarity). Nothing here saw a recording.
"""

import math
from dataclasses import replace

import torch
from torch import Tensor, nn

from fedsynth.modalities.ecg.beats import (
    DetectedBeats,
    beat_samples,
    beat_seconds,
    convolve,
    draw_trains,
    impulses,
    outside_qrs,
    qrs_bell,
)
from fedsynth.modalities.ecg.features import (
    Parts,
    measure,
    noise_powers,
    split_features,
    template_of,
    unrest,
)
from fedsynth.modalities.ecg.leads import axes_of, keep_identities
from fedsynth.modalities.ecg.noise import colour_noise, lead_noise, loudness, n_own
from fedsynth.modalities.ecg.passband import band_limit, pass_lower_edge, unlimited
from fedsynth.modalities.ecg.rhythm import Trains
from fedsynth.modalities.ecg.simulator import noise_bank, rhythms
from fedsynth.modalities.shape import Shape

_RHYTHMS, _NOISES = 4000, 2000
_CANDIDATES = 6
_TURNS = 2
_SWAY = 2.0  # of what QRS complexes lack in variability, their sizes are given so much more: noise has a part in it
_CALMING, _CALMEST = 2.0, -3.0  # of what they have too much of it, noise within them is made less; log, at least
_CHUNK = 128
_SPREAD = (0.1, 0.8, 0.5, 0.3, 0.6, 0.5)  # of rhythm and variability, public: what counts as near in the bank
_NOISE_SPREAD = (0.5, 0.15)
_TRAIN = ("seconds", "gains", "ectopic", "forms", "kinds")
_CALM = 0.15  # unrest of the noise in centred windows
_SHORTEST = 0.18  # seconds between beats


class EcgDecoder(nn.Module):
    """Looks up, draws and corrects. It has no parameters; its buffers are public and are part of no message."""

    def __init__(self, shape: Shape) -> None:
        """Simulate the bank of rhythms and noises for windows of this shape."""
        super().__init__()
        self.shape = shape
        train = rhythms(shape, count=_RHYTHMS, purpose="bank")
        noises = noise_bank(shape, count=_NOISES, purpose="bank")
        for name in _TRAIN:
            self.register_buffer(name, getattr(train, name), persistent=False)
        if not shape.centred:
            self.register_buffer("rhythms", _rhythm_keys(train, shape), persistent=False)
        self.register_buffer("noises", noises, persistent=False)
        self.register_buffer("colours", _noise_keys(noises, shape), persistent=False)

    @property
    def noise_width(self) -> int:
        """Normal numbers used per window: a train, the shared noise, and two for each noise of one place."""
        return noise_width(self.shape)

    def forward(self, vector: Tensor, noise: Tensor) -> Tensor:
        """Return windows in microvolts, shape (window, channel, time).

        Args:
            vector: features in natural units, shape (window, feature).
            noise: standard normal, shape (window, noise_width).
        """
        pairs = zip(vector.split(_CHUNK), noise.split(_CHUNK), strict=True)
        return torch.cat([self._decode(part, draw) for part, draw in pairs])

    def _decode(self, vector: Tensor, noise: Tensor) -> Tensor:
        asked = split_features(vector, self.shape)
        uniform = 0.5 * (1 + torch.erf(noise / math.sqrt(2)))
        train = self._train(asked, uniform[:, 0])
        source = self._source(asked, uniform[:, 1:], noise[:, -n_own(self.shape) :])
        return self._corrected(asked, train, source)

    def _corrected(self, asked: Parts, train: Trains, source: Tensor) -> Tensor:
        """Draw, measure and draw again until the features asked for come out."""
        now, calm = asked, None if self.shape.centred else torch.zeros_like(asked.unrest)
        signal = self._draw(now, train, source)
        for _ in range(_TURNS):
            got = measure(signal, self.shape)
            now = replace(
                now,
                amplitude=now.amplitude + _correction(asked.amplitude, got.amplitude),
                shape=now.shape + _correction(asked.shape, got.shape),
                powers=now.powers + _correction(asked.powers, got.powers),
            )
            if calm is not None:
                more = _correction(asked.variability[:, 0], got.variability[:, 0])
                train, calm = _swaying(train, more), (calm + _CALMING * more).clamp(_CALMEST, 0)
            signal = self._draw(now, train, source, calm=calm)
        return signal

    def _train(self, asked: Parts, uniform: Tensor) -> Trains:
        if self.shape.centred:
            return centred_trains(asked.rhythm.detach(), self.shape)
        key = torch.cat([asked.rhythm, asked.variability], dim=1).detach() / torch.tensor(_SPREAD)
        near = torch.cdist(key, self.get_buffer("rhythms")).topk(_CANDIDATES, largest=False).indices
        pick = (uniform * _CANDIDATES).long().clamp(max=_CANDIDATES - 1)
        row = near.gather(1, pick[:, None])[:, 0]
        bank = Trains(*(self.get_buffer(name) for name in _TRAIN))
        return bank.take(row)

    def _source(self, asked: Parts, uniform: Tensor, normal: Tensor) -> Tensor:
        """Return noise of about unit variance whose colour is near what was asked, (window, channel, time).

        Args:
            asked: the features.
            uniform: what is looked up, shape (window, 1 + place, and more).
            normal: how loud places are, standard normal, shape (window, place).
        """
        # In a window of one beat or two, unrest is that beat's.
        changing = torch.full_like(asked.unrest, _CALM) if self.shape.centred else asked.unrest.detach()
        key = _colour(asked.powers.detach(), changing)
        near = torch.cdist(key, self.get_buffer("colours")).topk(64, largest=False).indices
        few = (uniform[:, :1] * _CANDIDATES).long().clamp(max=_CANDIDATES - 1)
        many = (uniform[:, 1 : 1 + n_own(self.shape)] * 64).long().clamp(max=63)
        noises = self.get_buffer("noises")
        own = noises[near.gather(1, many)] * loudness(normal)[..., None]
        return lead_noise(noises[near.gather(1, few)[:, 0]], own, template_of(asked, self.shape), self.shape)

    def _draw(self, now: Parts, train: Trains, source: Tensor, *, calm: Tensor | None = None) -> Tensor:
        """Return windows; `calm` (window,) is the logarithm of what is left of noise within QRS complexes."""
        shape = self.shape
        template = template_of(now, shape)
        if shape.centred:
            axes = draw_centred(template, now.variability, train, shape)
        else:
            axes = draw_trains(template, train, n_times=shape.n_times, sfreq=shape.sfreq)
        heart = torch.einsum("ca,wat->wct", axes_of(shape.channels, shape.every_lead).spread, axes)
        noise = colour_noise(source, now.powers, shape)
        if calm is not None:
            beats = DetectedBeats(train.seconds * shape.sfreq, torch.ones_like(train.seconds, dtype=torch.bool))
            within = 1 - outside_qrs(beats, n_times=shape.n_times, sfreq=shape.sfreq)
            noise = noise * (1 - (1 - torch.exp(calm))[:, None] * within)[:, None]
        noise = unlimited(noise, shape)
        # Beats that were asked for have passed the upper edge already.
        signal = pass_lower_edge(heart, shape) + band_limit(noise, shape)
        return keep_identities(signal, shape.channels)


def _swaying(train: Trains, more: Tensor) -> Trains:
    """Return beats whose sizes differ from one another by a factor of the exponential of twice `more` (window,).

    Noise makes QRS complexes differ as well, so what is asked for is not what beats must do alone.
    """
    return replace(train, gains=1 + (train.gains - 1) * torch.exp(_SWAY * more)[:, None])


def _correction(asked: Tensor, got: Tensor) -> Tensor:
    return (asked - got).clamp(-1, 1).detach()


def centred_trains(timing: Tensor, shape: Shape) -> Trains:
    """Return beats at the middle and, as often as they fit, at the asked times before and after it.

    `ectopic` marks the middle beat, which differs from its neighbours.
    """
    before, after = torch.exp(timing.clamp(-1.7, 2.0)).unbind(dim=1)
    middle = shape.n_times // 2 / shape.sfreq
    steps = torch.arange(math.ceil(middle / _SHORTEST) + 1)
    left = middle - before[:, None] * (1 + steps)
    right = middle + after[:, None] + before[:, None] * steps
    seconds = torch.cat([torch.full_like(left[:, :1], middle), left, right], dim=1)
    first = (torch.arange(seconds.shape[1]) == 0).to(seconds).expand_as(seconds)
    kinds = torch.zeros(len(seconds), dtype=torch.int64)
    return Trains(seconds, torch.ones_like(seconds), first, torch.zeros(len(seconds), 3), kinds)


def draw_centred(template: Tensor, variability: Tensor, train: Trains, shape: Shape) -> Tensor:
    """Return the middle beat and neighbours of the asked size and likeness, shape (window, axis, time).

    A neighbour's QRS complex is a mixture of the middle one's and an ordinary one; P and T of the middle
    beat belong to its neighbours only as far as they are like it.
    """
    _, size = beat_samples(shape.sfreq)
    bell = qrs_bell(shape.sfreq)
    ratio, likeness = (part[:, None, None] for part in variability.unbind(dim=1))
    ratio, likeness = ratio.clamp(-2, 2).exp(), likeness.clamp(-1, 1)
    own = (template.square() * bell).sum(dim=(1, 2), keepdim=True) + 1.0
    plain = _plain_beat(shape.sfreq).expand_as(template)
    plain = plain * (own / (plain.square() * bell).sum(dim=(1, 2), keepdim=True)).sqrt()
    qrs, other = template * bell, plain * bell
    other = other - qrs * ((other * template).sum(dim=(1, 2), keepdim=True) / own)
    other = other * (own / ((other.square() / bell.clamp_min(1e-3)).sum(dim=(1, 2), keepdim=True) + 1.0)).sqrt()
    alike = likeness.clamp_min(0).square()
    rest = alike * (template - qrs) + (1 - alike) * (plain - plain * bell)
    neighbour = ratio * (likeness * qrs + (1 - likeness.square()).clamp_min(1e-6).sqrt() * other + rest)
    at, mark = train.seconds, train.ectopic
    middle = impulses(at, mark, n_times=shape.n_times, sfreq=shape.sfreq, margin=size)
    others = impulses(at, 1 - mark, n_times=shape.n_times, sfreq=shape.sfreq, margin=size)
    return convolve(middle, template, n_times=shape.n_times, sfreq=shape.sfreq) + convolve(
        others, neighbour, n_times=shape.n_times, sfreq=shape.sfreq
    )


def noise_width(shape: Shape) -> int:
    """Return how many normal numbers the decoder takes for a window."""
    return 2 + 2 * n_own(shape)


def _rhythm_keys(train: Trains, shape: Shape) -> Tensor:
    """Return what rhythm and variability each train of the bank shows on one axis with a common beat, as keys."""
    alone = replace(shape, channels=("unknown",))
    beat, parts = _plain_beat(shape.sfreq), []
    for rows in torch.arange(len(train.kinds)).split(_CHUNK):
        template = beat.expand(len(rows), 1, -1)
        signal = draw_trains(template, train.take(rows), n_times=shape.n_times, sfreq=shape.sfreq)
        got = measure(band_limit(signal, shape), alone)
        parts.append(torch.cat([got.rhythm, got.variability], dim=1))
    return torch.cat(parts) / torch.tensor(_SPREAD)


def _plain_beat(sfreq: float) -> Tensor:
    """Return an ordinary beat in microvolts, shape (beat time,)."""
    at = beat_seconds(sfreq)
    wave = 1000 * torch.exp(-0.5 * (at / 0.014) ** 2) - 200 * torch.exp(-0.5 * ((at - 0.035) / 0.012) ** 2)
    return wave + 200 * torch.exp(-0.5 * ((at - 0.27) / 0.045) ** 2)


def _noise_keys(noise: Tensor, shape: Shape) -> Tensor:
    scaled, mask = 100.0 * noise[:, None], torch.ones_like(noise)
    return _colour(noise_powers(scaled, mask, shape), unrest(scaled, mask, shape))


def _colour(powers: Tensor, changing: Tensor) -> Tensor:
    relative = (powers - powers.mean(dim=1, keepdim=True)) / _NOISE_SPREAD[0]
    return torch.cat([relative, changing[:, None] / _NOISE_SPREAD[1]], dim=1)
