"""The contract of a family, run on every family and kind of signal; a leaky family fails every check."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from opacus.grad_sample import GradSampleModule
from torch import Tensor, nn

from fedsynth.anchors.anchor import prior_anchor
from fedsynth.families.adversarial.cwgan import Cwgan
from fedsynth.families.protocol import Family, Phase
from fedsynth.families.registry import FAMILIES, class_of, trained_layers
from fedsynth.modalities.shape import Shape
from fedsynth.privacy.allowance import Allowance
from fedsynth.privacy.mechanism import Mechanism
from fedsynth.study import Train
from fedsynth.training.private_gradient import Batch, GradientMethod, LossNoise, gradient_sum

EEG = Shape(channels=("C3", "C4"), n_times=128, sfreq=100.0, bandpass=(1.0, 30.0), n_labels=2, modality="eeg")
ECG = Shape(("I", "II"), n_times=256, sfreq=100.0, bandpass=(0.5, 40.0), n_labels=2, modality="ecg")
SHAPES = [pytest.param(EEG, id="eeg"), pytest.param(ECG, id="ecg")]
ADVERSARIAL: dict[str, dict[str, Any]] = {
    "cwgan convolutional": {"latent": 8},
    "cwgan dense": {"latent": 8, "architecture": "dense"},
    "dense-gan": {"latent": 8},
    "wavegan": {"latent": 8},
    "least-squares-gan": {"latent": 8},  # not ours: see `contributed` in conftest.py
}
PRETRAINED = {name: {"steps": 2} for name in ("vae-ldm", "diffwave", "time-diffusion", "time-vqvae")}
LAYERS: dict[str, dict[str, Any]] = {
    **{f"{name} all": options for name, options in PRETRAINED.items()},
    **{f"{name} all": options for name, options in ADVERSARIAL.items()},
    "vae-ldm low-rank": {"steps": 2},
}
EVERY = {**ADVERSARIAL, **PRETRAINED, **LAYERS}
LARGEST_STATE = 8 * 2**20  # bytes, at these shapes
WAYS = pytest.mark.parametrize("method", ["loop", "factored"])
pytestmark = pytest.mark.usefixtures("contributed")


def family_of(name: str) -> Family:
    """Return a family by its name in `EVERY`, in a size for tests."""
    family = class_of(name.split()[0])(**EVERY[name])
    words = name.split()[1:]
    train: Train = "all" if "all" in words else "low-rank" if "low-rank" in words else "adapters"
    return trained_layers(family, train=train, start="prior")


def on_every_family(test: Callable[..., None]) -> Callable[..., None]:
    """Run a check on every family and shape; those whose layers learn, on ECG, where there is time."""
    cases = [
        pytest.param(
            name, *shape.values, id=f"{name}-{shape.id}", marks=[pytest.mark.slow] * (name in LAYERS and late)
        )
        for name in EVERY
        for late, shape in enumerate(SHAPES)
    ]
    return pytest.mark.parametrize(("name", "shape"), cases)(test)


class Leaky(Cwgan):
    """Everything a family must not do."""

    def build(self, shape: Shape, anchor: Any) -> nn.ModuleDict:
        parts = super().build(shape, anchor)
        parts["critic"].register_buffer("running", torch.zeros(()))
        parts["generator"].register_buffer("bank", torch.zeros(2**22))
        return parts

    def example_loss(
        self, parts: nn.ModuleDict, phase: Any, windows: Tensor, labels: Tensor, noise: Tensor
    ) -> Tensor:
        parts["critic"].running += windows.mean().detach()
        normal = (windows - windows.mean(dim=0)) / (windows.std(dim=0, correction=0) + 1)
        generated = parts["generator"].label.embedding.weight.square().sum()
        return super().example_loss(parts, phase, normal, labels, noise) * generated + torch.rand(len(windows))


def awake(family: Family, shape: Shape) -> nn.ModuleDict:
    """Return parts whose private parts are no longer flat, so that every gradient says something."""
    parts = family.build(shape, prior_anchor(shape))
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for part in {phase.private_part for phase in family.phases}:
            for parameter in parts[part].parameters():
                parameter.add_(0.05 * torch.randn(parameter.shape, generator=generator))
    return parts


def batch(units: list[int], shape: Shape) -> Batch:
    generator = torch.Generator().manual_seed(1)
    windows = 20 * torch.randn(len(units), len(shape.channels), shape.n_times, generator=generator)
    return Batch(windows, torch.tensor([unit % 2 for unit in units]), torch.tensor(units))


def noise_for(family: Family, phase: Phase, shape: Shape, count: int, *, seed: int = 2) -> Tensor:
    width = family.example_noise_width(shape, phase)
    return torch.randn(count, width, generator=torch.Generator().manual_seed(seed))


# The checks: each is run on every family, and must fail on the leaky one.


def rows_are_independent(family: Family, shape: Shape) -> None:
    parts, data = awake(family, shape), batch([0, 1, 2, 3], shape)
    for phase in family.phases:
        noise = noise_for(family, phase, shape, 4)
        together = family.example_loss(parts, phase, data.windows, data.labels, noise)
        alone = [
            family.example_loss(parts, phase, *(value[i : i + 1] for value in (data.windows, data.labels, noise)))
            for i in range(4)
        ]
        assert together.shape == (4,)
        assert torch.allclose(together, torch.cat(alone), rtol=1e-4, atol=1e-4)


def reading_writes_no_buffer(family: Family, shape: Shape) -> None:
    parts, data = awake(family, shape), batch([0, 1, 2, 3], shape)
    before = {name: value.clone() for name, value in everything(parts).items()}
    for phase in family.phases:
        family.example_loss(parts, phase, data.windows, data.labels, noise_for(family, phase, shape, 4))
    assert all(torch.equal(before[name], value) for name, value in everything(parts).items())


def the_same_noise_gives_the_same_loss(family: Family, shape: Shape) -> None:
    parts, data = awake(family, shape), batch([0, 1, 2, 3], shape)
    for phase in family.phases:
        noise, other = (noise_for(family, phase, shape, 4, seed=seed) for seed in (2, 3))
        first, again, another = (
            family.example_loss(parts, phase, data.windows, data.labels, drawn) for drawn in (noise, noise, other)
        )
        assert torch.equal(first, again)
        assert torch.equal(first, another) == (noise.shape[1] == 0)


def recordings_reach_the_private_part_alone(family: Family, shape: Shape) -> None:
    parts, data = awake(family, shape), batch([0, 1, 2, 3], shape)
    learning = {part for phase in family.phases for part in (phase.private_part, phase.public_part) if part}
    assert {name.split(".")[0] for name, _ in parts.named_parameters()} <= learning
    for phase in family.phases:
        noise = noise_for(family, phase, shape, 4)
        loss = family.example_loss(parts, phase, data.windows, data.labels, noise).sum()
        names, parameters = zip(*parts.named_parameters(), strict=True)
        found = torch.autograd.grad(loss, parameters, allow_unused=True)
        reached = {name.split(".")[0] for name, gradient in zip(names, found, strict=True) if gradient is not None}
        assert reached == {phase.private_part}


def what_travels_is_small(family: Family, shape: Shape) -> None:
    state = family.build(shape, prior_anchor(shape)).state_dict()
    assert sum(value.numel() * value.element_size() for value in state.values()) <= LARGEST_STATE


CHECKS = [
    rows_are_independent,
    reading_writes_no_buffer,
    the_same_noise_gives_the_same_loss,
    recordings_reach_the_private_part_alone,
    what_travels_is_small,
]


@on_every_family
def test_rows_are_independent(name: str, shape: Shape) -> None:
    rows_are_independent(family_of(name), shape)


@on_every_family
def test_reading_windows_writes_no_buffer(name: str, shape: Shape) -> None:
    reading_writes_no_buffer(family_of(name), shape)


@on_every_family
def test_the_same_noise_gives_the_same_loss(name: str, shape: Shape) -> None:
    the_same_noise_gives_the_same_loss(family_of(name), shape)


@on_every_family
def test_recordings_reach_the_private_part_alone(name: str, shape: Shape) -> None:
    recordings_reach_the_private_part_alone(family_of(name), shape)


@on_every_family
def test_what_travels_is_small(name: str, shape: Shape) -> None:
    what_travels_is_small(family_of(name), shape)


@pytest.mark.parametrize("check", CHECKS)
def test_the_contract_fails_for_a_leaky_family(check: Callable[[Family, Shape], None]) -> None:
    with pytest.raises(AssertionError):
        check(Leaky(latent=8), EEG)


# What the stepper makes of a family.


def everything(parts: nn.ModuleDict) -> dict[str, Tensor]:
    """Return parameters and buffers, those that do not travel included."""
    return {**dict(parts.named_parameters()), **dict(parts.named_buffers())}


def gradients(
    family: Family,
    parts: nn.ModuleDict,
    data: Batch,
    rows: list[Tensor],
    mechanism: Mechanism,
    *,
    shape: Shape,
    phase: Phase,
    method: GradientMethod = "loop",
) -> Tensor:
    how: dict[str, Any] = {"phase": phase, "shape": shape, "batch": data, "rows": rows, "method": method}
    return gradient_sum(family, parts, **how, allowance=Allowance(mechanism)).read()


def quietly(clip: float) -> Mechanism:
    """Return one sum over everybody, clipped and without noise."""
    return Mechanism("gradients", 0.0, 1.0, 1, clip)


@WAYS
@on_every_family
def test_removing_one_unit_moves_the_sum_by_at_most_c(name: str, shape: Shape, method: GradientMethod) -> None:
    family = family_of(name)
    parts, data = awake(family, shape), batch([0, 0, 0, 1, 2, 2], shape)
    rows = data.rows()
    for phase in family.phases:
        totals = [
            gradients(family, parts, data, kept, quietly(0.01), shape=shape, phase=phase, method=method)
            for kept in (rows, *(rows[:gone] + rows[gone + 1 :] for gone in range(3)))
        ]
        for less in totals[1:]:
            assert 0 < float((totals[0] - less).norm()) <= 0.01 * (1 + 1e-4)


@WAYS
@on_every_family
def test_a_unit_with_many_windows_counts_once(name: str, shape: Shape, method: GradientMethod) -> None:
    """Clipping per window would let three windows say three times as much."""
    family = family_of(name)
    parts, data = awake(family, shape), batch([0, 0, 0], shape)
    for phase in family.phases:
        rows = [torch.arange(3)]
        total = gradients(family, parts, data, rows, quietly(1e-3), shape=shape, phase=phase, method=method)

        assert 0 < float(total.norm()) <= 1e-3 * (1 + 1e-4)


@WAYS
@on_every_family
def test_a_unit_s_gradient_is_autograd_s_of_the_mean_over_its_windows(
    name: str, shape: Shape, method: GradientMethod
) -> None:
    family = family_of(name)
    parts, data = awake(family, shape), batch([0, 0, 0], shape)
    for phase in family.phases:
        private = list(parts[phase.private_part].parameters())
        noise = LossNoise.of(private, width=family.example_noise_width(shape, phase)).draw(data.windows)
        loss = family.example_loss(parts, phase, data.windows, data.labels, noise).mean()
        theirs = torch.cat([g.flatten() for g in torch.autograd.grad(loss, private, materialize_grads=True)])
        rows = [torch.arange(3)]
        ours = gradients(family, parts, data, rows, quietly(1e6), shape=shape, phase=phase, method=method)

        assert torch.allclose(ours, theirs.double(), rtol=1e-3, atol=1e-5 * float(theirs.norm()))


@WAYS
@pytest.mark.parametrize("name", ADVERSARIAL)
def test_gradients_equal_opacus_per_example_gradients_averaged_by_unit(name: str, method: GradientMethod) -> None:
    family, clip = family_of(name), 0.05
    phase = family.phases[0]
    parts, data = awake(family, EEG), batch([0, 0, 1, 1, 1], EEG)
    ours = gradients(family, parts, data, data.rows(), quietly(clip), shape=EEG, phase=phase, method=method)
    wrapped = GradSampleModule(parts[phase.private_part], strict=False)
    around = nn.ModuleDict({**parts, phase.private_part: wrapped})
    family.example_loss(around, phase, data.windows, data.labels, torch.zeros(5, 0)).sum().backward()
    each = torch.cat([p.grad_sample.flatten(1) for p in parts[phase.private_part].parameters()], dim=1)
    means = torch.stack([each[:2].mean(dim=0), each[2:].mean(dim=0)])
    theirs = (means * (clip / means.norm(dim=1, keepdim=True)).clamp(max=1)).sum(dim=0).double()

    assert torch.allclose(ours, theirs, rtol=1e-3, atol=1e-6)


@on_every_family
def test_an_empty_draw_is_pure_noise(name: str, shape: Shape) -> None:
    family = family_of(name)
    mechanism = Mechanism("gradients", 2.0, 0.5, 1, 0.5)
    for phase in family.phases:
        parts = awake(family, shape)
        total = gradients(family, parts, batch([0], shape), [], mechanism, shape=shape, phase=phase)

        assert float(total.std()) == pytest.approx(1.0, rel=5 / (2 * len(total)) ** 0.5)


@WAYS
@on_every_family
def test_one_overflowing_window_does_not_spoil_the_sum(name: str, shape: Shape, method: GradientMethod) -> None:
    family, data = family_of(name), batch([0, 1], shape)
    data = replace(data, windows=torch.cat([data.windows[:1], torch.full_like(data.windows[:1], torch.inf)]))
    for phase in family.phases:
        total = gradients(
            family, awake(family, shape), data, data.rows(), quietly(1.0), shape=shape, phase=phase, method=method
        )

        assert bool(torch.isfinite(total).all())
        assert float(total.norm()) > 0


# What comes out.


@on_every_family
def test_the_same_noise_gives_the_same_windows(name: str, shape: Shape) -> None:
    family = family_of(name)
    parts, again = (family.build(shape, prior_anchor(shape)) for _ in range(2))
    labels, noise = torch.tensor([0, 1]), torch.randn(2, family.noise_width(shape))
    with torch.no_grad():
        windows = family.sample(parts, labels, noise)

        assert windows.shape == (2, len(shape.channels), shape.n_times)
        assert bool(torch.isfinite(windows).all())
        assert torch.equal(windows, family.sample(again, labels, noise))


@on_every_family
def test_the_subject_s_part_of_the_noise_comes_first_and_matters(name: str, shape: Shape) -> None:
    family = family_of(name)
    width, all_of_it = family.subject_width(shape), family.noise_width(shape)
    parts, labels = family.build(shape, prior_anchor(shape)), torch.tensor([0])
    noise = torch.randn(1, all_of_it, generator=torch.Generator().manual_seed(4))
    other = torch.cat([-noise[:, :width], noise[:, width:]], dim=1)

    assert 0 < width < all_of_it
    with torch.no_grad():
        assert not torch.allclose(family.sample(parts, labels, noise), family.sample(parts, labels, other))


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("name", ADVERSARIAL)
def test_training_starts_at_the_anchor_exactly(name: str, shape: Shape) -> None:
    """Both residuals are zero: the latent, which comes last and feeds nothing else, does not matter yet."""
    family = family_of(name)
    parts = family.build(shape, prior_anchor(shape))
    labels, noise = torch.tensor([0, 1]), torch.randn(2, family.noise_width(shape))
    other = noise.clone()
    other[:, -8:] += 3

    assert torch.equal(family.sample(parts, labels, noise), family.sample(parts, labels, other))
    assert any(parameter.requires_grad for parameter in parts["generator"].parameters())


@pytest.mark.parametrize("name", ADVERSARIAL)
def test_weights_of_the_critic_stay_clipped(name: str) -> None:
    family: Any = family_of(name)
    parts, critic = awake(family, EEG), family.phases[0].private_part
    family.constrain(parts, family.phases[0])

    assert max(float(p.detach().abs().max()) for p in parts[critic].parameters()) <= family.weight_clip + 1e-8


def test_every_family_of_the_registry_is_in_this_contract() -> None:
    assert {name.split()[0] for name in EVERY} == set(FAMILIES)
