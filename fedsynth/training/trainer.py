"""The public half of private training: from noisy gradient sums to moved parts; it never sees a window.

Under trust in the site it runs at the site between two private sums; under secure aggregation it runs at the
coordinator. What it does to a sum is post-processing either way.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from fedsynth.errors import WireError
from fedsynth.families.protocol import Family, Phase
from fedsynth.modalities.shape import Shape
from fedsynth.privacy.mechanism import Mechanism
from fedsynth.training.consolidation import Consolidation

_SMOOTHING = 0.99  # torch's RMSprop default
_ADAM = (0.9, 0.999)  # torch's Adam defaults


@dataclass(frozen=True)
class StepScale:
    """Public numbers that set the size of a step.

    `expected_units` is the study's declared number of units behind a sum; `seen_units` what an earlier private
    sum says it is (or the declared one), by which the public side of a loss is weighted; `label_shares` (label,)
    the shares from the same sum. `public_batch` is the number of synthetic windows a step draws.
    """

    expected_units: float
    seen_units: float
    label_shares: Tensor
    public_batch: int = 64


class Trainer:
    """Moves a family's parts by one noisy gradient sum at a time."""

    def __init__(
        self,
        family: Family,
        parts: nn.ModuleDict,
        *,
        phase: Phase,
        shape: Shape,
        mechanism: Mechanism,
        scale: StepScale,
        consolidation: Consolidation | None = None,
    ) -> None:
        """Begin with fresh optimizers.

        Args:
            family: the generator family.
            parts: moved in place.
            phase: which part sees data and which follows.
            shape: of the windows.
            mechanism: of the sums that will come.
            scale: public divisors and weights.
            consolidation: what holds the private parameters where earlier hospitals left them.
        """
        self.consolidation = consolidation
        self.family, self.parts, self.phase, self.shape, self.scale = family, parts, phase, shape, scale
        self._private = private_parameters(parts, phase)
        self._public = list(parts[phase.public_part].parameters()) if phase.public_part else []
        self._clip = mechanism.clipping_norm
        # The divisor is public: the size that was drawn would tell who is there.
        self._divisor = mechanism.sampling_probability * scale.expected_units
        self._optimizer = _optimizer(phase, self._private, phase.learning_rate)
        # A rescaled gradient turns a noisy slope into a full-sized step; the follower walks slower the louder the
        # critic is.
        pace = phase.public_learning_rate / max(1.0, 1.5 * mechanism.noise_multiplier)
        self._follower = _optimizer(phase, self._public, pace) if self._public else None
        self._taken = 0

    def step(self, total: Tensor) -> None:
        """Take in the noisy sum of one step, shape (parameter,)."""
        family, parts, phase = self.family, self.parts, self.phase
        total = total.to(self._private[0])
        direction = total / self._divisor
        public = family.companion_loss(parts, phase, *self._public_draw())
        if public is not None:
            companion = flat(torch.autograd.grad(public, self._private, allow_unused=True), self._private)
            direction = direction + self.scale.seen_units / self.scale.expected_units * self._clipped(companion)
        if self.consolidation is not None:
            direction = direction + self._clipped(self.consolidation.slope(self._private))
        _set_gradients(self._private, direction)
        self._optimizer.step()
        family.constrain(parts, phase)
        self._taken += 1
        if self._follower and self._taken % phase.private_steps == 0:
            for _ in range(phase.public_steps):
                loss = family.public_loss(parts, phase, *self._public_draw())
                slopes = torch.autograd.grad(loss, self._public, allow_unused=True)
                _set_gradients(self._public, flat(slopes, self._public))
                self._follower.step()

    def optimizers(self) -> dict[str, Tensor]:
        """Return what the optimizers remember, as named tensors; with the parts' own state a trainer goes on."""
        tensors = {"taken": torch.tensor([self._taken])}
        for role, optimizer in self._roles().items():
            for number, memory in optimizer.state_dict()["state"].items():
                tensors |= {f"{role}.{number}.{name}": torch.as_tensor(value) for name, value in memory.items()}
        return tensors

    def go_on(self, tensors: Mapping[str, Tensor]) -> None:
        """Take over what `optimizers` returned.

        Raises:
            WireError: it is of another trainer.
        """
        memories: dict[str, dict[int, dict[str, Tensor]]] = {role: {} for role in self._roles()}
        try:
            for key, value in tensors.items():
                if key != "taken":
                    role, number, name = key.split(".", 2)
                    memories[role].setdefault(int(number), {})[name] = value
            self._taken = int(tensors["taken"][0])
            for role, optimizer in self._roles().items():
                optimizer.load_state_dict({**optimizer.state_dict(), "state": memories[role]})
        except (KeyError, ValueError, RuntimeError) as error:
            raise WireError("what the optimizers remember is of another trainer") from error

    def _roles(self) -> dict[str, torch.optim.Optimizer]:
        return {"private": self._optimizer} | ({"public": self._follower} if self._follower else {})

    def _clipped(self, slope: Tensor) -> Tensor:
        """Clip what is public as units are clipped; left alone it overwhelms the clipped private side."""
        return slope * (self._clip / (slope.norm() + 1e-12)).clamp(max=1.0)

    def _public_draw(self) -> tuple[Tensor, Tensor]:
        scale, device = self.scale, self._private[0].device
        labels = torch.multinomial(scale.label_shares, scale.public_batch, replacement=True)
        noise = torch.randn(scale.public_batch, self.family.noise_width(self.shape))
        return labels.to(device), noise.to(device)


