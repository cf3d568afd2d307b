"""Fisher information as a private sum: how much a hospital's loss depends on each weight.

A unit contributes the squares of the gradient of its mean loss: the diagonal of the empirical Fisher information.
The vector is clipped as a whole to C^2, where C is the clipping norm of gradients: squares of a gradient no longer
than C are no longer than C^2, since the sum of fourth powers is at most the square of the sum of squares.
"""

import logging

import torch
from torch import Tensor, nn

from fedsynth.families.protocol import Family, Phase
from fedsynth.modalities.shape import Shape
from fedsynth.privacy.allowance import Allowance
from fedsynth.privacy.private_sum import PrivateSum
from fedsynth.training.private_gradient import Batch, LossNoise, log_zeros
from fedsynth.training.trainer import flat, private_parameters

log = logging.getLogger("fedsynth.site")


def fisher_sum(
    family: Family, parts: nn.ModuleDict, *, phase: Phase, shape: Shape, batch: Batch, allowance: Allowance
) -> PrivateSum:
    """Add up the squared gradients of the units drawn, shape (parameter,); the caller reads the sum.

    Args:
        family: the generator family.
        parts: the gradient is taken with respect to `phase.private_part`.
        phase: the one that was trained.
        shape: of the windows.
        batch: the site's windows.
        allowance: one step of it is taken.
    """
    private, rows = private_parameters(parts, phase), batch.rows()
    size = sum(parameter.numel() for parameter in private)
    step = allowance.step(n_units=len(rows), size=size, device=private[0].device)
    failed = 0
    for unit in step.units:
        mine = rows[int(unit)]
        if not len(mine):  # every window had an artefact: it adds zero
            continue
        try:
            squares = squared_gradient(
                family, parts, phase=phase, shape=shape, windows=batch.windows[mine], labels=batch.labels[mine]
            )
            step.sum.add(squares[None])
        except Exception:
            # A failure that the coordinator could see would be an answer without noise: the unit counts as zero.
            log.exception("a unit counts as zero")
            failed += 1
    log_zeros(failed, len(step.units))
    return step.sum


def squared_gradient(
    family: Family, parts: nn.ModuleDict, *, phase: Phase, shape: Shape, windows: Tensor, labels: Tensor
) -> Tensor:
    """Return what one unit contributes, shape (parameter,), before it is clipped."""
    private = private_parameters(parts, phase)
    noise = LossNoise.of(private, width=family.example_noise_width(shape, phase)).draw(windows)
    loss = family.example_loss(parts, phase, windows, labels, noise).mean()
    return flat(torch.autograd.grad(loss, private, allow_unused=True), private).square()
