"""Losses over several views of a waveform: samples, log spectrogram, shape."""

import torch
from torch import Tensor

from fedsynth.modalities.measures import asymmetry, peakedness

_SIZES = (16, 64)
_SPECTRAL, _SHAPE = 0.25, 0.25


def log_spectrogram(waves: Tensor, *, size: int) -> Tensor:
    """Return ln of the magnitude of a Hann-tapered spectrogram over a floor of 0.02, shape (row, bin, frame)."""
    window = torch.hann_window(size, device=waves.device, dtype=waves.dtype)
    short = torch.stft(waves, size, size // 4, window=window, return_complex=True) / size**0.5
    return torch.log(short.abs() + 0.02)


def multi_domain_loss(guess: Tensor, target: Tensor) -> Tensor:
    """Return the loss of each row, shape (row,): GenEEG's domains that carry weight there.

    Mean absolute error of samples; the same of log spectrograms at two resolutions; the sum of
    those of peakedness and asymmetry, of the signal and its slope.
    """
    loss = (guess - target).abs().mean(dim=1)
    for size in _SIZES:
        apart = log_spectrogram(guess, size=size) - log_spectrogram(target, size=size)
        loss = loss + _SPECTRAL * apart.abs().mean(dim=(1, 2))
    shapes = _shape(guess) - _shape(target)
    return loss + _SHAPE * shapes.abs().sum(dim=1)


def _shape(waves: Tensor) -> Tensor:
    """Return peakedness and asymmetry of the waveform and of its slope, shape (row, 4); no rate is needed."""
    loud = 30.0 * waves
    slope = loud.diff(dim=-1)
    parts = [peakedness(loud), peakedness(slope), asymmetry(loud), asymmetry(slope)]
    return torch.stack(parts, dim=-1)
