"""The stepper: from a site's windows to private gradient sums, one for each step that was charged.

A unit's gradient is that of the mean loss over its windows. There are two ways to the sum of clipped gradients: one
unit at a time by autograd, and all at once by book-keeping (`fedsynth.training.book_keeping.gradients`), which
never writes a unit's gradient out. Both are exact; `docs/decisions/0009-two-ways-to-a-gradient-sum.md` says when
which is taken.
"""

import hashlib
import logging
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Literal

import torch
from torch import Tensor, nn

from fedsynth.errors import PrivacyError
from fedsynth.families.protocol import Family, Phase
from fedsynth.modalities.shape import Shape
from fedsynth.privacy.allowance import Allowance
from fedsynth.privacy.private_sum import PrivateSum, UnwrittenRows
from fedsynth.progress import StepProgress
from fedsynth.study import Study
from fedsynth.training.trainer import Trainer, flat, private_parameters

log = logging.getLogger("fedsynth.site")
GradientMethod = Literal["loop", "factored"]
WINDOWS_AT_ONCE = 256
"""Taken together by book-keeping, so that memory stays bounded."""


@dataclass(frozen=True)
class Batch:
    """A site's training windows as tensors on one device; `units` (window,) numbers the privacy units from 0.

    `covariates` (window, 1 + statement) are the number of the stratum and, of each statement, 0 or 1; None where a
    study has none.
    """

    windows: Tensor
    labels: Tensor
    units: Tensor
    covariates: Tensor | None = None

    @property
    def n_units(self) -> int:
        """Return the number of units."""
        return int(self.units.max()) + 1 if len(self.units) else 0

    def rows(self) -> list[Tensor]:
        """Return for each unit the indices of its windows."""
        sizes = torch.bincount(self.units.cpu(), minlength=self.n_units)
        return list(torch.argsort(self.units, stable=True).split(sizes.tolist()))


def choose_method(parts: nn.ModuleDict, *, phase: Phase, study: Study) -> GradientMethod:
    """Return the method to a gradient sum, from public facts alone.

    The two ways round differently, so nothing that one unit could change may choose between them: neither how many
    units or windows there are, nor whether something failed.
    """
    if study.training.private_step == "isolated":
        return "loop"
    from fedsynth.training.book_keeping.gradients import choose, unsupported  # loads Opacus

    unknown = unsupported(parts[phase.private_part], private_parameters(parts, phase))
    if unknown:
        log.info("no book-keeping for %s: one unit at a time", ", ".join(unknown))
        return "loop"
    windows = 1 if study.privacy.unit == "window" else study.windows.per_recording
    units = study.cohort.expected_units
    device = private_parameters(parts, phase)[0].device
    return choose(n_windows=windows * units, n_units=units, device=device)


def train(
    trainer: Trainer,
    *,
    batch: Batch,
    allowance: Allowance,
    method: GradientMethod,
    progress: StepProgress | None = None,
) -> None:
    """Take every step of an allowance at this site, moving the trainer's parts.

    Args:
        trainer: with parts on the batch's device.
        batch: the site's windows.
        allowance: what was charged.
        method: from `choose_method`.
        progress: called with (steps done, steps in all).
    """
    rows, steps = batch.rows(), allowance.left
    for step in range(steps):
        sums = gradient_sum(
            trainer.family,
            trainer.parts,
            phase=trainer.phase,
            shape=trainer.shape,
            batch=batch,
            rows=rows,
            allowance=allowance,
            method=method,
            check=is_checked(step),
        )
        trainer.step(sums.read())
        if progress:
            progress(step + 1, steps)


def is_checked(step: int) -> bool:
    """Whether book-keeping shall be held against autograd at this step; a flat network shows nothing at first."""
    return step % 10 == 0


