"""Latent diffusion on a variational autoencoder's codes, conditioned on features and label (GenEEG).

Source: GenEEG (its README and code): a one-dimensional VAE with a multi-domain loss, then diffusion on its latents
with v-target, min-SNR weights and condition dropout. Here both are pretrained on simulated signals; only a vector
for each label, in decoder and denoiser, ever sees recordings. `docs/families/vae-ldm.md` says what changed and why.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from fedsynth.families.pretrained.base import STEER, Source, SourceFamily
from fedsynth.families.pretrained.diffusion import (
    cosine_level,
    cosine_levels,
    ddim,
    diffuse,
    min_snr_weight,
    velocity,
)
from fedsynth.families.pretrained.layers import (
    SINGLE,
    Block,
    Double,
    Halve,
    NoiseLevelEmbedding,
    Signals,
    Stack,
    Steer,
    place_of,
)
from fedsynth.families.pretrained.spectral_loss import multi_domain_loss
from fedsynth.rng import uniform_of

_LATENT, _SHRINK = 8, 8  # latents of one channel, and of how many samples one stands for
_MOST_LATENTS = 24
_WIDTHS = (16, 32, 48)
_DENOISER = 64
_PARTS = (("ldm", 0), ("vae", 1))  # of the loss while following, and where the noise of each begins
_KL_WEIGHT, _FREE_NATS = 0.02, 0.1
_FARTHEST = 4.0  # scaled latents beyond this count as this


class VaeLdmSource(Source):
    """A VAE without skips from encoder to decoder, and a denoiser of its scaled latents."""

    stages: ClassVar[tuple[str, ...]] = ("vae", "ldm", "follow")
    private_stages: ClassVar[tuple[str, ...]] = ("vae", "ldm")
    learned_stages: ClassVar[tuple[str, ...]] = ("vae", "ldm")

    def __init__(self, raw: int, *, steps: int = 3, guidance: float = 1.0, signals: Signals = SINGLE) -> None:
        """Build for raw conditions of `raw` numbers."""
        super().__init__(signals)
        self.steps, self.guidance, self.latents = steps, guidance, _latents(signals.channels)
        self.encoder, self.decoder = Encoder(raw, signals), LatentDecoder(raw, signals)
        self.denoiser = LatentDenoiser(raw, signals)
        self.register_buffer("scale", torch.ones(self.latents))

    @staticmethod
    def noise_width(length: int, channels: int = 1) -> int:
        """Return the number of latents."""
        return _latents(channels) * length // _SHRINK

    @staticmethod
    def loss_width(stage: str, length: int, channels: int = 1) -> int:
        """Return the number of latents; the denoiser's loss takes a noise level as well."""
        return _latents(channels) * length // _SHRINK + (stage != "vae")

    def draw(self, condition: Tensor, noise: Tensor, shifts: Mapping[str, Tensor]) -> Tensor:
        """Denoise latents and decode them."""
        steer = self.denoiser.steer(condition) + shifts["ldm"]
        # Without the features the label stays: guidance strengthens what the features say.
        blind = self.denoiser.steer.unknown + shifts["ldm"] if self.guidance != 1 else None

        def predict(state: Tensor, level: tuple[float, float]) -> Tensor:
            alpha, sigma = (state.new_full((len(state),), value) for value in level)
            guess = self.denoiser(state, sigma, steer)
            if blind is not None:
                without = self.denoiser(state, sigma, blind)
                guess = without + self.guidance * (guess - without)
            return diffuse(state, guess, alpha, -sigma)

        latents = ddim(predict, cosine_levels(self.steps), noise.unflatten(1, (self.latents, -1)), bound=_FARTHEST)
        return self.given(self.decoder(latents * self._scale(), self.decoder.steer(condition) + shifts["vae"]))

    def loss(
        self,
        stage: str,
        waves: Tensor,
        condition: Tensor,
        noise: Tensor,
        *,
        shift: Tensor | None = None,
        known: Tensor | None = None,
    ) -> Tensor:
        """Return the VAE's loss (multi-domain, plus KL with free bits), or the weighted squared error in v."""
        if stage == "follow":
            both = (self.loss(part, waves, condition, noise[:, first:], known=known) for part, first in _PARTS)
            return torch.stack(list(both)).sum(dim=0)
        added = 0.0 if shift is None else shift
        waves = self.rows(waves)
        mean, log_variance = self._encoded(waves, condition)
        if stage == "vae":
            latents = mean + torch.exp(0.5 * log_variance) * noise.unflatten(1, (self.latents, -1))
            guess = self.decoder(latents, self.decoder.steer(condition) + added)
            nats = 0.5 * (mean.square() + log_variance.exp() - 1 - log_variance).mean(dim=2)
            apart = multi_domain_loss(guess.flatten(0, 1), waves.flatten(0, 1)).view(len(waves), -1).mean(dim=1)
            return apart + _KL_WEIGHT * nats.clamp_min(_FREE_NATS).sum(dim=1)
        alpha, sigma = cosine_level(uniform_of(noise[:, 0]))
        clean = (mean / self._scale()).clamp(-_FARTHEST, _FARTHEST).detach()
        random = noise[:, 1:].unflatten(1, (self.latents, -1))
        guess = self.denoiser(
            diffuse(clean, random, alpha, sigma), sigma, self.denoiser.steer(condition, known) + added
        )
        error = (guess - velocity(clean, random, alpha, sigma)).square().mean(dim=(1, 2))
        return min_snr_weight(alpha, sigma) * error

    def trainable(self, stage: str) -> list[nn.Module]:
        """Return encoder and decoder, the denoiser, or what draws: denoiser and decoder."""
        learning: dict[str, list[nn.Module]] = {
            "vae": [self.encoder, self.decoder],
            "ldm": [self.denoiser],
            "follow": [self.denoiser, self.decoder],
        }
        return learning[stage]

    def fit_scale(self, stage: str, waves: Tensor, condition: Tensor) -> None:
        """Take the latents' scale from the trained encoder, channel by channel."""
        if stage == "vae":
            self.get_buffer("scale").copy_(self.encoder(self.rows(waves), condition)[0].std(dim=(0, 2)))

    def _encoded(self, waves: Tensor, condition: Tensor) -> tuple[Tensor, Tensor]:
        """Return mean and log variance; those of channels together have a scale that no training can move.

        The denoiser's phase needs the latents' scale. Measuring it on recordings would be one more private sum;
        instead the latents at each place are normalised (Ba et al. 2016, arXiv:1607.06450).
        """
        mean, log_variance = self.encoder(waves, condition)
        if self.signals.located:
            normal = nn.functional.layer_norm(mean.transpose(1, 2), (self.latents,)).transpose(1, 2)
            mean = normal * self._scale()
        return mean, log_variance

    def _scale(self) -> Tensor:
        return self.get_buffer("scale")[:, None]


