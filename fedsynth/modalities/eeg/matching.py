"""Waves moved onto the shape asked for: texture synthesis by alternating projections.

After Portilla and Simoncelli 2000 (doi:10.1023/A:1026553619983): a wave of the simulator is changed as little as
possible, in turns, until its numbers of shape (`features.waveform_shape`) and its band powers are those asked for.
A turn is a Gauss-Newton step on the numbers of shape. It costs a change by how loud the spectrum asked for is at
its frequency, so that nothing is put where recordings have nothing.
"""

import torch
from torch import Tensor

from fedsynth.modalities.eeg.features import N_SHAPE, rhythm_lags, shape_by_channel
from fedsynth.modalities.equaliser import equalise_whole, spectrum_asked
from fedsynth.modalities.measures import flat_taper
from fedsynth.modalities.shape import Shape

_DAMPING = 1e-2  # of the Gauss-Newton step, beside the mean of the diagonal
_NUMBERS = 2**22  # of gradients, at once
_LONGEST = 0.5  # of a wave's root mean square, that one turn may change


def matched(source: Tensor, powers: Tensor, waveform: Tensor, shape: Shape, *, turns: int) -> Tensor:
    """Return waves in microvolts with the band powers and, nearly, the shape asked for.

    Args:
        source: shape (window, channel, time), longer than a window on both sides.
        powers: log10 microvolts squared, shape (window, channel, band).
        waveform: numbers of shape, means over channels, shape (window, 7).
        shape: of the windows.
        turns: of the iteration.

    Returns:
        Waves as long as `source`.
    """
    rows = max(1, _NUMBERS // (N_SHAPE * source.shape[1] * source.shape[2]))
    given = zip(source.split(rows), powers.split(rows), waveform.split(rows), strict=True)
    return torch.cat([_matched(*some, shape, turns=turns) for some in given])


def _matched(source: Tensor, powers: Tensor, waveform: Tensor, shape: Shape, *, turns: int) -> Tensor:
    first = (source.shape[-1] - shape.n_times) // 2
    window = slice(first, first + shape.n_times)
    colour = spectrum_asked(powers, shape, source.shape[-1])
    inner = flat_taper(shape.n_times).to(source)
    wave = equalise_whole(source, powers, shape, turns=2)
    for _ in range(turns):
        inside = wave[..., window]
        missing = waveform - shape_by_channel(inside, shape).mean(dim=1)
        gradients = shape_gradients(inside, shape)
        moves = _coloured(gradients * inner, colour, source.shape[-1]) * inner
        # What a step along each move does to each number.
        effect = torch.einsum("wcin,wcjn->wcij", gradients, moves)
        scale = effect.diagonal(dim1=-2, dim2=-1).clamp_min(1e-12).rsqrt()
        damped = effect * scale[..., None] * scale[..., None, :] + _DAMPING * torch.eye(N_SHAPE)
        steps = scale * torch.linalg.solve(damped, scale * missing[:, None])
        change = torch.einsum("wci,wcin->wcn", steps, moves)
        size = (change.square().mean(dim=-1) / inside.square().mean(dim=-1).clamp_min(1e-12)).sqrt()
        wave = wave.clone()
        wave[..., window] += change * (_LONGEST / size.clamp_min(_LONGEST))[..., None]
        wave = equalise_whole(wave, powers, shape, turns=1)
    return wave


def _coloured(rows: Tensor, colour: Tensor, length: int) -> Tensor:
    """Return rows (window, channel, row, time) with the spectrum `colour` (window, channel, bin of `length`)."""
    spectrum = torch.fft.rfft(rows, length) * colour[:, :, None]
    return torch.fft.irfft(spectrum, length)[..., : rows.shape[-1]]


def shape_gradients(signal: Tensor, shape: Shape) -> Tensor:
    """Return the gradient of every number of shape, shape (window, channel, 7, time).

    In the order of `features.waveform_shape`, in closed form.
    """
    centred = signal - signal.mean(dim=-1, keepdim=True)
    slope = centred.diff(dim=-1)
    rows = [
        _of_peakedness(centred),
        _of_differences(_of_peakedness(slope)),
        _of_differences(_of_differences(_of_peakedness(slope.diff(dim=-1)))),
        _of_unrest(centred),
        _of_asymmetry(centred),
        _of_differences(_of_asymmetry(slope)),
        _of_rhythm(centred, shape),
    ]
    gradients = torch.stack(rows, dim=-2)
    return gradients - gradients.mean(dim=-1, keepdim=True)


def _of_differences(gradient: Tensor) -> Tensor:
    """Return the gradient with respect to a signal, given that with respect to its differences."""
    padded = torch.nn.functional.pad(gradient, (1, 1))
    return padded[..., :-1] - padded[..., 1:]


def _of_peakedness(signal: Tensor) -> Tensor:
    square = signal.square().mean(dim=-1, keepdim=True) + 1e-3
    size = signal.abs().mean(dim=-1, keepdim=True) + 1e-2
    return (signal / square - signal.sign() / size) / signal.shape[-1]


def _of_asymmetry(signal: Tensor) -> Tensor:
    centred = signal - signal.mean(dim=-1, keepdim=True)
    square = centred.square().mean(dim=-1, keepdim=True) + 1e-2
    value = (centred * centred.abs()).mean(dim=-1, keepdim=True) / square
    gradient = 2 * (centred.abs() - value * centred) / square / signal.shape[-1]
    return gradient - gradient.mean(dim=-1, keepdim=True)


def _of_unrest(centred: Tensor) -> Tensor:
    n_times = centred.shape[-1]
    pieces = centred[..., : n_times // 8 * 8].unflatten(-1, (8, -1))
    power = pieces.square().mean(dim=-1) + 1e-2
    logarithms = torch.log(power)
    away = logarithms - logarithms.mean(dim=-1, keepdim=True)
    outer = away / (7 * logarithms.std(dim=-1, keepdim=True).clamp_min(1e-6)) / 2
    gradient = ((outer / power)[..., None] * 2 * pieces / pieces.shape[-1]).flatten(-2)
    return torch.nn.functional.pad(gradient, (0, n_times % 8))


def _of_rhythm(centred: Tensor, shape: Shape) -> Tensor:
    n_times = centred.shape[-1]
    first, last = rhythm_lags(shape, n_times)
    spectrum = torch.fft.rfft(centred, 2 * n_times)
    correlation = torch.fft.irfft(spectrum.abs().square())[..., :n_times]
    size = correlation[..., :1] + 1e-2 * n_times
    value, lag = correlation[..., first:last].max(dim=-1, keepdim=True)
    lag = lag + first
    at = torch.arange(n_times)
    later, earlier = at + lag, at - lag
    moved = torch.where(later < n_times, centred.gather(-1, later.clamp(max=n_times - 1)), 0.0)
    moved = moved + torch.where(earlier >= 0, centred.gather(-1, earlier.clamp(min=0)), 0.0)
    return (moved - 2 * value / size * centred) / size
