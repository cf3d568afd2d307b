"""Covariances of labels that are expected given noisy second moments, by Hamiltonian Monte Carlo.

Noise on a matrix drives its eigenvalues apart, so a covariance that keeps to the noisy entries is too narrow along
some axes and too wide along others, however each entry is shrunk. Here the logarithms of the labels' covariances
are normal around a common one, which is normal around the public prior's (Leonard and Hsu 1992), and noise of a
known size is on the second moments. The mean over that posterior is taken by Hamiltonian Monte Carlo (Neal 2011)
from a fixed seed. Post-processing of private sums; it sees nothing else.
"""

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

Numbers = npt.NDArray[np.float64]

_COMMON_STD, _OWN_STD = 0.8, 0.3  # of the common logarithm around the prior's, of a label's around the common one
_LOG_STD = 0.5  # of the logarithm of either of these two, and of a label's size
_SIZE_STD = 1.0  # of the logarithm of the common size
_STEPS_OF_SIZES = (0.15, 0.15, 0.1, 0.1)  # of the two standard deviations, of the common size and of a label's
_BURN, _DRAWS, _LEAPS = 100, 150, 8
_ACCEPTED, _ADAPTATION = 0.8, 0.2  # share of proposals wanted, and how fast the logarithm of the step follows
_FIRST_STEP = 0.1
_PACES = 0.8, 0.4  # of a step: the least, and how much may be added, so that no orbit closes (Neal 2011)
_LEAST = 0.02  # eigenvalue of the start
_LARGEST_LOG = 700.0  # entry of a logarithm; the exponential of more is no number
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
    total = np.zeros(observed.shape)
    for turn in range(_BURN + _DRAWS):
        chain.move(adapt=turn < _BURN)
        if turn >= _BURN:
            total += chain.covariances
    return torch.from_numpy(total / _DRAWS)


@dataclass(frozen=True)
class _Posterior:
    """The posterior's density over coordinates: steps of logarithms from `centre`, in units of `scale`, and sizes.

    `centre` are the logarithms of the start, `vectors` its eigenvectors, by which steps are turned, and `scale` how
    far an entry may go (label, feature, feature). `base` is the prior's logarithm and `size` the start's beside it.
    """

    observed: Numbers
    noise: Numbers
    base: Numbers
    centre: Numbers
    vectors: Numbers
    scale: Numbers
    size: float

    @classmethod
    def around(cls, observed: Tensor, *, noise: Tensor, prior: Tensor, start: Tensor) -> "_Posterior":
        """Measure steps by what the noise leaves open around the start."""
        values, vectors = np.linalg.eigh(_numbers(start))
        values = np.maximum(values, _LEAST)
        logs = np.log(values)
        deviations = np.maximum(_numbers(noise), _QUIETEST * values.mean())
        moves = _divided_differences(values, logs)
        scale = ((moves / deviations[:, None, None]) ** 2 + _OWN_STD**-2) ** -0.5
        centre = (vectors * logs[:, None]) @ vectors.swapaxes(1, 2)
        base_values, base_vectors = np.linalg.eigh(_numbers(prior))
        base = (base_vectors * np.log(np.maximum(base_values, _LEAST))) @ base_vectors.T
        size = float(np.trace(centre - base, axis1=1, axis2=2).mean()) / len(base)
        return cls(_numbers(observed), deviations, base, centre, vectors, scale, size)

    @property
    def width(self) -> int:
        """Return the number of coordinates."""
        labels, size, _ = self.observed.shape
        return labels * size * (size + 1) // 2 + 3 + labels

    def gradient(self, point: Numbers) -> tuple[float, Numbers, Numbers]:
        """Return the log density, its gradient and the covariances at a point; not finite where nothing is.

        The derivative of the exponential is Daleckii and Krein's divided difference along common eigenvectors.
        """
        labels, size, _ = self.observed.shape
        number = size * (size + 1) // 2
        steps = _symmetric(point[: labels * number].reshape(labels, number), size) * self.scale
        logs = self.centre + _turned(steps, self.vectors)
        if not np.abs(logs).max() < _LARGEST_LOG:
            return math.nan, np.full_like(point, math.nan), logs
        logarithms, vectors = np.linalg.eigh(logs)
        common, own, whole = _STEPS_OF_SIZES[:3] * point[labels * number : labels * number + 3]
        sizes = _STEPS_OF_SIZES[3] * point[labels * number + 3 :]
        values = np.exp(logarithms)
        covariances = (vectors * values[:, None]) @ vectors.swapaxes(1, 2)
        misfit = (self.observed - covariances) / self.noise[:, None, None] ** 2
        # Logarithms less their size are normal: around what labels share by `_OWN_STD`, and that by `_COMMON_STD`.
        rest = logs - self.base - (self.size + whole + sizes)[:, None, None] * np.eye(size)
        mean = rest.mean(axis=0)
        apart, together = float(((rest - mean) ** 2).sum()), labels * float((mean**2).sum())
        narrow = (_OWN_STD * np.exp(own)) ** 2
        shared = labels * (_COMMON_STD * np.exp(common)) ** 2
        wide = narrow + shared
        density = -0.5 * float((misfit * (self.observed - covariances)).sum())
        density -= 0.5 * (apart / narrow + together / wide)
        density -= 0.5 * number * ((labels - 1) * np.log(narrow) + np.log(wide))
        density -= 0.5 * ((common**2 + own**2 + (sizes**2).sum()) / _LOG_STD**2 + (whole / _SIZE_STD) ** 2)

        moves = _divided_differences(values, logarithms)
        by_exponential = _turned(moves * _turned(misfit, vectors.swapaxes(1, 2)), vectors)
        by_rest = -(rest - mean) / narrow - mean / wide
        by_steps = _turned(by_exponential + by_rest, self.vectors.swapaxes(1, 2)) * self.scale
        by_shift = -np.trace(by_rest, axis1=1, axis2=2)
        by_wide = 0.5 * (together / wide**2 - number / wide)
        by_narrow = 0.5 * (apart / narrow**2 - number * (labels - 1) / narrow) + by_wide
        of_sizes = np.concatenate(
            [
                [2 * shared * by_wide - common / _LOG_STD**2, 2 * narrow * by_narrow - own / _LOG_STD**2],
                [by_shift.sum() - whole / _SIZE_STD**2],
                by_shift - sizes / _LOG_STD**2,
            ]
        )
        of_sizes *= np.concatenate([_STEPS_OF_SIZES[:3], np.full(labels, _STEPS_OF_SIZES[3])])
        return float(density), np.concatenate([_triangle(by_steps).ravel(), of_sizes]), covariances


