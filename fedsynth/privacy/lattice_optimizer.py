"""Opacus' optimizer, counting in whole steps of a lattice; the only door to `opacus.optimizers`.

Apart from the private sum, because Opacus takes seconds to load and a refused order never sums.
"""

from typing import Any

import numpy as np
import torch
from opacus.optimizers import DPOptimizer

from fedsynth.privacy.noise import NoiseSource


class LatticeOptimizer(DPOptimizer):  # type: ignore[misc]  # Opacus is untyped
    """A DPOptimizer whose noise is whole, from `noise_source`: the operating system's entropy."""

    noise_source: NoiseSource

    def add_noise(self) -> None:
        for p in self.params:
            p.grad = p.summed_grad.view_as(p)
            if self.noise_multiplier > 0:
                noise: Any = torch.from_numpy(np.asarray(self.noise_source(p.grad.numel()), dtype=np.float64))
                p.grad = p.grad + noise.to(p.grad.device).view_as(p)
