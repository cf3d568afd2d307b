"""Covariances of labels that are expected given noisy second moments, by Hamiltonian Monte Carlo.

Noise on a matrix drives its eigenvalues apart, so a covariance that keeps to the noisy entries is too narrow along
some axes and too wide along others, however each entry is shrunk. Here the logarithms of the labels' covariances
are normal around a common one, which is normal around the public prior's (Leonard and Hsu 1992), and noise of a
known size is on the second moments. The mean over that posterior is taken by Hamiltonian Monte Carlo (Neal 2011)
from a fixed seed. Post-processing of private sums; it sees nothing else.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

_COMMON_STD, _OWN_STD = 0.8, 0.3  # of the common logarithm around the prior's, of a label's around the common one
_LOG_STD = 0.5  # of the logarithm of either of these two, and of a label's size
_SIZE_STD = 1.0  # of the logarithm of the common size
_STEPS_OF_SIZES = (0.15, 0.15, 0.1, 0.1)  # of the two standard deviations, of the common size and of a label's
_BURN, _DRAWS, _LEAPS = 100, 150, 8
_ACCEPTED, _ADAPTATION = 0.8, 0.2  # share of proposals wanted, and how fast the logarithm of the step follows
_FIRST_STEP = 0.1
_PACES = 0.8, 0.4  # of a step: the least, and how much may be added, so that no orbit closes (Neal 2011)
_LEAST = 0.02  # eigenvalue of the start
_QUIETEST = 1e-4  # noise, beside the mean of the start's diagonals


def covariances_given(observed: Tensor, *, noise: Tensor, prior: Tensor, start: Tensor, seed: int = 0) -> Tensor:
    """Return the posterior mean of covariances, shape (label, feature, feature), float64, positive definite.

    Args:
        observed: noisy second moments, symmetric, shape (label, feature, feature).
        noise: standard deviation of their diagonals, and of off-diagonal entries times the square root of two;
            shape (label,).
        prior: the public covariance, shape (feature, feature).
        start: a first answer, the shape of `observed`; where the chain begins and what it measures its steps by.
        seed: of the chain, public.
    """
    chain = _Chain(_Posterior.around(observed, noise=noise, prior=prior, start=start), seed=seed)
    total = torch.zeros_like(observed)
    for turn in range(_BURN + _DRAWS):
        chain.move(adapt=turn < _BURN)
        if turn >= _BURN:
            total += chain.covariances
    return total / _DRAWS


@dataclass(frozen=True)
class _Posterior:
    """The posterior's density over coordinates: steps of logarithms from `centre`, in units of `scale`, and sizes.

    `centre` are the logarithms of the start, `vectors` its eigenvectors, by which steps are turned, and `scale` how
    far an entry may go (label, feature, feature). `base` is the prior's logarithm and `size` the start's beside it.
    """

    observed: Tensor
    noise: Tensor
    base: Tensor
    centre: Tensor
    vectors: Tensor
    scale: Tensor
    size: float

    @classmethod
    def around(cls, observed: Tensor, *, noise: Tensor, prior: Tensor, start: Tensor) -> "_Posterior":
        """Measure steps by what the noise leaves open around the start."""
        values, vectors = torch.linalg.eigh(start)
        values = values.clamp_min(_LEAST)
        logs = values.log()
        noise = noise.clamp_min(_QUIETEST * float(values.mean()))
        # How much an entry of the covariance moves with one of its logarithm, along its own axes: the divided
        # difference of the exponential (Daleckii and Krein's formula).
        rise, run = values[:, :, None] - values[:, None, :], logs[:, :, None] - logs[:, None, :]
        near = (values[:, :, None] * values[:, None, :]).sqrt()
        moves = torch.where(run.abs() > 1e-6, rise / run, near)
        scale = ((moves / noise[:, None, None]).square() + _OWN_STD**-2).rsqrt()
        centre = _turned(torch.diag_embed(logs), vectors)
        base_values, base_vectors = torch.linalg.eigh(prior)
        base = _turned(torch.diag_embed(base_values.clamp_min(_LEAST).log()), base_vectors)
        size = float((centre - base).diagonal(dim1=1, dim2=2).mean())
        return cls(observed, noise, base, centre, vectors, scale, size)

    @property
    def width(self) -> int:
        """Return the number of coordinates."""
        labels, size, _ = self.observed.shape
        return labels * size * (size + 1) // 2 + 3 + labels

    def gradient(self, point: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return the log density, its gradient and the covariances at a point."""
        point = point.detach().requires_grad_(True)
        with torch.enable_grad():
            density, covariances = self._density(point)
            (slope,) = torch.autograd.grad(density, point)
        return density.detach(), slope, covariances.detach()

    def _density(self, point: Tensor) -> tuple[Tensor, Tensor]:
        labels, size, _ = self.observed.shape
        number = size * (size + 1) // 2
        steps = _symmetric(point[: labels * number].view(labels, number), size) * self.scale
        logs = self.centre + _turned(steps, self.vectors)
        first, second, third, fourth = _STEPS_OF_SIZES
        common, own, whole, sizes = point[labels * number :].split([1, 1, 1, labels])
        common, own, whole, sizes = first * common, second * own, third * whole, fourth * sizes
        covariances = torch.matrix_exp(logs)
        misfit = ((self.observed - covariances) / self.noise[:, None, None]).square().sum()
        # Logarithms less their size are normal: around what labels share by `_OWN_STD`, and that by `_COMMON_STD`.
        shift = (self.size + whole + sizes)[:, None, None] * torch.eye(size, dtype=logs.dtype)
        rest = logs - self.base - shift
        mean = rest.mean(dim=0)
        narrow = (_OWN_STD * own.exp()).square()
        wide = narrow + labels * (_COMMON_STD * common.exp()).square()
        density = -0.5 * misfit - 0.5 * (rest - mean).square().sum() / narrow
        density = density - 0.5 * labels * mean.square().sum() / wide
        density = density - 0.5 * number * ((labels - 1) * narrow.log() + wide.log())
        far = torch.cat([common, own, sizes]).square().sum() / _LOG_STD**2 + (whole / _SIZE_STD).square().sum()
        return (density - 0.5 * far).squeeze(), covariances


