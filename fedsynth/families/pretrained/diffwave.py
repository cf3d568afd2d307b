"""DiffWave: diffusion on waveforms by dilated convolutions that know the noise level and estimate the noise.

Source: Kong et al. 2021 (arXiv:2009.09761); the synthetic-ECG study (arXiv:2411.18456) used its variant with S4
layers. `docs/families/diffwave.md` says what changed and why.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from fedsynth.families.layers import zero_initialised
from fedsynth.families.pretrained.base import STEER, Source, SourceFamily
from fedsynth.families.pretrained.diffusion import diffuse, dpm_solver, linear_alpha_bar, table_levels
from fedsynth.families.pretrained.layers import SINGLE, NoiseLevelEmbedding, Signals, Steer, place_of
from fedsynth.rng import uniform_of

_STEPS, _FIRST_BETA, _LAST_BETA = 200, 1e-4, 0.06
_WIDTH = 32
_DILATIONS = (1, 2, 4, 8, 16, 32, 1, 2, 4, 8)
_FARTHEST = 8.0  # estimates of a waveform of unit variance beyond this count as this


class DiffWaveSource(Source):
    """The noise estimator."""

    stages: ClassVar[tuple[str, ...]] = ("denoiser", "follow")
    private_stages: ClassVar[tuple[str, ...]] = ("denoiser",)
    learned_stages: ClassVar[tuple[str, ...]] = ("denoiser",)

    def __init__(self, raw: int, *, steps: int = 8, signals: Signals = SINGLE) -> None:
        """Build for raw conditions of `raw` numbers."""
        super().__init__(signals)
        self.steps = steps
        self.denoiser = WaveDenoiser(raw, signals)

    def draw(self, condition: Tensor, noise: Tensor, shifts: Mapping[str, Tensor]) -> Tensor:
        """Denoise by DPM-Solver++."""
        steer = self.denoiser.steer(condition) + shifts["denoiser"]

        def predict(state: Tensor, level: tuple[float, float]) -> Tensor:
            alpha, sigma = level
            return (state - sigma * self.denoiser(state, state.new_full((len(state),), sigma), steer)) / alpha

        levels = table_levels(linear_alpha_bar(_STEPS, first=_FIRST_BETA, last=_LAST_BETA), count=self.steps)
        return self.given(dpm_solver(predict, levels, self.rows(noise), bound=_FARTHEST))

    def loss(
        self,
        stage: str,  # noqa: ARG002
        waves: Tensor,
        condition: Tensor,
        noise: Tensor,
        *,
        shift: Tensor | None = None,
        known: Tensor | None = None,
    ) -> Tensor:
        """Return the mean squared error of the estimated noise (Kong et al. 2021, equation 5), level continuous."""
        table = linear_alpha_bar(_STEPS, first=_FIRST_BETA, last=_LAST_BETA).sqrt().to(waves)
        # Between two steps of the table any level may occur (Chen et al. 2021, arXiv:2009.00713, section 3).
        place = uniform_of(noise[:, 0]) * (_STEPS - 1)
        before = place.long().clamp(max=_STEPS - 2)
        alpha = torch.lerp(table[before], table[before + 1], place - before)
        sigma = (1 - alpha.square()).clamp_min(0).sqrt()
        steer = self.denoiser.steer(condition, known) + (0.0 if shift is None else shift)
        random = self.rows(noise[:, 1:])
        guess = self.denoiser(diffuse(self.rows(waves), random, alpha, sigma), sigma, steer)
        return (guess - random).square().mean(dim=(1, 2))


class WaveDenoiser(nn.Module):
    """Gated dilated convolutions in both directions, with skips to the output (Kong et al. 2021, figure 2)."""

    def __init__(self, raw: int, signals: Signals = SINGLE) -> None:
        """Build the layers."""
        super().__init__()
        self.steer, self.level = Steer(raw, STEER), NoiseLevelEmbedding(STEER)
        self.first = nn.Conv1d(signals.channels, _WIDTH, 1)
        self.place = place_of(signals, _WIDTH)
        self.layers = nn.ModuleList(GatedConvolution(dilation) for dilation in _DILATIONS)
        self.last = nn.Sequential(
            nn.Conv1d(_WIDTH, _WIDTH, 1), nn.SiLU(), zero_initialised(nn.Conv1d(_WIDTH, signals.channels, 1))
        )

    def forward(self, state: Tensor, sigma: Tensor, steer: Tensor) -> Tensor:
        """Return the estimated noise, shape (row, channel, length), of noisy waves."""
        flow, told = self.place(self.first(state)), steer + self.level(sigma)
        total = torch.zeros_like(flow)
        for layer in self.layers:
            flow, skip = layer(flow, told)
            total = total + skip
        return self.last(total / math.sqrt(len(self.layers)))


class GatedConvolution(nn.Module):
    """One gated dilated convolution with a residual and a skip output."""

    def __init__(self, dilation: int) -> None:
        """Keep width and length."""
        super().__init__()
        self.film = nn.Linear(STEER, 2 * _WIDTH)
        self.mix = nn.Conv1d(_WIDTH, 2 * _WIDTH, 3, padding=dilation, dilation=dilation)
        self.back = nn.Conv1d(_WIDTH, 2 * _WIDTH, 1)

    def forward(self, flow: Tensor, steer: Tensor) -> tuple[Tensor, Tensor]:
        """Return the next flow and what is skipped to the output, each (row, width, length)."""
        scale, shift = self.film(steer)[:, :, None].chunk(2, dim=1)
        gate, value = self.mix(flow * (1 + scale) + shift).chunk(2, dim=1)
        onward, skip = self.back(torch.sigmoid(gate) * torch.tanh(value)).chunk(2, dim=1)
        return (flow + onward) / math.sqrt(2), skip


@dataclass(frozen=True, kw_only=True)
class DiffWave(SourceFamily):
    """Hyperparameters: `steps` of the sampler."""

    source_type: ClassVar[type[Source]] = DiffWaveSource

    steps: int = 8
    name: str = "diffwave"

    def source(self, raw: int, signals: Signals = SINGLE) -> DiffWaveSource:
        """Return a fresh source."""
        return DiffWaveSource(raw, steps=self.steps, signals=signals)
