"""Time-Diffusion: diffusion on waveforms by a one-dimensional U-Net that estimates the clean signal.

Source: the Time-Diffusion model of the synthetic-ECG study (arXiv:2411.18456): x0-prediction, linear schedule of
1000 steps rescaled to zero terminal SNR (Lin et al. 2024, arXiv:2305.08891), attention in the deep stages.
`docs/families/time-diffusion.md` says what changed and why.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import ClassVar

import torch
from torch import Tensor, nn

from fedsynth.families.pretrained.base import STEER, Source, SourceFamily
from fedsynth.families.pretrained.diffusion import ddim, diffuse, linear_alpha_bar, table_levels, zero_terminal
from fedsynth.families.pretrained.layers import (
    SINGLE,
    Attention,
    Double,
    Halve,
    NoiseLevelEmbedding,
    Signals,
    Stack,
    Steer,
    place_of,
)
from fedsynth.rng import uniform_of

_STEPS, _FIRST_BETA, _LAST_BETA = 1000, 1e-4, 0.02
_WIDTHS = (24, 32, 48, 64)
_FARTHEST = 8.0  # estimates of a waveform of unit variance beyond this count as this


@lru_cache(maxsize=1)
def schedule() -> Tensor:
    """Return alpha_bar of every step, float64 (1000,); the last is 0."""
    return zero_terminal(linear_alpha_bar(_STEPS, first=_FIRST_BETA, last=_LAST_BETA))


class TimeDiffusionSource(Source):
    """The U-Net and its schedule."""

    stages: ClassVar[tuple[str, ...]] = ("denoiser", "follow")
    private_stages: ClassVar[tuple[str, ...]] = ("denoiser",)
    learned_stages: ClassVar[tuple[str, ...]] = ("denoiser",)

    def __init__(self, raw: int, *, steps: int = 8, signals: Signals = SINGLE) -> None:
        """Build for raw conditions of `raw` numbers."""
        super().__init__(signals)
        self.steps = steps
        self.unet = UNet(raw, signals)

    def draw(self, condition: Tensor, noise: Tensor, shifts: Mapping[str, Tensor]) -> Tensor:
        """Denoise by DDIM, from the step that holds no signal."""
        steer = self.unet.steer(condition) + shifts["denoiser"]

        def predict(state: Tensor, level: tuple[float, float]) -> Tensor:
            return self.unet(state, state.new_full((len(state),), level[1]), steer)

        levels = table_levels(schedule(), count=self.steps)
        return self.given(ddim(predict, levels, self.rows(noise), bound=_FARTHEST))

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
        """Return the mean squared error of the estimated clean waveform at a random step."""
        step = (uniform_of(noise[:, 0]) * _STEPS).long().clamp(max=_STEPS - 1)
        alpha_bar = schedule().to(waves.device)[step]
        alpha, sigma = alpha_bar.sqrt().to(waves), (1 - alpha_bar).sqrt().to(waves)
        steer = self.unet.steer(condition, known) + (0.0 if shift is None else shift)
        waves = self.rows(waves)
        guess = self.unet(diffuse(waves, self.rows(noise[:, 1:]), alpha, sigma), sigma, steer)
        return (guess - waves).square().mean(dim=(1, 2))


class UNet(nn.Module):
    """Three halvings and back, with skips, attention at the bottom."""

    def __init__(self, raw: int, signals: Signals = SINGLE) -> None:
        """Build the stages."""
        super().__init__()
        self.steer, self.level = Steer(raw, STEER), NoiseLevelEmbedding(STEER)
        first, second, third, fourth = _WIDTHS
        pairs = ((first, second), (second, third), (third, fourth))
        self.first = nn.Conv1d(signals.channels, first, 5, padding=2)
        self.place = place_of(signals, first)
        self.down = nn.ModuleList(Stack(width, STEER, (1, 2)) for width in _WIDTHS[:-1])
        self.halve = nn.ModuleList(Halve(wide, narrow) for wide, narrow in pairs)
        self.bottom = nn.ModuleList([Stack(fourth, STEER, (1, 2)), Stack(fourth, STEER, (1, 2))])
        self.attention = Attention(fourth)
        self.finer = nn.ModuleList(Double(narrow, wide) for wide, narrow in reversed(pairs))
        self.join = nn.ModuleList(nn.Conv1d(2 * width, width, 1) for width in reversed(_WIDTHS[:-1]))
        self.up = nn.ModuleList(Stack(width, STEER, (1, 2)) for width in reversed(_WIDTHS[:-1]))
        self.last = nn.Conv1d(first, signals.channels, 5, padding=2)

    def forward(self, state: Tensor, sigma: Tensor, steer: Tensor) -> Tensor:
        """Return the estimated clean waves, shape (row, channel, length), of noisy ones."""
        told, skips = steer + self.level(sigma), []
        flow = self.place(self.first(state))
        for stack, halve in zip(self.down, self.halve, strict=True):
            flow = stack(flow, told)
            skips.append(flow)
            flow = halve(flow)
        flow = self.bottom[1](self.attention(self.bottom[0](flow, told)), told)
        for double, join, stack in zip(self.finer, self.join, self.up, strict=True):
            flow = stack(join(torch.cat([double(flow), skips.pop()], dim=1)), told)
        return self.last(nn.functional.silu(flow))


@dataclass(frozen=True, kw_only=True)
class TimeDiffusion(SourceFamily):
    """Hyperparameters: `steps` of the sampler."""

    source_type: ClassVar[type[Source]] = TimeDiffusionSource

    steps: int = 8
    name: str = "time-diffusion"

    def source(self, raw: int, signals: Signals = SINGLE) -> TimeDiffusionSource:
        """Return a fresh source."""
        return TimeDiffusionSource(raw, steps=self.steps, signals=signals)
