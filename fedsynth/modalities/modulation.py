"""How rhythms come and go: how bursty each band is, and whether a fast band is loud at a phase of a slow one.

Burstiness is the kurtosis of a band's analytic signal, in nats from what Gaussian noise has (in sleep: one spindle
or three). Coupling of phase and amplitude is the mean vector of a fast band's power on the circle of a slow band's
phase (Canolty et al. 2006, doi:10.1126/science.1128115). Fixed functions of one window, whose loudness is divided
out; means over channels.
"""

import math
from functools import lru_cache

import torch
from torch import Tensor

from fedsynth.modalities.bands import analytic_parts, n_bands
from fedsynth.modalities.shape import Shape

_FLOOR_UV2 = 1e-2
_GAUSSIAN = math.log(2.0)  # of E p^2 / (E p)^2 where p is the power of an analytic Gaussian signal
_LEAST_BURSTY, _MOST_BURSTY = -1.0, 3.0
_SLOW = 3  # bands whose phase counts: delta, theta, alpha
_APART = 2  # bands from a slow one to the next fast one; neighbours share a slope of their filters


def burstiness(parts: Tensor) -> Tensor:
    """Return nats from Gaussian noise, within -1 and 3, shape (window, channel, band).

    Args:
        parts: analytic signals in microvolts, complex, shape (window, channel, band, time).
    """
    power = parts.abs().square()
    share = power / (power.mean(dim=-1, keepdim=True) + _FLOOR_UV2)
    ratio = share.square().mean(dim=-1)
    return (torch.log(ratio + 1e-6) - _GAUSSIAN).clamp(_LEAST_BURSTY, _MOST_BURSTY)


def coupling(parts: Tensor, shape: Shape) -> Tensor:
    """Return mean vectors within the unit circle, complex, shape (window, channel, pair).

    Args:
        parts: analytic signals in microvolts, complex, shape (window, channel, band, time).
        shape: of the windows; says which pairs of bands there are.
    """
    slow, fast = band_pairs(shape)
    power = parts[:, :, fast].abs().square()
    share = power / (power.sum(dim=-1, keepdim=True) + _FLOOR_UV2 * parts.shape[-1])
    return (share * torch.sgn(parts[:, :, slow])).sum(dim=-1)


def modulation(signal: Tensor, shape: Shape) -> Tensor:
    """Return burstiness and coupling of windows, means over channels, shape (window, number).

    Args:
        signal: microvolts, shape (window, channel, time).
        shape: of the windows.
    """
    parts = analytic_parts(signal, shape)
    pairs = torch.view_as_real(coupling(parts, shape).mean(dim=1)).flatten(1)
    return torch.cat([burstiness(parts).mean(dim=1), pairs], dim=1)


def n_numbers(shape: Shape) -> int:
    """Return how many numbers `modulation` gives."""
    return n_bands(shape) + 2 * len(band_pairs(shape)[0])


@lru_cache(maxsize=8)
def band_pairs(shape: Shape) -> tuple[list[int], list[int]]:
    """Return the slow and the fast bands of all pairs, by number."""
    pairs = [(slow, fast) for slow in range(_SLOW) for fast in range(slow + _APART, n_bands(shape))]
    return [slow for slow, _ in pairs], [fast for _, fast in pairs]
