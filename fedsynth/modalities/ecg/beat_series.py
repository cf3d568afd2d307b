"""How beats of a window follow one another: T waves that alternate, P waves that come earlier from beat to beat.

The median beat tells neither. Of T: how much its size varies from beat to beat, and the covariance of a beat's size
with the next one's (negative where every other beat is larger: T-wave alternans, Nearing and Verrier 2002,
doi:10.1152/japplphysiol.00592.2001), in squared units of 100 microvolts: where beats alternate, the median one is
now a small one and now a large one, and what they differ by is the same. Of P: how much its place before R varies,
by how much it moves from one beat to the next (a growing PR interval, as before Wenckebach's pause), where it is
and how far from a usual place, squared, and how large it is in each lead once beats are aligned at it. Fixed
functions of one window, finite for finite windows.
"""

import math

import torch
from torch import Tensor

from fedsynth.modalities.ecg.beats import (
    BEFORE,
    DetectedBeats,
    beat_samples,
    beat_seconds,
    convolve,
    cut_beats,
    find_beats,
    impulses,
    outside_qrs,
)
from fedsynth.modalities.ecg.features import left_by_median, noise_powers
from fedsynth.modalities.ecg.leads import axes_of, keep_identities
from fedsynth.modalities.ecg.noise import power_gains
from fedsynth.modalities.ecg.passband import band_limit, pass_upper_edge
from fedsynth.modalities.shape import Shape

N_SERIES = 6  # numbers besides the sizes of P
T_VARIANCE, T_COVARIANCE, P_VARIANCE, P_STEP, P_PLACE, P_SPREAD = range(N_SERIES)
SECONDS = 0.04
"""The unit of places and steps."""

_LEAST_SECONDS = 4.0  # of a window that shows several beats
_P_FROM, _P_TO = -BEFORE, -0.07  # seconds after R between which P is looked for
_T_FROM, _T_TO, _FADE = 0.12, 0.42, 0.02
_P_WIDTH = 0.022  # seconds, standard deviation of a P wave
_SIZE_UV = 100.0  # the unit of sizes
_FLOOR_UV2 = 25.0
_MOST = (1.0, 1.0, 2.0, 2.0, 8.0, 8.0)
_USUAL_PLACE = 4.5  # units before R
_LARGEST_P = 5.0
_LEAST_STEP = 0.25  # of the unit, from which P is moved
_STEADY = 0.5  # variance of P's place below which P is where it is found; beyond, noise is found
_UNLIKE = 0.2  # of its size, by which P differs between windows
_LEAST_VARIANCE = 0.01  # of T's size, from which it is changed
_LARGEST_SHARE = 3.0  # of the median beat's T that another one's may be larger
_CLOSEST, _FARTHEST = 0.09, 0.29  # seconds before R at which P may be drawn
_MOST_BEATS = 8  # of a cycle
_TURNS = 3  # of making noise quieter
_QUIETEST = -2.0  # log10 of the power that is left of noise in a band, at least


def has_series(shape: Shape) -> bool:
    """Return whether windows of this shape show beats that follow one another."""
    return shape.modality == "ecg" and not shape.centred and shape.n_times / shape.sfreq >= _LEAST_SECONDS


def n_numbers(shape: Shape) -> int:
    """Return how many numbers `beat_series` gives; none where windows show no beats that follow one another."""
    return N_SERIES + len(shape.channels) if has_series(shape) else 0


def beat_series(signal: Tensor, shape: Shape) -> Tensor:
    """Return numbers of windows, shape (window, number): of T, of P, and P's size in every lead.

    Args:
        signal: microvolts, shape (window, channel, time).
        shape: of the windows.
    """
    _, cut, middle = _seen(signal, shape)
    size, place, height = _t_sizes(cut, middle, shape) * _t_rms(middle, shape), *_p_waves(cut, shape)
    steps = (place[:, 1:] - place[:, :-1]).nanmedian(dim=1).values
    numbers = torch.stack(
        [
            _off(size).square().nanmean(dim=1),
            (_off(size)[:, 1:] * _off(size)[:, :-1]).nanmean(dim=1),
            _off(place).square().nanmean(dim=1),
            steps,
            place.nanmean(dim=1),
            (place.nanmean(dim=1) - _USUAL_PLACE).square(),
        ],
        dim=1,
    ).nan_to_num(0.0)
    most = torch.tensor(_MOST).to(numbers)
    heights = height.nanmean(dim=2).nan_to_num(0.0).clamp(-_LARGEST_P, _LARGEST_P)
    return torch.cat([numbers.clamp(-most, most), heights], dim=1)


