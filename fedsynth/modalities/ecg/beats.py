"""Beats in a window: where they are, what the median one looks like, and how a train of beats is drawn.

Plain functions of tensors, every window on its own. Nothing is fitted to recordings.
"""

import itertools
import math
from dataclasses import dataclass

import torch
from torch import Tensor

from fedsynth.modalities.ecg.rhythm import Trains

BEFORE, AFTER = 0.30, 0.45  # seconds of a beat's window on either side of its QRS complex
_QRS = 0.045  # seconds, standard deviation of the bell that stands for the QRS complex
_REFRACTORY = 0.26
_SEGMENT = 1.4
_SHARE = 0.38
_QUIET_UV = 2.0
_TAPS = 4
_FINE_HZ = 350.0  # at least, where beats are cut
_STEADY = 0.4  # of how QRS complexes differ in size, P and T waves do
_FADE = 0.06  # seconds over which a beat's window begins and ends


@dataclass(frozen=True)
class DetectedBeats:
    """`at` (window, beat) in samples, sorted, those not `found` (the same shape, bool) at the end."""

    at: Tensor
    found: Tensor


def beat_samples(sfreq: float) -> tuple[int, int]:
    """Return how many samples a beat's window has before its centre, and in all."""
    before = round(BEFORE * sfreq)
    return before, before + round(AFTER * sfreq) + 1


def beat_seconds(sfreq: float) -> Tensor:
    """Return the time of each sample of a beat's window, shape (beat time,), zero at the QRS complex."""
    before, size = beat_samples(sfreq)
    return (torch.arange(size) - before) / sfreq


