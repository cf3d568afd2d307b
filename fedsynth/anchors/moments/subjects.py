"""What subjects differ by: how a second sum asks for it, and what is made of the answer.

Of n windows with mean m and mean square q, (n m^2 - q) / (n - 1) is the square of what all of them share: neither n
nor what one window differs by moves it in the mean (one-way analysis of variance). A single window tells nothing.
Everything is along the axes of the public frame.
"""

import math
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from fedsynth.anchors.coordinates import coordinates_of, means_by, within
from fedsynth.anchors.moments.covariances import between_of
from fedsynth.anchors.moments.log_variances import share_between, shares_of
from fedsynth.anchors.moments.products import matrices_of, n_products
from fedsynth.modalities.registry import codec_of
from fedsynth.modalities.shape import Shape
from fedsynth.rng import torch_generator

_ALONE = 0.6  # of a single window's square is taken to be the subject's own
_SQUARES_WEIGHT = 0.25  # of squares beside a centred mean
_RATIO_WEIGHT = 0.5  # of a ratio, which has a range of 1, beside a centred mean
_WINDOWS, _UNITS = 8, 4000  # of a made-up unit, and made-up units, that say what ratios stand for


@dataclass(frozen=True)
class Answer:
    """What came of a second sum.

    `rows` (label, size) are noisy means of contributions, with a standard deviation of `noise` (label,) on every
    number; `moves` (label, axis) of the centres that residuals were taken around; `covariances` (label, axis, axis)
    of windows; `bound` as of the contributions.
    """

    rows: Tensor
    moves: Tensor
    covariances: Tensor
    noise: Tensor
    shape: Shape
    bound: float


@dataclass(frozen=True)
class Squares:
    """For each axis the square of what a unit's windows share; where noise is low."""

    def size(self, shape: Shape) -> int:
        """Return how many numbers a row has."""
        return codec_of(shape).n_features

    def length(self, shape: Shape, bound: float) -> float:  # noqa: ARG002
        """Return 0: they are not counted, a thirtieth of the bound, which the private sum cuts off."""
        return 0.0

    def contribution(self, residual: Tensor, onehot: Tensor, shape: Shape, bound: float) -> Tensor:  # noqa: ARG002
        """Return by label the squares, weighted, of residuals (window, axis) cut to `bound`."""
        number, paired = _numbers(onehot)
        residual = within(residual, bound)
        mean, square = means_by(residual, onehot).square(), means_by(residual.square(), onehot)
        own = torch.where(paired, (number * mean - square) / (number - 1).clamp_min(1), _ALONE * mean)
        return own * (_SQUARES_WEIGHT / bound)

    def shares(self, answer: Answer) -> Tensor:
        """Return share matrices, shape (label, axis, axis)."""
        weight, covariances = _SQUARES_WEIGHT / answer.bound, answer.covariances
        variances = covariances.diagonal(dim1=1, dim2=2)
        found = between_of(answer.rows / weight - answer.moves.square(), variances, answer.noise / weight)
        return share_matrices(covariances, _scaled(covariances, found))


@dataclass(frozen=True)
class OwnProducts:
    """The products of what a unit's windows share, all of them; where there is no noise."""

    def size(self, shape: Shape) -> int:
        """Return how many numbers a row has."""
        return n_products(codec_of(shape).n_features, codec_of(shape).n_features)

    def length(self, shape: Shape, bound: float) -> float:  # noqa: ARG002
        """Return 0, as for squares."""
        return 0.0

    def contribution(self, residual: Tensor, onehot: Tensor, shape: Shape, bound: float) -> Tensor:  # noqa: ARG002
        """Return by label the upper triangle of the products, as of `Squares`."""
        number, paired = _numbers(onehot)
        residual = within(residual, bound)
        mean = means_by(residual, onehot)
        own = mean[:, :, None] * mean[:, None]
        weights = onehot / onehot.sum(dim=0).clamp_min(1)
        whole = torch.einsum("wl,wi,wj->lij", weights, residual, residual)
        several = (number[..., None] * own - whole) / (number[..., None] - 1).clamp_min(1)
        own = torch.where(paired[..., None], several, _ALONE * own)
        rows, columns = torch.triu_indices(own.shape[1], own.shape[1])
        scale = torch.where(rows == columns, 1.0, math.sqrt(2)).to(own)
        return own[:, rows, columns] * scale * (_SQUARES_WEIGHT / bound)

    def shares(self, answer: Answer) -> Tensor:
        """Return share matrices, shape (label, axis, axis)."""
        moves = answer.moves
        own = matrices_of(answer.rows * (answer.bound / _SQUARES_WEIGHT), moves.shape[1])
        return share_matrices(answer.covariances, own - moves[:, :, None] * moves[:, None])


