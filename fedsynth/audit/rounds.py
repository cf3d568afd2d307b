"""From the parts that a site trained to how likely each canary was in, where no noisy sum leaves the site.

The adversary knows the parameters at which a round began, what each canary would contribute there, and the public
half of training. It plays the round again with coins of its own, and learns from those how far a canary's being in
carries the parts along that canary's gradient (Andrew et al. 2024, "One-shot empirical privacy estimation for
federated learning", arXiv:2302.03098, takes the same cosine). A gradient is the mean of those at the two ends of
the round.
"""

import math
from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fedsynth.audit.bounds import Floats

Play = Callable[[list[Tensor]], Floats]
"""From the noisy sums of a round to how far the private parameters moved, shape (parameter,)."""
_PLAYS = 4  # of each loudness of the noise
_LOUDNESSES = (1.0, 0.0)  # as claimed, and none: an auditor need not believe


def round_scores(
    moved: Floats,
    contributions: Floats,
    *,
    play: Play,
    steps: int,
    sampling_probability: float,
    noise_std: float,
    others: Floats,
    n_others: int,
    rng: np.random.Generator,
) -> Floats:
    """Return each canary's log odds of being in, shape (canary,), from where a round ended.

    Args:
        moved: by how much the private parameters moved, shape (parameter,).
        contributions: of each canary, clipped, shape (canary, parameter).
        play: plays the round.
        steps: noisy sums in the round.
        sampling_probability: with which each unit is drawn for each of them.
        noise_std: as claimed, of each coordinate of a sum.
        others: contributions of units that are known to be in, or of some of them, shape (some, parameter).
        n_others: how many such units there are.
        rng: for the adversary's own coins and noise.
    """
    lengths = np.maximum(np.linalg.norm(contributions, axis=1, keepdims=True), 1e-300)
    directions = contributions / lengths
    each = max(1, round(n_others / max(1, len(others))))

    def played(loudness: float) -> tuple[NDArray[np.bool_], Floats]:
        coins = rng.random(len(contributions)) < 0.5
        sums = []
        for _ in range(steps):
            drawn = coins & (rng.random(len(coins)) < sampling_probability)
            weights = rng.binomial(each, sampling_probability, size=len(others)).astype(float)
            noise = loudness * noise_std * rng.normal(size=contributions.shape[1])
            sums.append(torch.from_numpy(contributions[drawn].sum(axis=0) + weights @ others + noise))
        return coins, directions @ play(sums)

    seen = directions @ moved
    best, answer = -math.inf, np.zeros(len(contributions))
    for loudness in _LOUDNESSES:
        games = [played(loudness) for _ in range(_PLAYS)]
        likelihood, odds = _odds(
            seen, coins=np.array([coins for coins, _ in games]), ends=np.array([end for _, end in games])
        )
        if likelihood > best:
            best, answer = likelihood, odds
    return answer


def _odds(seen: Floats, *, coins: NDArray[np.bool_], ends: Floats) -> tuple[float, Floats]:
    """Return the log likelihood of what was seen, and each coin's log odds, by one normal law for in and for out.

    Every canary has a mean of its own; the shift by being in, and the spread, are common to all (least squares).
    """
    is_in = coins.astype(float)
    centred, shifted = is_in - is_in.mean(axis=0), ends - ends.mean(axis=0)
    shift = float((centred * shifted).sum() / max(float((centred**2).sum()), 1e-300))
    left = shifted - shift * centred
    games = len(coins)
    variance = float((left**2).sum()) / max(1, left.size - left.shape[1] - 1) * (1 + 1 / games) + 1e-300
    middle = ends.mean(axis=0) + shift * (0.5 - is_in.mean(axis=0))
    far = seen - middle
    far = far - np.median(far)  # coins are fair: whatever is wrong with the middle of all of them is put right
    densities = [-((far - side * shift / 2) ** 2) / (2 * variance) for side in (1, -1)]
    likelihood = float(np.logaddexp(*densities).sum()) - 0.5 * len(seen) * math.log(variance)
    odds: Floats = densities[0] - densities[1]
    return likelihood, odds
