"""Coherence: what channels of a window have in common, band by band, with sign and lag.

Of every pair of channels the cross-spectrum over the root of both powers (Nunez et al. 1997,
doi:10.1016/S0013-4694(97)00066-7): its real part says whether they move together or against each other, its
imaginary part which of them leads. Fixed functions of one window; every number is within 1.
"""

from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from fedsynth.modalities.measures import band_bins
from fedsynth.modalities.shape import Shape

_LEAST_BINS = 4  # of a band; fewer say little of one window
_FLOOR_UV2 = 1e-4
_LEAST_EIGENVALUE = 0.02


@dataclass(frozen=True)
class CoherencePlan:
    """What is asked: of each band or of the whole pass band at once, and with the imaginary parts or without."""

    by_band: bool = True
    lags: bool = True

    def bins(self, shape: Shape) -> tuple[tuple[int, int], ...]:
        """Return for each band the half-open range of rfft bins."""
        return _wide_bins(shape) if self.by_band else ((band_bins(shape)[0][0], band_bins(shape)[-1][1]),)

    def size(self, shape: Shape) -> int:
        """Return how many numbers `numbers` gives."""
        channels = len(shape.channels)
        return len(self.bins(shape)) * channels * (channels - 1) // 2 * (1 + self.lags)

    def matrices(self, signal: Tensor, shape: Shape) -> Tensor:
        """Return the coherence of windows, complex, shape (window, band, channel, channel).

        Args:
            signal: microvolts, shape (window, channel, time).
            shape: of the windows.
        """
        taper = torch.hann_window(shape.n_times, periodic=False, dtype=signal.dtype, device=signal.device)
        spectrum = torch.fft.rfft(signal * taper)
        bands = [spectrum[..., first:last] for first, last in self.bins(shape)]
        cross = torch.stack([some @ some.conj().mT for some in bands], dim=1)
        power = cross.diagonal(dim1=-2, dim2=-1).real + _FLOOR_UV2 * shape.n_times
        return cross / (power[..., :, None] * power[..., None, :]).sqrt()

    def numbers(self, matrices: Tensor) -> Tensor:
        """Return pairs above the diagonal as numbers, shape (..., size): real parts, then imaginary ones."""
        rows, columns = torch.triu_indices(matrices.shape[-1], matrices.shape[-1], 1)
        pairs = matrices[..., rows, columns]
        parts = [pairs.real, pairs.imag] if self.lags else [pairs.real]
        return torch.cat([part.flatten(-2) for part in parts], dim=-1)

    def from_numbers(self, numbers: Tensor, shape: Shape) -> Tensor:
        """Undo `numbers`: the nearest matrices that are a coherence, complex128."""
        channels, bands = len(shape.channels), len(self.bins(shape))
        parts = numbers.to(torch.float64).unflatten(-1, (1 + self.lags, bands, -1)).unbind(dim=-3)
        pairs = torch.complex(parts[0], parts[1] if self.lags else torch.zeros_like(parts[0]))
        rows, columns = torch.triu_indices(channels, channels, 1)
        out = torch.zeros(*pairs.shape[:-1], channels, channels, dtype=pairs.dtype)
        out[..., rows, columns] = pairs
        return nearest_coherence(out + out.conj().mT + torch.eye(channels, dtype=pairs.dtype))


def nearest_coherence(matrices: Tensor) -> Tensor:
    """Return Hermitian matrices with eigenvalues above a least one and ones on the diagonal."""
    values, vectors = torch.linalg.eigh(matrices)
    positive = vectors @ torch.diag_embed(values.clamp_min(_LEAST_EIGENVALUE)).to(vectors) @ vectors.conj().mT
    size = positive.diagonal(dim1=-2, dim2=-1).real.sqrt()
    return positive / (size[..., :, None] * size[..., None, :])


@lru_cache(maxsize=16)
def _wide_bins(shape: Shape) -> tuple[tuple[int, int], ...]:
    """Return the bands of the features, neighbours joined until each has a few bins."""
    out: list[tuple[int, int]] = []
    for first, last in band_bins(shape):
        if out and out[-1][1] - out[-1][0] < _LEAST_BINS:
            out[-1] = (out[-1][0], last)
        else:
            out.append((first, last))
    if len(out) > 1 and out[-1][1] - out[-1][0] < _LEAST_BINS:
        (first, _), (_, last) = out[-2:]
        out[-2:] = [(first, last)]
    return tuple(out)
