"""Public features of an ECG window: its rhythm, its median beat and what lies between the beats.

In this order: rhythm (log interval, irregularity, tail, memory), variability (of the QRS complex, of the largest
beat), log amplitude, where leads are unknown whether the beat stands upright (`polarity`), the median beat's shape
in units of that amplitude on a public basis for each axis, log10 powers between QRS complexes by band, and their
unrest. Where windows are centred on a beat, rhythm is the time to its neighbours, variability their size and
likeness, and the beat is the middle one. Fixed functions of one window, finite for finite windows.
"""

import itertools
import math
from dataclasses import dataclass

import torch
from torch import Tensor

from fedsynth.modalities.ecg.beats import (
    DetectedBeats,
    beat_samples,
    beat_seconds,
    beat_support,
    convolve,
    cut_beats,
    find_beats,
    impulses,
    outside_qrs,
    qrs_bell,
)
from fedsynth.modalities.ecg.leads import axes_of
from fedsynth.modalities.ecg.passband import pass_lower_edge
from fedsynth.modalities.ecg.simulator import beat_basis
from fedsynth.modalities.shape import Shape

VARIABILITY = 2
_FLOOR_UV2 = 1e-2
_EDGES_HZ = (2.0, 4.0, 9.0, 16.0)
_MANY, _SOME, _FEW = 24, 14, 10
_CHUNK = 128
_NEIGHBOUR_SHARE = 0.25  # of the largest peak in a centred window, which may be an ectopic beat
_APART = 0.2  # seconds between the middle beat and another
_FAR = 0.8  # seconds to a beat that the window does not show
_REST_WEIGHT = 0.1  # of P and T beside the QRS complex in the size of a beat
_BELL_EDGE = 0.05
_PIECE = 2.0  # seconds
_EDGE = 1e-4  # of the weight of a beat's ends, for the moments between them
_LIKE = 0.9  # likeness where no neighbour is seen


@dataclass(frozen=True)
class Parts:
    """A feature vector by meaning, each with the window first.

    `rhythm` (window, 4), `variability` (window, 2), `amplitude` (window,) ln microvolts, `shape` (window, axis,
    component) as it is in the window, `powers` (window, band) log10 microvolts squared, `unrest` (window,).
    """

    rhythm: Tensor
    variability: Tensor
    amplitude: Tensor
    shape: Tensor
    powers: Tensor
    unrest: Tensor

    def vector(self, shape: Shape) -> Tensor:
        """Return the parts side by side; where leads are unknown, the beat upright and its polarity before it."""
        ends = [self.powers, self.unrest[:, None]]
        upright, sign = self.shape, torch.zeros(len(self.unrest), 0).to(self.shape)
        if n_polarity(shape):
            sign = polarity_of(self.shape[..., 0])
            upright = self.shape * sign[..., None]
        middle = [self.amplitude[:, None], sign, upright.flatten(1)]
        return torch.cat([self.rhythm, self.variability, *middle, *ends], dim=1)


def n_rhythm(shape: Shape) -> int:
    """Return how many numbers describe the rhythm."""
    return 2 if shape.centred else 4


def n_polarity(shape: Shape) -> int:
    """Return how many numbers say whether beats stand upright: one for each axis where leads are unknown.

    An electrode of unknown place may be one of a reversed pair, which turns every wave over. Beats of either sort
    lie far apart, and what lies between is no beat, so one mean and one covariance fit them only when turned alike.
    """
    axes = axes_of(shape.channels, shape.every_lead)
    return 0 if axes.vectors is not None else len(axes.read)


def polarity_of(number: Tensor) -> Tensor:
    """Return -1 for numbers below zero, otherwise 1."""
    return torch.where(number < 0, -1.0, 1.0).to(number)


def n_components(shape: Shape) -> int:
    """Return how many basis functions describe a beat on one axis: the fewer, the louder noise may be."""
    if shape.every_lead:
        return min(_MANY, beat_samples(shape.sfreq)[1])
    return _SOME if axes_of(shape.channels).number == 1 else _FEW


def bands(shape: Shape) -> tuple[tuple[int, int], ...]:
    """Return for each noise band the half-open range of rfft bins that it sums; every band has a bin."""
    resolution = shape.sfreq / shape.n_times
    low, high = shape.bandpass
    edges = [low, *(edge for edge in _EDGES_HZ if low < edge < high), high]
    bins = sorted({max(1, math.ceil(edge / resolution)) for edge in edges})
    return tuple(itertools.pairwise(bins)) if len(bins) > 1 else ((1, 2),)


