"""The public half of training: public divisors, and sums taken as they come."""

import math
from dataclasses import replace
from typing import Literal

import pytest
import torch
from torch import Tensor, nn

from fedsynth.anchors.anchor import prior_anchor
from fedsynth.errors import WireError
from fedsynth.families.adversarial.cwgan import Cwgan
from fedsynth.families.protocol import Phase
from fedsynth.modalities.shape import Shape
from fedsynth.privacy.allowance import Allowance
from fedsynth.privacy.mechanism import Mechanism
from fedsynth.training.private_gradient import Batch, train
from fedsynth.training.trainer import StepScale, Trainer, largest_move, private_parameters

SHAPE = Shape(channels=("C3", "C4"), n_times=128, sfreq=100.0, bandpass=(1.0, 30.0), n_labels=2, modality="eeg")
FAMILY = Cwgan(latent=8)
PHASE = FAMILY.phases[0]
SUMS = Mechanism("gradients", 0.0, 0.25, 3, math.inf)


def trainer(
    parts: nn.ModuleDict, *, expected_units: float = 40.0, seen_units: float = 0.0, phase: Phase = PHASE
) -> Trainer:
    scale = StepScale(expected_units, seen_units, torch.tensor([0.5, 0.5]))
    return Trainer(FAMILY, parts, phase=phase, shape=SHAPE, mechanism=SUMS, scale=scale)


def fresh() -> nn.ModuleDict:
    return FAMILY.build(SHAPE, prior_anchor(SHAPE))


def test_a_sum_is_divided_by_the_public_expected_batch_size() -> None:
    parts = fresh()
    size = sum(p.numel() for p in private_parameters(parts, PHASE))
    total = torch.linspace(-1, 1, size)

    trainer(parts, expected_units=40.0).step(total)

    # q = 0.25 of 40 declared units: ten, whoever was drawn.
    taken = torch.cat([p.grad.flatten() for p in private_parameters(parts, PHASE) if p.grad is not None])
    assert torch.allclose(taken, total / 10, atol=1e-6)


def test_what_a_site_trains_on_is_the_sum_over_the_units_drawn_and_not_their_mean() -> None:
    """With everybody drawn and nobody clipped, ten copies of one person weigh ten times as much as one."""
    taken: list[Tensor] = []

    class Recorder(Trainer):
        def step(self, total: Tensor) -> None:
            taken.append(total)

    parts = fresh()
    with torch.no_grad():
        for parameter in parts["critic"].parameters():
            parameter.add_(0.03)
    window = 20 * torch.randn(1, 2, 128, generator=torch.Generator().manual_seed(1))
    for copies in (1, 10):
        batch = Batch(window.repeat(copies, 1, 1), torch.zeros(copies, dtype=torch.long), torch.arange(copies))
        scale = StepScale(10.0, 0.0, torch.tensor([0.5, 0.5]))
        everybody = Mechanism("gradients", 0.0, 1.0, 1, math.inf)
        recorder = Recorder(FAMILY, parts, phase=PHASE, shape=SHAPE, mechanism=everybody, scale=scale)
        train(recorder, batch=batch, allowance=Allowance(everybody), method="loop")

    assert float(taken[0].norm()) > 0
    assert torch.allclose(taken[1], 10 * taken[0], rtol=1e-5)


@pytest.mark.parametrize("optimizer", ["rmsprop", "adam"])
@pytest.mark.parametrize("steps", [1, 3])
def test_no_training_moves_the_parts_farther_than_the_validator_allows(
    steps: int, optimizer: Literal["rmsprop", "adam"]
) -> None:
    parts = fresh()
    before = {name: value.clone() for name, value in parts.state_dict().items()}
    phase = replace(PHASE, optimizer=optimizer)
    mover = trainer(parts, seen_units=40.0, phase=phase)
    size = sum(p.numel() for p in private_parameters(parts, PHASE))

    for step in range(steps):
        mover.step(1e6 * torch.randn(size, generator=torch.Generator().manual_seed(step)))

    after = parts.state_dict()
    moved = math.sqrt(sum(float((after[name] - value).square().sum()) for name, value in before.items()))
    numbers = sum(value.numel() for value in before.values())
    assert 0 < moved <= largest_move(phase, steps=steps, size=numbers)


