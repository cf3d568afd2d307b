"""Aggregation: from the checked answers of a round to one result."""

from collections.abc import Mapping

import torch
from torch import Tensor


def add_sums(answers: Mapping[str, Mapping[str, Tensor]]) -> Tensor:
    """Add the sites' private sums, shape (size,); answers were checked for shape and finiteness."""
    return torch.stack([tensors["sum"] for tensors in answers.values()]).sum(dim=0)


def mean_state(answers: Mapping[str, Mapping[str, Tensor]], *, weights: Mapping[str, float]) -> dict[str, Tensor]:
    """Return the weighted mean of the sites' trained parts (McMahan et al. 2017, FedAvg).

    Args:
        answers: by site, all of the same names and shapes.
        weights: public weights by site: an earlier private sum or equal ones, never a count.
    """
    total = sum(weights[site] for site in answers)
    mean: dict[str, Tensor] = {}
    for site, tensors in answers.items():
        for name, tensor in tensors.items():
            share = tensor * (weights[site] / total)
            mean[name] = mean[name] + share if name in mean else share
    return mean
