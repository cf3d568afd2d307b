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
_AT_ONCE = 128  # windows that are prepared
_PREPARED_WINDOWS, _PREPARED_SAMPLES = 2048, 2**24  # at most, of synthetic windows that a round begins with


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


@runtime_checkable
class Adversarial(Protocol):
    """A family whose critic needs a penalty without noise, and most of whose synthetic windows no step changes."""

    def plain_penalty(self, parts: nn.ModuleDict, phase: Phase, windows: Tensor, labels: Tensor) -> Tensor:
        """Return what is added to the private part's loss, a scalar."""
        ...

    def prepared(self, parts: nn.ModuleDict, labels: Tensor, noise: Tensor) -> tuple[Tensor, ...]:
        """Return what no step changes of synthetic windows, window by window."""
        ...

    def prepared_companion_loss(self, parts: nn.ModuleDict, phase: Phase, prepared: tuple[Tensor, ...]) -> Tensor:
        """Return `companion_loss` of windows so prepared."""
        ...

    def prepared_public_loss(self, parts: nn.ModuleDict, phase: Phase, prepared: tuple[Tensor, ...]) -> Tensor:
        """Return `public_loss` of windows so prepared."""
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
    synthetic = (
        _Synthetic(family, parts, phase=phase, shape=shape, batch=batch, rows=round_.rows) if public else None
    )

    for step in range(steps):
        pace = rate(step + round_.index * steps, round_.rounds * steps)
        chosen = torch.randint(0, len(batch.labels), (round_.rows,), generator=generator)
        noise = torch.randn(round_.rows, width, generator=generator)
        loss = loss_of(chosen.to(batch.labels.device), noise.to(batch.windows)).mean()
        if synthetic:
            loss = loss + synthetic.companion_loss(generator)
        if isinstance(family, Adversarial):
            rows = chosen.to(batch.labels.device)
            loss = loss + family.plain_penalty(parts, phase, batch.windows[rows], batch.labels[rows])
        if consolidation is not None:
            loss = loss + consolidation.penalty(held)
        private.step(loss, pace=pace)
        family.constrain(parts, phase)
        if public and synthetic and (step + 1) % phase.private_steps == 0:
            for _ in range(phase.public_steps):
                public.step(synthetic.public_loss(generator), pace=pace)
        if progress:
            progress(step + 1, steps)
    if round_.index + 1 == round_.rounds:
        for learner in (private, public):
            if learner:
                learner.take_average()
        family.constrain(parts, phase)


class _Synthetic:
    """Losses of synthetic windows, drawn with labels as often as the site has them."""

    def __init__(
        self, family: Family, parts: nn.ModuleDict, *, phase: Phase, shape: Shape, batch: Batch, rows: int
    ) -> None:
        self._family, self._parts, self._phase, self._batch, self._rows = family, parts, phase, batch, rows
        self._width = family.noise_width(shape)
        samples = len(shape.channels) * shape.n_times
        self._kept = max(rows, min(_PREPARED_WINDOWS, _PREPARED_SAMPLES // samples))
        self._prepared: tuple[Tensor, ...] = ()

    def companion_loss(self, generator: torch.Generator) -> Tensor | float:
        """Return the public term of the private part's loss; 0 where there is none."""
        if isinstance(self._family, Adversarial):
            return self._family.prepared_companion_loss(self._parts, self._phase, self._some(generator))
        labels, noise = self._drawn(self._rows, generator)
        loss = self._family.companion_loss(self._parts, self._phase, labels, noise)
        return 0.0 if loss is None else loss

    def public_loss(self, generator: torch.Generator) -> Tensor:
        """Return the public part's loss."""
        if isinstance(self._family, Adversarial):
            return self._family.prepared_public_loss(self._parts, self._phase, self._some(generator))
        labels, noise = self._drawn(self._rows, generator)
        return self._family.public_loss(self._parts, self._phase, labels, noise)

    def _some(self, generator: torch.Generator) -> tuple[Tensor, ...]:
        """Return some of the windows that were prepared when the first were asked for."""
        assert isinstance(self._family, Adversarial)
        if not self._prepared:
            labels, noise = self._drawn(self._kept, generator)
            pairs = zip(labels.split(_AT_ONCE), noise.split(_AT_ONCE), strict=True)
            pieces = [self._family.prepared(self._parts, *pair) for pair in pairs]
            self._prepared = tuple(torch.cat(column) for column in zip(*pieces, strict=True))
        chosen = torch.randint(0, self._kept, (self._rows,), generator=generator)
        return tuple(column[chosen.to(column.device)] for column in self._prepared)

    def _drawn(self, count: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        labels, width = self._batch.labels, self._width
        chosen = torch.randint(0, len(labels), (count,), generator=generator)
        noise = torch.randn(count, width, generator=generator)
        return labels[chosen.to(labels.device)], noise.to(self._batch.windows)


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
