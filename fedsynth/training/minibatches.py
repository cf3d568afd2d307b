"""Training without privacy: layers learn by ordinary minibatches of a site's windows.

Rounds of it are federated averaging (McMahan et al. 2017, arXiv:1602.05629). The learning rate falls as half a
cosine over all rounds (Loshchilov and Hutter 2017, arXiv:1608.03983), so that the end needs no look at the data:
when to stop is public. What the last round gives is the exponential moving average of its steps.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from fedsynth.errors import PrivacyError
from fedsynth.families.protocol import Family, Phase
from fedsynth.modalities.shape import Shape
from fedsynth.privacy.mechanism import Mechanism
from fedsynth.progress import StepProgress
from fedsynth.rng import torch_generator
from fedsynth.training.consolidation import Consolidation
from fedsynth.training.private_gradient import Batch
from fedsynth.training.trainer import private_parameters

_LONGEST_GRADIENT = 1.0
_WARM_UP = 100  # steps until the learning rate is whole
_AVERAGE = 0.995  # of the moving average
_BETAS = (0.9, 0.99)


@runtime_checkable
class Describing(Protocol):
    """A family whose view of windows can be taken once, before many steps."""

    def describe(self, parts: nn.ModuleDict, windows: Tensor) -> tuple[Tensor, ...]:
        """Return what the loss reads of windows, window by window."""
        ...

    def described_loss(
        self, parts: nn.ModuleDict, phase: Phase, described: tuple[Tensor, ...], labels: Tensor, noise: Tensor
    ) -> Tensor:
        """Return `example_loss` of windows so described, shape (window,)."""
        ...


@dataclass(frozen=True)
class Round:
    """Which round of how many; `rows` are the windows of a minibatch."""

    index: int
    rounds: int
    rows: int


def train_plainly(
    family: Family,
    parts: nn.ModuleDict,
    *,
    phase: Phase,
    shape: Shape,
    batch: Batch,
    mechanism: Mechanism,
    round_: Round,
    consolidation: Consolidation | None = None,
    progress: StepProgress | None = None,
) -> None:
    """Take the steps of one round, moving the private part, and the public one that follows it.

    Args:
        family: the generator family.
        parts: moved in place.
        phase: whose private part learns.
        shape: of the windows.
        batch: the site's windows.
        mechanism: as charged; one that promises nothing.
        round_: which round this is.
        consolidation: what holds the private part where earlier hospitals left it.
        progress: called with (steps done, steps in all).

    Raises:
        PrivacyError: the mechanism promises something, which this training would not keep.
    """
    if mechanism.is_private or math.isfinite(mechanism.clipping_norm):
        raise PrivacyError(
            f"{mechanism.purpose!r} was charged as private and minibatches keep no promise; nothing was trained"
        )
    if not len(batch.labels):
        return
    held = private_parameters(parts, phase)
    private = _Learner(held, phase.learning_rate)
    followed = list(parts[phase.public_part].parameters()) if phase.public_part else []
    public = _Learner(followed, phase.public_learning_rate) if followed else None
    generator = torch_generator("minibatches", family.name, phase.name, round_.index)
    loss_of = _loss(family, parts, phase=phase, batch=batch)
    width, steps = family.example_noise_width(shape, phase), mechanism.steps

    def drawn() -> tuple[Tensor, Tensor]:
        """Return labels as often as the site has them, and noise."""
        chosen = torch.randint(0, len(batch.labels), (round_.rows,), generator=generator)
        noise = torch.randn(round_.rows, family.noise_width(shape), generator=generator)
        return batch.labels[chosen.to(batch.labels.device)], noise.to(batch.windows)

    for step in range(steps):
        pace = rate(step + round_.index * steps, round_.rounds * steps)
        chosen = torch.randint(0, len(batch.labels), (round_.rows,), generator=generator)
        noise = torch.randn(round_.rows, width, generator=generator)
        loss = loss_of(chosen.to(batch.labels.device), noise.to(batch.windows)).mean()
        if public:
            companion = family.companion_loss(parts, phase, *drawn())
            loss = loss if companion is None else loss + companion
        if consolidation is not None:
            loss = loss + consolidation.penalty(held)
        private.step(loss, pace=pace)
        family.constrain(parts, phase)
        if public and (step + 1) % phase.private_steps == 0:
            for _ in range(phase.public_steps):
                public.step(family.public_loss(parts, phase, *drawn()), pace=pace)
        if progress:
            progress(step + 1, steps)
    if round_.index + 1 == round_.rounds:
        for learner in (private, public):
            if learner:
                learner.take_average()
        family.constrain(parts, phase)


class _Learner:
    """Parameters with their optimizer and their moving average."""

    def __init__(self, parameters: list[nn.Parameter], learning_rate: float) -> None:
        self._parameters, self._rate, self._taken = parameters, learning_rate, 0
        self._optimizer = torch.optim.Adam(parameters, learning_rate, betas=_BETAS)
        self._average = [parameter.detach().clone() for parameter in parameters]

    def step(self, loss: Tensor, *, pace: float) -> None:
        """Take one step down a loss, at a share of the learning rate."""
        slopes = torch.autograd.grad(loss, self._parameters, allow_unused=True)
        for parameter, slope in zip(self._parameters, slopes, strict=True):
            parameter.grad = slope
        nn.utils.clip_grad_norm_(self._parameters, _LONGEST_GRADIENT)
        for group in self._optimizer.param_groups:
            group["lr"] = self._rate * pace
        self._optimizer.step()
        kept = min(_AVERAGE, (1 + self._taken) / (10 + self._taken))
        with torch.no_grad():
            torch._foreach_lerp_(self._average, [parameter.detach() for parameter in self._parameters], 1 - kept)
        self._taken += 1

    def take_average(self) -> None:
        """Put the moving average in the parameters' place."""
        with torch.no_grad():
            for parameter, value in zip(self._parameters, self._average, strict=True):
                parameter.copy_(value)


def rate(step: int, steps: int) -> float:
    """Return the share of the learning rate at a step: a short rise, then half a cosine to nothing.

    >>> rate(0, 1000), round(rate(100, 1000), 2), round(rate(999, 1000), 2)
    (0.01, 0.98, 0.0)
    """
    return min(1.0, (step + 1) / _WARM_UP) * 0.5 * (1 + math.cos(math.pi * step / steps))


def _loss(
    family: Family, parts: nn.ModuleDict, *, phase: Phase, batch: Batch
) -> Callable[[Tensor, Tensor], Tensor]:
    """Return from chosen windows and noise to their losses."""
    windows, labels = batch.windows, batch.labels
    if isinstance(family, Describing):
        describing = family
        with torch.no_grad():
            described = describing.describe(parts, windows)

        def described_loss(chosen: Tensor, noise: Tensor) -> Tensor:
            some = tuple(value[chosen] for value in described)
            return describing.described_loss(parts, phase, some, labels[chosen], noise)

        return described_loss

    def loss(chosen: Tensor, noise: Tensor) -> Tensor:
        return family.example_loss(parts, phase, windows[chosen], labels[chosen], noise)

    return loss
