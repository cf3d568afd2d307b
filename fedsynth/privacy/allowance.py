"""An allowance: what one charge in the ledger allows, as the only way to make private sums at a site.

A charge is for `steps` private sums at one noise, one bound and one sampling. An allowance hands out that many
and no more, each with its own Poisson draw, so that a second pass over the data, a louder bound or a step that
nobody charged has nowhere to come from.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fedsynth.errors import PrivacyError
from fedsynth.privacy.mechanism import Mechanism
from fedsynth.privacy.noise import NoiseSource, poisson_draw, system_noise
from fedsynth.privacy.private_sum import PrivateSum


@dataclass(frozen=True)
class PrivateStep:
    """One step of an allowance: the units drawn, and the sum that may be asked of them."""

    units: NDArray[np.int64]
    sum: PrivateSum


class Allowance:
    """The private sums that one mechanism pays for."""

    def __init__(
        self,
        mechanism: Mechanism,
        *,
        noise: NoiseSource = system_noise,
        observe: Callable[[Tensor], None] | None = None,
    ) -> None:
        """Begin with all of `mechanism.steps` left.

        Args:
            mechanism: as charged.
            noise: tests only pass something else.
            observe: shown every noisy sum; tests only.
        """
        self.mechanism = mechanism
        self.left = mechanism.steps
        self._noise, self._observe = noise, observe

    def step(self, *, n_units: int, size: int, device: torch.device | str = "cpu") -> PrivateStep:
        """Draw among `n_units` units and open a sum of `size` coordinates for those drawn.

        Raises:
            PrivacyError: every step that was charged has been taken.
        """
        mechanism = self.mechanism
        if self.left < 1:
            raise PrivacyError(
                f"{mechanism.steps} private sums were charged for {mechanism.purpose!r} and all were taken; "
                "another one needs another charge"
            )
        self.left -= 1
        return PrivateStep(
            units=poisson_draw(n_units, probability=mechanism.sampling_probability),
            sum=PrivateSum(
                size,
                clipping_norm=mechanism.clipping_norm,
                noise_multiplier=mechanism.noise_multiplier,
                noise_shares=mechanism.noise_shares,
                noise=self._noise,
                observe=self._observe,
                device=device,
            ),
        )
