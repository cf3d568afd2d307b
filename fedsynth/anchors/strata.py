"""Strata of made-up subjects: from the shares that were counted, and those that are asked for, to who is of which.

The first number of a subject's noise picks its stratum (`FeatureDraw`). Asking for other shares bends that number,
so that the same subject of a longer drawing stays what it was.
"""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from fedsynth.anchors.anchor import picked
from fedsynth.rng import normal_of


def asked_shares(
    counted: Tensor, values: Mapping[str, Sequence[str]], weights: Mapping[str, Mapping[str, float]]
) -> Tensor:
    """Return the share of each stratum in a drawing, shape (label, stratum).

    Values of the conditions that are named are drawn by their weights, each by itself; the others as they were
    counted among those who have these values.

    Args:
        counted: the shares in every label, all above zero, shape (label, stratum).
        values: of every condition.
        weights: by condition and value; values that are not named have the weight 0.
    """
    sizes = [len(names) for names in values.values()]
    table = counted.unflatten(1, sizes)
    free = [1 + place for place, name in enumerate(values) if name not in weights]
    given = table.sum(dim=free, keepdim=True) if free else table
    asked = table / given
    for place, (name, names) in enumerate(values.items()):
        if name in weights:
            some = torch.tensor([weights[name].get(value, 0.0) for value in names], dtype=counted.dtype)
            form = [1] * (1 + len(sizes))
            form[1 + place] = len(names)
            asked = asked * (some / some.sum()).view(form)
    return asked.flatten(1)


def bent(normal: Tensor, *, counted: Tensor, asked: Tensor) -> Tensor:
    """Return numbers that pick among shares as counted what these would pick among those asked for.

    Args:
        normal: standard normal, shape (subject,).
        counted: shares of strata in the subjects' label, shape (stratum,).
        asked: likewise.
    """
    cumulative = asked.cumsum(dim=0).to(torch.float64)
    stratum = picked(cumulative.expand(len(normal), -1), normal[:, None].to(torch.float64))
    ends = counted.to(torch.float64).cumsum(dim=0)
    middles = (ends - counted.to(torch.float64) / 2) / ends[-1]
    return normal_of(middles)[stratum].to(normal.dtype)


def strata_picked(normal: Tensor, shares: Tensor) -> Tensor:
    """Return the strata that numbers pick, shape (subject,), among shares of strata, shape (stratum,)."""
    # As `FeatureDraw` does it, in its precision.
    return picked(shares.cumsum(dim=0).to(torch.float32).expand(len(normal), -1), normal[:, None])
