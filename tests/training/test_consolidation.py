"""Elastic weight consolidation: its optimum by hand, and Fisher information as a clipped sum with noise."""

import math
from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from fedsynth.families.protocol import Phase
from fedsynth.modalities.shape import Shape
from fedsynth.privacy.allowance import Allowance
from fedsynth.privacy.mechanism import Mechanism
from fedsynth.training.consolidation import Consolidation, fisher_estimate
from fedsynth.training.fisher import fisher_sum
from fedsynth.training.minibatches import Round, train_plainly
from fedsynth.training.private_gradient import Batch
from fedsynth.training.trainer import StepScale, Trainer

SHAPE = Shape(("Cz",), 64, 100.0, (1.0, 30.0), 2, "eeg")
PHASE = Phase("mean", "guess", None, 1, 0.05, 0.05, "adam", trains_layers=True)
SILENT = Mechanism("gradients", 0.0, 1.0, 400, math.inf)
FISHER = Mechanism("Fisher information", 0.0, 1.0, 1, 4.0)


@dataclass(frozen=True)
class MeanOfWindows:
    """Guesses each label's mean sample: its loss is (guess - mean)^2, its gradient 2 (guess - mean)."""

    name: str = "mean of windows"

    def example_noise_width(self, shape: Shape, phase: Phase) -> int:  # noqa: ARG002
        return 0

    def noise_width(self, shape: Shape) -> int:  # noqa: ARG002
        return 0

    def example_loss(
        self,
        parts: nn.ModuleDict,
        phase: Phase,  # noqa: ARG002
        windows: Tensor,
        labels: Tensor,
        noise: Tensor,  # noqa: ARG002
    ) -> Tensor:
        if not bool(torch.isfinite(windows).all()):
            raise ValueError("such a window cannot be read")
        return (parts["guess"](labels)[:, 0] - windows.mean(dim=(1, 2))).square()

    def companion_loss(self, parts: nn.ModuleDict, phase: Phase, labels: Tensor, noise: Tensor) -> None:
        """Return None: there is no public term."""

    def constrain(self, parts: nn.ModuleDict, phase: Phase) -> None:
        """Keep nothing within anything."""


FAMILY: object = MeanOfWindows()


def parts_at(first: float, second: float) -> nn.ModuleDict:
    return nn.ModuleDict({"guess": nn.Embedding.from_pretrained(torch.tensor([[first], [second]]), freeze=False)})


def batch(*values: float, labels: tuple[int, ...] | None = None) -> Batch:
    """Return one unit for each value, whose window is that value all along; of label 0 unless said."""
    rows = torch.tensor(values)[:, None, None].expand(-1, 1, 64).clone()
    return Batch(rows, torch.tensor(labels or (0,) * len(values)), torch.arange(len(values)))


def sum_of(some: Batch, mechanism: Mechanism = FISHER, *, at: tuple[float, float] = (0.0, 0.0)) -> Tensor:
    allowance = Allowance(mechanism)
    return fisher_sum(
        FAMILY,  # type: ignore[arg-type]
        parts_at(*at),
        phase=PHASE,
        shape=SHAPE,
        batch=some,
        allowance=allowance,
    ).read()


def test_training_ends_between_what_was_learned_and_what_is_seen_as_fisher_information_says() -> None:
    """Half of the windows have its label: (w - 3)^2 / 2 + s F / 2 (w - c)^2 is least at (3 + s F c) / (1 + s F)."""
    parts = parts_at(0.0, 0.0)
    held = Consolidation(torch.tensor([0.1, 0.0]), torch.tensor([-1.0, -1.0]), strength=20.0)
    train_plainly(
        FAMILY,  # type: ignore[arg-type]
        parts,
        phase=PHASE,
        shape=SHAPE,
        batch=batch(3.0, 3.0, labels=(0, 1)),
        mechanism=SILENT,
        round_=Round(0, 1, 16),
        consolidation=held,
    )

    assert parts["guess"].weight.detach()[:, 0].tolist() == pytest.approx([1 / 3, 3.0], abs=0.1)


