"""Templates: whether a few waves, shifted and scaled, stand behind many windows; told from the windows alone.

Five templates at other moments and other amplitudes pass for diverse where windows are compared sample by sample.
"""

import numpy as np

from fedsynth.errors import PrivacyError
from fedsynth.evaluation.diversity import spread
from fedsynth.evaluation.score import Score
from fedsynth.evaluation.waves import similarities
from fedsynth.synthesis.windows import SyntheticWindows

LEAST_WAVES = 0.25
"""Of the windows compared, so many must be different waves: 50 of 200. Honest releases had 110 (single beats) to
200; five templates had 5 to 33 with up to 10 % of noise on top, forty had 36 to 47 with 3 % (docs/log.md)."""

WAVES = "different waves"
_WIDTH = 0.02  # windows that correlate at 0.99 at their best lag are alike by 1 / e


def effective_waves(windows: SyntheticWindows) -> tuple[float, int]:
    """Return the effective number of waves of the label where they are fewest, and how many windows were compared.

    The exponential of the entropy of a population in which kinds may be alike (Leinster and Cobbold 2012,
    doi:10.1890/10-2402.1, equation 1 at q = 1), exp(-mean log of each window's mean likeness to all): n where all
    differ, k for k equal groups. It is the Vendi score's relative (Friedman and Dieng 2023, arXiv:2210.02410) for
    likenesses that are no kernel, as the best correlation over all lags is none.

    Args:
        windows: of any number; 200 of a label, evenly spread, are compared.
    """
    found = []
    for label in np.unique(windows.labels):
        rows = spread(np.flatnonzero(windows.labels == label))
        alike = np.exp(-2 * (1 - similarities(windows.signal[rows]).astype(np.float64)) / _WIDTH)
        found.append((float(np.exp(-np.log(alike.mean(axis=1)).mean())), len(rows)))
    return min(found, key=lambda one: one[0] / one[1], default=(0.0, 0))


def check_waves(windows: SyntheticWindows) -> Score:
    """Return the share of windows that are different waves, where it is enough.

    Raises:
        PrivacyError: few templates stand behind the windows.
    """
    waves, compared = effective_waves(windows)
    if not compared or waves < LEAST_WAVES * compared:
        raise PrivacyError(
            f"few templates: {waves:.1f} different waves, shifted and scaled, stand behind {compared} windows of "
            f"one label, and {LEAST_WAVES * compared:.0f} is the least. Nothing was signed or published"
        )
    share = min(waves / compared, 1.0)
    return Score(
        name=WAVES,
        value=share,
        low=share,
        high=share,
        direction=1,
        source="synthetic",
        about=f"effective share of {compared} windows that are no shifted or scaled copies of one another, of the "
        "label where it is least",
    )