@dataclass(frozen=True)
class Ratios:
    """Of each group of axes one bounded share; where noise is medium.

    Groups are the codec's parts; without any, the widest axis of the public prior (of EEG its loudness), and the
    others.
    """

    def size(self, shape: Shape) -> int:
        """Return how many numbers a row has."""
        return len(_groups(shape))

    def length(self, shape: Shape, bound: float) -> float:
        """Return how long a row is at most."""
        return 0.5 * _RATIO_WEIGHT * bound * math.sqrt(self.size(shape))

    def contribution(self, residual: Tensor, onehot: Tensor, shape: Shape, bound: float) -> Tensor:
        """Return by label a share of each group less a half, weighted; of residuals of any length."""
        shares = [share_between(residual[:, group], onehot) for group in _groups(shape)]
        return torch.stack(shares, dim=1) * (_RATIO_WEIGHT * bound)

    def shares(self, answer: Answer) -> Tensor:
        """Return share matrices, shape (label, axis, axis)."""
        weight = _RATIO_WEIGHT * answer.bound
        found = torch.zeros_like(answer.moves)
        for number, group in enumerate(_groups(answer.shape)):
            ratios = shares_of(answer.rows[:, number] / weight, answer.noise / weight)
            found[:, group] = _stands_for(ratios, answer.shape, number)[:, None]
        return share_matrices(answer.covariances, _scaled(answer.covariances, found))


def share_matrices(covariances: Tensor, own: Tensor) -> Tensor:
    """Return S with R S R = own, R the root of the covariance, nearest with eigenvalues from 0 to 1.

    Args:
        covariances: of windows, shape (label, axis, axis).
        own: what subjects differ by, of the same shape.
    """
    values, vectors = torch.linalg.eigh(covariances)
    inverse = vectors @ torch.diag_embed(values.clamp_min(1e-6).rsqrt()) @ vectors.mT
    values, vectors = torch.linalg.eigh(inverse @ ((own + own.mT) / 2) @ inverse)
    return vectors @ torch.diag_embed(values.clamp(0, 1)) @ vectors.mT


def _scaled(covariances: Tensor, shares: Tensor) -> Tensor:
    """Return covariances of which each axis has its share; positive by Schur's product theorem."""
    root = shares.clamp(0, 1).sqrt()
    return covariances * root[:, :, None] * root[:, None]


def _numbers(onehot: Tensor) -> tuple[Tensor, Tensor]:
    number = onehot.sum(dim=0)[:, None]
    return number, number > 1


@lru_cache(maxsize=8)
def _groups(shape: Shape) -> tuple[Tensor, ...]:
    """Return the axes of each group."""
    codec, frame = codec_of(shape), coordinates_of(shape)
    number = torch.arange(codec.n_features)
    if codec.parts:
        # Axes are turned within the block alone, so a part's are those that load on it.
        loads = torch.stack([part.square().sum(dim=0) for part in frame.axes.split(list(codec.parts))])
        return tuple(number[loads.argmax(dim=0) == part] for part in range(len(codec.parts)))
    variances = (frame.axes.T @ frame.covariance @ frame.axes).diagonal()
    widest = int(variances[: codec.block].argmax())
    return number[widest : widest + 1], number[number != widest]


@lru_cache(maxsize=8)
def _table(shape: Shape, group: int) -> tuple[Tensor, Tensor]:
    """Return shares and the mean ratios that normal units with them show, both rising."""
    frame, axes = coordinates_of(shape), _groups(shape)[group]
    spread = (frame.axes.T @ frame.covariance @ frame.axes).diagonal()[axes].clamp_min(1e-4).sqrt()
    generator = torch_generator("ratios of subjects", len(axes))
    normal = torch.randn(_UNITS, 1 + _WINDOWS, len(axes), generator=generator, dtype=torch.float64) * spread
    shares, ratios = torch.linspace(0, 1, 21, dtype=torch.float64), []
    for share in shares:
        windows = share.sqrt() * normal[:, :1] + (1 - share).sqrt() * normal[:, 1:]
        ratio = windows.mean(dim=1).square().sum(dim=1) / windows.square().sum(dim=2).mean(dim=1)
        ratios.append(((ratio * _WINDOWS - 1) / (_WINDOWS - 1)).clamp(0, 1).mean())
    return shares, torch.stack(ratios).cummax(dim=0).values


def _stands_for(ratios: Tensor, shape: Shape, group: int) -> Tensor:
    """Return the shares that mean ratios stand for."""
    shares, known = _table(shape, group)
    right = torch.searchsorted(known, ratios.contiguous()).clamp(1, len(known) - 1)
    low, high = known[right - 1], known[right]
    part = ((ratios - low) / (high - low).clamp_min(1e-9)).clamp(0, 1)
    return shares[right - 1] + part * (shares[right] - shares[right - 1])