def split_features(vector: Tensor, shape: Shape) -> Parts:
    """Undo `Parts.vector`."""
    sizes = [
        n_rhythm(shape),
        VARIABILITY,
        1,
        n_polarity(shape),
        axes_of(shape.channels, shape.every_lead).number * n_components(shape),
        len(bands(shape)),
        1,
    ]
    beat_timing, variety, amplitude, sign, form, powers, changing = vector.split(sizes, dim=1)
    form = form.unflatten(1, (-1, n_components(shape)))
    if n_polarity(shape):
        form = form * polarity_of(sign)[..., None]
    return Parts(beat_timing, variety, amplitude[:, 0], form, powers, changing[:, 0])


def n_features(shape: Shape) -> int:
    """Return the length of a feature vector."""
    axes = axes_of(shape.channels, shape.every_lead).number
    beat = 1 + n_polarity(shape) + axes * n_components(shape)
    return n_rhythm(shape) + VARIABILITY + beat + len(bands(shape)) + 1


def features(signal: Tensor, shape: Shape) -> Tensor:
    """Return feature vectors, shape (window, feature), of microvolts (window, channel, time)."""
    return torch.cat([measure(part, shape).vector(shape) for part in signal.split(_CHUNK)])


def measure(signal: Tensor, shape: Shape) -> Parts:
    """Return the features of windows by meaning; the argument is that of `features`."""
    axes = torch.einsum("ac,wct->wat", axes_of(shape.channels, shape.every_lead).read, signal)
    if shape.centred:
        beats = centre_first(find_beats(axes.detach(), sfreq=shape.sfreq, share=_NEIGHBOUR_SHARE), shape)
        cut = cut_beats(axes, beats, sfreq=shape.sfreq)
        beat_timing, middle = neighbour_timing(beats, shape), cut[:, :, 0].nan_to_num()
        variety = _neighbours(cut, middle, beats, shape)
    else:
        beats = find_beats(axes.detach(), sfreq=shape.sfreq)
        cut = cut_beats(axes, beats, sfreq=shape.sfreq)
        beat_timing, middle = rhythm(beats, shape.sfreq), cut.nanmedian(dim=2).values.nan_to_num()
        variety = _variability(cut, middle, shape.sfreq)
    template = own_part(middle, support_of(beat_timing, shape), shape)
    amplitude = template_size(template, shape.sfreq)
    read, _ = beat_basis(shape, size=n_components(shape))
    form = torch.einsum("kt,wat->wak", read, template)
    form = form / amplitude[:, None, None] / math.sqrt(shape.sfreq / 100.0)
    powers, changing = _between_beats(axes, template, beats, shape)
    return Parts(
        beat_timing,
        variety,
        torch.log(amplitude),
        form,
        powers,
        changing,
    )


def template_of(parts: Parts, shape: Shape) -> Tensor:
    """Return the beat that amplitude, shape and rhythm describe in microvolts, shape (window, axis, beat time)."""
    _, draw = beat_basis(shape, size=n_components(shape))
    size = torch.exp(parts.amplitude.clamp(0, 11))[:, None, None]
    support = support_of(parts.rhythm.detach(), shape)[:, None]
    return torch.einsum("wak,kt->wat", parts.shape, draw) * math.sqrt(shape.sfreq / 100.0) * size * support


def own_part(beat: Tensor, support: Tensor, shape: Shape) -> Tensor:
    """Return what of a beat's window is its own, above the isoelectric line between its two ends.

    Recordings have no mean, so that line may lie anywhere. Beats that are drawn begin and end on it, and the filter
    that recordings pass takes their mean out again: between beats that are far apart nothing jumps. A beat in the
    middle of a centred window stays where it is.

    Args:
        beat: microvolts, shape (window, axis, beat time).
        support: the share of each moment that is the beat's own, 0 to 1, shape (window, beat time).
        shape: of the windows.
    """
    if shape.centred:
        return beat * support[:, None]
    at = beat_seconds(shape.sfreq).to(beat)
    edge = support * (1 - support) + _EDGE * (support > 0)
    (first, level), (last, other) = (_mean_at(beat, edge * side, at) for side in (at < 0, at > 0))
    line = level + (other - level) * (at - first) / (last - first)
    return (beat - line) * support[:, None]


def _mean_at(beat: Tensor, weight: Tensor, at: Tensor) -> tuple[Tensor, Tensor]:
    """Return the mean time under a weight (window, beat time), and the beat's mean there, (window, axis, 1)."""
    share = (weight / weight.sum(dim=-1, keepdim=True))[:, None]
    return (share * at).sum(dim=-1, keepdim=True), (beat * share).sum(dim=-1, keepdim=True)