def gradient_sum(
    family: Family,
    parts: nn.ModuleDict,
    *,
    phase: Phase,
    shape: Shape,
    batch: Batch,
    rows: list[Tensor],
    allowance: Allowance,
    method: GradientMethod = "loop",
    check: bool = True,
) -> PrivateSum:
    """Draw units and add up their clipped gradients, shape (parameter,); the caller reads the sum.

    Args:
        family: the generator family.
        parts: the gradient is taken with respect to `phase.private_part`.
        phase: the one being trained.
        shape: of the windows.
        batch: the site's windows.
        rows: for each unit the indices of its windows.
        allowance: one step of it is taken.
        method: one unit at a time, or by book-keeping.
        check: hold book-keeping against autograd first, on made-up windows.
    """
    private = private_parameters(parts, phase)
    size = sum(parameter.numel() for parameter in private)
    step = allowance.step(n_units=len(rows), size=size, device=private[0].device)
    # A unit all of whose windows were left out has none: it adds zero, and MKL refuses an empty transform.
    drawn = [mine for mine in (rows[int(unit)] for unit in step.units) if len(mine)]
    loss_noise = LossNoise.of(private, width=family.example_noise_width(shape, phase))
    if method == "factored" and not (
        check and _differs(family, parts, phase=phase, like=batch, loss_noise=loss_noise)
    ):
        for some in _parcels(drawn):
            _add_factored(step.sum, family, parts, phase=phase, batch=batch, rows=some, loss_noise=loss_noise)
    else:
        _add_one_by_one(step.sum, family, parts, phase=phase, batch=batch, rows=drawn, loss_noise=loss_noise)
    return step.sum


def gradient_rows(
    family: Family, parts: nn.ModuleDict, *, phase: Phase, shape: Shape, batch: Batch, method: GradientMethod
) -> Tensor:
    """Return the gradient of all of a made-up batch, shape (1, parameter); unlike for people, failures are raised.

    With "factored" its units are one parcel, as large as any that people will be in.

    Args:
        family: the generator family.
        parts: the gradient is taken with respect to `phase.private_part`.
        phase: the one being trained.
        shape: of the windows.
        batch: made up.
        method: as `gradient_sum` will use.
    """
    private = private_parameters(parts, phase)
    loss_noise = LossNoise.of(private, width=family.example_noise_width(shape, phase))
    if method == "factored":
        rows = _factored_rows(family, parts, batch.rows(), phase=phase, batch=batch, loss_noise=loss_noise)
        norms = rows.norms()
        return rows.weighted_sum(1 / norms.clamp_min(1.0).to(batch.windows.dtype))[None]
    windows = batch.windows
    losses = family.example_loss(parts, phase, windows, batch.labels, loss_noise.draw(windows))
    return flat(torch.autograd.grad(losses.mean(), private, allow_unused=True), private)[None]


def log_zeros(failed: int, units: int) -> None:
    """Tell the site, and nobody else, how many of the units that were drawn could not be computed."""
    if failed == units > 0:
        log.critical(
            "all %d units that were drawn count as zero: the answer is noise, and was charged. Made-up windows had "
            "passed the same step, so look for what failed since (disk, memory, GPU), or at the windows themselves",
            units,
        )


@dataclass(frozen=True)
class LossNoise:
    """What the losses of one step draw: standard normal numbers of which nothing is secret.

    A unit's numbers follow from the parameters at which it is asked and from its own windows. Taken in turn from
    one generator, they would depend on who else was drawn: whoever knows the generator's state could then see one
    unit move what the others say, by more than the clipping norm.
    """

    key: bytes
    width: int

    @classmethod
    def of(cls, private: list[nn.Parameter], *, width: int) -> "LossNoise":
        """Return the loss_noise of a step at these parameters, `width` numbers for each window."""
        digest = hashlib.sha256()
        if width:
            for parameter in private:
                digest.update(parameter.detach().cpu().numpy().tobytes())
        return cls(digest.digest(), width)

    def draw(self, windows: Tensor) -> Tensor:
        """Return the numbers for all windows of one unit, shape (window, width), on their device."""
        if not self.width:
            return windows.new_empty(len(windows), 0)
        digest = hashlib.sha256(self.key + windows.detach().cpu().numpy().tobytes()).digest()
        generator = torch.Generator().manual_seed(int.from_bytes(digest[:8], "big") >> 1)
        return torch.randn(len(windows), self.width, generator=generator).to(windows)


