"""What the losses of a step draw: nobody's numbers depend on the company, and an audit can draw them again."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import fedsynth.audit.attack
from fedsynth.anchors.anchor import prior_anchor
from fedsynth.audit.canaries import Unit
from fedsynth.families.adversarial.cwgan import Cwgan
from fedsynth.modalities.shape import Shape
from fedsynth.privacy.allowance import Allowance
from fedsynth.privacy.mechanism import Mechanism
from fedsynth.training.private_gradient import Batch, GradientMethod, LossNoise, gradient_sum

SHAPE = Shape(channels=("C3", "C4"), n_times=128, sfreq=100.0, bandpass=(1.0, 30.0), n_labels=2, modality="eeg")
QUIET = Mechanism("gradients", 0.0, 1.0, 1, 1e6)
WAYS = pytest.mark.parametrize("method", ["loop", "factored"])


class Drawing(Cwgan):
    """A family whose loss draws: the critic sees every window with noise on it, as a denoiser would."""

    def example_noise_width(self, shape: Shape, phase: Any) -> int:  # noqa: ARG002
        """Return a number for every sample."""
        return len(shape.channels) * shape.n_times

    def example_loss(
        self, parts: nn.ModuleDict, phase: Any, windows: Tensor, labels: Tensor, noise: Tensor
    ) -> Tensor:
        """Return the loss of the window and of twenty microvolts on it."""
        return super().example_loss(parts, phase, windows + 20 * noise.view_as(windows), labels, noise)


FAMILY = Drawing(latent=8)
PHASE = FAMILY.phases[0]


@pytest.fixture
def parts() -> nn.ModuleDict:
    made = FAMILY.build(SHAPE, prior_anchor(SHAPE))
    with torch.no_grad():
        for parameter in made["critic"].parameters():
            parameter.add_(0.05 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(0)))
    return made


def batch() -> Batch:
    windows = 20 * torch.randn(6, 2, 128, generator=torch.Generator().manual_seed(1))
    return Batch(windows, torch.tensor([0, 0, 1, 1, 0, 0]), torch.tensor([0, 0, 1, 1, 2, 2]))


def total(parts: nn.ModuleDict, units: list[int], method: GradientMethod) -> Tensor:
    data = batch()
    rows = [data.rows()[unit] for unit in units]
    how: dict[str, Any] = {"phase": PHASE, "shape": SHAPE, "batch": data, "rows": rows, "method": method}
    return gradient_sum(FAMILY, parts, **how, allowance=Allowance(QUIET)).read()


@WAYS
def test_what_a_unit_draws_does_not_depend_on_the_company_or_on_torch_s_seed(
    parts: nn.ModuleDict, method: GradientMethod
) -> None:
    """One generator drawn from in turn would give the last unit other numbers once the first is gone."""
    torch.manual_seed(1)
    together = total(parts, [0, 1, 2], method)
    torch.manual_seed(2)
    alone = [total(parts, [unit], method) for unit in (2, 0, 1)]

    assert torch.allclose(together, sum(alone, torch.zeros_like(together)), rtol=1e-4, atol=1e-5)


def test_a_step_leaves_torch_s_public_generator_as_it_was(parts: nn.ModuleDict) -> None:
    """What it drew next would tell how many units were drawn."""
    before = torch.get_rng_state()

    total(parts, [0, 1, 2], "loop")

    assert torch.equal(before, torch.get_rng_state())


def test_other_parameters_draw_anew(parts: nn.ModuleDict) -> None:
    windows, private = batch().windows, list(parts["critic"].parameters())
    first, again = (LossNoise.of(private, width=4).draw(windows) for _ in range(2))
    with torch.no_grad():
        private[0][0] += 1e-3

    assert torch.equal(first, again)
    assert not torch.equal(first, LossNoise.of(private, width=4).draw(windows))
    assert first.shape == (6, 4)
    assert float(first.std()) == pytest.approx(1.0, abs=0.4)


@WAYS
def test_an_audit_draws_the_same_numbers_again(parts: nn.ModuleDict, method: GradientMethod) -> None:
    data = batch()
    unit = Unit(data.windows[2:4], data.labels[2:4], torch.zeros(2, 0))

    again = fedsynth.audit.attack._gradient(FAMILY, parts, PHASE, SHAPE, unit)

    assert torch.allclose(total(parts, [1], method), again.double(), rtol=1e-3, atol=1e-5)


def test_a_family_that_draws_nothing_gets_nothing(parts: nn.ModuleDict) -> None:
    private = list(parts["critic"].parameters())

    assert LossNoise.of(private, width=0).draw(batch().windows).shape == (6, 0)
    assert replace(LossNoise.of(private, width=0), width=2).draw(batch().windows).shape == (6, 2)


@WAYS
def test_a_unit_without_windows_adds_nothing_and_fails_nobody(
    parts: nn.ModuleDict, method: GradientMethod, caplog: pytest.LogCaptureFixture
) -> None:
    """A person all of whose windows were left out; MKL refuses a transform of none, and the unit seemed to fail."""
    data = batch()
    rows = [*data.rows()[:2], torch.empty(0, dtype=torch.int64)]
    how: dict[str, Any] = {"phase": PHASE, "shape": SHAPE, "batch": data, "method": method}

    found = gradient_sum(FAMILY, parts, **how, rows=rows, allowance=Allowance(QUIET)).read()

    torch.testing.assert_close(found, total(parts, [0, 1], method))
    assert not caplog.records
