"""Copies: whether synthetic windows are nearer to the windows that were trained on than other people's windows are.

What is computed here is about recordings and costs no budget: no number may leave, only that a release is refused.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from fedsynth.errors import PrivacyError
from fedsynth.evaluation.waves import largest_correlations

COMPARED = 300
"""So many synthetic and held-out windows, evenly spread, are compared with all windows that were trained on."""

EXCESS = {0.95: 0.15, 0.97: 0.15, 0.98: 0.15, 0.99: 0.03, 0.995: 0.03, 0.998: 0.03}
"""At each correlation, by how much the share of synthetic windows that reach it may exceed that of real windows of
people who did not train. On six data sets it never exceeded it at all; copies with 5 % of noise reach 0.993."""

_Floats = NDArray[np.floating[Any]]


def holds_copies(synthetic: _Floats, *, trained: _Floats, others: _Floats) -> bool:
    """Whether more synthetic windows come near a training window, at any lag, gain or sign, than chance allows.

    Chance is what real people have among themselves: the same measure, for windows of people who did not train.

    Args:
        synthetic: microvolts, shape (window, channel, time).
        trained: all windows that were trained on, of the same shape.
        others: windows of people who did not train; without any, no real window is taken to come near.
    """
    if not len(synthetic) or not len(trained):
        return False
    ours, theirs = (largest_correlations(_spread(some), trained) for some in (synthetic, others))
    return any(_beyond(ours, level) - _beyond(theirs, level) > most for level, most in EXCESS.items())


def check_copies(synthetic: _Floats, *, trained: _Floats, others: _Floats) -> None:
    """Refuse windows that are copies of those trained on; arguments as `holds_copies`.

    Raises:
        PrivacyError: without a number, for it would be about recordings.
    """
    if holds_copies(synthetic, trained=trained, others=others):
        raise PrivacyError(
            "copies of recordings: more windows come near one that was trained on, shifted or scaled, than other "
            "people's do. Nothing was signed or published"
        )


def _beyond(largest: NDArray[np.float32], level: float) -> float:
    return float((largest >= level).mean()) if len(largest) else 0.0


def _spread(signal: _Floats) -> _Floats:
    if len(signal) <= COMPARED:
        return signal
    return signal[np.linspace(0, len(signal) - 1, COMPARED).round().astype(np.int64)]
