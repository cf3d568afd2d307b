"""The private sum: from one bounded contribution per unit to the only thing a site ever says.

    sum over the units drawn  clip( contribution(unit), C )  +  N(0, (sigma C)^2 I)

Label counts, feature moments, gradients and evaluation counts all pass through here, so there is one thing to
prove and one thing to break. Clipping, summing and the moment at which noise is added are Opacus'
(`opacus.optimizers.DPOptimizer`). What is ours: contributions are rounded to a public lattice and the noise is a
discrete Gaussian on the same lattice, so that the sum is exact, its sensitivity is a theorem about integers, and
sums of several sites can be added modulo 2^64 (docs/privacy.md has the proof).
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fedsynth.errors import PrivacyError
from fedsynth.privacy.noise import LATTICE_STD, NoiseSource, system_noise

_SLACK = 1e-8  # a row's norm in float64 is right to 1e-12, and Opacus 1.6.0 divides by norm + 1e-6 steps


class UnwrittenRows(Protocol):
    """One row for each unit, not written out: `fedsynth.training.book_keeping.gradients` has gradients in this
    form."""

    def norms(self) -> Tensor:
        """Return every row's L2 norm, shape (unit,)."""
        ...

    def weighted_sum(self, factors: Tensor) -> Tensor:
        """Return the rows' sum with `factors` (unit,), shape (size,); a factor of 0 silences any row."""
        ...


@dataclass(frozen=True)
class LatticeSum:
    """A noisy sum in steps of the lattice: `values` (size,) int64, each worth `step`."""

    values: NDArray[np.int64]
    step: float

    def natural(self) -> Tensor:
        """Return the sum in the contributions' own unit, shape (size,), float64."""
        return torch.from_numpy(self.values.astype(np.float64) * self.step)