@pytest.mark.parametrize("optimizer", ["rmsprop", "adam"])
def test_the_validator_s_bound_is_one_that_a_single_number_can_come_near(
    optimizer: Literal["rmsprop", "adam"],
) -> None:
    """Near silence, then a gradient like a cliff, is the longest step that either rule can take."""
    phase = replace(PHASE, optimizer=optimizer, learning_rate=1.0, public_learning_rate=1.0)
    number = nn.Parameter(torch.zeros(1, dtype=torch.float64))
    rule = {"rmsprop": torch.optim.RMSprop, "adam": torch.optim.Adam}[optimizer]([number], 1.0)
    quiet, steps = 400, 401
    places = []
    for step in range(steps):
        # For Adam, what meets Cauchy and Schwarz: gradients that fade with age as (first / second)^age.
        slope = (0.9 / 0.999) ** (quiet - step) if optimizer == "adam" else float(step == quiet)
        number.grad = torch.tensor([slope], dtype=torch.float64)
        rule.step()
        places.append(float(number.detach()))
    longest = abs(places[-1] - places[-2])
    allowed = largest_move(phase, steps=steps, size=1) - largest_move(phase, steps=quiet, size=1)

    assert 0.99 * allowed <= longest <= allowed


class Alone(Cwgan):
    """A family whose private part has no public term, as an autoencoder's."""

    def companion_loss(self, *_: object) -> None:
        """Return None."""


def test_without_a_public_term_the_sum_alone_moves_the_private_part() -> None:
    family, parts = Alone(latent=8), fresh()
    size = sum(p.numel() for p in private_parameters(parts, PHASE))
    total = torch.linspace(-1, 1, size)
    scale = StepScale(40.0, 40.0, torch.tensor([0.5, 0.5]))

    Trainer(family, parts, phase=PHASE, shape=SHAPE, mechanism=SUMS, scale=scale).step(total)

    taken = torch.cat([p.grad.flatten() for p in private_parameters(parts, PHASE) if p.grad is not None])
    assert torch.allclose(taken, total / 10, atol=1e-6)


def test_a_phase_without_a_follower_moves_its_private_part_alone() -> None:
    parts = fresh()
    phase = replace(PHASE, public_part=None, private_steps=1)
    start = [p.detach().clone() for p in parts["generator"].parameters()]
    size = sum(p.numel() for p in private_parameters(parts, phase))

    trainer(parts, seen_units=40.0, phase=phase).step(torch.ones(size))

    assert all(torch.equal(a, b) for a, b in zip(start, parts["generator"].parameters(), strict=True))


def test_the_generator_follows_after_the_stated_number_of_private_steps() -> None:
    parts = fresh()
    mover = trainer(parts, seen_units=40.0)
    size = sum(p.numel() for p in private_parameters(parts, PHASE))
    start = [p.detach().clone() for p in parts["generator"].parameters()]

    moved = []
    for step in range(PHASE.private_steps):
        mover.step(torch.randn(size, generator=torch.Generator().manual_seed(step)))
        now = list(parts["generator"].parameters())
        moved.append(any(not torch.equal(a, b) for a, b in zip(start, now, strict=True)))

    assert moved == [False] * (PHASE.private_steps - 1) + [True]


@pytest.mark.parametrize("optimizer", ["adam", "rmsprop"])
def test_a_trainer_goes_on_from_what_its_optimizers_remember(optimizer: Literal["adam", "rmsprop"]) -> None:
    """Three steps in one go, and two of them by another trainer that took over: the same parts, bit by bit."""
    phase = replace(PHASE, optimizer=optimizer, private_steps=2)
    first, second = fresh(), fresh()
    size = sum(p.numel() for p in private_parameters(first, phase))
    totals = [torch.randn(size, generator=torch.Generator().manual_seed(seed)).double() for seed in range(3)]
    whole = trainer(first, phase=phase)
    torch.manual_seed(5)
    for total in totals:
        whole.step(total)
    torch.manual_seed(5)
    before = trainer(second, phase=phase)
    before.step(totals[0])
    third = fresh()
    third.load_state_dict(second.state_dict())
    after = trainer(third, phase=phase)
    after.go_on(before.optimizers())
    for total in totals[1:]:
        after.step(total)

    assert all(torch.equal(value, third.state_dict()[name]) for name, value in first.state_dict().items())
    assert any(not torch.equal(value, second.state_dict()[name]) for name, value in first.state_dict().items())


@pytest.mark.parametrize(
    "tensors",
    [
        pytest.param({}, id="nothing"),
        pytest.param({"taken": torch.tensor([1]), "other.0.step": torch.tensor(1.0)}, id="another role"),
        pytest.param({"taken": torch.tensor([1]), "private.x.step": torch.tensor(1.0)}, id="no number"),
    ],
)
def test_what_another_trainer_remembers_is_refused(tensors: dict[str, Tensor]) -> None:
    with pytest.raises(WireError, match="of another trainer"):
        trainer(fresh()).go_on(tensors)