class _Chain:
    """Hamiltonian Monte Carlo with a step that adapts while asked to; refuses what is not finite."""

    def __init__(self, posterior: _Posterior, *, seed: int) -> None:
        self._posterior, self._step = posterior, _FIRST_STEP
        self._generator = torch.Generator().manual_seed(seed)
        self._at = np.zeros(posterior.width)
        self._density, self._slope, self.covariances = posterior.gradient(self._at)

    def move(self, *, adapt: bool) -> None:
        """Make one proposal of several leaps and take it, or stay."""
        speed = torch.randn(len(self._at), generator=self._generator, dtype=torch.float64).numpy()
        uniform, pace = torch.rand(2, generator=self._generator, dtype=torch.float64).tolist()
        step = self._step * (_PACES[0] + _PACES[1] * pace)
        before = self._density - 0.5 * float(speed @ speed)
        at, slope = self._at, self._slope
        with np.errstate(all="ignore"):
            for _ in range(_LEAPS):
                speed = speed + 0.5 * step * slope
                at = at + step * speed
                density, slope, covariances = self._posterior.gradient(at)
                speed = speed + 0.5 * step * slope
            gain = density - 0.5 * float(speed @ speed) - before
        chance = math.exp(min(gain, 0.0)) if math.isfinite(gain) else 0.0
        if uniform < chance:
            self._at, self._density, self._slope, self.covariances = at, density, slope, covariances
        if adapt:
            self._step *= math.exp(_ADAPTATION * (chance - _ACCEPTED))


def _numbers(tensor: Tensor) -> Numbers:
    """Return float64; on matrices this small NumPy's calls take a third of the time of PyTorch's."""
    return tensor.detach().to(torch.float64).numpy()


def _divided_differences(values: Numbers, logs: Numbers) -> Numbers:
    """Return how much an entry of an exponential moves with one of its logarithm, along their common eigenvectors.

    Daleckii and Krein's formula; `values` (label, axis) are the exponentials of `logs`.
    """
    rise, run = values[:, :, None] - values[:, None, :], logs[:, :, None] - logs[:, None, :]
    near = np.sqrt(values[:, :, None] * values[:, None, :])
    far = np.abs(run) > 1e-6
    return np.where(far, rise / np.where(far, run, 1.0), near)


def _turned(matrices: Numbers, vectors: Numbers) -> Numbers:
    turned: Numbers = vectors @ matrices @ vectors.swapaxes(1, 2)
    return turned


def _symmetric(triangle: Numbers, size: int) -> Numbers:
    """Return symmetric matrices whose Frobenius norms are the lengths of the rows."""
    rows, columns = np.triu_indices(size)
    half = np.zeros((len(triangle), size, size))
    half[:, rows, columns] = triangle * np.where(rows == columns, 0.5, math.sqrt(0.5))
    return half + half.swapaxes(1, 2)


def _triangle(matrices: Numbers) -> Numbers:
    """Return the slope along what `_symmetric` takes of a slope along symmetric matrices."""
    rows, columns = np.triu_indices(matrices.shape[1])
    slopes: Numbers = matrices[:, rows, columns] * np.where(rows == columns, 1.0, math.sqrt(2))
    return slopes