def private_parameters(parts: nn.ModuleDict, phase: Phase) -> list[nn.Parameter]:
    """Return the parameters whose gradient may see windows, in the order that a sum flattens them."""
    return list(parts[phase.private_part].parameters())


def largest_move(phase: Phase, *, steps: int, size: int) -> float:
    """Return how far, in L2, `steps` steps can carry `size` private parameters: a validator's bound.

    RMSprop divides by at least sqrt(1 - smoothing) of the gradient's own size, so no coordinate moves by more than
    ten learning rates a step. Adam's step t is at most (sum a_i^2 / b_i)^(1/2) learning rates long (Cauchy and
    Schwarz), where a_i and b_i are the weights of past gradients and of their squares. Bringing parameters back
    into their set only shortens the way.
    """
    rate = max(phase.learning_rate, phase.public_learning_rate)
    steps *= math.ceil(phase.public_steps / phase.private_steps)
    if phase.optimizer == "adam":
        return float(rate * sum(_adam_step(step) for step in range(1, steps + 1)) * size**0.5)
    return float(steps * rate * (1 - _SMOOTHING) ** -0.5 * size**0.5)


def flat(gradients: tuple[Tensor | None, ...], parameters: list[nn.Parameter]) -> Tensor:
    """Return gradients as one vector in the order of `parameters`, zeros where there is none."""
    pairs = zip(gradients, parameters, strict=True)
    return torch.cat([torch.zeros_like(p).flatten() if g is None else g.flatten() for g, p in pairs])


def _optimizer(phase: Phase, parameters: list[nn.Parameter], rate: float) -> torch.optim.Optimizer:
    if phase.optimizer == "adam":
        return torch.optim.Adam(parameters, rate, betas=_ADAM)
    return torch.optim.RMSprop(parameters, rate, alpha=_SMOOTHING)


def _adam_step(step: int) -> float:
    """Return how many learning rates Adam's step number `step`, from 1, can carry a coordinate."""
    first, second = _ADAM
    ratio = first**2 / second
    weights = (1 - first) ** 2 / (1 - first**step) ** 2 * (1 - second**step) / (1 - second)
    return float((weights * (1 - ratio**step) / (1 - ratio)) ** 0.5)


def _set_gradients(parameters: list[nn.Parameter], vector: Tensor) -> None:
    start = 0
    for parameter in parameters:
        parameter.grad = vector[start : start + parameter.numel()].view_as(parameter).clone()
        start += parameter.numel()
