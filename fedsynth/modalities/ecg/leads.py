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
LIMB_WEIGHTS = {  # of leads I and II
    "I": (1.0, 0.0),
    "II": (0.0, 1.0),
    "III": (-1.0, 1.0),
    "AVR": (-0.5, -0.5),
    "AVL": (1.0, -0.5),
    "AVF": (-0.5, 1.0),
}
_MARGIN = 1e-6  # leads that are brought into range end so much inside it, which is more than their sums round by
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

    @property
    def number(self) -> int:
        """Return how many axes there are."""
        return len(self.read)


def lead_name(channel: str) -> str:
    """Return a lead's name in capitals, the monitor's "ML" and "ECG" taken off.

    >>> lead_name("MLII"), lead_name("aVR"), lead_name("ECG V1")
    ('II', 'AVR', 'V1')
    """
    name = channel.strip().upper().removeprefix("ECG").strip(" _-")
    return name.removeprefix("ML") if name.removeprefix("ML") in LIMB_WEIGHTS else name


def lead_vector(channel: str) -> tuple[float, float, float] | None:
    """Return what a unit dipole along X, Y and Z shows in a lead, or None for an unknown lead."""
    name = lead_name(channel)
    if name in LIMB_WEIGHTS:
        first, second = LIMB_WEIGHTS[name]
        pairs = zip(_DOWER["I"], _DOWER["II"], strict=True)
        x, y, z = (first * one + second * two for one, two in pairs)
        return (x, y, z)
    return _DOWER.get(name)


@lru_cache(maxsize=16)
def axes_of(channels: tuple[str, ...], every_lead: bool = False) -> Axes:
    """Return the axes of these channels.

    Up to three channels are their own axes. More, all known, become the three dipole axes by least squares, or with
    `every_lead` every lead that does not follow from the others: of twelve the eight that were measured. More, some
    unknown, share one axis, their mean.
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
    if every_lead:
        return _measured_leads(channels, vectors)
    return Axes(torch.linalg.pinv(vectors).float(), vectors.float(), torch.eye(_FEW))


def _measured_leads(channels: tuple[str, ...], vectors: Tensor) -> Axes:
    """Return axes that are leads; those that follow from them are told apart by least squares."""
    dependent = _dependent(channels)
    own = [place for place in range(len(channels)) if place not in {row[0] for row in dependent}]
    spread = torch.zeros(len(channels), len(own), dtype=torch.float64)
    for axis, place in enumerate(own):
        spread[place, axis] = 1.0
    for place, first, second, one, two in dependent:
        spread[place, own.index(first)], spread[place, own.index(second)] = one, two
    return Axes(torch.linalg.pinv(spread).float(), spread.float(), vectors[own].float())


def keep_identities(signal: Tensor, channels: tuple[str, ...]) -> Tensor:
    """Rewrite the limb leads that follow from two others: III = II - I, aVR = -(I + II) / 2, and so on.

    Any two limb leads give the rest; the two are the first there are of I, II, III, aVR, aVL and aVF.

    Args:
        signal: microvolts, shape (window, channel, time).
        channels: names of the channels.
    """
    rows = list(signal.unbind(dim=1))
    for place, first, second, one, two in _dependent(channels):
        rows[place] = one * rows[first] + two * rows[second]
    return torch.stack(rows, dim=1)


def within_range(signal: Tensor, channels: tuple[str, ...], range_uv: float) -> Tensor:
    """Bring amplitudes within plus or minus `range_uv` so that limb leads keep their identities.

    Cut one by one, III would no longer be II - I wherever one of them was cut. Limb leads of which two give the
    rest are scaled together instead, sample by sample, until the largest of them fits; other leads are cut.

    Args:
        signal: microvolts, shape (window, channel, time).
        channels: names of the channels.
        range_uv: the study's range in microvolts.
    """
    cut = signal.clamp(-range_uv, range_uv)
    dependent = _dependent(channels)
    if not dependent:
        return cut
    _, first, second, _, _ = dependent[0]
    limb = [first, second, *(place for place, *_ in dependent)]
    # Far beyond any lead, so that sums and differences of what overflowed stay numbers.
    whole = keep_identities(signal.clamp(-1e3 * range_uv, 1e3 * range_uv), channels)[:, limb]
    loudest = whole.abs().amax(dim=1, keepdim=True)
    factor = torch.where(loudest > range_uv, (1 - _MARGIN) * range_uv / loudest, torch.ones_like(loudest))
    cut[:, limb] = whole * factor
    return keep_identities(cut, channels)


@lru_cache(maxsize=16)
def _dependent(channels: tuple[str, ...]) -> tuple[tuple[int, int, int, float, float], ...]:
    """Return for each limb lead that follows from two others: its place, theirs, and their weights."""
    order = list(LIMB_WEIGHTS)
    names = [lead_name(channel) for channel in channels]
    limb = sorted(
        (place for place, name in enumerate(names) if name in LIMB_WEIGHTS), key=lambda p: order.index(names[p])
    )
    if not limb:
        return ()
    first, (a, b) = limb[0], LIMB_WEIGHTS[names[limb[0]]]
    for second in limb[1:]:
        c, d = LIMB_WEIGHTS[names[second]]
        if determinant := a * d - b * c:
            break
    else:
        return ()
    rows = []
    for place in sorted(set(limb) - {first, second}):
        x, y = LIMB_WEIGHTS[names[place]]
        # Cramer's rule for (x, y) as a sum of (a, b) and (c, d), all in units of leads I and II.
        rows.append((place, first, second, (x * d - y * c) / determinant, (a * y - b * x) / determinant))
    return tuple(rows)
