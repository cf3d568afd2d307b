"""What a few steps of training do to families whose layers learn."""

import itertools
import math
from typing import Literal

import pytest
import torch
from torch import Tensor, nn

from fedsynth.anchors.anchor import prior_anchor
from fedsynth.families.joint.adversarial import FreedGan
from fedsynth.families.registry import FAMILIES, family_of
from fedsynth.modalities.shape import Shape
from fedsynth.privacy.allowance import Allowance
from fedsynth.privacy.mechanism import Mechanism
from fedsynth.study import FamilyPlan, Train
from fedsynth.training.minibatches import Round, train_plainly
from fedsynth.training.private_gradient import Batch, train
from fedsynth.training.trainer import StepScale, Trainer

SHAPE = Shape(("C3", "C4"), 128, 100.0, (1.0, 30.0), 2, "eeg")


def batch() -> Batch:
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(40) % 2
    wave = torch.sin(0.5 * torch.arange(128.0)) * torch.hann_window(128)
    windows = 10 * torch.randn(40, 2, 128, generator=generator)
    return Batch(windows + 40 * labels[:, None, None] * wave, labels, torch.arange(40) // 2)


def trained(name: str, what: Train = "all", *, steps: int = 3) -> Tensor:
    """Return windows of a family after so many minibatches."""
    family = family_of(FamilyPlan(name=name, train=what))
    parts = family.build(SHAPE, prior_anchor(SHAPE))
    for phase in family.phases if steps else ():
        silent = Mechanism("gradients", 0.0, 1.0, steps, math.inf)
        how = {"batch": batch(), "mechanism": silent, "round_": Round(0, 1, 8)}
        train_plainly(family, parts, phase=phase, shape=SHAPE, **how)  # type: ignore[arg-type]
    noise = torch.randn(4, family.noise_width(SHAPE), generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        return family.sample(parts, torch.tensor([0, 1, 0, 1]), noise)


def moved(part: nn.Module, size: float, generator: torch.Generator) -> None:
    """Add noise to every parameter of a part."""
    with torch.no_grad():
        for parameter in part.parameters():
            parameter += size * torch.randn(parameter.shape, generator=generator)


@pytest.mark.slow
def test_trained_families_differ_from_the_anchor_and_from_one_another() -> None:
    """Three families at the default plan used to give the same windows, bit for bit."""
    anchors = {name: trained(name, "adapters", steps=0) for name in FAMILIES}
    # A critic starts flat and says nothing at first.
    learned = {name: trained(name, steps=60 if "gan" in name else 3) for name in FAMILIES}

    for name in FAMILIES:
        assert float((learned[name] - anchors[name]).abs().mean()) > 0.5, name
    for one, other in itertools.combinations(FAMILIES, 2):
        assert float((learned[one] - learned[other]).abs().mean()) > 0.5, (one, other)


@pytest.mark.parametrize("name", ["cwgan", "wavegan", "dense-gan"])
def test_a_generator_that_runs_after_its_critic_keeps_the_features_that_were_drawn(name: str) -> None:
    """With a residual on the features windows grew fifty times as loud within 2000 steps."""
    family = family_of(FamilyPlan(name=name, train="all"))
    parts = family.build(SHAPE, prior_anchor(SHAPE))
    generator = torch.Generator().manual_seed(0)
    labels, noise = torch.arange(40) % 2, torch.randn(40, family.noise_width(SHAPE), generator=generator)
    before = family.sample(parts, labels, noise).detach()
    moved(parts["generator"], 0.3, generator)
    with torch.no_grad():
        after = family.sample(parts, labels, noise)
    louder = after.square().mean(dim=(1, 2)).sqrt() / before.square().mean(dim=(1, 2)).sqrt()

    assert float((after - before).abs().mean()) > 0.5
    # What channels do not have in common is bounded, not fixed.
    assert 0.5 < float(louder.median()) < 2


@pytest.mark.parametrize("start", ["prior", "scratch"])
def test_windows_finished_of_what_was_prepared_are_those_of_the_noise(start: Literal["prior", "scratch"]) -> None:
    family = family_of(FamilyPlan(name="cwgan", train="all", start=start))
    assert isinstance(family, FreedGan)
    (phase,) = family.phases
    parts = family.build(SHAPE, prior_anchor(SHAPE))
    generator = torch.Generator().manual_seed(0)
    moved(parts, 0.05, generator)
    labels, noise = torch.arange(6) % 2, torch.randn(6, family.noise_width(SHAPE), generator=generator)
    prepared = family.prepared(parts, labels, noise)

    for now, then in (
        (family.prepared_public_loss(parts, phase, prepared), family.public_loss(parts, phase, labels, noise)),
        (
            family.prepared_companion_loss(parts, phase, prepared),
            family.companion_loss(parts, phase, labels, noise),
        ),
    ):
        assert then is not None
        assert float(now.detach()) == pytest.approx(float(then.detach()), rel=1e-4, abs=1e-6)


def test_a_critic_pays_for_its_slope_at_recordings() -> None:
    """A critic that starts flat pays nothing."""
    family = family_of(FamilyPlan(name="cwgan", train="all"))
    assert isinstance(family, FreedGan)
    (phase,) = family.phases
    parts = family.build(SHAPE, prior_anchor(SHAPE))
    flat = family.plain_penalty(parts, phase, batch().windows, batch().labels)
    moved(parts[phase.private_part], 0.1, torch.Generator().manual_seed(0))
    steep = family.plain_penalty(parts, phase, batch().windows, batch().labels)
    steep.backward()

    assert float(flat) == 0
    assert float(steep) > 0
    assert any(bool(parameter.grad.any()) for parameter in parts[phase.private_part].parameters())  # type: ignore[union-attr]


@pytest.mark.parametrize("what", ["all", "low-rank"])
def test_private_steps_move_layers_within_the_public_bound(what: Train) -> None:
    family = family_of(FamilyPlan(name="vae-ldm", train=what))
    parts = family.build(SHAPE, prior_anchor(SHAPE))
    before = {name: value.clone() for name, value in parts.state_dict().items()}
    mechanism = Mechanism("gradients", 1.0, 0.5, 2, 1.0)
    for phase in family.phases:
        scale = StepScale(20.0, 20.0, torch.tensor([0.5, 0.5]))
        trainer = Trainer(family, parts, phase=phase, shape=SHAPE, mechanism=mechanism, scale=scale)
        train(trainer, batch=batch(), allowance=Allowance(mechanism), method="factored")
    moved = {name for name, value in parts.state_dict().items() if not torch.equal(value, before[name])}

    assert {name.split(".")[0] for name in moved} == {"vae_network", "ldm_network"}
    assert all(bool(torch.isfinite(value).all()) for value in parts.state_dict().values())
