"""Short-time Fourier transforms of waveforms in two bands, and back."""

import torch
from torch import Tensor

SIZE = 16
"""Samples in a frame, as in the synthetic-ECG study (arXiv:2411.18456)."""

HOP = 8
LOW_BINS = 2
"""The lowest bins are the low band; the rest are the high one."""

N_BINS = SIZE // 2 + 1


def bands_of(waves: Tensor) -> tuple[Tensor, Tensor]:
    """Return the low and the high band, shapes (row, 4, frame) and (row, 14, frame): real parts, then imaginary.

    Args:
        waves: shape (row, length), a multiple of 8; there is one frame more than eighths.
    """
    window = torch.hann_window(SIZE, device=waves.device, dtype=waves.dtype)
    spectrum = torch.stft(waves, SIZE, HOP, window=window, return_complex=True) / SIZE**0.5
    low, high = spectrum[:, :LOW_BINS], spectrum[:, LOW_BINS:]
    return torch.cat([low.real, low.imag], dim=1), torch.cat([high.real, high.imag], dim=1)


def wave_of(low: Tensor, high: Tensor) -> Tensor:
    """Undo `bands_of`, shape (row, length)."""
    real = torch.cat([low[:, :LOW_BINS], high[:, : N_BINS - LOW_BINS]], dim=1)
    imaginary = torch.cat([low[:, LOW_BINS:], high[:, N_BINS - LOW_BINS :]], dim=1)
    window = torch.hann_window(SIZE, device=low.device, dtype=low.dtype)
    return torch.istft(
        torch.complex(real, imaginary) * SIZE**0.5, SIZE, HOP, window=window, length=HOP * (low.shape[2] - 1)
    )
