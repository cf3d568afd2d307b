"""A site's look at a release before it leaves or is countersigned: none may be a copy."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fedsynth.evaluation.copies import COMPARED, check_copies
from fedsynth.privacy.mechanism import Group
from fedsynth.site.holdings import load_holdings
from fedsynth.synthesis.windows import SyntheticStream


def refuse_copies(sites: Sequence[Path], windows: SyntheticStream) -> None:
    """Hold a release's windows against the holdings of one or more sites' folders.

    A stated number of synthetic windows, evenly spread, is compared with all that were trained on. The answer is
    for whoever may see these people; what may be told to others is the refusal, or that nothing was found.

    Raises:
        PrivacyError: copies of recordings are among the windows.
        RunError: a site has no holdings.
    """
    count = windows.n_windows
    rows = np.linspace(0, count - 1, min(COMPARED, count)).round().astype(np.int64)
    check_copies(windows.pick(rows).signal, trained=_of(sites, "train"), others=_of(sites, "held-out"))


def _of(sites: Sequence[Path], group: Group) -> NDArray[np.float32]:
    return np.concatenate([load_holdings(site / "holdings").at_home(group).signal for site in sites])
