"""The budget: from what a plan wants to do to how much noise each sum gets, so that the total meets epsilon.

The split is a public function of the plan. Sums over the whole group share by weight: the noise multiplier of
a sum of weight w is m / sqrt(w), one m for all. Sampled sums (DP-SGD) are priced alone at their share first.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import partial

from fedsynth.errors import PrivacyError
from fedsynth.privacy.accountant import least_noise
from fedsynth.privacy.mechanism import LEAST_NOISE_MULTIPLIER, Group, Mechanism

_LOTTERY = 10  # times delta


@dataclass(frozen=True)
class SumRequest:
    """A private sum that a plan wants. `weight` counts among the whole-group sums; sampled ones ignore it."""

    purpose: str
    clipping_norm: float
    weight: float = 1.0
    sampling_probability: float = 1.0
    steps: int = 1
    group: Group = "train"


def share_budget(
    requests: Sequence[SumRequest],
    *,
    epsilon: float,
    delta: float,
    gradient_share: float,
    unit: str = "subject",
    noise_shares: int = 1,
) -> tuple[Mechanism, ...]:
    """Give every request its noise, so that each group's total is at most `epsilon` and within 0.5 % of it.

    Args:
        requests: in the order they will be done.
        epsilon: the target per group; infinity means no noise and no clipping at all.
        delta: of the promise.
        gradient_share: part of epsilon that the sampled sums may spend, in (0, 1); all of it if there is
            nothing else.
        unit: the privacy unit that every request bounds.
        noise_shares: in how many shares the noise of every sum is drawn, at as many sites.

    Raises:
        PrivacyError: no reasonable noise meets the target.
    """
    if math.isinf(epsilon):
        return tuple(replace(_mechanism(request, 0.0, clipping_norm=math.inf), unit=unit) for request in requests)
    _refuse_lotteries(requests, delta=delta)
    done: dict[SumRequest, Mechanism] = {}
    groups: tuple[Group, ...] = ("train", "held-out")
    for group in groups:
        mine = [request for request in requests if request.group == group]
        sampled = [request for request in mine if request.sampling_probability < 1]
        whole = [request for request in mine if request.sampling_probability == 1]
        if sampled:
            share = epsilon * gradient_share if whole else epsilon
            sigma = least_noise(partial(_alike, sampled), epsilon=share, delta=delta)
            done |= dict(zip(sampled, _alike(sampled, sigma), strict=True))
        if whole:
            spent = [done[request] for request in sampled]
            scale = least_noise(partial(_weighted, spent, whole), epsilon=epsilon, delta=delta)
            done |= dict(zip(whole, _weighted([], whole, scale), strict=True))
    _refuse_bare_noise(done.values())
    return tuple(replace(done[request], unit=unit, noise_shares=noise_shares) for request in requests)


def _refuse_lotteries(requests: Sequence[SumRequest], *, delta: float) -> None:
    """Refuse sums that hardly anybody is drawn for: delta would then cover what they say of those who are.

    Raises:
        PrivacyError: a unit is drawn with a chance of at most ten delta over all steps.
    """
    for request in requests:
        chance = request.sampling_probability * request.steps
        if request.sampling_probability < 1 and chance <= _LOTTERY * delta:
            raise PrivacyError(
                f"{request.purpose}: a unit is drawn with a chance of {chance:g}, which delta = {delta:g} would "
                "cover whatever is then said of it; raise sampling_probability or the number of steps so that it "
                f"is above {_LOTTERY * delta:g}"
            )


def _refuse_bare_noise(mechanisms: Iterable[Mechanism]) -> None:
    """Refuse sums whose noise hides nobody, whatever they cost.

    Raises:
        PrivacyError: a noise multiplier below the least.
    """
    for mechanism in mechanisms:
        if mechanism.noise_multiplier < LEAST_NOISE_MULTIPLIER:
            raise PrivacyError(
                f"{mechanism.purpose}: its noise would be {mechanism.noise_multiplier:.3g} of what one unit may "
                f"contribute, and {LEAST_NOISE_MULTIPLIER:g} is the least; ask for a smaller epsilon, or draw "
                "units more often"
            )


def _alike(requests: Sequence[SumRequest], noise_multiplier: float) -> list[Mechanism]:
    return [_mechanism(request, noise_multiplier) for request in requests]


def _weighted(spent: Sequence[Mechanism], requests: Sequence[SumRequest], scale: float) -> list[Mechanism]:
    return [*spent, *(_mechanism(request, scale / math.sqrt(request.weight)) for request in requests)]


def _mechanism(request: SumRequest, noise_multiplier: float, *, clipping_norm: float | None = None) -> Mechanism:
    return Mechanism(
        purpose=request.purpose,
        noise_multiplier=noise_multiplier,
        sampling_probability=request.sampling_probability,
        steps=request.steps,
        clipping_norm=request.clipping_norm if clipping_norm is None else clipping_norm,
        group=request.group,
    )
