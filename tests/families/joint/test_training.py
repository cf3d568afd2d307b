"""What a few steps of training do to families whose layers learn."""

import itertools
import math

import pytest
import torch
from torch import Tensor

from fedsynth.anchors.anchor import prior_anchor
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
