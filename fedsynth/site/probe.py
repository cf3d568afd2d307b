"""Probe: whether this machine can do a plan's steps at all, found out on made-up windows before anybody is charged.

After a charge every failure of a unit counts as zero, for whoever saw it would have an answer without noise. So
what fails for reasons that are not a person's has to fail here, where nothing depends on a person.
"""

import logging
import math
from collections.abc import Callable

import torch
from torch import Tensor

from fedsynth.errors import FedsynthError, MachineError
from fedsynth.memory import memory_available
from fedsynth.places import gigabytes
from fedsynth.plan import Step
from fedsynth.privacy.private_sum import PrivateSum
from fedsynth.site.holdings import Holdings
from fedsynth.study import Study
from fedsynth.training.private_gradient import WINDOWS_AT_ONCE, Batch

log = logging.getLogger("fedsynth.site")
_MICROVOLTS = 20.0  # of made-up windows: as loud as an EEG
_COPIES = 3  # of a site's windows, in memory: as read, as tensors, and one on the way


def made_up_windows(study: Study, *, device: torch.device, units: int = 1) -> Batch:
    """Return white noise in the place of recordings, as many windows for each unit as the study cuts from one.

    Drawn from a fixed seed, so that every site and every process probes with the same.
    """
    each = 1 if study.privacy.unit == "window" else study.windows.per_recording
    units = max(1, min(units, WINDOWS_AT_ONCE // each))
    count, labels = each * units, len(study.labels.names)
    generator = torch.Generator().manual_seed(1)
    windows = torch.randn(count, len(study.signal.channels), study.windows.n_times, generator=generator)
    return Batch(
        windows=(_MICROVOLTS * windows).to(device),
        labels=(torch.arange(count) % labels).to(device),
        units=torch.arange(count) // each,
        covariates=_made_up_covariates(study, count),
    )


def _made_up_covariates(study: Study, count: int) -> torch.Tensor:
    """Return every stratum in turn, and of statements as many as a window may have."""
    strata, made = torch.arange(count) % math.prod(study.strata), study.statements
    flags = torch.zeros(count, study.n_statements, dtype=torch.int64)
    flags[:, : made.at_most if made else 0] = 1
    return torch.cat([strata[:, None], flags], dim=1)


def probe(
    contribute: Callable[[Batch], Tensor],
    *,
    study: Study,
    step: Step,
    size: int,
    device: torch.device,
    units: int = 1,
) -> None:
    """Do with made-up windows what a step does with people's, up to the sum that nobody reads.

    Args:
        contribute: returns a row for each sum's worth of units, shape (row, size); every failure shall be raised.
        study: for the windows' shape.
        step: for the sum's bound and noise.
        size: coordinates of a contribution.
        device: of the windows.
        units: made-up units at once, at most.

    Raises:
        MachineError: whatever went wrong; nothing was charged.
    """
    try:
        rows = contribute(made_up_windows(study, device=device, units=units))
        sums = PrivateSum(
            size,
            clipping_norm=step.mechanism.clipping_norm,
            noise_multiplier=step.mechanism.noise_multiplier,
            noise_shares=step.mechanism.noise_shares,
            device=rows.device,
        )
        sums.add(rows)
    except FedsynthError:
        raise
    except Exception as error:  # any failure is one of this machine: no recording was looked at
        log.exception("made-up windows fail")
        raise _cannot(step, error) from error


def check_memory(holdings: Holdings) -> None:
    """Refuse, when a plan is approved, to answer it with more windows than memory holds.

    Never when an order comes: how many windows a site has is its own affair.

    Raises:
        MachineError: with both figures, for the site's own eyes.
    """
    sizes = [holdings.size(group) for group in holdings.tokens]
    needed, there = _COPIES * max(sizes), memory_available()
    if there is not None and needed > there:
        raise MachineError(
            f"this site's windows take about {gigabytes(needed)} of memory, and this machine has "
            f"{gigabytes(there)} free. Nothing was approved or charged; free some, or use a larger machine"
        )


def _cannot(step: Step, error: Exception) -> MachineError:
    what = "ran out of memory" if isinstance(error, MemoryError | torch.OutOfMemoryError) else type(error).__name__
    return MachineError(
        f"{step.mechanism.purpose}: this machine cannot do it even with made-up windows ({what}). Nothing was "
        "opened or charged; its log has the details. Free memory or repair the installation, then try again"
    )
