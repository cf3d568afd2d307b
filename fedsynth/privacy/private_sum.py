"""The private sum: from one bounded contribution per unit to the only thing a site ever says.

    sum over the units drawn  clip( contribution(unit), C )  +  N(0, (sigma C)^2 I)

Clipping, summing and the place where noise is added are Opacus' (`opacus.optimizers.DPOptimizer`); only the
source of its noise is replaced (`fedsynth.privacy.noise`). Label counts, feature moments, gradients and
evaluation counts all pass through here, so there is one thing to prove and one thing to break.
"""

import math
from typing import Any

import torch
from opacus.optimizers import DPOptimizer
from torch import Tensor

from fedsynth.errors import PrivacyError
from fedsynth.privacy.noise import NoiseSource, system_normal


class PrivateSum:
    """A sum over units that is read once, with noise.

    Sensitivity: adding or removing one unit moves the sum by at most `clipping_norm` in L2, whatever its
    contribution holds. A contribution with a value that is not finite counts as zero. No unit at all is a
    valid draw and yields pure noise. Adding in several pieces gives the same sum as adding at once.

    With `noise_multiplier = 0` the sum is exact and promises nothing; rehearsals at epsilon = infinity use it.
    """

    def __init__(
        self,
        size: int,
        *,
        clipping_norm: float,
        noise_multiplier: float,
        noise: NoiseSource = system_normal,
        dtype: torch.dtype = torch.float64,
        device: torch.device | str = "cpu",
    ) -> None:
        """Prepare a sum of `size` coordinates.

        Args:
            size: coordinates of one contribution, all parts together.
            clipping_norm: C, the L2 bound on one unit's contribution; infinity only without noise.
            noise_multiplier: sigma, the noise's standard deviation in units of C.
            noise: where standard normal numbers come from; tests only pass something else.
            dtype: of the contributions and the sum.
            device: where contributions live.

        Raises:
            PrivacyError: a bound or a noise that cannot be met.
        """
        if not clipping_norm > 0 or noise_multiplier < 0 or not math.isfinite(noise_multiplier):
            raise PrivacyError(f"no private sum has C = {clipping_norm} and sigma = {noise_multiplier}")
        if noise_multiplier > 0 and not math.isfinite(clipping_norm):
            raise PrivacyError("noise cannot be scaled to an unbounded contribution; state a clipping norm")
        self._size = size
        self._dtype = dtype
        self._parameter: Any = torch.nn.Parameter(torch.zeros(size, dtype=dtype, device=device))
        self._optimizer = _SystemNoiseOptimizer(
            torch.optim.SGD([self._parameter], lr=1.0),
            noise_multiplier=noise_multiplier,
            max_grad_norm=clipping_norm,
            expected_batch_size=None,
            loss_reduction="sum",
        )
        self._optimizer.noise_source = noise
        self._read = False
        self.add(torch.zeros(0, size, dtype=dtype, device=device))

    def add(self, contributions: Tensor) -> None:
        """Clip and add contributions, shape (unit, size): one row for everything a unit says.

        Raises:
            PrivacyError: rows of another size, or a sum that was already read.
        """
        if self._read:
            raise PrivacyError("this private sum was already read; a second reading needs a second charge")
        if contributions.ndim != 2 or contributions.shape[1] != self._size:
            raise PrivacyError(f"contributions have shape {tuple(contributions.shape)}, not (unit, {self._size})")
        rows = contributions.detach().to(self._dtype)
        # Clipping cannot bound inf or nan: one overflowing unit would turn the whole sum into nan.
        finite = torch.isfinite(rows).all(dim=1, keepdim=True)
        rows = torch.where(finite, rows, torch.zeros_like(rows))
        # In float32 a long row's norm errs by 1e-4 and more; a first clip in float64 keeps the bound itself.
        norms = torch.linalg.vector_norm(rows, dim=1, keepdim=True, dtype=torch.float64)
        factors = ((1 - 1e-6) * self._optimizer.max_grad_norm / norms.clamp_min(1e-300)).clamp(max=1.0)
        self._parameter.grad_sample = rows * factors.to(self._dtype)
        self._optimizer.clip_and_accumulate()

    def read(self) -> Tensor:
        """Return the noisy sum, shape (size,), once.

        Raises:
            PrivacyError: it was already read.
        """
        if self._read:
            raise PrivacyError("this private sum was already read; a second reading needs a second charge")
        self._read = True
        self._optimizer.add_noise()
        noisy: Tensor = self._parameter.grad.detach()
        return noisy


class _SystemNoiseOptimizer(DPOptimizer):  # type: ignore[misc]  # Opacus is untyped
    """Opacus' optimizer with noise from the operating system instead of a torch generator."""

    noise_source: NoiseSource

    def add_noise(self) -> None:
        for p in self.params:
            scale = self.noise_multiplier * self.max_grad_norm if self.noise_multiplier > 0 else 0.0
            if scale == 0.0:
                p.grad = p.summed_grad.view_as(p)
                continue
            noise: Any = torch.from_numpy(self.noise_source(p.summed_grad.numel())).to(p.summed_grad.device)
            noisy = p.summed_grad.to(torch.float64) + scale * noise
            # The low bits of sum plus noise betray which sums were possible (Mironov 2012); a public grid, a
            # 65 536th of the noise wide, takes them away.
            grid = 2.0 ** (math.floor(math.log2(scale)) - 16)
            p.grad = (torch.round(noisy / grid) * grid).to(p.summed_grad.dtype).view_as(p)
