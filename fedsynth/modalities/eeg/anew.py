"""EEG waves simulated while windows are drawn: what `simulator` knows, one wave for every noise.

Each wave follows from a set of parameters (background, rhythms, discharges, how they wax and wane) and from normal
numbers, and is differentiable in neither. Parameters are drawn from a public seed with wide ranges and never fitted
to anybody.
"""

import math
from dataclasses import dataclass, fields
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from fedsynth.modalities.shape import Shape
from fedsynth.rng import numpy_generator, uniform_of

_RHYTHMS = 3
_SLOW = 10  # sines and cosines of which an envelope is made
_SLOW_HZ = 0.6  # where an envelope's spectrum has fallen to 1 / e
_MOST_A_SECOND = 8.0  # discharges
_BEYOND = 1.6  # times the upper edge of the pass band, up to which waves have anything
_MARGIN_S = 0.6  # simulated on either side of a window, at most a quarter of it


@dataclass(frozen=True)
class Parameters:
    """What waves are simulated from; every tensor has a row for each wave.

    `slope` of the background's power over frequency; of each rhythm its `centre` and `width` in Hz and its
    `strength` beside the background (row, rhythm); `waxing` of rhythms and `unrest` of everything in nepers;
    the second `harmonic` of rhythms beside the first and its `phase`; `steadiness`, 1 where a rhythm's envelope has
    nothing of chance. Discharges have a `size` beside the background, a `rate` a
    second, the `scatter` of their intervals, `spike` and `wave` in seconds, the wave's `depth`, a `sign`, and
    `uneven` sizes.
    """

    slope: Tensor
    centre: Tensor
    width: Tensor
    strength: Tensor
    waxing: Tensor
    unrest: Tensor
    harmonic: Tensor
    phase: Tensor
    steadiness: Tensor
    size: Tensor
    rate: Tensor
    scatter: Tensor
    spike: Tensor
    wave: Tensor
    depth: Tensor
    sign: Tensor
    uneven: Tensor
    echo: Tensor
    echo_s: Tensor

    def take(self, rows: Tensor) -> "Parameters":
        """Return the parameters of some rows."""
        return Parameters(*(getattr(self, field.name)[rows] for field in fields(self)))


def parameters(count: int, shape: Shape) -> Parameters:
    """Draw parameters from a public seed; ranges are those of `simulator`, and wider for what discharges do."""
    rng = numpy_generator("parameters of waves", f"{shape.bandpass}")
    low, high = shape.bandpass
    number = rng.integers(0, _RHYTHMS + 1, (count, 1))
    edges = math.log(max(low, 1.0)), math.log(high * 0.8)
    strength = rng.uniform(0.3, 2.5, (count, _RHYTHMS)) * (np.arange(_RHYTHMS) < number)
    regular = rng.random(count) < 0.6
    drawn = {
        "slope": rng.uniform(0.3, 3.2, count),
        "centre": np.exp(rng.uniform(*edges, (count, _RHYTHMS))),
        "width": np.exp(rng.uniform(math.log(0.2), math.log(2.5), (count, _RHYTHMS))),
        "strength": strength,
        "waxing": rng.uniform(0, 0.9, count),
        "unrest": rng.uniform(0.3, 1.2, count) * (rng.random(count) < 0.2),
        "harmonic": rng.uniform(0, 0.6, count) * (rng.random(count) < 0.5),
        "phase": rng.uniform(0, 2 * np.pi, count),
        "steadiness": rng.uniform(0, 1, count) * (rng.random(count) < 0.5),
        "size": np.exp(rng.uniform(math.log(0.5), math.log(12.0), count)) * (rng.random(count) < 0.45),
        "rate": np.where(regular, rng.uniform(1.5, 7.0, count), rng.uniform(0.3, 3.0, count)),
        "scatter": np.where(regular, rng.uniform(0.02, 0.3, count), 1.0),
        "spike": rng.uniform(0.008, 0.05, count),
        "wave": rng.uniform(0.05, 0.25, count),
        "depth": rng.uniform(0, 1.2, count),
        "sign": rng.choice([-1.0, 1.0], count),
        "uneven": np.exp(rng.uniform(math.log(0.02), math.log(0.4), count)),
        "echo": rng.uniform(-0.9, 0.9, count) * (rng.random(count) < 0.5),
        "echo_s": rng.uniform(0.03, 0.15, count),
    }
    return Parameters(**{name: torch.from_numpy(values.astype(np.float32)) for name, values in drawn.items()})


