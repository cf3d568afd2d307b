"""ECG leads: from channel names to a few public axes and back, so that twelve leads cost little more than three.

Leads that are all known by name are seen as projections of one heart dipole (X to the left, Y to the feet, Z to the
back) through the lead vectors of Dower, Machado and Osborne (Clin Cardiol 1980; 3:87-95), which give I, II and V1
to V6; the other limb leads follow from Einthoven's and Goldberger's identities.
"""

from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

_DOWER = {
    "I": (0.632, -0.235, 0.059),
    "II": (0.235, 1.066, -0.132),
    "V1": (-0.515, 0.157, -0.917),
    "V2": (0.044, 0.164, -1.387),
    "V3": (0.882, 0.098, -1.277),
    "V4": (1.213, 0.127, -0.601),
    "V5": (1.125, 0.127, -0.086),
    "V6": (0.831, 0.076, 0.230),
}
_LIMB = {  # weights of leads I and II
    "I": (1.0, 0.0),
    "II": (0.0, 1.0),
    "III": (-1.0, 1.0),
    "AVR": (-0.5, -0.5),
    "AVL": (1.0, -0.5),
    "AVF": (-0.5, 1.0),
}
_FEW = 3  # so many channels, or fewer, are their own axes


@dataclass(frozen=True)
class Axes:
    """How channels and axes are related.

    `read` (axis, channel) turns a signal into axes, `spread` (channel, axis) turns axes into a signal, `vectors`
    (axis, dipole) is what the simulator's dipole shows on each axis where the leads are known, else None.
    """

    read: Tensor
    spread: Tensor
    vectors: Tensor | None


def lead_name(channel: str) -> str:
    """Return a lead's name in capitals, the monitor's "ML" and "ECG" taken off.

    >>> lead_name("MLII"), lead_name("aVR"), lead_name("ECG V1")
    ('II', 'AVR', 'V1')
    """
    name = channel.strip().upper().removeprefix("ECG").strip(" _-")
    return name.removeprefix("ML") if name.removeprefix("ML") in _LIMB else name


def lead_vector(channel: str) -> tuple[float, float, float] | None:
    """Return what a unit dipole along X, Y and Z shows in a lead, or None for an unknown lead."""
    name = lead_name(channel)
    if name in _LIMB:
        first, second = _LIMB[name]
        pairs = zip(_DOWER["I"], _DOWER["II"], strict=True)
        x, y, z = (first * one + second * two for one, two in pairs)
        return (x, y, z)
    return _DOWER.get(name)


@lru_cache(maxsize=16)
def axes_of(channels: tuple[str, ...]) -> Axes:
    """Return the axes of these channels.

    Up to three channels are their own axes. More, all known, become the three dipole axes by least squares. More,
    some unknown, share one axis, their mean.
    """
    found = [lead_vector(channel) for channel in channels]
    known = [vector for vector in found if vector is not None]
    vectors = torch.tensor(known, dtype=torch.float64) if len(known) == len(channels) else None
    if len(channels) <= _FEW:
        same = torch.eye(len(channels))
        return Axes(same, same, None if vectors is None else vectors.float())
    if vectors is None or int(torch.linalg.matrix_rank(vectors)) < _FEW:
        one = torch.ones(len(channels), 1)
        return Axes(one.T / len(channels), one, None)
    return Axes(torch.linalg.pinv(vectors).float(), vectors.float(), torch.eye(_FEW))


@lru_cache(maxsize=16)
def _dependent(channels: tuple[str, ...]) -> tuple[tuple[int, int, int, float, float], ...]:
    """Return for each limb lead that follows from two others: its place, theirs, and their weights."""
    names = [lead_name(channel) for channel in channels]
    if "I" not in names or "II" not in names:
        return ()
    first, second = names.index("I"), names.index("II")
    rows = [(place, name) for place, name in enumerate(names) if name in _LIMB and place not in (first, second)]
    return tuple((place, first, second, *_LIMB[name]) for place, name in rows)


def keep_identities(signal: Tensor, channels: tuple[str, ...]) -> Tensor:
    """Rewrite the limb leads that follow from I and II: III = II - I, aVR = -(I + II) / 2, and so on.

    Args:
        signal: microvolts, shape (window, channel, time).
        channels: names of the channels.
    """
    rows = list(signal.unbind(dim=1))
    for place, first, second, one, two in _dependent(channels):
        rows[place] = one * rows[first] + two * rows[second]
    return torch.stack(rows, dim=1)