def to_be_drawn(numbers: Tensor) -> Tensor:
    """Return the numbers of all labels, shape (label, number), with P's place unknown where it moves in none.

    A P wave that is drawn anew is a bell, the same in every lead, which no recording's is. That is worth it only to
    tell a label whose P moves from the others, and then all of them must be drawn alike.
    """
    if bool((numbers[:, P_STEP].abs() > _LEAST_STEP).any()):
        return numbers
    unknown = torch.arange(numbers.shape[1]).to(numbers.device) == P_VARIANCE
    return torch.where(unknown, _MOST[P_VARIANCE], numbers)


@torch.no_grad()
def series_added(signal: Tensor, numbers: Tensor, shape: Shape) -> Tensor:
    """Return what to add to windows, microvolts (window, channel, time), so that beats follow one another as asked.

    T's size gets so much more variance and covariance from beat to beat. P waves are taken out and drawn anew, at
    one place or, where a step is asked for, in a cycle that begins somewhere; where P's place says nothing, as in
    fibrillation, they stay. Chance comes from the window's own beats. What beats then differ by was part of what
    the median beat leaves of a recording, and so of the noise that a window was drawn with: noise between QRS
    complexes becomes quieter, until as much is left as before.

    Args:
        signal: microvolts, shape (window, channel, time).
        numbers: as `beat_series` has them, shape (window, number); of T what is to be added.
        shape: of the windows.
    """
    beats, cut, middle = _seen(signal, shape)
    chance = _off(_t_sizes(cut, middle, shape)).nan_to_num(0.0)
    at = beat_seconds(shape.sfreq)
    t_part = middle * _ramp(at, _T_FROM, _T_TO)
    share = _more_t(chance, beats, numbers) / _t_rms(middle, shape)
    added = _train(beats, share.clamp(-_LARGEST_SHARE, _LARGEST_SHARE), t_part, shape)
    drawn = (numbers[:, P_STEP].abs() > _LEAST_STEP) | (numbers[:, P_VARIANCE] < _STEADY)
    if bool(drawn.any()):
        gone = _train(beats, -beats.found.to(signal.dtype), _p_part(middle, shape), shape)
        added = added + torch.where(drawn[:, None, None], gone + _p_drawn(chance, beats, numbers, shape), 0.0)
    added = band_limit(added, shape)
    return keep_identities(added + _less_noise(signal, added, beats, shape), shape.channels)


def _less_noise(signal: Tensor, added: Tensor, beats: DetectedBeats, shape: Shape) -> Tensor:
    """Return what to add besides, so that beats that differ leave no more between QRS complexes than noise did."""
    mask = outside_qrs(beats, n_times=shape.n_times, sfreq=shape.sfreq)
    rest = left_by_median(signal, beats, shape)
    asked = noise_powers(rest, mask, shape)
    gain = torch.zeros_like(asked)
    more = torch.zeros_like(signal)
    for _ in range(_TURNS):
        now = noise_powers(left_by_median(signal + added + more, beats, shape), mask, shape)
        gain = (gain + asked - now).clamp(_QUIETEST, 0)
        more = pass_upper_edge((power_gains(rest, gain, shape) - rest) * mask[:, None], shape)
    return more