def test_the_slope_is_the_penalties_gradient() -> None:
    parameters = [torch.tensor([[1.0, 2.0]], requires_grad=True), torch.tensor([3.0], requires_grad=True)]
    held = Consolidation(torch.tensor([0.5, 0.0, 2.0]), torch.tensor([0.0, 0.0, 4.0]), strength=3.0)

    penalty = held.penalty(parameters)
    autograd = torch.cat([slope.flatten() for slope in torch.autograd.grad(penalty, parameters)])

    assert penalty.item() == pytest.approx(1.5 * (0.5 * 1 + 2 * 1))
    assert autograd.tolist() == pytest.approx([1.5, 0.0, -6.0])
    assert held.slope(parameters).tolist() == pytest.approx([1.5, 0.0, -6.0])


def test_private_steps_are_pulled_back_and_the_pull_is_clipped_as_a_unit_is() -> None:
    phase = replace(PHASE, optimizer="rmsprop")
    scale = StepScale(expected_units=1.0, seen_units=1.0, label_shares=torch.ones(2) / 2)
    held = Consolidation(torch.tensor([1e9, 0.0]), torch.tensor([-1.0, 0.0]), strength=1.0)
    directions = []
    for consolidation in (None, held):
        parts = parts_at(0.0, 0.0)
        mechanism = Mechanism("gradients", 1.0, 1.0, 1, 0.5)
        trainer = Trainer(
            FAMILY,  # type: ignore[arg-type]
            parts,
            phase=phase,
            shape=SHAPE,
            mechanism=mechanism,
            scale=scale,
            consolidation=consolidation,
        )
        trainer.step(torch.tensor([0.25, 0.25], dtype=torch.float64))
        gradient = parts["guess"].weight.grad
        assert gradient is not None
        directions.append(gradient[:, 0])

    assert (directions[1] - directions[0]).tolist() == pytest.approx([0.5, 0.0])


def test_fisher_information_is_the_sum_of_squared_gradients() -> None:
    """Gradients at 0 are -2 x: of windows at .5 and -.25, squares 1 and .25; the other label has none."""
    assert sum_of(batch(0.5, -0.25)).tolist() == pytest.approx([1.25, 0.0])


def test_removing_a_unit_moves_fisher_information_by_at_most_its_bound() -> None:
    with_it, without = sum_of(batch(0.5, 1e6)), sum_of(batch(0.5))

    assert float((with_it - without).norm()) == pytest.approx(4.0, rel=1e-6)


def test_a_unit_that_cannot_be_computed_counts_as_zero(caplog: pytest.LogCaptureFixture) -> None:
    assert sum_of(batch(0.5, math.inf)).tolist() == pytest.approx([1.0, 0.0])
    assert "a unit counts as zero" in caplog.text


def test_a_unit_without_windows_adds_nothing_and_is_no_failure(caplog: pytest.LogCaptureFixture) -> None:
    apart = replace(batch(0.5, -0.25), units=torch.tensor([0, 2]))  # the second of three has no window

    assert sum_of(apart).tolist() == pytest.approx([1.25, 0.0])
    assert not caplog.records


def test_fisher_information_carries_the_noise_that_was_charged() -> None:
    """Of a coordinate that nobody contributes to, 200 times: noise of sigma C = 2 * 4."""
    noisy = replace(FISHER, noise_multiplier=2.0)
    values = np.array([float(sum_of(batch(0.5), noisy)[1]) for _ in range(200)])

    assert values.std() == pytest.approx(8.0, rel=0.3)


def test_noise_alone_consolidates_nothing_and_without_noise_the_estimate_is_the_mean() -> None:
    noise = torch.from_numpy(np.random.default_rng(1).normal(0, 3.0, 10_000))
    loud = noise.clone()
    loud[7] = 500.0

    assert int((fisher_estimate(noise, noise_std=3.0, units=10) > 0).sum()) <= 2
    assert float(fisher_estimate(loud, noise_std=3.0, units=10)[7]) == pytest.approx(48.7, abs=0.1)
    assert fisher_estimate(torch.tensor([4.0, 0.0]), noise_std=0.0, units=2).tolist() == [2.0, 0.0]