class _Chain:
    """Hamiltonian Monte Carlo with a step that adapts while asked to; refuses what is not finite."""

    def __init__(self, posterior: _Posterior, *, seed: int) -> None:
        self._posterior, self._step = posterior, _FIRST_STEP
        self._generator = torch.Generator().manual_seed(seed)
        self._at = torch.zeros(posterior.width, dtype=torch.float64)
        self._density, self._slope, self.covariances = posterior.gradient(self._at)

    def move(self, *, adapt: bool) -> None:
        """Make one proposal of several leaps and take it, or stay."""
        speed = torch.randn(len(self._at), generator=self._generator, dtype=torch.float64)
        uniform, pace = torch.rand(2, generator=self._generator, dtype=torch.float64).tolist()
        step = self._step * (_PACES[0] + _PACES[1] * pace)
        before = self._density - 0.5 * speed.square().sum()
        at, slope = self._at, self._slope
        for _ in range(_LEAPS):
            speed = speed + 0.5 * step * slope
            at = at + step * speed
            density, slope, covariances = self._posterior.gradient(at)
            speed = speed + 0.5 * step * slope
        gain = float(density - 0.5 * speed.square().sum() - before)
        chance = math.exp(min(gain, 0.0)) if math.isfinite(gain) else 0.0
        if uniform < chance:
            self._at, self._density, self._slope, self.covariances = at, density, slope, covariances
        if adapt:
            self._step *= math.exp(_ADAPTATION * (chance - _ACCEPTED))


def _turned(matrices: Tensor, vectors: Tensor) -> Tensor:
    return vectors @ matrices @ vectors.mT


def _symmetric(triangle: Tensor, size: int) -> Tensor:
    """Return symmetric matrices whose Frobenius norms are the lengths of the rows."""
    rows, columns = torch.triu_indices(size, size)
    half = torch.zeros(len(triangle), size, size, dtype=triangle.dtype)
    half[:, rows, columns] = triangle * torch.where(rows == columns, 0.5, math.sqrt(0.5)).to(triangle)
    return half + half.mT