def left_by_median(signal: Tensor, beats: DetectedBeats, shape: Shape) -> Tensor:
    """Return windows without their median beat, in every channel or axis.

    Args:
        signal: microvolts, shape (window, channel, time).
        beats: of the windows.
        shape: of the windows.
    """
    middle = cut_beats(signal, beats, sfreq=shape.sfreq).nanmedian(dim=2).values.nan_to_num()
    if not shape.centred:
        middle = own_part(middle, support_of(rhythm(beats, shape.sfreq), shape), shape)
    return _left_by(signal, middle, beats, shape)


def _left_by(signal: Tensor, template: Tensor, beats: DetectedBeats, shape: Shape) -> Tensor:
    """Return windows without a beat wherever one was found."""
    _, size = beat_samples(shape.sfreq)
    ones = beats.found.to(signal.dtype)
    train = impulses(beats.at / shape.sfreq, ones, n_times=shape.n_times, sfreq=shape.sfreq, margin=size)
    heart = convolve(train, template, n_times=shape.n_times, sfreq=shape.sfreq)
    return signal - (heart if shape.centred else pass_lower_edge(heart, shape))


def support_of(rhythm: Tensor, shape: Shape) -> Tensor:
    """Return the share of a beat's window that is its own at this rhythm, shape (window, beat time)."""
    before, after = torch.exp(rhythm[:, 0].clamp(-2, 2)), torch.exp(rhythm[:, int(shape.centred)].clamp(-2, 2))
    return beat_support(before, after, sfreq=shape.sfreq)


def template_size(template: Tensor, sfreq: float) -> Tensor:
    """Return a beat's root mean square in microvolts, 1 or more, mostly the QRS complex's, shape (window,)."""
    weight = qrs_bell(sfreq) + _REST_WEIGHT
    return ((template.square() * weight).sum(dim=-1) / weight.sum()).mean(dim=1).add(1.0).sqrt()


def rhythm(beats: DetectedBeats, sfreq: float) -> Tensor:
    """Return log median interval (s), log irregularity, log tail and memory of the intervals, shape (window, 4).

    Irregularity is the mean absolute change of the interval over its median, tail the largest change over the mean
    one, memory the intervals' correlation with the next. With too few beats each is a public constant.
    """
    both = beats.found[:, 1:] & beats.found[:, :-1]
    intervals = (beats.at.diff(dim=1) / sfreq).masked_fill(~both, math.nan)
    median = intervals.nanmedian(dim=1).values.nan_to_num(0.8)
    change = intervals.diff(dim=1).abs()
    mean = change.nanmean(dim=1)
    largest = change.nan_to_num(0.0).amax(dim=1) if change.shape[1] else torch.zeros_like(median)
    off = intervals - intervals.nanmean(dim=1, keepdim=True)
    memory = (off[:, 1:] * off[:, :-1]).nansum(dim=1) / (off.square().nansum(dim=1) + 1e-5)
    parts = [
        torch.log(median.clamp(0.2, 4.0)),
        torch.log(mean / median + 0.006).nan_to_num(math.log(0.03)),
        torch.log((largest + 0.002) / (mean + 0.002)).nan_to_num(0.7),
        memory,
    ]
    return torch.stack(parts, dim=1)


