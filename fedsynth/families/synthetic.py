"""Synthetic windows: the only windows that have a writer."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class SyntheticWindows:
    """Windows drawn from a generator.

    `signal` is float32 in microvolts, shape (window, channel, time), at `sfreq` Hz; `labels` (window,) int64
    index `label_names`.
    """

    signal: NDArray[np.float32]
    labels: NDArray[np.int64]
    label_names: tuple[str, ...]
    channels: tuple[str, ...]
    sfreq: float