def find_beats(axes: Tensor, *, sfreq: float, share: float = _SHARE) -> DetectedBeats:
    """Find QRS complexes as peaks of the energy between about 6 and 22 Hz, 0.26 s apart or more.

    A peak counts from `share` of the median of the largest peaks in pieces of 1.4 s, a fixed relative of the
    running estimates of Hamilton and Tompkins (1986, doi:10.1109/TBME.1986.325695).

    Args:
        axes: microvolts, shape (window, axis, time).
        sfreq: in Hz.
        share: of the usual height of a beat that a peak needs.
    """
    n_times = axes.shape[-1]
    energy = _qrs_energy(axes, sfreq)
    pieces = max(1, round(n_times / sfreq / _SEGMENT))
    edges = [piece * n_times // pieces for piece in range(pieces + 1)]
    tops = [energy[:, first:last].amax(dim=1) for first, last in itertools.pairwise(edges)]
    usual = torch.stack(tops, dim=1).median(dim=1, keepdim=True).values
    reach = max(1, round(_REFRACTORY * sfreq))
    local = torch.nn.functional.max_pool1d(energy[:, None], 2 * reach + 1, stride=1, padding=reach)[:, 0]
    peak = (energy >= local) & (energy > share * usual) & (energy > _QUIET_UV)
    size = min(n_times, math.ceil(n_times / reach) + 1)
    height, at = torch.where(peak, energy, torch.zeros_like(energy)).topk(size, dim=1)
    found = height > 0
    order = torch.where(found, at, n_times + at).argsort(dim=1)
    at, found = at.gather(1, order), found.gather(1, order)
    return DetectedBeats(at + _vertex(energy, at), found)


def cut_beats(axes: Tensor, beats: DetectedBeats, *, sfreq: float) -> Tensor:
    """Return the signal round each beat, shape (window, axis, beat, beat time); nan outside and where none is."""
    before, size = beat_samples(sfreq)
    fine = math.ceil(_FINE_HZ / sfreq)
    dense = _finer(axes, fine)
    # Beats cut at whole samples would blur their median: at 100 Hz by a third of its power at 35 Hz.
    at = (beats.at * fine).round().long()[:, :, None] + fine * torch.arange(-before, size - before)
    inside = (at >= 0) & (at <= fine * (axes.shape[-1] - 1)) & beats.found[:, :, None]
    flat = at.clamp(0, dense.shape[-1] - 1).flatten(1)[:, None].expand(-1, axes.shape[1], -1)
    cut = dense.gather(2, flat).unflatten(2, at.shape[1:])
    return cut.masked_fill(~inside[:, None], math.nan)


def impulses(seconds: Tensor, gains: Tensor, *, n_times: int, sfreq: float, margin: int) -> Tensor:
    """Return a train of band-limited impulses, shape (window, margin + n_times + margin).

    Each is a Hann-windowed sinc of eight taps, so that a beat may fall between two samples.
    """
    place = seconds * sfreq + margin
    base = place.floor()
    offsets = torch.arange(-_TAPS + 1, _TAPS + 1)
    distance = place[..., None] - base[..., None] - offsets
    taps = torch.sinc(distance) * torch.cos(math.pi * distance / (2 * _TAPS + 2)).square()
    at = base.long()[..., None] + offsets
    length = n_times + 2 * margin
    inside = (at >= 0) & (at < length)
    weight = (taps * gains[..., None] * inside).flatten(1)
    train = torch.zeros(len(seconds), length, dtype=gains.dtype)
    return train.scatter_add(1, at.clamp(0, length - 1).flatten(1), weight)


def draw_trains(template: Tensor, trains: Trains, *, n_times: int, sfreq: float) -> Tensor:
    """Return a signal of beats, shape (window, axis, time), differentiable in the template.

    Beats differ in the size of their QRS complexes, P and T waves by less. Ectopic beats are the template's QRS
    complex made larger and wider, with a swing of the other sign after it.

    Args:
        template: one beat in microvolts, shape (window, axis, beat time).
        trains: of as many windows.
        n_times: samples of a window.
        sfreq: in Hz.
    """
    _, size = beat_samples(sfreq)
    bell = qrs_bell(sfreq).to(template)
    wide = 1 + _STEADY * (trains.gains - 1)
    normal, slow = (
        impulses(trains.seconds, gains * (1 - trains.ectopic), n_times=n_times, sfreq=sfreq, margin=size)
        for gains in (trains.gains, wide)
    )
    early = impulses(trains.seconds, trains.gains * trains.ectopic, n_times=n_times, sfreq=sfreq, margin=size)
    usual = convolve(normal, template * bell, n_times=n_times, sfreq=sfreq) + convolve(
        slow, template * (1 - bell), n_times=n_times, sfreq=sfreq
    )
    return usual + convolve(early, ectopic_beat(template, trains.forms, sfreq=sfreq), n_times=n_times, sfreq=sfreq)


def ectopic_beat(template: Tensor, forms: Tensor, *, sfreq: float) -> Tensor:
    """Return the ectopic beat that goes with a template, the same shape."""
    size = template.shape[-1]
    qrs = template * qrs_bell(sfreq).to(template)
    spectrum = torch.fft.rfft(qrs, 2 * size)
    turn = 2 * math.pi * torch.fft.rfftfreq(2 * size, 1 / sfreq).to(template)
    scale, width, swing = (part[:, None, None] for part in forms.unbind(dim=1))
    broad = torch.exp(-0.5 * (turn * width) ** 2)
    late = torch.exp(-0.5 * (turn * 0.06) ** 2) * torch.exp(-1j * turn * 0.24)
    mixed = spectrum * scale * (broad * (1 + 12 * width) - 3 * swing * late)
    return torch.fft.irfft(mixed, 2 * size)[..., :size]


def convolve(train: Tensor, template: Tensor, *, n_times: int, sfreq: float) -> Tensor:
    """Put a template at every impulse: (window, time with margins) and (window, axis, beat time) to a signal."""
    before, size = beat_samples(sfreq)
    length = train.shape[-1] + size
    product = torch.fft.rfft(train, length)[:, None] * torch.fft.rfft(template, length)
    start = size + before
    return torch.fft.irfft(product, length)[..., start : start + n_times]


def qrs_bell(sfreq: float) -> Tensor:
    """Return the bell that stands for the QRS complex in a beat's window, shape (beat time,)."""
    return torch.exp(-0.5 * (beat_seconds(sfreq) / _QRS) ** 2)


def beat_support(before: Tensor, after: Tensor, *, sfreq: float) -> Tensor:
    """Return how much of a beat's window is its own, shape (window, beat time), so that neighbours do not overlap.

    Beats a steady interval apart share their time without gap or overlap: two fifths of the interval, at most
    0.27 s, belong to the beat after, with a linear change of 0.06 s.

    Args:
        before: seconds to the beat before, shape (window,).
        after: seconds to the beat after.
        sfreq: in Hz.
    """
    at = beat_seconds(sfreq)
    start = -(0.4 * before[:, None]).clamp(max=BEFORE - _FADE / 2)
    stop = (after[:, None] - (0.4 * after[:, None]).clamp(max=BEFORE - _FADE / 2)).clamp(max=AFTER - _FADE / 2)
    rise, fall = (at - start) / _FADE + 0.5, (stop - at) / _FADE + 0.5
    return rise.clamp(0, 1) * fall.clamp(0, 1)


def outside_qrs(beats: DetectedBeats, *, n_times: int, sfreq: float) -> Tensor:
    """Return a mask that is 1 between QRS complexes and 0 at them, shape (window, time)."""
    ones = beats.found.to(torch.float32)
    _, size = beat_samples(sfreq)
    train = impulses(beats.at / sfreq, ones, n_times=n_times, sfreq=sfreq, margin=size)
    bell = qrs_bell(sfreq).expand(len(train), 1, -1)
    return (1 - 4 * convolve(train, bell, n_times=n_times, sfreq=sfreq)[:, 0]).clamp(0, 1)


def _finer(axes: Tensor, times: int) -> Tensor:
    """Return the signal at so many times its rate, by the spectrum of it and its mirror image."""
    if times == 1:
        return axes
    length = axes.shape[-1]
    spectrum = torch.fft.rfft(torch.cat([axes, axes.flip(-1)], dim=-1))
    return times * torch.fft.irfft(spectrum, 2 * length * times)[..., : length * times]


def _qrs_energy(axes: Tensor, sfreq: float) -> Tensor:
    """Return the root mean square of the QRS band over axes and about 60 ms, shape (window, time)."""
    n_times = axes.shape[-1]
    pad = min(n_times - 1, round(0.5 * sfreq))
    mirrored = torch.nn.functional.pad(axes, (pad, pad), mode="reflect")
    frequencies = torch.fft.rfftfreq(mirrored.shape[-1], 1 / sfreq)
    gain = torch.exp(-0.5 * (torch.log(frequencies.clamp_min(0.1) / 12.0) / 0.55) ** 2)
    band = torch.fft.irfft(torch.fft.rfft(mirrored) * gain, mirrored.shape[-1])
    power = band.square().mean(dim=1)
    smooth = torch.exp(-0.5 * (2 * math.pi * frequencies * 0.028) ** 2)
    power = torch.fft.irfft(torch.fft.rfft(power) * smooth, mirrored.shape[-1])
    return power[:, pad : pad + n_times].clamp_min(0).sqrt()


def _vertex(energy: Tensor, at: Tensor) -> Tensor:
    """Return where between samples the parabola through a peak and its neighbours is highest, within half one."""
    last = energy.shape[1] - 1
    left, middle, right = (energy.gather(1, (at + step).clamp(0, last)) for step in (-1, 0, 1))
    bend = 2 * middle - left - right
    return torch.where(bend > 1e-6, 0.5 * (right - left) / bend.clamp_min(1e-6), 0.0).clamp(-0.5, 0.5)