def _seen(signal: Tensor, shape: Shape) -> tuple[DetectedBeats, Tensor, Tensor]:
    """Return beats, the signal round each of them (window, channel, beat, beat time), and the median one."""
    axes = torch.einsum("ac,wct->wat", axes_of(shape.channels, shape.every_lead).read, signal)
    beats = find_beats(axes, sfreq=shape.sfreq)
    cut = cut_beats(signal, beats, sfreq=shape.sfreq)
    return beats, cut, cut.nanmedian(dim=2).values.nan_to_num()


def _t_sizes(cut: Tensor, middle: Tensor, shape: Shape) -> Tensor:
    """Return the size of each beat's T wave beside the median one's, nan where it is not whole, (window, beat)."""
    wave, weight = _t_wave(middle, shape)
    own = wave.square().sum(dim=(1, 2)) + _FLOOR_UV2 * weight.sum()
    return ((cut * wave[:, :, None])[..., weight > 0].sum(dim=-1).sum(dim=1) / own[:, None]).clamp(-2, 4)


def _t_rms(middle: Tensor, shape: Shape) -> Tensor:
    """Return the root mean square of the median beat's T wave, in units, shape (window, 1)."""
    wave, weight = _t_wave(middle, shape)
    mean = wave.square().sum(dim=-1).mean(dim=1) / weight.sum()
    return (mean + _FLOOR_UV2).sqrt()[:, None] / _SIZE_UV


def _t_wave(middle: Tensor, shape: Shape) -> tuple[Tensor, Tensor]:
    """Return the T wave without its mean, the shape of `middle`, and where T is looked for (beat time,)."""
    weight = _ramp(beat_seconds(shape.sfreq), _T_FROM, _T_TO)
    wave = middle * weight
    return wave - weight * (wave.sum(dim=-1, keepdim=True) / weight.sum()), weight


def _p_waves(cut: Tensor, shape: Shape) -> tuple[Tensor, Tensor]:
    """Return each beat's place of P before R, in units, (window, beat), and its size by lead (window, lead, beat).

    The place is where a Gaussian of a P wave's width fits best, over all leads; nan where it cannot be looked for.
    """
    at = beat_seconds(shape.sfreq)
    look = (at >= _P_FROM) & (at <= _P_TO)
    seconds = at[look]
    segment = _unsloped(cut[..., look])
    bells = _unsloped(torch.exp(-0.5 * ((seconds[:, None] - seconds) / _P_WIDTH) ** 2))
    fits = segment @ (bells / bells.square().sum(dim=1, keepdim=True)).T
    best = (fits.nan_to_num().square().sum(dim=1) * bells.square().sum(dim=1)).argmax(dim=-1)
    height = fits.gather(3, best[:, None, :, None].expand(-1, fits.shape[1], -1, 1))[..., 0] / _SIZE_UV
    place = torch.where(segment.isnan().any(dim=-1).any(dim=1), math.nan, -seconds[best] / SECONDS)
    return place, height


def _more_t(chance: Tensor, beats: DetectedBeats, numbers: Tensor) -> Tensor:
    """Return by how much T is larger in each beat, in units, (window, beat): a chain of the asked covariance."""
    variance = numbers[:, T_VARIANCE].clamp_min(0.0)
    memory = (numbers[:, T_COVARIANCE] / variance.clamp_min(1e-6)).clamp(-1, 1)
    own = chance / (chance.square().mean(dim=1, keepdim=True).sqrt() + 1e-6)
    # Which beat is larger is left to a coin: the first one's own deviation leans to one side.
    coin = torch.where(_lots(chance)[:, 0] < 0.5, -1.0, 1.0).to(own)
    chain = [coin * own[:, 0].abs()]
    for beat in range(1, own.shape[1]):
        chain.append(memory * chain[-1] + (1 - memory.square()).sqrt() * own[:, beat])
    made = torch.stack(chain, dim=1) * beats.found
    rms = (made.square().sum(dim=1) / beats.found.sum(dim=1).clamp_min(1)).sqrt()
    size = torch.where(variance > _LEAST_VARIANCE, variance.sqrt(), 0.0) / (rms + 1e-6)
    return made * size[:, None]


