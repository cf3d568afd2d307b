"""A round of training is scored by the parts that leave, and only as well as those give anybody away."""

import numpy as np
import pytest
from numpy.typing import NDArray
from torch import Tensor

from fedsynth.audit.rounds import round_scores

CANARIES, SIZE, STEPS = 40, 400, 5
Floats = NDArray[np.float64]


def play(sums: list[Tensor]) -> Floats:
    """Walk against every sum by its signs, as an optimizer does that divides by the gradient's own size."""
    moved: Floats = -0.01 * np.sum([np.sign(total.numpy()) for total in sums], axis=0)
    return moved


def played(noise: float, *, claimed: float, probability: float = 1.0) -> tuple[Floats, NDArray[np.bool_]]:
    """Return each canary's score, and who was in, in a round with this noise in each of five sums."""
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(CANARIES, SIZE))
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    others = 0.05 * rng.normal(size=(10, SIZE))
    coins = rng.random(CANARIES) < 0.5
    sums = []
    for _ in range(STEPS):
        drawn, company = (rng.random(n) < probability for n in (CANARIES, 10))
        total = rows[coins & drawn].sum(axis=0) + others[company].sum(axis=0) + noise * rng.normal(size=SIZE)
        sums.append(Tensor(total))
    scores = round_scores(
        play(sums),
        rows,
        play=play,
        steps=STEPS,
        sampling_probability=probability,
        noise_std=claimed,
        others=others,
        n_others=10,
        rng=np.random.default_rng(1),
    )
    return scores, coins


@pytest.mark.parametrize("probability", [1.0, 0.5])
def test_without_noise_whoever_is_in_stands_out(probability: float) -> None:
    scores, coins = played(0.0, claimed=3.0, probability=probability)

    assert ((scores > 0) == coins).mean() > 0.9


def test_under_noise_nobody_does_and_scores_are_modest() -> None:
    scores, coins = played(3.0, claimed=3.0)

    assert 0.3 < ((scores > 0) == coins).mean() < 0.75
    assert np.abs(scores).max() < 3