class Encoder(nn.Module):
    """From a waveform to mean and log variance of its latents, an eighth as long."""

    def __init__(self, raw: int, signals: Signals = SINGLE) -> None:
        """Three halvings, a block after each."""
        super().__init__()
        self.steer = Steer(raw, STEER)
        first, second, third = _WIDTHS
        self.halve = nn.ModuleList([Halve(signals.channels, first), Halve(first, second), Halve(second, third)])
        self.blocks = nn.ModuleList(Block(width, STEER, kernel=5) for width in _WIDTHS)
        self.last = nn.Conv1d(third, 2 * _latents(signals.channels), 3, padding=1)

    def forward(self, waves: Tensor, condition: Tensor) -> tuple[Tensor, Tensor]:
        """Return mean and log variance, each of shape (row, latent, length / 8)."""
        flow, steer = waves, self.steer(condition)
        for halve, block in zip(self.halve, self.blocks, strict=True):
            flow = block(nn.functional.silu(halve(flow)), steer)
        mean, log_variance = self.last(flow).chunk(2, dim=1)
        return mean, log_variance.clamp(-8, 4)


class LatentDecoder(nn.Module):
    """From latents to a waveform; nothing but latents and condition goes in."""

    def __init__(self, raw: int, signals: Signals = SINGLE) -> None:
        """Three doublings, a block before each."""
        super().__init__()
        self.steer = Steer(raw, STEER)
        first, second, third = _WIDTHS
        self.first = nn.Conv1d(_latents(signals.channels), third, 3, padding=1)
        self.blocks = nn.ModuleList(
            Stack(width, STEER, dilations)
            for width, dilations in ((third, (1, 2)), (second, (1, 2)), (first, (1,)))
        )
        self.finer = nn.ModuleList([Double(third, second), Double(second, first), Double(first, first)])
        self.last = nn.Conv1d(first, signals.channels, 5, padding=2)

    def forward(self, latents: Tensor, steer: Tensor) -> Tensor:
        """Return shape (row, channel, length)."""
        flow = self.first(latents)
        for block, double in zip(self.blocks, self.finer, strict=True):
            flow = nn.functional.silu(double(block(flow, steer)))
        return self.last(flow)


class LatentDenoiser(nn.Module):
    """Estimates v of noisy latents."""

    def __init__(self, raw: int, signals: Signals = SINGLE) -> None:
        """Dilated blocks at one width."""
        super().__init__()
        latents = _latents(signals.channels)
        self.steer, self.level = Steer(raw, STEER), NoiseLevelEmbedding(STEER)
        self.first = nn.Conv1d(latents, _DENOISER, 3, padding=1)
        self.place = place_of(signals, _DENOISER)
        self.blocks = Stack(_DENOISER, STEER, (1, 2, 4, 8, 1, 2))
        self.last = nn.Conv1d(_DENOISER, latents, 3, padding=1)

    def forward(self, latents: Tensor, sigma: Tensor, steer: Tensor) -> Tensor:
        """Return shape (row, latent, time); sigma (row,) is the noise level."""
        flow = self.blocks(self.place(self.first(latents)), steer + self.level(sigma))
        return self.last(nn.functional.silu(flow))


def _latents(channels: int) -> int:
    """Return how many latents a place has: eight for each channel, and no more than three channels'."""
    return min(_LATENT * channels, _MOST_LATENTS)


@dataclass(frozen=True, kw_only=True)
class VaeLdm(SourceFamily):
    """Hyperparameters: `steps` of the DDIM sampler; `guidance`, where 1 is the conditional model itself."""

    source_type: ClassVar[type[Source]] = VaeLdmSource

    steps: int = 3
    guidance: float = 1.0
    name: str = "vae-ldm"

    def source(self, raw: int, signals: Signals = SINGLE) -> VaeLdmSource:
        """Return a fresh source."""
        return VaeLdmSource(raw, steps=self.steps, guidance=self.guidance, signals=signals)