class PrivateSum:
    """A sum over units that is read once, with noise.

    Sensitivity: adding or removing one unit moves the sum by at most `clipping_norm` in L2, whatever its
    contribution holds. A contribution with a value that is not finite counts as zero. No unit at all is a
    valid draw and yields pure noise. Adding in several pieces gives the same sum as adding at once.

    With `noise_multiplier = 0` the sum promises nothing; rehearsals at epsilon = infinity use it.
    """

    def __init__(
        self,
        size: int,
        *,
        clipping_norm: float,
        noise_multiplier: float,
        noise_shares: int = 1,
        noise: NoiseSource = system_noise,
        observe: Callable[[Tensor], None] | None = None,
        device: torch.device | str = "cpu",
    ) -> None:
        """Prepare a sum of `size` coordinates.

        Args:
            size: coordinates of one contribution, all parts together.
            clipping_norm: C, the L2 bound on one unit's contribution; infinity only without noise.
            noise_multiplier: sigma, the noise's standard deviation in units of C.
            noise_shares: draw one of this many equal shares of the noise; the others are drawn at other sites
                and only the total, from secure aggregation, carries all of it.
            noise: where the noise comes from; tests only pass something else.
            observe: shown the noisy sum when it is read; tests only.
            device: where contributions live.

        Raises:
            PrivacyError: a bound or a noise that cannot be met.
        """
        if not clipping_norm > 0 or noise_multiplier < 0 or not math.isfinite(noise_multiplier) or noise_shares < 1:
            raise PrivacyError(f"no private sum has C = {clipping_norm} and sigma = {noise_multiplier}")
        if noise_multiplier > 0 and not math.isfinite(clipping_norm):
            raise PrivacyError("noise cannot be scaled to an unbounded contribution; state a clipping norm")
        self._size = size
        self._step = lattice_step(clipping_norm, noise_multiplier, noise_shares=noise_shares)
        self._unit = self._step or 1.0
        # Rounding lengthens a row by at most half a step in every coordinate, and the sum of `add_rows` in both
        # of two neighbouring data sets.
        rounding = self._step * math.sqrt(size)
        self._bound = (clipping_norm - rounding) * (1 - _SLACK) / self._unit
        if not self._bound > 0:
            raise PrivacyError(
                f"C = {clipping_norm} leaves nothing once {size} coordinates are rounded to steps of {self._step}"
            )
        # Everything inside counts in steps: whole numbers below 2^53 add up without rounding.
        self._parameter: Any = torch.nn.Parameter(torch.zeros(size, dtype=torch.float64, device=device))
        from fedsynth.privacy.lattice_optimizer import LatticeOptimizer  # it loads Opacus

        self._optimizer = LatticeOptimizer(
            torch.optim.SGD([self._parameter], lr=1.0),
            noise_multiplier=noise_multiplier,
            max_grad_norm=clipping_norm / self._unit,
            expected_batch_size=None,
            loss_reduction="sum",
        )
        self._optimizer.noise_source = noise
        self._observe = observe
        self._unrounded = torch.zeros(size, dtype=torch.float64, device=device)
        self._read = False
        self.add(torch.zeros(0, size, device=device))

    def add(self, contributions: Tensor) -> None:
        """Clip, round and add contributions, shape (unit, size): one row for everything a unit says.

        Raises:
            PrivacyError: rows of another size, or a sum that was already read.
        """
        self._still_open()
        if contributions.ndim != 2 or contributions.shape[1] != self._size:
            raise PrivacyError(f"contributions have shape {tuple(contributions.shape)}, not (unit, {self._size})")
        rows = contributions.detach().to(torch.float64) / self._unit
        # Clipping cannot bound inf or nan: one overflowing unit would turn the whole sum into nan.
        finite = torch.isfinite(rows).all(dim=1, keepdim=True)
        rows = torch.where(finite, rows, torch.zeros_like(rows))
        norms = torch.linalg.vector_norm(rows, dim=1)
        self._parameter.grad_sample = self._whole(rows * self._factors(norms)[:, None])
        self._optimizer.clip_and_accumulate()

    def add_rows(self, rows: UnwrittenRows) -> None:
        """Clip and add one contribution per unit that nobody writes out; rounded once, when the sum is read.

        The bound rests on `rows.norms()` being exact, which tests hold against autograd for every layer.

        Raises:
            PrivacyError: a sum that was already read.
        """
        self._still_open()
        norms = rows.norms().to(torch.float64) / self._unit
        factors = torch.where(torch.isfinite(norms), self._factors(norms), torch.zeros_like(norms))
        part = rows.weighted_sum(factors).detach().to(torch.float64) / self._unit
        if part.shape != (self._size,) or not bool(torch.isfinite(part).all()):
            raise PrivacyError("a sum of bounded rows is not finite or of another size; nothing was said")
        self._unrounded += part

    def read(self) -> Tensor:
        """Return the noisy sum, shape (size,), float64, once.

        Raises:
            PrivacyError: it was already read.
        """
        return self._close() * self._unit

    def read_lattice(self) -> LatticeSum:
        """Return the noisy sum in steps of its lattice, once: what secure aggregation adds up.

        Raises:
            PrivacyError: it was already read, or has neither noise nor lattice.
        """
        if not self._step:
            raise PrivacyError("a sum without noise has no lattice and cannot be added securely")
        return LatticeSum(self._close().cpu().numpy().astype(np.int64), self._step)

    def _close(self) -> Tensor:
        self._still_open()
        self._read = True
        self._parameter.summed_grad += self._whole(self._unrounded)
        self._optimizer.add_noise()
        noisy: Tensor = self._parameter.grad.detach()
        if self._observe:
            self._observe(noisy * self._unit)
        return noisy

    def _whole(self, steps: Tensor) -> Tensor:
        return torch.round(steps) if self._step else steps

    def _factors(self, norms: Tensor) -> Tensor:
        return (self._bound / norms.clamp_min(1e-300)).clamp(max=1.0)

    def _still_open(self) -> None:
        if self._read:
            raise PrivacyError("this private sum was already read; a second reading needs a second charge")


def lattice_step(clipping_norm: float, noise_multiplier: float, *, noise_shares: int = 1) -> float:
    """Return the lattice's step: one share of the noise is `LATTICE_STD` steps wide. Zero without noise."""
    if noise_multiplier == 0:
        return 0.0
    return noise_multiplier * clipping_norm / (math.sqrt(noise_shares) * LATTICE_STD)
