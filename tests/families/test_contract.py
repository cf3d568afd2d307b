"""The contract of a family, run on every family; and a leaky family on which each part of it fails."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from opacus.grad_sample import GradSampleModule
from torch import Tensor, nn

from fedsynth.families.anchor import prior_anchor
from fedsynth.families.cwgan import Cwgan
from fedsynth.families.protocol import Family
from fedsynth.families.shape import Shape
from fedsynth.privacy.allowance import Allowance
from fedsynth.privacy.mechanism import Mechanism
from fedsynth.site.stepper import Batch, Way, gradient_sum

SHAPE = Shape(channels=("C3", "C4"), n_times=128, sfreq=100.0, bandpass=(1.0, 30.0), n_labels=2)
FAMILIES = [
    pytest.param(Cwgan(latent=8), id="cwgan convolutional"),
    pytest.param(Cwgan(architecture="dense", latent=8), id="cwgan dense"),
]


class Leaky(Cwgan):
    """Everything a family must not do: mixes rows, and keeps a running statistic of windows."""

    def build(self, shape: Shape, anchor: Any) -> nn.ModuleDict:
        parts = super().build(shape, anchor)
        parts["critic"].register_buffer("running", torch.zeros(()))
        return parts

    def example_loss(self, parts: nn.ModuleDict, phase: Any, windows: Tensor, labels: Tensor) -> Tensor:
        parts["critic"].running += windows.mean().detach()
        normal = (windows - windows.mean(dim=0)) / (windows.std(dim=0, correction=0) + 1)
        return super().example_loss(parts, phase, normal, labels)


def awake(family: Family) -> nn.ModuleDict:
    """Return parts whose critic is no longer flat, so that every gradient says something."""
    parts = family.build(SHAPE, prior_anchor(SHAPE))
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in parts["critic"].parameters():
            parameter.add_(0.05 * torch.randn(parameter.shape, generator=generator))
    return parts


def batch(units: list[int]) -> Batch:
    generator = torch.Generator().manual_seed(1)
    windows = 20 * torch.randn(len(units), 2, 128, generator=generator)
    return Batch(windows, torch.tensor([unit % 2 for unit in units]), torch.tensor(units))


def rows_are_independent(family: Family) -> None:
    parts, data = awake(family), batch([0, 1, 2, 3])
    together = family.example_loss(parts, family.phases[0], data.windows, data.labels)
    alone = [
        family.example_loss(parts, family.phases[0], data.windows[i : i + 1], data.labels[i : i + 1])
        for i in range(4)
    ]
    assert torch.allclose(together, torch.cat(alone), atol=1e-4)


def reading_writes_no_buffer(family: Family) -> None:
    parts, data = awake(family), batch([0, 1, 2, 3])
    before = {name: value.clone() for name, value in parts.state_dict().items()}
    family.example_loss(parts, family.phases[0], data.windows, data.labels)
    assert all(torch.equal(before[name], value) for name, value in parts.state_dict().items())


def gradients(
    family: Family, parts: nn.ModuleDict, data: Batch, rows: list[Tensor], mechanism: Mechanism, way: Way = "loop"
) -> Tensor:
    sums = gradient_sum(
        family, parts, phase=family.phases[0], batch=data, rows=rows, allowance=Allowance(mechanism), way=way
    )
    return sums.read()


def removing_a_unit_moves_the_sum_by_at_most_c(family: Family, way: Way) -> None:
    parts, data = awake(family), batch([0, 0, 0, 1, 2, 2])
    rows = [torch.nonzero(data.units == unit)[:, 0] for unit in range(3)]
    mechanism = Mechanism("gradients", 0.0, 1.0, 1, 0.01)

    def total(kept: list[Tensor]) -> Tensor:
        return gradients(family, parts, data, kept, mechanism, way)

    for gone in range(3):
        kept = [row for unit, row in enumerate(rows) if unit != gone]
        assert float((total(rows) - total(kept)).norm()) <= 0.01 * (1 + 1e-4)


@pytest.mark.parametrize("family", FAMILIES)
def test_rows_are_independent(family: Family) -> None:
    rows_are_independent(family)


@pytest.mark.parametrize("family", FAMILIES)
def test_reading_windows_writes_no_buffer(family: Family) -> None:
    reading_writes_no_buffer(family)


@pytest.mark.parametrize("way", ["loop", "factored"])
@pytest.mark.parametrize("family", FAMILIES)
def test_removing_one_unit_moves_the_sum_by_at_most_c(family: Family, way: Way) -> None:
    removing_a_unit_moves_the_sum_by_at_most_c(family, way)


@pytest.mark.parametrize("check", [rows_are_independent, reading_writes_no_buffer])
def test_the_contract_fails_for_a_leaky_family(check: Callable[[Family], None]) -> None:
    with pytest.raises(AssertionError):
        check(Leaky(latent=8))


@pytest.mark.parametrize("way", ["loop", "factored"])
@pytest.mark.parametrize("family", FAMILIES)
def test_a_unit_with_many_windows_counts_once(family: Family, way: Way) -> None:
    """Clipping per window would let three windows say three times as much."""
    parts, data = awake(family), batch([0, 0, 0])
    mechanism = Mechanism("gradients", 0.0, 1.0, 1, 1e-3)

    total = gradients(family, parts, data, [torch.arange(3)], mechanism, way)

    assert float(total.norm()) <= 1e-3 * (1 + 1e-4)


@pytest.mark.parametrize("way", ["loop", "factored"])
@pytest.mark.parametrize("family", FAMILIES)
def test_gradients_equal_opacus_per_example_gradients_averaged_by_unit(family: Family, way: Way) -> None:
    parts, data = awake(family), batch([0, 0, 1, 1, 1])
    clip = 0.05
    mechanism = Mechanism("gradients", 0.0, 1.0, 1, clip)
    ours = gradients(family, parts, data, [torch.arange(2), torch.arange(2, 5)], mechanism, way)
    wrapped = GradSampleModule(parts["critic"], strict=False)
    (-wrapped(data.windows, data.labels)).sum().backward()
    each = torch.cat([p.grad_sample.flatten(1) for p in parts["critic"].parameters()], dim=1)
    means = torch.stack([each[:2].mean(dim=0), each[2:].mean(dim=0)])
    theirs = (means * (clip / means.norm(dim=1, keepdim=True)).clamp(max=1)).sum(dim=0).double()

    assert torch.allclose(ours, theirs, rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("family", FAMILIES)
def test_an_empty_draw_is_pure_noise(family: Family) -> None:
    total = gradients(family, awake(family), batch([0]), [], Mechanism("gradients", 2.0, 0.5, 1, 0.5))

    assert float(total.std()) == pytest.approx(1.0, rel=0.1)


@pytest.mark.parametrize("way", ["loop", "factored"])
@pytest.mark.parametrize("family", FAMILIES)
def test_one_overflowing_window_does_not_spoil_the_sum(family: Family, way: Way) -> None:
    data = batch([0, 1])
    data = replace(data, windows=torch.cat([data.windows[:1], torch.full((1, 2, 128), torch.inf)]))

    rows = [torch.tensor([0]), torch.tensor([1])]
    total = gradients(family, awake(family), data, rows, Mechanism("gradients", 0.0, 1.0, 1, 1.0), way)

    assert bool(torch.isfinite(total).all())
    assert float(total.norm()) > 0


@pytest.mark.parametrize("family", FAMILIES)
def test_training_starts_at_the_anchor_exactly(family: Family) -> None:
    """Both residuals are zero: what comes out is what the decoder makes of the anchor's Gaussian."""
    generator = family.build(SHAPE, prior_anchor(SHAPE))["generator"]
    labels, noise = torch.tensor([0, 1]), torch.randn(2, family.noise_width(SHAPE))
    other = noise.clone()
    other[:, -8:] += 3  # the residuals' latent, and only that

    assert torch.equal(generator(labels, noise), generator(labels, other))


@pytest.mark.parametrize("family", FAMILIES)
def test_the_same_noise_gives_the_same_windows(family: Family) -> None:
    parts = family.build(SHAPE, prior_anchor(SHAPE))
    again = family.build(SHAPE, prior_anchor(SHAPE))
    labels, noise = torch.tensor([0, 1]), torch.randn(2, family.noise_width(SHAPE))

    assert torch.equal(family.sample(parts, labels, noise), family.sample(again, labels, noise))


@pytest.mark.parametrize("family", FAMILIES)
def test_weights_of_the_critic_stay_clipped(family: Family) -> None:
    parts = awake(family)
    family.constrain(parts, family.phases[0])

    assert max(float(p.detach().abs().max()) for p in parts["critic"].parameters()) <= 0.05 + 1e-8