def margin(shape: Shape) -> int:
    """Return how many samples are simulated on either side of a window, so that its ends are no beginning."""
    return min(round(_MARGIN_S * shape.sfreq), shape.n_times // 4)


def noise_size(shape: Shape) -> int:
    """Return how many standard normal numbers a wave takes."""
    return 4 * _grid(shape).bins + 4 * _SLOW + 2 + 2 * _grid(shape).discharges


def simulate(asked: Parameters, noise: Tensor, shape: Shape) -> Tensor:
    """Return waves of about unit variance, shape (wave, n_times + 2 margin).

    Args:
        asked: a row for each wave.
        noise: standard normal, shape (wave, noise_size).
        shape: of the windows; channels do not matter.
    """
    grid = _grid(shape)
    sizes = [2 * grid.bins, 2 * grid.bins, 2 * _SLOW, 2 * _SLOW, 2, 2 * grid.discharges]
    background, rhythm, waxing, unrest, moment, discharges = noise.split(sizes, dim=1)
    gain = grid.hertz.clamp_min(0.5)[None] ** (-asked.slope[:, None] / 2)
    away = (grid.hertz[None, None] - asked.centre[..., None]) / asked.width[..., None]
    bell = torch.exp(-0.5 * away.square())
    power = bell.square()
    power = (power / power.sum(dim=2, keepdim=True).clamp_min(1e-6) * asked.strength.square()[..., None]).sum(dim=1)
    loud = asked.strength.square().sum(dim=1, keepdim=True).sqrt()
    rhythms = _cycles(rhythm, power.sqrt() / loud.clamp_min(1e-6), asked, grid) * loud
    rhythms = rhythms * torch.exp(asked.waxing[:, None] * _envelope(waxing, grid))
    base = gain / gain.square().sum(dim=1, keepdim=True).sqrt()
    wave = _coloured(background, base, grid) + rhythms
    wave = wave + asked.size[:, None] * _discharges(asked, moment, discharges, grid, shape)
    wave = wave * torch.exp(asked.unrest[:, None] * _envelope(unrest, grid))
    return wave / wave.square().mean(dim=1, keepdim=True).sqrt().clamp_min(1e-6)


@dataclass(frozen=True)
class _Grid:
    """The length simulated, its frequencies that waves have (bin,), and how many discharges there may be."""

    length: int
    bins: int
    hertz: Tensor
    response: Tensor
    discharges: int
    slow: Tensor
    seconds: float


@lru_cache(maxsize=8)
def _grid(shape: Shape) -> _Grid:
    from scipy.signal import butter, sosfreqz  # imported here: it takes a second, and most steps simulate nothing

    length = shape.n_times + 2 * margin(shape)
    low, high = shape.bandpass
    hertz = np.fft.rfftfreq(length, 1 / shape.sfreq)[1:]
    hertz = hertz[hertz <= _BEYOND * high]
    # The very filter that a site applies to recordings, forwards and backwards.
    sections = butter(4, (low, high), btype="bandpass", fs=shape.sfreq, output="sos")
    response = np.abs(sosfreqz(sections, worN=hertz, fs=shape.sfreq)[1]) ** 2
    seconds = length / shape.sfreq
    steps = np.arange(1, _SLOW + 1)
    weight = np.exp(-steps / seconds / _SLOW_HZ)
    turn = 2 * np.pi * steps[:, None] * np.arange(length)[None] / length
    slow = np.concatenate([np.cos(turn), np.sin(turn)]) * np.tile(weight, 2)[:, None]
    slow /= np.sqrt((weight**2).sum())
    return _Grid(
        length=length,
        bins=len(hertz),
        hertz=torch.from_numpy(hertz.astype(np.float32)),
        response=torch.from_numpy(response.astype(np.float32)),
        discharges=math.ceil(_MOST_A_SECOND * seconds) + 1,
        slow=torch.from_numpy(slow.astype(np.float32)),
        seconds=seconds,
    )


def _coloured(noise: Tensor, gain: Tensor, grid: _Grid) -> Tensor:
    """Return Gaussian noise whose amplitudes are `gain` (wave, bin); its variance is about the sum of squares."""
    real, imaginary = noise.split(grid.bins, dim=1)
    return _whole(torch.complex(real, imaginary) * (gain * grid.response), grid) * (grid.length / 2)


def _whole(spectrum: Tensor, grid: _Grid) -> Tensor:
    """Return the wave of a spectrum given from the first bin up to the last that waves have."""
    beyond = grid.length // 2 - grid.bins
    return torch.fft.irfft(torch.nn.functional.pad(spectrum, (1, beyond)), grid.length)


def _envelope(noise: Tensor, grid: _Grid) -> Tensor:
    """Return slow Gaussian waves of unit variance, shape (wave, length)."""
    return noise @ grid.slow


def _cycles(noise: Tensor, gain: Tensor, asked: Parameters, grid: _Grid) -> Tensor:
    """Return rhythms of about unit variance, whose cycles have a form and whose envelope is as steady as asked.

    A rhythm is the real part of an analytic signal of chance (Gabor 1946). Harmonics that follow its phase make
    peaks sharp or slopes steep (Cole and Voytek 2017, doi:10.1016/j.tics.2016.12.008); a power of its envelope is
    taken off.
    """
    real, imaginary = noise.split(grid.bins, dim=1)
    half = torch.complex(real, imaginary) * (gain * grid.response)
    whole = torch.fft.ifft(torch.nn.functional.pad(half, (1, grid.length - 1 - grid.bins))) * grid.length
    envelope = whole.abs().clamp_min(1e-3)
    first = whole / envelope
    turn = asked.harmonic[:, None] * torch.polar(torch.ones_like(asked.phase), asked.phase)[:, None] * first
    wave = (first * (1 + turn * (1 + turn))).real
    return wave * envelope ** (1 - asked.steadiness[:, None]) * 2 ** (asked.steadiness[:, None] / 2)


def _discharges(asked: Parameters, moment: Tensor, noise: Tensor, grid: _Grid, shape: Shape) -> Tensor:
    """Return trains of spikes and slow waves: an impulse for each, and its form by way of the spectrum."""
    late, large = noise.split(grid.discharges, dim=1)
    mean = 1 / asked.rate[:, None]
    # Scattered alike, up to wholly by chance (a Poisson process).
    even = (1 + asked.scatter[:, None] * late).clamp_min(0.3)
    chance = -torch.log((1 - uniform_of(late)).clamp_min(1e-6))
    interval = mean * torch.where(asked.scatter[:, None] < 1, even, chance)
    start = uniform_of(moment[:, :1]) * mean
    at = (start + interval.cumsum(dim=1) - interval[:, :1]) * shape.sfreq
    inside = at < grid.length - 1
    place = at.clamp(0, grid.length - 1.001)
    left = place.floor()
    size = torch.exp(asked.uneven[:, None] * large) * inside
    train = torch.zeros(len(at), grid.length)
    train.scatter_add_(1, left.long(), size * (1 - (place - left)))
    train.scatter_add_(1, left.long() + 1, size * (place - left))
    turn = 2 * math.pi * grid.hertz[None]
    spike, wave = asked.spike[:, None], asked.wave[:, None]
    scale = math.sqrt(2 * math.pi) * shape.sfreq
    form = scale * spike * torch.exp(-0.5 * (turn * spike).square()) + 0j
    again = asked.echo[:, None] * torch.polar(torch.ones_like(turn), -turn * asked.echo_s[:, None])
    form = form * (1 + again * (1 + again))
    late_by = spike + 1.5 * wave
    slow = asked.depth[:, None] * scale * wave * torch.exp(-0.5 * (turn * wave).square())
    form = asked.sign[:, None] * (form - torch.polar(slow, -turn * late_by)) * grid.response
    spectrum = torch.fft.rfft(train)[:, 1 : 1 + grid.bins]
    return _whole(spectrum * form, grid)
