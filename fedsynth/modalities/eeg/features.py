"""Public physiological features: from windows to a short vector of log band powers and waveform shape.

Everything is a fixed, differentiable function of one window; nothing is fitted to recordings. Several channels
are reduced by a public spatial basis (a constant, then smooth left-right, front-back and low-high maps), so that
the vector stays short and a private sum of it stays quiet.
"""

import math
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from fedsynth.modalities.measures import asymmetry, band_bins, band_powers, peakedness
from fedsynth.modalities.shape import Shape
from fedsynth.montage import scalp_position

N_SHAPE = 7


@lru_cache(maxsize=16)
def spatial_basis(shape: Shape) -> Tensor:
    """Return orthogonal maps over channels, shape (map, channel), each of root mean square 1.

    The first is constant. Electrodes whose names have no known place get the constant alone.
    """
    positions = [scalp_position(name) for name in shape.channels]
    columns = [np.ones(len(positions))]
    if all(position is not None for position in positions):
        columns += list(np.array(positions, dtype=float).T)
    maps: list[np.ndarray] = []
    for column in columns:
        rest = column - sum((np.mean(column * basis) * basis for basis in maps), np.zeros_like(column))
        size = math.sqrt(float(np.mean(rest**2)))
        if size > 0.05:
            maps.append(rest / size)
    return torch.tensor(np.array(maps), dtype=torch.float32)


def n_features(shape: Shape) -> int:
    """Return the length of a feature vector."""
    return len(spatial_basis(shape)) * len(band_bins(shape)) + N_SHAPE


def waveform_shape(signal: Tensor, shape: Shape) -> Tensor:
    """Return seven numbers about the waveform, shape (window, 7), means over channels.

    Peakedness ln(rms / mean absolute) of the signal, its slope and its curvature; unrest of the envelope (standard
    deviation of the log rms of eight pieces); asymmetry, the mean of x|x| over the mean square, of the signal and
    of its slope; and rhythm, the largest autocorrelation at lags of half a second to 1.2 s (less in short windows).
    Bounded relatives of kurtosis and skewness, which one large sample cannot carry away.
    """
    return _waveform_shape(signal, shape).mean(dim=-2)


def shape_by_channel(signal: Tensor, shape: Shape) -> Tensor:
    """Return the numbers of `waveform_shape` for every channel, shape (..., channel, 7)."""
    return _waveform_shape(signal, shape)


def features(signal: Tensor, shape: Shape) -> Tensor:
    """Return the feature vector of each window, shape (window, feature).

    The constant map's bands, then the waveform's shape, then the bands of the other maps.
    """
    powers = band_powers(signal, shape)
    basis = spatial_basis(shape).to(powers)
    maps = torch.einsum("mc,wcb->wmb", basis, powers) / len(shape.channels)
    return torch.cat([maps[:, 0], waveform_shape(signal, shape), maps[:, 1:].flatten(1)], dim=1)


def split_features(vector: Tensor, shape: Shape) -> tuple[Tensor, Tensor]:
    """Undo `features` as far as the basis allows: powers (window, channel, band) and waveform shape."""
    bands = len(band_bins(shape))
    maps = torch.cat([vector[:, :bands], vector[:, bands + N_SHAPE :]], dim=1).unflatten(1, (-1, bands))
    basis = spatial_basis(shape).to(maps)
    return torch.einsum("mc,wmb->wcb", basis, maps), vector[:, bands : bands + N_SHAPE]


def _waveform_shape(signal: Tensor, shape: Shape) -> Tensor:
    centred = signal - signal.mean(dim=-1, keepdim=True)
    slope = centred.diff(dim=-1)
    curvature = slope.diff(dim=-1)
    length = centred.shape[-1] // 8 * 8
    pieces = centred[..., :length].unflatten(-1, (8, -1)).square().mean(dim=-1)
    unrest = torch.log(pieces + 1e-2).std(dim=-1) / 2
    parts = [
        peakedness(centred),
        peakedness(slope),
        peakedness(curvature),
        unrest,
        asymmetry(centred),
        asymmetry(slope),
        _rhythm(centred, shape),
    ]
    return torch.stack(parts, dim=-1)


def _rhythm(centred: Tensor, shape: Shape) -> Tensor:
    n_times = centred.shape[-1]
    spectrum = torch.fft.rfft(centred, 2 * n_times).abs().square()
    correlation = torch.fft.irfft(spectrum)[..., :n_times]
    first, last = rhythm_lags(shape, n_times)
    return correlation[..., first:last].amax(dim=-1) / (correlation[..., 0] + 1e-2 * n_times)


def rhythm_lags(shape: Shape, n_times: int) -> tuple[int, int]:
    """Return the half-open range of lags, in samples, among which `waveform_shape` looks for a rhythm."""
    first = max(1, min(round(0.5 * shape.sfreq), round(0.3 * n_times)))
    return first, max(first + 1, min(round(1.2 * shape.sfreq), round(0.6 * n_times)))
