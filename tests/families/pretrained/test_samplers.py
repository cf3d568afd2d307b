"""Schedules and samplers against arithmetic, their papers' equations, and a Gaussian whose answer is known."""

import math

import pytest
import torch
from torch import Tensor

from fedsynth.families.pretrained.diffusion import (
    cosine_level,
    cosine_levels,
    ddim,
    diffuse,
    dpm_solver,
    linear_alpha_bar,
    min_snr_weight,
    table_levels,
    velocity,
    zero_terminal,
)

SPREAD = 0.5  # of the Gaussian that samplers must reproduce


def gaussian(state: Tensor, level: tuple[float, float]) -> Tensor:
    """Return E[x0 | x] where x0 has mean 0 and standard deviation SPREAD: the best predictor there is."""
    alpha, sigma = level
    return state * alpha * SPREAD**2 / (alpha**2 * SPREAD**2 + sigma**2)


def test_alpha_bar_is_the_product_of_one_minus_beta() -> None:
    assert linear_alpha_bar(3, first=0.1, last=0.3).tolist() == pytest.approx([0.9, 0.9 * 0.8, 0.9 * 0.8 * 0.7])


def test_rescaling_leaves_no_signal_at_the_end_and_the_first_step_as_it_was() -> None:
    plain = linear_alpha_bar(1000, first=1e-4, last=0.02)
    rescaled = zero_terminal(plain)

    assert float(plain[-1]) > 1e-5
    assert float(rescaled[-1]) == 0.0
    assert float(rescaled[0]) == pytest.approx(float(plain[0]))
    assert bool((rescaled.diff() < 0).all())


def test_a_sampler_begins_at_the_last_step_of_its_table() -> None:
    """Lin et al. 2024: "leading" spacing would begin elsewhere and bring signal back in."""
    levels = table_levels(zero_terminal(linear_alpha_bar(1000, first=1e-4, last=0.02)), count=4)

    assert levels[0] == (0.0, 1.0)
    assert levels[-1] == (1.0, 0.0)
    assert len(levels) == 5
    assert [alpha for alpha, _ in levels] == sorted(alpha for alpha, _ in levels)


def test_cosine_levels_lie_on_the_cosine_schedule() -> None:
    alphas, sigmas = cosine_level(torch.tensor([1.0, 0.75, 0.5, 0.25, 0.0], dtype=torch.float64))
    levels = torch.tensor(cosine_levels(4), dtype=torch.float64)

    assert torch.allclose(levels, torch.stack([alphas, sigmas], dim=1), atol=1e-9)


def test_v_gives_back_the_clean_signal_and_the_noise() -> None:
    clean, noise = torch.randn(5, 3, 4, dtype=torch.float64), torch.randn(5, 3, 4, dtype=torch.float64)
    alpha, sigma = cosine_level(torch.linspace(0, 1, 5, dtype=torch.float64))
    noisy, v = diffuse(clean, noise, alpha, sigma), velocity(clean, noise, alpha, sigma)

    assert torch.allclose(diffuse(noisy, v, alpha, -sigma), clean)
    assert torch.allclose(diffuse(noisy, v, sigma, alpha), noise)


def test_the_weight_is_min_snr_gamma_over_snr_plus_one() -> None:
    alpha, sigma = cosine_level(torch.tensor([0.1, 0.3, 0.6, 0.9], dtype=torch.float64))
    snr = (alpha / sigma).square()

    assert torch.allclose(min_snr_weight(alpha, sigma), snr.clamp(max=5) / (snr + 1))
    assert min_snr_weight(torch.tensor([0.0, 1.0]), torch.tensor([1.0, 0.0])).tolist() == [0.0, 0.0]


@pytest.mark.parametrize("sampler", [ddim, dpm_solver])
def test_samplers_turn_noise_into_the_distribution_they_are_told_of(sampler: object) -> None:
    noise = torch.randn(4000, 1, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    drawn = sampler(gaussian, cosine_levels(200), noise)  # type: ignore[operator]

    assert float(drawn.std()) == pytest.approx(SPREAD * float(noise.std()), rel=0.02)
    assert torch.corrcoef(torch.cat([drawn, noise], dim=1).T)[0, 1] > 0.999


def test_the_second_order_sampler_is_nearer_in_few_steps() -> None:
    """The exact map of noise is known: the flow of a Gaussian scales it by SPREAD."""
    noise = torch.ones(1, 1, dtype=torch.float64)
    levels = table_levels(linear_alpha_bar(200, first=1e-4, last=0.06), count=8)
    first, second = (float(sampler(gaussian, levels, noise)) for sampler in (ddim, dpm_solver))

    assert abs(math.log(second / SPREAD)) < abs(math.log(first / SPREAD))


def test_estimates_are_held_inside_the_bound() -> None:
    drawn = ddim(lambda state, _: 100 * torch.ones_like(state), cosine_levels(3), torch.zeros(2, 5), bound=4.0)

    assert torch.equal(drawn, torch.full((2, 5), 4.0))
