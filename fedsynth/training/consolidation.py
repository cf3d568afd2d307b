"""Elastic weight consolidation: what the losses of earlier hospitals say of each weight, and what holds it there.

Kirkpatrick et al. 2017 (arXiv:1612.00796, equation 3), in the online form of Schwarz et al. 2018 (arXiv:1805.06370,
section 4): one penalty around what the last hospital left, with the Fisher information of all hospitals before.
All of this is public: the Fisher information is an earlier private sum (`fedsynth.training.fisher`).
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

_FISHER, _CENTRE = "consolidation.fisher", "consolidation.centre"
NAMES = (_FISHER, _CENTRE)
"""Of the tensors that come with an order."""


@dataclass(frozen=True)
class Consolidation:
    """The penalty strength / 2 * sum(fisher * (weight - centre)^2).

    `fisher` is not negative; both it and `centre` have shape (parameter,), in the order in which a sum flattens
    the private part's parameters.
    """

    fisher: Tensor
    centre: Tensor
    strength: float

    @classmethod
    def none_yet(cls, parameters: Sequence[Tensor], *, strength: float) -> "Consolidation":
        """Return the penalty of the first hospital, which is zero everywhere."""
        centre = _flat(parameters)
        return cls(torch.zeros_like(centre), centre, strength)

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, Tensor], *, strength: float) -> "Consolidation":
        """Read what `tensors` wrote."""
        return cls(tensors[_FISHER], tensors[_CENTRE], strength)

    def tensors(self) -> dict[str, Tensor]:
        """Return what goes with an order, by name."""
        return {_FISHER: self.fisher, _CENTRE: self.centre}

    def penalty(self, parameters: Sequence[Tensor]) -> Tensor:
        """Return the penalty, a scalar that autograd follows to the parameters."""
        total, start = self.fisher.new_zeros(()), 0
        for parameter in parameters:
            part = slice(start, start + parameter.numel())
            away = parameter.flatten() - self.centre[part].to(parameter)
            total = total + (self.fisher[part].to(parameter) * away.square()).sum()
            start += parameter.numel()
        return 0.5 * self.strength * total

    def slope(self, parameters: Sequence[Tensor]) -> Tensor:
        """Return the penalty's gradient, shape (parameter,)."""
        here = _flat(parameters)
        return self.strength * self.fisher.to(here) * (here - self.centre.to(here))

    def after(self, parameters: Sequence[Tensor], *, fisher: Tensor) -> "Consolidation":
        """Return the penalty for the next hospital: around these parameters, with one hospital's Fisher more."""
        return Consolidation(self.fisher + fisher.to(self.fisher), _flat(parameters), self.strength)


def fisher_estimate(total: Tensor, *, noise_std: float, units: float) -> Tensor:
    """Return a hospital's diagonal Fisher information, shape (parameter,): post-processing of its private sum.

    A coordinate that noise alone can reach says nothing and becomes zero: the sum is shrunk towards zero by the
    universal threshold noise_std * sqrt(2 log size) (Donoho and Johnstone 1994, doi:10.1093/biomet/81.3.425).
    Where noise is louder than every weight, nothing is consolidated.

    Args:
        total: the private sum of squared gradients.
        noise_std: of the noise in each coordinate; 0 without privacy.
        units: public number of units behind it, at least 1.
    """
    threshold = noise_std * math.sqrt(2 * math.log(max(2, len(total))))
    return ((total - threshold).clamp_min(0.0) / max(1.0, units)).to(torch.float32)


def _flat(parameters: Sequence[Tensor]) -> Tensor:
    return torch.cat([parameter.detach().flatten() for parameter in parameters])
