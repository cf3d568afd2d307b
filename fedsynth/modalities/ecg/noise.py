"""What lies between beats, lead by lead: noise of electrodes, and how beats themselves change.

A lead is a difference of electrodes' potentials: I is left arm less right arm, a chest lead its electrode less the
mean of the limbs' (Wilson's central terminal). Muscle and skin are heard by one electrode and so by every lead that
it is part of. What is slow is mostly the beat changing with breath and rhythm: it has the beat's own pattern over
leads. Constants of the second part were looked at on PTB-XL (docs/benchmark.md).
"""

import math
from functools import lru_cache

import torch
from torch import Tensor

from fedsynth.modalities.ecg.beats import qrs_bell
from fedsynth.modalities.ecg.features import bands, noise_powers
from fedsynth.modalities.ecg.leads import LIMB_WEIGHTS, axes_of, lead_name
from fedsynth.modalities.shape import Shape

_HEART, _SLOW_HZ, _STEEPNESS = 0.8, 9.0, 4  # share of the variance that is the beat's, up to which frequency
_LOUDNESS = 0.35  # standard deviation of the logarithm of an electrode's amplitude
_SHARED = math.sqrt(0.5)  # of the noise of channels of which nothing is known


def n_own(shape: Shape) -> int:
    """Return how many waves of noise belong to one place: electrodes of known leads, otherwise channels."""
    electrodes = electrodes_of(shape.channels)
    return len(shape.channels) if electrodes is None else electrodes.shape[1]


def loudness(normal: Tensor) -> Tensor:
    """Return electrodes' amplitudes for standard normal numbers; their mean square is 1."""
    return torch.exp(_LOUDNESS * normal - _LOUDNESS**2)


def mixed_places(local: Tensor, mixing: Tensor) -> Tensor:
    """Return a wave for every place, shape (window, place, time), each its own mixture of a few, as loud as it is.

    Args:
        local: of unit variance, shape (window, wave, time).
        mixing: standard normal, shape (window, place x wave).
    """
    weights = mixing.unflatten(1, (-1, local.shape[1]))
    return weights @ local / math.sqrt(local.shape[1])


def lead_noise(shared: Tensor, own: Tensor, template: Tensor, shape: Shape) -> Tensor:
    """Return noise for every channel, shape (window, channel, time), of about unit variance.

    Args:
        shared: of unit variance, shape (window, time).
        own: of unit variance, shape (window, place, time), places as `n_own` counts them.
        template: the beat on each axis, shape (window, axis, beat time).
        shape: of the windows.
    """
    if len(shape.channels) == 1:
        return shared[:, None]
    electrodes = electrodes_of(shape.channels)
    if electrodes is None:
        return _SHARED * (shared[:, None] + own)
    local = torch.einsum("ce,wet->wct", electrodes.to(own), own)
    share = _heart_share(shape).to(own)
    spectrum = torch.fft.rfft(shared)[:, None] * pattern_of(template, shape)[:, :, None] * share.sqrt()
    spectrum = spectrum + torch.fft.rfft(local) * (1 - share).sqrt()
    return torch.fft.irfft(spectrum, shape.n_times)


def pattern_of(template: Tensor, shape: Shape) -> Tensor:
    """Return how large the waves beside the QRS complex are in each lead, with sign, shape (window, channel)."""
    leads = torch.einsum("ca,wat->wct", axes_of(shape.channels, shape.every_lead).spread, template.detach())
    slow = leads * (1 - qrs_bell(shape.sfreq))
    products = slow @ slow.mT + 1e-3 * torch.eye(slow.shape[1])
    pattern = torch.linalg.eigh(products).eigenvectors[..., -1]
    # The sign must not hang on the linear algebra library.
    largest = pattern.gather(1, pattern.abs().argmax(dim=1, keepdim=True))
    return pattern * torch.sign(largest) * math.sqrt(pattern.shape[1])


@lru_cache(maxsize=16)
def electrodes_of(channels: tuple[str, ...]) -> Tensor | None:
    """Return what each electrode adds to each lead, shape (channel, electrode); None where a lead is not known.

    The right arm, the left arm, the left leg, then one electrode for each chest lead. Of unit variance in the mean
    over leads if electrodes are.
    """
    names = [lead_name(channel) for channel in channels]
    if len(names) == 1 or not all(name in LIMB_WEIGHTS or name.startswith("V") for name in names):
        return None
    chest = [name for name in names if name not in LIMB_WEIGHTS]
    arms = torch.tensor([[-1.0, 1.0, 0.0], [-1.0, 0.0, 1.0]])
    rows = torch.zeros(len(names), 3 + len(chest))
    for place, name in enumerate(names):
        if name in LIMB_WEIGHTS:
            rows[place, :3] = torch.tensor(LIMB_WEIGHTS[name]) @ arms
        else:
            rows[place, :3] = -1 / 3
            rows[place, 3 + chest.index(name)] = 1.0
    return rows / rows.square().sum(dim=1).mean().sqrt()


def colour_noise(source: Tensor, powers: Tensor, shape: Shape) -> Tensor:
    """Scale the bands of a source, shape (window, channel, time), to log10 microvolts squared (window, band)."""
    # As if of 100 microvolts, far above the floor of a power.
    own = noise_powers(100.0 * source, torch.ones_like(source[:, 0]), shape)
    return power_gains(source, powers.clamp(-2, 8) - own + 4.0, shape)


def power_gains(source: Tensor, gains: Tensor, shape: Shape) -> Tensor:
    """Return waves (window, channel, time) whose bands have so much more power, log10 (window, band)."""
    factors = torch.pow(10.0, 0.5 * gains @ _interpolation(shape))
    return torch.fft.irfft(torch.fft.rfft(source) * factors[:, None], shape.n_times)


@lru_cache(maxsize=8)
def _heart_share(shape: Shape) -> Tensor:
    """Return the share of the variance that is the beat's at each rfft bin."""
    frequencies = torch.fft.rfftfreq(shape.n_times, 1 / shape.sfreq)
    return _HEART / (1 + (frequencies / _SLOW_HZ) ** _STEEPNESS)


@lru_cache(maxsize=8)
def _interpolation(shape: Shape) -> Tensor:
    """Return linear weights from bands to rfft bins, shape (band, bin)."""
    limits = bands(shape)
    centres = torch.tensor([(first + last - 1) / 2 for first, last in limits])
    at = torch.arange(shape.n_times // 2 + 1, dtype=torch.float32).clamp(float(centres[0]), float(centres[-1]))
    if len(limits) == 1:
        return torch.ones(1, len(at))
    right = torch.searchsorted(centres, at).clamp(1, len(limits) - 1)
    share = (at - centres[right - 1]) / (centres[right] - centres[right - 1])
    weights = torch.zeros(len(limits), len(at))
    columns = torch.arange(len(at))
    weights[right - 1, columns] = 1 - share
    weights[right, columns] = share
    return weights