def _differs(family: Family, parts: nn.ModuleDict, *, phase: Phase, like: Batch, loss_noise: LossNoise) -> bool:
    """Whether book-keeping and autograd disagree on made-up windows: a fact about parameters, not people."""
    from fedsynth.training.book_keeping.gradients import factored_gradients

    windows = 20 * torch.randn(8, *like.windows.shape[1:]).to(like.windows)
    labels = torch.zeros(8, dtype=like.labels.dtype, device=like.labels.device)
    units = torch.arange(8, device=like.labels.device) // 2
    module, private = parts[phase.private_part], private_parameters(parts, phase)
    try:
        loss = partial(family.example_loss, parts, phase, windows, labels, loss_noise.draw(windows))
        factored_gradients(module, private, loss, units, check=True)
    except PrivacyError as error:
        log.warning("%s", error)
        return True
    return False


def _add_one_by_one(
    sums: PrivateSum,
    family: Family,
    parts: nn.ModuleDict,
    *,
    phase: Phase,
    batch: Batch,
    rows: list[Tensor],
    loss_noise: LossNoise,
) -> None:
    private = private_parameters(parts, phase)
    failed = 0
    for mine in rows:
        try:
            windows = batch.windows[mine]
            loss = family.example_loss(parts, phase, windows, batch.labels[mine], loss_noise.draw(windows)).mean()
            sums.add(flat(torch.autograd.grad(loss, private, allow_unused=True), private)[None])
        except Exception:
            # A failure that the coordinator could see would be an answer without noise: the unit counts as zero.
            log.exception("a unit counts as zero")
            failed += 1
    log_zeros(failed, len(rows))


def _add_factored(
    sums: PrivateSum,
    family: Family,
    parts: nn.ModuleDict,
    *,
    phase: Phase,
    batch: Batch,
    rows: list[Tensor],
    loss_noise: LossNoise,
) -> None:
    """Add a parcel of units; units that fail even alone count as zero, and the others are added without them.

    So a unit that fails leaves the sum as it would be had the unit not been there. Where all can be computed alone
    and not together, the parcel counts as zero.
    """
    rows_of = partial(_factored_rows, family, parts, phase=phase, batch=batch, loss_noise=loss_noise)
    try:
        sums.add_rows(rows_of(rows))
    except Exception:
        # Never one by one instead: a unit that makes its company be computed another way would move all of it.
        sound = [mine for mine in rows if _is_sound(rows_of, mine)]
        log.exception("%d units of a parcel of %d count as zero", len(rows) - len(sound) or len(rows), len(rows))
        if 0 < len(sound) < len(rows):
            _add_factored(sums, family, parts, phase=phase, batch=batch, rows=sound, loss_noise=loss_noise)


def _factored_rows(
    family: Family,
    parts: nn.ModuleDict,
    rows: list[Tensor],
    *,
    phase: Phase,
    batch: Batch,
    loss_noise: LossNoise,
) -> UnwrittenRows:
    """Return the gradients of units, one row each, by book-keeping."""
    from fedsynth.training.book_keeping.gradients import factored_gradients

    picked = torch.cat(rows)
    units = torch.cat([torch.full_like(mine, number) for number, mine in enumerate(rows)])
    noise = torch.cat([loss_noise.draw(batch.windows[mine]) for mine in rows])
    loss = partial(family.example_loss, parts, phase, batch.windows[picked], batch.labels[picked], noise)
    module, private = parts[phase.private_part], private_parameters(parts, phase)
    return factored_gradients(module, private, loss, units.to(picked))


def _is_sound(rows_of: Callable[[list[Tensor]], UnwrittenRows], mine: Tensor) -> bool:
    """Whether one unit can be computed alone: a fact about that unit and no other."""
    try:
        rows_of([mine])
    except Exception:  # noqa: BLE001  # whatever its windows or labels provoke
        return False
    return True


def _parcels(rows: list[Tensor]) -> list[list[Tensor]]:
    """Part units into parcels of about `WINDOWS_AT_ONCE` windows, so that memory stays bounded."""
    parcels: list[list[Tensor]] = []
    held = WINDOWS_AT_ONCE
    for mine in rows:
        if held + len(mine) > WINDOWS_AT_ONCE:
            parcels.append([])
            held = 0
        parcels[-1].append(mine)
        held += len(mine)
    return parcels
