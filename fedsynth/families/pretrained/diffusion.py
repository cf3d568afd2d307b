"""Diffusion in a few lines: noise schedules, loss weights and deterministic few-step samplers.

A schedule is a pair (alpha, sigma) with alpha^2 + sigma^2 = 1; a noisy signal is alpha x0 + sigma epsilon. Samplers
are plain functions of a predictor of x0, so that the networks may predict what they like; all their randomness is
the noise they start from.
"""

import itertools
import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

Level = tuple[float, float]
Predictor = Callable[[Tensor, Level], Tensor]
"""From a noisy signal and its (alpha, sigma) to an estimate of x0."""


def cosine_level(time: Tensor) -> tuple[Tensor, Tensor]:
    """Return alpha and sigma of the continuous cosine schedule at `time` in [0, 1]; no signal is left at 1.

    Nichol and Dhariwal 2021 (arXiv:2102.09672) without the offset.
    """
    return torch.cos(0.5 * math.pi * time), torch.sin(0.5 * math.pi * time)


def linear_alpha_bar(steps: int, *, first: float, last: float) -> Tensor:
    """Return alpha_bar of linearly growing betas, float64 (step,) (Ho et al. 2020, arXiv:2006.11239)."""
    return torch.cumprod(1 - torch.linspace(first, last, steps, dtype=torch.float64), dim=0)


def zero_terminal(alpha_bar: Tensor) -> Tensor:
    """Shift and scale sqrt(alpha_bar) so that the last step holds no signal and the first stays as it was.

    Lin et al. 2024 (arXiv:2305.08891), algorithm 1.
    """
    root = alpha_bar.sqrt()
    return ((root - root[-1]) * root[0] / (root[0] - root[-1])).square()


def table_levels(alpha_bar: Tensor, *, count: int) -> list[Level]:
    """Return `count` levels of a table from the noisiest down, "trailing" spacing, then the clean end.

    The last step of the table is always the first of the sampler (Lin et al. 2024, table 2).
    """
    chosen = torch.linspace(len(alpha_bar), 0, count + 1, dtype=torch.float64)[:-1].round().long() - 1
    return [(math.sqrt(float(a)), math.sqrt(1 - float(a))) for a in alpha_bar[chosen]] + [(1.0, 0.0)]


def cosine_levels(count: int) -> list[Level]:
    """Return `count` levels of the cosine schedule from pure noise down, evenly in time, then the clean end."""
    angles = [0.5 * math.pi * (1 - step / count) for step in range(count)]
    return [(math.cos(angle) if step else 0.0, math.sin(angle)) for step, angle in enumerate(angles)] + [(1.0, 0.0)]


def diffuse(clean: Tensor, noise: Tensor, alpha: Tensor, sigma: Tensor) -> Tensor:
    """Return alpha x0 + sigma epsilon, row by row."""
    shape = (-1,) + (1,) * (clean.ndim - 1)
    return alpha.view(shape) * clean + sigma.view(shape) * noise


def velocity(clean: Tensor, noise: Tensor, alpha: Tensor, sigma: Tensor) -> Tensor:
    """Return v = alpha epsilon - sigma x0 (Salimans and Ho 2022, arXiv:2202.00512, section 4)."""
    return diffuse(noise, clean, alpha, -sigma)


def min_snr_weight(alpha: Tensor, sigma: Tensor, *, gamma: float = 5.0) -> Tensor:
    """Return the weight of a squared error in v: min(SNR, gamma) / (SNR + 1).

    Hang et al. 2023 (arXiv:2303.09556), equation 5 for v-prediction; written so that SNR may be infinite.
    """
    return torch.minimum(alpha.square(), gamma * sigma.square())


def ddim(predict: Predictor, levels: Sequence[Level], noise: Tensor, *, bound: float = math.inf) -> Tensor:
    """Sample deterministically (Song et al. 2021, arXiv:2010.02502, equation 12 with eta = 0).

    Args:
        predict: estimates x0.
        levels: from the noisiest to (1, 0); one evaluation for each but the last.
        noise: standard normal, the signal at the first level where that holds no signal.
        bound: estimates of x0 are clamped to [-bound, bound].
    """
    state = noise
    for (alpha, sigma), (next_alpha, next_sigma) in itertools.pairwise(levels):
        clean = predict(state, (alpha, sigma)).clamp(-bound, bound)
        state = next_alpha * clean + (next_sigma / sigma) * (state - alpha * clean)
    return state


def dpm_solver(predict: Predictor, levels: Sequence[Level], noise: Tensor, *, bound: float = math.inf) -> Tensor:
    """Sample with the second-order multistep DPM-Solver++ (Lu et al. 2022, arXiv:2211.01095, algorithm 2).

    The first and the last step are of first order: there log-SNR is or may be infinite.
    """
    state, before, before_step = noise, None, 0.0
    for (alpha, sigma), (next_alpha, next_sigma) in itertools.pairwise(levels):
        clean = predict(state, (alpha, sigma)).clamp(-bound, bound)
        step = _log_snr(next_alpha, next_sigma) - _log_snr(alpha, sigma)
        ahead = clean
        if before is not None and math.isfinite(step) and math.isfinite(before_step):
            ahead = clean + (clean - before) * (step / (2 * before_step))
        state = (next_sigma / sigma) * state + (next_alpha - next_sigma * alpha / sigma) * ahead
        before, before_step = clean, step
    return state


def _log_snr(alpha: float, sigma: float) -> float:
    if alpha == 0:
        return -math.inf
    return math.inf if sigma == 0 else math.log(alpha / sigma)