def _lots(chance: Tensor) -> Tensor:
    """Return two numbers from 0 to 1 that follow from what a window's beats differ by, shape (window, 2)."""
    return (chance.square().sum(dim=1, keepdim=True).sqrt() * torch.tensor([9973.0, 99991.0]).to(chance)).frac()


def _p_part(middle: Tensor, shape: Shape) -> Tensor:
    """Return what the median beat shows where P is looked for, beside a straight line, the shape of `middle`."""
    at = beat_seconds(shape.sfreq)
    look = ((at >= _P_FROM) & (at <= _P_TO)).to(middle)
    centred = (at.to(middle) - (look * at).sum() / look.sum()) * look
    slope = (middle * centred).sum(dim=-1, keepdim=True) / centred.square().sum()
    level = (middle * look).sum(dim=-1, keepdim=True) / look.sum()
    return (middle - level - slope * centred) * _ramp(at, _P_FROM - _FADE, _P_TO + _FADE)


def _p_drawn(chance: Tensor, beats: DetectedBeats, numbers: Tensor, shape: Shape) -> Tensor:
    """Return P waves at the place asked for, moved by the step asked for and begun anew after a cycle."""
    step = numbers[:, P_STEP]
    moves = (step.abs() > _LEAST_STEP).to(step)
    cycle = (1 + 12 * numbers[:, P_VARIANCE].clamp_min(0) / step.square().clamp_min(1e-6)).sqrt()
    cycle = cycle.round().clamp(2, _MOST_BEATS)
    lots = _lots(chance)
    first = (lots[:, 0] * cycle).floor()
    phase = torch.remainder(first[:, None] + torch.arange(beats.at.shape[1]), cycle[:, None])
    off = step[:, None] * (phase - (cycle[:, None] - 1) / 2) * moves[:, None]
    spread = (numbers[:, P_SPREAD] - (numbers[:, P_PLACE] - _USUAL_PLACE).square()).clamp_min(0).sqrt()
    # Uniform, so that no place is far from those that were seen.
    own = spread * math.sqrt(12.0) * (lots[:, 1] - 0.5)
    place = (numbers[:, P_PLACE] + own)[:, None] + off
    seconds = beats.at / shape.sfreq - (place * SECONDS).clamp(_CLOSEST, _FARTHEST)
    bell = torch.exp(-0.5 * (beat_seconds(shape.sfreq) / _P_WIDTH) ** 2)
    larger = 1 + _UNLIKE * math.sqrt(12.0) * ((lots * 31).frac()[:, 1] - 0.5)
    wave = _SIZE_UV * (larger[:, None] * numbers[:, N_SERIES:])[:, :, None] * bell
    return _put(seconds, beats.found.to(wave.dtype), wave, shape)


def _train(beats: DetectedBeats, gains: Tensor, wave: Tensor, shape: Shape) -> Tensor:
    return _put(beats.at / shape.sfreq, gains * beats.found, wave, shape)


def _put(seconds: Tensor, gains: Tensor, wave: Tensor, shape: Shape) -> Tensor:
    _, size = beat_samples(shape.sfreq)
    train = impulses(seconds, gains, n_times=shape.n_times, sfreq=shape.sfreq, margin=size)
    return convolve(train, wave, n_times=shape.n_times, sfreq=shape.sfreq)


def _ramp(at: Tensor, first: float, last: float) -> Tensor:
    """Return 1 between two times and 0 outside, with linear edges."""
    return torch.minimum((at - first) / _FADE, (last - at) / _FADE).clamp(0, 1)


def _unsloped(rows: Tensor) -> Tensor:
    """Return rows, of any shape ending in time, without mean and slope: baselines wander."""
    line = torch.linspace(-1, 1, rows.shape[-1]).to(rows)
    rows = rows - rows.mean(dim=-1, keepdim=True)
    return rows - (rows * line).sum(dim=-1, keepdim=True) / line.square().sum() * line


def _off(numbers: Tensor) -> Tensor:
    return numbers - numbers.nanmean(dim=1, keepdim=True)
