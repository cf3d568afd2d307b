"""The budget: from what a plan wants to do to how much noise each sum gets, so that the total meets epsilon.

The split is a public function of the plan. Sums over the whole group share by weight: the noise multiplier of
a sum of weight w is m / sqrt(w), one m for all. Sampled sums (DP-SGD) are priced alone at their share first.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial

from fedsynth.privacy.accountant import least_noise
from fedsynth.privacy.mechanism import Group, Mechanism


@dataclass(frozen=True)
class Wish:
    """A private sum that a plan wants. `weight` counts among the whole-group sums; sampled ones ignore it."""

    purpose: str
    clipping_norm: float
    weight: float = 1.0
    sampling_probability: float = 1.0
    steps: int = 1
    group: Group = "train"


def share_budget(
    wishes: Sequence[Wish],
    *,
    epsilon: float,
    delta: float,
    gradient_share: float,
    unit: str = "subject",
    noise_shares: int = 1,
) -> tuple[Mechanism, ...]:
    """Give every wish its noise, so that each group's total is at most `epsilon` and within 0.5 % of it.

    Args:
        wishes: in the order they will be done.
        epsilon: the target per group; infinity means no noise and no clipping at all.
        delta: of the promise.
        gradient_share: part of epsilon that the sampled sums may spend, in (0, 1); all of it if there is
            nothing else.
        unit: the privacy unit that every wish bounds.
        noise_shares: in how many shares the noise of every sum is drawn, at as many sites.

    Raises:
        PrivacyError: no reasonable noise meets the target.
    """
    if math.isinf(epsilon):
        return tuple(replace(_mechanism(wish, 0.0, clipping_norm=math.inf), unit=unit) for wish in wishes)
    done: dict[Wish, Mechanism] = {}
    groups: tuple[Group, ...] = ("train", "held-out")
    for group in groups:
        mine = [wish for wish in wishes if wish.group == group]
        sampled = [wish for wish in mine if wish.sampling_probability < 1]
        whole = [wish for wish in mine if wish.sampling_probability == 1]
        if sampled:
            share = epsilon * gradient_share if whole else epsilon
            sigma = least_noise(partial(_alike, sampled), epsilon=share, delta=delta)
            done |= dict(zip(sampled, _alike(sampled, sigma), strict=True))
        if whole:
            spent = [done[wish] for wish in sampled]
            scale = least_noise(partial(_weighted, spent, whole), epsilon=epsilon, delta=delta)
            done |= dict(zip(whole, _weighted([], whole, scale), strict=True))
    return tuple(replace(done[wish], unit=unit, noise_shares=noise_shares) for wish in wishes)


def _alike(wishes: Sequence[Wish], noise_multiplier: float) -> list[Mechanism]:
    return [_mechanism(wish, noise_multiplier) for wish in wishes]


def _weighted(spent: Sequence[Mechanism], wishes: Sequence[Wish], scale: float) -> list[Mechanism]:
    return [*spent, *(_mechanism(wish, scale / math.sqrt(wish.weight)) for wish in wishes)]


def _mechanism(wish: Wish, noise_multiplier: float, *, clipping_norm: float | None = None) -> Mechanism:
    return Mechanism(
        purpose=wish.purpose,
        noise_multiplier=noise_multiplier,
        sampling_probability=wish.sampling_probability,
        steps=wish.steps,
        clipping_norm=wish.clipping_norm if clipping_norm is None else clipping_norm,
        group=wish.group,
    )
