"""The public frame: coordinates of feature vectors in which private sums are taken."""

import math
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from fedsynth.modalities.registry import codec_of, scale_of
from fedsynth.modalities.shape import Shape

_POWER = 0.25
_FLOOR = 0.02  # of the eigenvalues that are whitened


@dataclass(frozen=True)
class Coordinates:
    """Coordinates in which sums are taken: `there` (feature, feature) leads to them, `back` from them.

    `covariance` is the public prior's in them, and `axes` (feature, axis) its principal axes, along which it is
    measured what subjects differ by.

    Halfway to white: the fourth root of the public prior's covariance is divided out, so that directions in which
    windows differ little are not drowned by those in which they differ much, and the noise is the same in all.
    Before that, features are scaled by the codec's weights. The codec's core keeps coordinates of its own, which
    come first.
    """

    there: Tensor
    back: Tensor
    covariance: Tensor
    axes: Tensor


@lru_cache(maxsize=8)
def coordinates_of(shape: Shape) -> Coordinates:
    """Return the public frame of a shape."""
    covariance, block, core = scale_of(shape).covariance, codec_of(shape).block, codec_of(shape).core
    there = torch.diag(covariance.diagonal().clamp_min(_FLOOR) ** -_POWER)
    for part in (slice(0, core), slice(core, block)):
        values, vectors = torch.linalg.eigh(covariance[part, part])
        there[part, part] = vectors @ torch.diag(values.clamp_min(_FLOOR) ** -_POWER) @ vectors.T
    there = torch.diag(codec_of(shape).weights) @ there
    turned = there.T @ covariance @ there
    size = len(covariance) / float(turned.trace())
    there, turned = there * math.sqrt(size), turned * size
    axes = torch.eye(len(covariance), dtype=torch.float64)
    axes[:block, :block] = torch.linalg.eigh(turned[:block, :block]).eigenvectors
    return Coordinates(there, torch.linalg.inv(there), turned, axes)


def within(vector: Tensor, radius: float) -> Tensor:
    """Scale vectors, shape (window, feature), to norm at most `radius`."""
    return vector * (radius / vector.norm(dim=1, keepdim=True).clamp_min(1e-12)).clamp(max=1.0)


def means_by(rows: Tensor, onehot: Tensor) -> Tensor:
    """Return means of rows (window, number) by what `onehot` (window, kind) says; zero where there is none."""
    return onehot.T @ rows / onehot.sum(dim=0).clamp_min(1)[:, None]
