"""Made-up subjects that are asked for: by covariates, and by where they lie in the distribution of a feature.

The noise of a subject says everything about it: its first number picks its stratum, others how it differs from its
label's mean (`FeatureDraw`). Asking bends these numbers, so that the same subject of a longer drawing stays what it
was, and everything that was not asked for is as the private sums left it.
"""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from fedsynth.anchors.anchor import FeatureDraw, picked
from fedsynth.modalities.registry import codec_of, scale_of
from fedsynth.modalities.shape import Shape
from fedsynth.rng import normal_of, uniform_of

_EDGE = 1e-4  # quantiles beyond it are drawn as this
_LEAST = 1e-6  # of what subjects differ by along a direction


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


def differing(draw: FeatureDraw, shape: Shape, *, label: int, names: Sequence[str]) -> Tensor:
    """Return along which direction of its noise a subject of a label moves in each feature, (feature, number).

    Of several components the largest counts. Rows are of length 1, or nothing where subjects do not differ.
    """
    directions = codec_of(shape).directions
    std = scale_of(shape).std.to(torch.float64)
    weights = std * torch.stack([directions[name] for name in names])
    component = int(draw.shares[label].argmax())
    rows = weights @ draw.get_buffer("between")[label, component].to(torch.float64)
    lengths = rows.norm(dim=1, keepdim=True)
    return torch.where(lengths > _LEAST, rows / lengths.clamp_min(_LEAST), torch.zeros_like(rows))


def moved(normal: Tensor, rows: Tensor, *, between: Sequence[tuple[float, float]]) -> Tensor:
    """Return numbers whose parts along directions lie between quantiles of the standard normal distribution.

    One that is at quantile u among all comes to low + u (high - low). Several directions that are not at right
    angles are met together, each exactly, as far as they do not contradict.

    Args:
        normal: standard normal, shape (subject, number).
        rows: directions of length 1, or zero, shape (feature, number).
        between: two quantiles of each feature.
    """
    precise = normal.to(torch.float64)
    along = precise @ rows.T
    low, high = torch.tensor(between, dtype=torch.float64).T
    wanted = normal_of((low + uniform_of(along) * (high - low)).clamp(_EDGE, 1 - _EDGE))
    wanted = torch.where(rows.norm(dim=1) > 0, wanted, torch.zeros_like(wanted))
    return (precise + (wanted - along) @ torch.linalg.pinv(rows).T).to(normal.dtype)
