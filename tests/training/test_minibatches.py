"""Training without privacy: it learns, keeps its round, and refuses to pass for a private mechanism."""

import math
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor, nn

from fedsynth.errors import PrivacyError
from fedsynth.families.protocol import Phase
from fedsynth.modalities.shape import Shape
from fedsynth.privacy.mechanism import Mechanism
from fedsynth.training.minibatches import Round, rate, train_plainly
from fedsynth.training.private_gradient import Batch

SHAPE = Shape(("Cz",), 64, 100.0, (1.0, 30.0), 2, "eeg")
PHASE = Phase("mean", "guess", None, 1, 0.05, 0.05, "adam", trains_layers=True)
SILENT = Mechanism("gradients", 0.0, 1.0, 300, math.inf)


@dataclass(frozen=True)
class MeanOfWindows:
    """Guesses each label's mean sample; what it learns can be worked out by hand."""

    name: str = "mean of windows"

    def example_noise_width(self, shape: Shape, phase: Phase) -> int:  # noqa: ARG002
        return 0

    def example_loss(
        self,
        parts: nn.ModuleDict,
        phase: Phase,  # noqa: ARG002
        windows: Tensor,
        labels: Tensor,
        noise: Tensor,  # noqa: ARG002
    ) -> Tensor:
        return (parts["guess"](labels)[:, 0] - windows.mean(dim=(1, 2))).square()

    def constrain(self, parts: nn.ModuleDict, phase: Phase) -> None:
        """Keep nothing within anything."""


def parts_of() -> nn.ModuleDict:
    return nn.ModuleDict({"guess": nn.Embedding.from_pretrained(torch.zeros(2, 1), freeze=False)})


def batch() -> Batch:
    """Windows of label 0 are 1 and 3, of label 1 all -2."""
    values = torch.tensor([1.0, 3.0, -2.0, -2.0])
    return Batch(values[:, None, None].expand(-1, 1, 64).clone(), torch.tensor([0, 0, 1, 1]), torch.arange(4))


def trained(mechanism: Mechanism = SILENT, round_: Round = Round(0, 1, 8)) -> Tensor:  # noqa: B008
    parts = parts_of()
    family: object = MeanOfWindows()
    train_plainly(
        family,  # type: ignore[arg-type]
        parts,
        phase=PHASE,
        shape=SHAPE,
        batch=batch(),
        mechanism=mechanism,
        round_=round_,
    )
    return parts["guess"].weight.detach()[:, 0]


def test_minibatches_find_the_mean_of_each_label() -> None:
    assert torch.allclose(trained(), torch.tensor([2.0, -2.0]), atol=0.15)


def test_the_first_of_ten_rounds_ends_with_nearly_the_whole_learning_rate_and_the_last_with_none() -> None:
    assert rate(299, 3000) > 0.95
    assert rate(2999, 3000) < 1e-5


def test_one_round_is_another_than_the_next() -> None:
    assert not torch.equal(trained(round_=Round(0, 2, 8)), trained(round_=Round(1, 2, 8)))


@pytest.mark.parametrize(
    "mechanism",
    [
        pytest.param(Mechanism("gradients", 1.0, 0.2, 30, 1.0), id="noise"),
        pytest.param(Mechanism("gradients", 0.0, 0.2, 30, 1.0), id="a bound without noise"),
    ],
)
def test_a_charge_that_promises_something_buys_no_minibatches(mechanism: Mechanism) -> None:
    with pytest.raises(PrivacyError, match="nothing was trained"):
        trained(mechanism)
