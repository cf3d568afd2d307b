"""The stepper: from a site's windows to a trained copy of the parts, one private gradient sum per step.

The subject's gradient is taken by plain autograd on the mean loss of the subject's windows, one unit at a time:
exact, and on a CPU the cheapest (docs/decisions/0003-loop-over-units.md). Opacus clips, sums and noises it
inside `fedsynth.privacy.private_sum`; its per-example gradients are the reference in the tests.
"""

import logging
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from fedsynth.families.protocol import Family, Phase
from fedsynth.families.shape import Shape
from fedsynth.privacy.mechanism import Mechanism
from fedsynth.privacy.noise import NoiseSource, poisson_draw, system_normal
from fedsynth.privacy.private_sum import PrivateSum

log = logging.getLogger("fedsynth.site")
Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Batch:
    """A site's training windows as tensors on one device; `units` (window,) numbers the privacy units from 0."""

    windows: Tensor
    labels: Tensor
    units: Tensor

    @property
    def n_units(self) -> int:
        """Return the number of units."""
        return int(self.units.max()) + 1 if len(self.units) else 0


@dataclass(frozen=True)
class Scale:
    """Public numbers that set the size of a step.

    `expected_units` is the study's declared number of units per site; `seen_units` what an earlier private sum
    says it is (or the declared one), by which the public side of a loss is weighted; `label_shares` (label,)
    the shares from the same sum. `public_batch` is the number of synthetic windows a step draws.
    """

    expected_units: float
    seen_units: float
    label_shares: Tensor
    public_batch: int = 64


def choose_device(name: str) -> torch.device:
    """Return the device for "auto", "cpu" or "cuda"."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    return torch.device(name)


def train(
    family: Family,
    parts: nn.ModuleDict,
    *,
    phase: Phase,
    shape: Shape,
    batch: Batch,
    mechanism: Mechanism,
    scale: Scale,
    progress: Progress | None = None,
    noise: NoiseSource = system_normal,
) -> None:
    """Train the parts in place for `mechanism.steps` private steps.

    Args:
        family: the generator family.
        parts: on the batch's device.
        phase: which part sees data and which follows.
        shape: of the windows.
        batch: the site's windows.
        mechanism: clipping, noise, sampling and steps, as charged.
        scale: public divisors and weights.
        progress: called with (steps done, steps in all).
        noise: tests only pass something else than the system's.
    """
    private = list(parts[phase.private_part].parameters())
    optimizer = torch.optim.RMSprop(private, phase.learning_rate)
    public = list(parts[phase.public_part].parameters()) if phase.public_part else []
    # RMSprop turns a noisy slope into a full-sized step; the follower walks slower the louder the critic is.
    pace = phase.public_learning_rate / max(1.0, 1.5 * mechanism.noise_multiplier)
    follower = torch.optim.RMSprop(public, pace) if public else None
    divisor = mechanism.sampling_probability * scale.expected_units
    weight = scale.seen_units / scale.expected_units
    rows = [torch.nonzero(batch.units == unit)[:, 0] for unit in range(batch.n_units)]
    for step in range(mechanism.steps):
        total = gradient_sum(family, parts, phase=phase, batch=batch, rows=rows, mechanism=mechanism, noise=noise)
        synthetic = family.companion_loss(parts, phase, *_public_draw(family, shape, scale, total.device))
        companion = _flat(torch.autograd.grad(synthetic, private, allow_unused=True), private)
        # The public side is clipped alike; left alone it overwhelms the clipped private side.
        companion = companion * (mechanism.clipping_norm / (companion.norm() + 1e-12)).clamp(max=1.0)
        _set_gradients(private, total / divisor + weight * companion)
        optimizer.step()
        family.constrain(parts, phase)
        if follower and (step + 1) % phase.private_steps == 0:
            loss = family.public_loss(parts, phase, *_public_draw(family, shape, scale, total.device))
            _set_gradients(public, _flat(torch.autograd.grad(loss, public, allow_unused=True), public))
            follower.step()
        if progress:
            progress(step + 1, mechanism.steps)


def gradient_sum(
    family: Family,
    parts: nn.ModuleDict,
    *,
    phase: Phase,
    batch: Batch,
    rows: list[Tensor],
    mechanism: Mechanism,
    noise: NoiseSource = system_normal,
) -> Tensor:
    """Draw units, and return the private sum of their gradients, shape (parameter,).

    Args:
        family: the generator family.
        parts: the gradient is taken with respect to `phase.private_part`.
        phase: the one being trained.
        batch: the site's windows.
        rows: for each unit the indices of its windows.
        mechanism: clipping, noise and sampling of this step.
        noise: tests only pass something else than the system's.
    """
    private = list(parts[phase.private_part].parameters())
    sums = PrivateSum(
        sum(parameter.numel() for parameter in private),
        clipping_norm=mechanism.clipping_norm,
        noise_multiplier=mechanism.noise_multiplier,
        noise=noise,
        dtype=torch.float32,
        device=private[0].device,
    )
    for unit in poisson_draw(len(rows), probability=mechanism.sampling_probability):
        mine = rows[int(unit)]
        try:
            loss = family.example_loss(parts, phase, batch.windows[mine], batch.labels[mine]).mean()
            sums.add(_flat(torch.autograd.grad(loss, private, allow_unused=True), private)[None])
        except RuntimeError:
            # A failure that the coordinator could see would be an answer without noise: the unit counts as zero.
            log.exception("a unit counts as zero")
    return sums.read()


def _public_draw(family: Family, shape: Shape, scale: Scale, device: torch.device) -> tuple[Tensor, Tensor]:
    labels = torch.multinomial(scale.label_shares, scale.public_batch, replacement=True)
    noise = torch.randn(scale.public_batch, family.noise_width(shape))
    return labels.to(device), noise.to(device)


def _flat(gradients: tuple[Tensor | None, ...], parameters: list[nn.Parameter]) -> Tensor:
    pairs = zip(gradients, parameters, strict=True)
    return torch.cat([torch.zeros_like(p).flatten() if g is None else g.flatten() for g, p in pairs])


def _set_gradients(parameters: list[nn.Parameter], flat: Tensor) -> None:
    start = 0
    for parameter in parameters:
        parameter.grad = flat[start : start + parameter.numel()].view_as(parameter).clone()
        start += parameter.numel()