def centre_first(beats: DetectedBeats, shape: Shape) -> DetectedBeats:
    """Return the beat at the middle of each window first, then the others, those within 0.2 s of it left out."""
    middle = torch.full_like(beats.at[:, :1], shape.n_times // 2)
    apart = (beats.at - middle).abs() > _APART * shape.sfreq
    return DetectedBeats(
        torch.cat([middle, beats.at], dim=1),
        torch.cat([torch.ones_like(beats.found[:, :1]), beats.found & apart], dim=1),
    )


def neighbour_timing(beats: DetectedBeats, shape: Shape) -> Tensor:
    """Return log seconds to the beats before and after the middle one, shape (window, 2).

    A beat outside the window counts as one far enough for the middle beat to have all of its own time.
    """
    off = (beats.at[:, 1:] - beats.at[:, :1]) / shape.sfreq
    far = off.masked_fill(~beats.found[:, 1:], math.inf)
    before = torch.where(far < 0, -far, math.inf).amin(dim=1)
    after = torch.where(far > 0, far, math.inf).amin(dim=1)
    return torch.log(torch.stack([before, after], dim=1).clamp(_APART, _FAR))


def _neighbours(cut: Tensor, template: Tensor, beats: DetectedBeats, shape: Shape) -> Tensor:
    """Return log size of the neighbours' QRS complexes beside the middle one's, and their likeness, -1 to 1."""
    bell = qrs_bell(shape.sfreq)
    there = (beats.found & _whole(cut, bell))[:, 1:]
    others = cut[:, :, 1:].nan_to_num()
    own = (template.square() * bell).sum(dim=-1).sum(dim=1)[:, None] + 1.0
    power = (others.square() * bell).sum(dim=-1).sum(dim=1) + 1.0
    cross = (others * template[:, :, None] * bell).sum(dim=-1).sum(dim=1)
    number = there.sum(dim=1).clamp_min(1)
    ratio = (0.5 * torch.log(power / own) * there).sum(dim=1) / number
    likeness = (cross / (power * own).sqrt() * there).sum(dim=1) / number
    return torch.stack([ratio.clamp(-2, 2), torch.where(there.any(dim=1), likeness, _LIKE)], dim=1)


def _variability(cut: Tensor, template: Tensor, sfreq: float) -> Tensor:
    """Return log relative deviation of QRS complexes from the median one, and log size of the largest beat."""
    bell = qrs_bell(sfreq)
    there, cut = _whole(cut, bell), cut.nan_to_num()
    power = (template.square() * bell).sum(dim=-1).sum(dim=1) + 1.0
    deviation = ((cut - template[:, :, None]).square() * bell).sum(dim=-1).sum(dim=1) / power[:, None]
    size = ((cut.square() * bell).sum(dim=-1).sum(dim=1) + 1.0) / power[:, None]
    mean = deviation.masked_fill(~there, math.nan).nanmean(dim=1).nan_to_num(0.05)
    largest = size.masked_fill(~there, 0.0).amax(dim=1).clamp_min(0.5)
    return torch.stack([0.5 * torch.log(mean + 1e-3), 0.5 * torch.log(largest)], dim=1)


def _whole(cut: Tensor, bell: Tensor) -> Tensor:
    """Return which beats have their whole QRS complex inside the window, shape (window, beat)."""
    return ~cut[..., bell > _BELL_EDGE].isnan().any(dim=-1).any(dim=1)


def _between_beats(axes: Tensor, template: Tensor, beats: DetectedBeats, shape: Shape) -> tuple[Tensor, Tensor]:
    """Return log10 power by band of what the median beat leaves between QRS complexes, and its unrest."""
    rest = _left_by(axes, template, beats, shape)
    mask = outside_qrs(beats, n_times=shape.n_times, sfreq=shape.sfreq)
    return noise_powers(rest, mask, shape), unrest(rest, mask, shape)


def noise_powers(rest: Tensor, mask: Tensor, shape: Shape) -> Tensor:
    """Return log10 of the usual power by band in microvolts squared, shape (window, band).

    The median over overlapping pieces of two seconds, so that one burst does not stand for the whole window.

    Args:
        rest: microvolts, shape (window, axis, time).
        mask: what to look at, 0 to 1, shape (window, time).
        shape: of the windows.
    """
    length = min(shape.n_times, round(_PIECE * shape.sfreq))
    hop = max(1, length // 2)
    taper = mask.unfold(1, length, hop) * torch.hann_window(length, periodic=False)
    weight = taper.square().sum(dim=-1)
    spectrum = torch.fft.rfft(rest.unfold(2, length, hop) * taper[:, None]).abs().square().mean(dim=1)
    density = spectrum * (2.0 / length) / weight.clamp_min(1e-6)[..., None]
    density = density.masked_fill((weight < 0.02 * length)[..., None], math.nan)
    edges, last = [], 0
    for first, _ in bands(shape):
        edges.append(max(last + 1, round(first * length / shape.n_times)))
        last = edges[-1]
    edges.append(max(last + 1, round(bands(shape)[-1][1] * length / shape.n_times)))
    powers = [density[..., first:stop].sum(dim=-1) for first, stop in itertools.pairwise(edges)]
    usual = torch.stack(powers, dim=-1).nanmedian(dim=1).values
    return torch.log10(usual.nan_to_num(0.0) + _FLOOR_UV2)


def unrest(rest: Tensor, mask: Tensor, shape: Shape) -> Tensor:
    """Return half the standard deviation of the log power of eight pieces, shape (window,)."""
    length = shape.n_times // 8 * 8
    pieces = (rest.square().mean(dim=1) * mask)[:, :length].unflatten(1, (8, -1)).sum(dim=-1)
    covered = mask[:, :length].unflatten(1, (8, -1)).sum(dim=-1)
    return torch.log((pieces + 1.0) / (covered + 1e-2)).std(dim=1) / 2
